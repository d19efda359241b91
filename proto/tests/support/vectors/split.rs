//! split.json: accounts and a reward, and what everybody gets.

use rand::RngCore;
use serde::{Deserialize, Serialize};
use tutti_proto::feerate::FeeRate;
use tutti_proto::id::SerialId;
use tutti_proto::split::{Account, MAX_MONEY, Split, SplitError, SplitInput, split};

use super::super::reference_split::reference;
use super::super::seeded::Seeded;
use super::Vector;

#[derive(Serialize, Deserialize)]
pub struct File {
    cases: Vec<Case>,
}

#[derive(Serialize, Deserialize)]
struct Case {
    name: String,
    reward: u64,
    feerate_sat_per_kvb: u64,
    operator_fee_ppm: u32,
    shards_max: usize,
    accounts: Vec<AccountRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    shards: Vec<ShardRow>,
    carry_after: Vec<SatRow<i64>>,
}

#[derive(Serialize, Deserialize)]
pub struct AccountRow {
    pub serial_id: u64,
    pub dust_limit: u64,
    pub output_size: u64,
    pub weight: String,
    pub carry: i64,
}

impl AccountRow {
    pub fn all(accounts: &[Account]) -> Vec<Self> {
        let row = |a: &Account| Self {
            serial_id: a.serial_id.0,
            dust_limit: a.dust_limit,
            output_size: a.output_size,
            weight: a.weight.to_string(),
            carry: a.carry,
        };
        accounts.iter().map(row).collect()
    }

    pub fn read(&self) -> Account {
        let weight = self.weight.parse().unwrap();
        account(
            self.serial_id,
            self.dust_limit,
            self.output_size,
            weight,
            self.carry,
        )
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct ShardRow {
    outputs: Vec<SatRow<u64>>,
    fee: u64,
    value: u64,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct SatRow<T> {
    pub serial_id: u64,
    pub sat: T,
}

pub fn p2tr(serial_id: u64, weight: u128, carry: i64) -> Account {
    account(serial_id, 330, 43, weight, carry)
}

/// No script type is so large; two of them fill a payout.
fn large(serial_id: u64, weight: u128, carry: i64) -> Account {
    account(serial_id, 330, 4_900, weight, carry)
}

pub fn account(
    serial_id: u64,
    dust_limit: u64,
    output_size: u64,
    weight: u128,
    carry: i64,
) -> Account {
    Account {
        serial_id: SerialId(serial_id),
        dust_limit,
        output_size,
        weight,
        carry,
    }
}

pub fn token(error: SplitError) -> &'static str {
    match error {
        SplitError::RewardAboveMoney(_) => "reward-above-money",
        SplitError::NothingPayable { .. } => "nothing-payable",
        SplitError::Unordered => "unordered",
        SplitError::Overflow => "overflow",
    }
}

fn rows(split: &Split) -> (Vec<ShardRow>, Vec<SatRow<i64>>) {
    let shards = split.shards.iter().map(|shard| ShardRow {
        outputs: shard
            .outputs
            .iter()
            .map(|(s, sat)| SatRow {
                serial_id: s.0,
                sat: *sat,
            })
            .collect(),
        fee: shard.fee,
        value: shard.value,
    });
    let carry = split.carry_after.iter().map(|(s, sat)| SatRow {
        serial_id: s.0,
        sat: *sat,
    });
    (shards.collect(), carry.collect())
}

/// Enough for every case that is not about the limit.
const PLENTY: usize = 100;

impl Case {
    fn new(name: &str, reward: u64, feerate: u64, ppm: u32, accounts: &[Account]) -> Self {
        Self::limited(name, PLENTY, reward, feerate, ppm, accounts)
    }

    fn limited(
        name: &str,
        shards_max: usize,
        reward: u64,
        feerate: u64,
        ppm: u32,
        accounts: &[Account],
    ) -> Self {
        let mut case = Self {
            name: name.into(),
            reward,
            feerate_sat_per_kvb: feerate,
            operator_fee_ppm: ppm,
            shards_max,
            accounts: AccountRow::all(accounts),
            error: None,
            shards: Vec::new(),
            carry_after: Vec::new(),
        };
        match case.run() {
            Ok(split) => (case.shards, case.carry_after) = rows(&split),
            Err(error) => case.error = Some(token(error).into()),
        }
        case
    }

    fn accounts(&self) -> Vec<Account> {
        self.accounts.iter().map(AccountRow::read).collect()
    }

    fn run(&self) -> Result<Split, SplitError> {
        split(&self.input(&self.accounts()))
    }

    fn input<'a>(&self, accounts: &'a [Account]) -> SplitInput<'a> {
        SplitInput {
            reward: self.reward,
            feerate: FeeRate::from_sat_per_kvb(self.feerate_sat_per_kvb).unwrap(),
            operator_fee_ppm: self.operator_fee_ppm,
            shards_max: self.shards_max,
            accounts,
        }
    }
}

