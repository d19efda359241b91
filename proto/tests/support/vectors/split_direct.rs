//! split_direct.json: accounts and a reward, and what a coinbase that pays them itself gives each.

use rand::RngCore;
use serde::{Deserialize, Serialize};
use tutti_proto::split::{Account, DirectSplit, MAX_MONEY, SplitError, split_direct};

use super::super::reference_split::reference_direct;
use super::super::seeded::Seeded;
use super::Vector;
use super::split::{AccountRow, SatRow, account, p2tr, token};

#[derive(Serialize, Deserialize)]
pub struct File {
    cases: Vec<Case>,
}

#[derive(Serialize, Deserialize)]
struct Case {
    name: String,
    reward: u64,
    operator_fee_ppm: u32,
    direct_payees: usize,
    accounts: Vec<AccountRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    outputs: Vec<SatRow<u64>>,
    carry_after: Vec<SatRow<i64>>,
}

fn rows(split: &DirectSplit) -> (Vec<SatRow<u64>>, Vec<SatRow<i64>>) {
    let outputs = split.outputs.iter().map(|(id, sat)| SatRow {
        serial_id: id.0,
        sat: *sat,
    });
    let carry = split.carry_after.iter().map(|(id, sat)| SatRow {
        serial_id: id.0,
        sat: *sat,
    });
    (outputs.collect(), carry.collect())
}

impl Case {
    fn new(name: &str, payees: usize, reward: u64, ppm: u32, accounts: &[Account]) -> Self {
        let mut case = Self {
            name: name.into(),
            reward,
            operator_fee_ppm: ppm,
            direct_payees: payees,
            accounts: AccountRow::all(accounts),
            error: None,
            outputs: Vec::new(),
            carry_after: Vec::new(),
        };
        match case.run() {
            Ok(split) => (case.outputs, case.carry_after) = rows(&split),
            Err(error) => case.error = Some(token(error).into()),
        }
        case
    }

    fn accounts(&self) -> Vec<Account> {
        self.accounts.iter().map(AccountRow::read).collect()
    }

    fn run(&self) -> Result<DirectSplit, SplitError> {
        let (ppm, payees) = (self.operator_fee_ppm, self.direct_payees);
        split_direct(self.reward, ppm, payees, &self.accounts())
    }
}

fn seeded(rng: &mut Seeded, n: usize) -> Case {
    let mut serial_id = 0;
    let accounts: Vec<Account> = (0..4 + n)
        .map(|_| {
            serial_id += 1 + rng.next_u64() % 5;
            let kinds = [(546, 34), (540, 32), (294, 31), (330, 43)];
            let (dust, size) = kinds[(rng.next_u32() % 4) as usize];
            let weight = u128::from(rng.next_u64() >> (rng.next_u32() % 20));
            let carry = [0, 0, (rng.next_u32() % 20_000) as i64 - 10_000];
            let carry = carry[(rng.next_u32() % 3) as usize];
            account(serial_id, dust, size, weight, carry)
        })
        .collect();
    let reward = 20_000 + (rng.next_u64() >> (30 + rng.next_u32() % 10));
    let payees = 1 + n / 2;
    let ppm = rng.next_u32() % 30_000;
    Case::new(&format!("seeded {n}"), payees, reward, ppm, &accounts)
}

