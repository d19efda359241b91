//! The split of a reward among many payees. Its limit: one 128-bit multiplication and division per payee.

use std::hint::black_box;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tutti_benches::{Printer, Row, median};
use tutti_proto::feerate::FeeRate;
use tutti_proto::id::SerialId;
use tutti_proto::split::{Account, SplitInput, split};

fn main() {
    let mut printer = Printer::new("split");
    for payees in [10u64, 1_000, 100_000] {
        let mut rng = StdRng::seed_from_u64(payees);
        let accounts: Vec<Account> = (0..payees)
            .map(|place| Account {
                serial_id: SerialId(2 * place + 1),
                dust_limit: 330,
                output_size: 43,
                weight: rng.random_range(1..1u128 << 70),
                carry: 0,
            })
            .collect();
        let reward = 5_000_000_000_000;
        let input = SplitInput {
            reward,
            feerate: FeeRate::FLOOR,
            operator_fee_ppm: 10_000,
            shards_max: usize::MAX,
            accounts: &accounts,
        };
        let value = median(
            || (),
            |()| {
                black_box(split(black_box(&input)).is_ok());
            },
        );
        let total: u128 = accounts.iter().map(|account| account.weight).sum();
        let limit = median(
            || (),
            |()| {
                for account in &accounts {
                    let product = u128::from(black_box(reward)) * black_box(account.weight);
                    black_box((product / total, product % total));
                }
            },
        );
        printer.row(&Row {
            parameters: vec![("payees", payees)],
            figure: "split",
            value,
            limit: Some(limit),
        });
    }
}