fn seeded(rng: &mut Seeded, n: u64) -> Case {
    let mut serial_id = 0;
    let accounts: Vec<Account> = (0..3 + n)
        .map(|_| {
            serial_id += 1 + rng.next_u64() % 5;
            let kinds = [(546, 34), (540, 32), (294, 31), (330, 43)];
            let (dust, size) = kinds[(rng.next_u32() % 4) as usize];
            let shift = rng.next_u32() % 60;
            let carry = [0, 0, 0, (rng.next_u32() % 2_000) as i64 - 1_000];
            let carry = carry[(rng.next_u32() % 4) as usize];
            account(
                serial_id,
                dust,
                size,
                u128::from(rng.next_u64() >> shift),
                carry,
            )
        })
        .collect();
    let reward = 20_000 + (rng.next_u64() >> (20 + rng.next_u32() % 20));
    let feerate = 1_000 + u64::from(rng.next_u32() % 9_000);
    let ppm = rng.next_u32() % 30_000;
    Case::new(&format!("seeded {n}"), reward, feerate, ppm, &accounts)
}

impl Vector for File {
    fn generate() -> Self {
        let shards: Vec<Account> = (0..232)
            .map(|n| p2tr(2 * n + 1, u128::from(n % 7 + 1), 0))
            .collect();
        let third = u128::MAX / 3;
        #[rustfmt::skip] // One case per line.
        let mut cases = vec![
            Case::new("equal weights: the remainder goes to the lower serial_id", 10_000, 1_000, 0, &[p2tr(1, 7, 0), p2tr(3, 7, 0), p2tr(5, 7, 0)]),
            Case::new("operator fee on top of the operator's work", 99_999, 1_000, 25_000, &[p2tr(0, 1, 0), p2tr(1, 1, 0)]),
            Case::new("operator fee below dust", 10_000, 1_000, 10_000, &[p2tr(0, 0, 0), p2tr(1, 1, 0), p2tr(3, 2, 0)]),
            Case::new("operator fee without an output of the operator", 10_000, 1_000, 10_000, &[p2tr(1, 1, 0), p2tr(3, 2, 0)]),
            Case::new("all to the operator", 10_000, 1_000, 1_000_000, &[p2tr(0, 0, 0), p2tr(1, 1, 0)]),
            Case::new("positive carry", 10_000, 1_000, 0, &[p2tr(1, 0, 600), p2tr(3, 1, 0)]),
            Case::new("negative carry", 10_000, 1_000, 0, &[p2tr(1, 1, -1_000), p2tr(3, 1, 0)]),
            Case::new("negative carry beyond the share", 10_000, 1_000, 0, &[p2tr(1, 1, -9_000), p2tr(3, 1, 0)]),
            Case::new("dust becomes carry", 10_000, 1_000, 0, &[p2tr(1, 1, 0), p2tr(3, 99, 0)]),
            Case::new("a carry lifts dust to an output", 10_000, 1_000, 0, &[p2tr(1, 1, 300), p2tr(3, 99, 0)]),
            Case::new("carries beyond the reward", 10_000, 1_000, 0, &[p2tr(1, 5, 8_000), p2tr(3, 5, 4_000)]),
            Case::new("equal carries beyond the reward", 10_000, 1_000, 0, &[p2tr(1, 1, 6_000), p2tr(3, 9, 6_000)]),
            Case::new("carries beyond the reward, and somebody overpaid", 10_000, 1_000, 0, &[p2tr(1, 1, 8_000), p2tr(3, 1, -500), p2tr(5, 1, 4_000)]),
            Case::new("no weight at all: equal parts", 10_000, 1_000, 0, &[p2tr(1, 0, 400), p2tr(3, 0, 500)]),
            Case::new("all script types", 1_000_000, 7_777, 0, &[account(1, 546, 34, 1, 0), account(3, 540, 32, 1, 0), account(5, 294, 31, 1, 0), account(7, 330, 43, 1, 0)]),
            Case::new("largest reward and weights", MAX_MONEY, 1_000, 0, &[p2tr(1, third * 2, 0), p2tr(3, third, 0)]),
            Case::new("highest feerate", 5_000_000, 1_000_000, 0, &[p2tr(1, 2, 0), p2tr(3, 1, 0)]),
            Case::new("smallest payable reward", 694, 1_000, 0, &[p2tr(1, 1, 0)]),
            Case::new("a sat below it", 693, 1_000, 0, &[p2tr(1, 1, 0)]),
            Case::new("nobody", 10_000, 1_000, 0, &[]),
            Case::new("weights beyond 2^128", 10_000, 1_000, 0, &[p2tr(1, u128::MAX, 0), p2tr(3, 1, 0)]),
            Case::new("more money than there is", MAX_MONEY + 1, 1_000, 0, &[p2tr(1, 1, 0)]),
            Case::new("unordered", 10_000, 1_000, 0, &[p2tr(3, 1, 0), p2tr(1, 1, 0)]),
            Case::new("two shards", 312_500_000, 1_000, 0, &shards),
            Case::limited("one shard where two are needed: the smallest amounts become carry", 1, 312_500_000, 1_000, 0, &shards),
            Case::limited("outputs that fill a shard by two: of equal amounts the higher serial_id waits", 1, 100_000, 1_000, 0, &[large(1, 2, 0), large(3, 1, 0), large(5, 1, 0), large(7, 2, 0)]),
            Case::limited("a carry is part of the amount", 1, 100_000, 1_000, 0, &[large(1, 2, 0), large(3, 2, 0), large(5, 1, 40_000)]),
            Case::limited("carries beyond the reward, and too many shards", 1, 20_000, 1_000, 0, &[large(1, 1, 9_000), large(3, 1, 8_000), large(5, 1, 7_000)]),
            Case::limited("the operator waits too", 1, 100_000, 1_000, 10_000, &[large(0, 0, 0), large(1, 1, 0), large(3, 2, 0)]),
            Case::limited("what waiting frees lifts nobody who was dust", 1, 100_000, 1_000, 0, &[large(1, 1_000, 0), large(3, 3, 0), large(5, 2_000, 0), large(7, 2_000, 0)]),
            Case::limited("what is left costs more when filled anew: no advance, another pass", 1, 100_000, 1_000, 0, &[account(1, 330, 5_000, 50_000, 0), account(3, 330, 6_000, 400, 0), account(5, 330, 4_000, 40_000, 0)]),
            Case::new("outputs fill one shard after the other: what fits the first again goes to the last", 100_000, 1_000, 0, &[account(1, 330, 6_000, 1, 0), account(3, 330, 6_000, 1, 0), account(5, 330, 3_000, 1, 0)]),
            Case::new("a payout of 10,000 vB", 100_000, 1_000, 0, &[account(1, 330, 5_000, 1, 0), account(3, 330, 4_919, 1, 0)]),
            Case::new("a byte more: two payouts", 100_000, 1_000, 0, &[account(1, 330, 5_000, 1, 0), account(3, 330, 4_920, 1, 0)]),
            Case::new("carries beyond the reward: weights beyond 2^128 do not count", 10_000, 1_000, 0, &[p2tr(1, u128::MAX, 8_000), p2tr(3, u128::MAX, 4_000)]),
            Case::limited("none allowed is one", 0, 10_000, 1_000, 0, &[p2tr(1, 7, 0), p2tr(3, 7, 0)]),
        ];
        let mut rng = Seeded::new("tutti vectors: split");
        cases.extend((0..12).map(|n| seeded(&mut rng, n)));
        Self { cases }
    }

    fn check(&self) {
        for case in &self.cases {
            let name = &case.name;
            match (case.run(), &case.error) {
                (Ok(split), None) => {
                    let (shards, carry_after) = rows(&split);
                    assert_eq!(shards, case.shards, "{name}");
                    assert_eq!(carry_after, case.carry_after, "{name}");
                    let total: u64 = case.shards.iter().map(|shard| shard.value).sum();
                    assert_eq!(total, case.reward, "{name}");
                    let accounts = case.accounts();
                    let reference = reference(&case.input(&accounts)).unwrap();
                    let carry = case.carry_after.iter().map(|row| (row.serial_id, row.sat));
                    assert_eq!(reference.carry_after, carry.collect(), "{name}");
                }
                (Err(error), Some(expected)) => assert_eq!(token(error), expected, "{name}"),
                (got, expected) => panic!("{name}: {got:?}, {expected:?}"),
            }
        }
    }
}