impl Vector for File {
    fn generate() -> Self {
        let three = [p2tr(1, 1, 0), p2tr(3, 2, 0), p2tr(5, 3, 0)];
        #[rustfmt::skip] // One case per line.
        let mut cases = vec![
            Case::new("room for all: no fee, no anchor", 3, 10_000, 0, &[p2tr(1, 7, 0), p2tr(3, 7, 0), p2tr(5, 7, 0)]),
            Case::new("the others' amounts are paid in advance, by amount", 2, 6_000, 0, &three),
            Case::new("and owed", 3, 6_000, 0, &[p2tr(1, 1, 1_000), p2tr(3, 2, -400), p2tr(5, 3, -600)]),
            Case::new("one output", 1, 6_000, 0, &three),
            Case::new("of equal amounts the lower serial_id is paid", 1, 4_000, 0, &[p2tr(1, 1, 0), p2tr(3, 1, 0)]),
            Case::new("an advance of odd sats", 2, 10_001, 0, &[p2tr(1, 1, 0), p2tr(3, 1, 0), p2tr(5, 1, 0)]),
            Case::new("dust is carry and no advance", 1, 10_000, 0, &[p2tr(1, 1, 0), p2tr(3, 99, 0)]),
            Case::new("the operator waits", 2, 100_000, 50_000, &[p2tr(0, 0, 0), p2tr(1, 1, 0), p2tr(3, 1, 0)]),
            Case::new("the operator is paid", 2, 100_000, 500_000, &[p2tr(0, 0, 0), p2tr(1, 1, 0), p2tr(3, 2, 0)]),
            Case::new("carries beyond the reward", 2, 9_000, 0, &[p2tr(1, 5, 8_000), p2tr(3, 5, 4_000)]),
            Case::new("carries beyond the reward, and one output", 1, 9_000, 0, &[p2tr(1, 5, 8_000), p2tr(3, 5, 4_000)]),
            Case::new("somebody overpaid", 1, 9_000, 0, &[p2tr(1, 5, -8_000), p2tr(3, 5, 0), p2tr(5, 5, 0)]),
            Case::new("no weight at all", 1, 9_000, 0, &[p2tr(1, 0, 400), p2tr(3, 0, 500)]),
            Case::new("largest reward and weights", 1, MAX_MONEY, 0, &[p2tr(1, u128::MAX / 3 * 2, 0), p2tr(3, u128::MAX / 3, 0)]),
            Case::new("smallest payable reward", 1, 330, 0, &[p2tr(1, 1, 0)]),
            Case::new("a sat below it", 1, 329, 0, &[p2tr(1, 1, 0)]),
            Case::new("nobody", 1, 10_000, 0, &[]),
            Case::new("no output allowed", 0, 10_000, 0, &three),
            Case::new("weights beyond 2^128", 2, 10_000, 0, &[p2tr(1, u128::MAX, 0), p2tr(3, 1, 0)]),
            Case::new("more money than there is", 2, MAX_MONEY + 1, 0, &three),
            Case::new("unordered", 2, 10_000, 0, &[p2tr(3, 1, 0), p2tr(1, 1, 0)]),
        ];
        let mut rng = Seeded::new("tutti vectors: split_direct");
        cases.extend((0..10).map(|n| seeded(&mut rng, n)));
        Self { cases }
    }

    fn check(&self) {
        for case in &self.cases {
            let name = &case.name;
            match (case.run(), &case.error) {
                (Ok(split), None) => {
                    let (outputs, carry_after) = rows(&split);
                    assert_eq!(outputs, case.outputs, "{name}");
                    assert_eq!(carry_after, case.carry_after, "{name}");
                    let total: u64 = case.outputs.iter().map(|row| row.sat).sum();
                    assert_eq!(total, case.reward, "{name}");
                    let (ppm, payees) = (case.operator_fee_ppm, case.direct_payees);
                    let reference = reference_direct(case.reward, ppm, payees, &case.accounts());
                    let reference = reference.unwrap();
                    let outputs = case.outputs.iter().map(|row| (row.serial_id, row.sat));
                    assert_eq!(reference.outputs, outputs.collect::<Vec<_>>(), "{name}");
                    let carry = case.carry_after.iter().map(|row| (row.serial_id, row.sat));
                    assert_eq!(reference.carry_after, carry.collect(), "{name}");
                }
                (Err(error), Some(expected)) => assert_eq!(token(error), expected, "{name}"),
                (got, expected) => panic!("{name}: {got:?}, {expected:?}"),
            }
        }
    }
}
