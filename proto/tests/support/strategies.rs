//! Accounts, rewards and rates as property tests draw them.

use proptest::prelude::*;
use tutti_proto::feerate::FeeRate;
use tutti_proto::id::SerialId;
use tutti_proto::split::{Account, MAX_MONEY};

/// Dust limits and sizes of the outputs that there are.
fn kinds() -> impl Strategy<Value = (u64, u64)> {
    prop_oneof![
        Just((546, 34)),
        Just((540, 32)),
        Just((294, 31)),
        Just((330, 43))
    ]
}

/// Outputs so large that a few fill a payout.
fn large_kinds() -> impl Strategy<Value = (u64, u64)> {
    prop_oneof![
        Just((546, 34)),
        Just((330, 43)),
        Just((330, 1_000)),
        Just((294, 2_500)),
        Just((546, 4_900)),
        // Too large for any payout: alone in one.
        Just((330, 12_000)),
    ]
}

/// One account's type of output, weight and carry; serial_ids are given out later.
fn account(kind: impl Strategy<Value = (u64, u64)>) -> impl Strategy<Value = Account> {
    let weight = prop_oneof![
        2 => Just(0u128),
        4 => 1u128..1_000,
        4 => any::<u64>().prop_map(u128::from),
        4 => any::<u128>(),
    ];
    let carry = prop_oneof![
        6 => Just(0i64),
        2 => -2_000i64..2_000,
        1 => -1_000_000_000i64..1_000_000_000,
        1 => -2_100_000_000_000_000i64..2_100_000_000_000_000,
    ];
    (kind, weight, carry).prop_map(|((dust_limit, output_size), weight, carry)| Account {
        serial_id: SerialId(0),
        dust_limit,
        output_size,
        weight,
        carry,
    })
}

/// Accounts in order whose weights sum to at most 2^128 - 1.
pub fn accounts(most: usize) -> impl Strategy<Value = Vec<Account>> {
    in_order(account(kinds()), most)
}

/// The same with outputs so large that a few fill a payout.
pub fn large_accounts(most: usize) -> impl Strategy<Value = Vec<Account>> {
    in_order(account(large_kinds()), most)
}

fn in_order(
    account: impl Strategy<Value = Account>,
    most: usize,
) -> impl Strategy<Value = Vec<Account>> {
    let gaps = 0u64..3;
    proptest::collection::vec((account, gaps), 1..most).prop_map(|rows| {
        let n = rows.len() as u128;
        let mut next = 0;
        let mut accounts = Vec::new();
        for (mut account, gap) in rows {
            account.serial_id = SerialId(next + gap);
            account.weight = account.weight.min(u128::MAX / n);
            next += gap + 1;
            accounts.push(account);
        }
        accounts
    })
}

pub fn reward() -> impl Strategy<Value = u64> {
    prop_oneof![
        1 => 0u64..2_000,
        2 => 2_000u64..1_000_000,
        4 => 1_000_000u64..5_000_000_000,
        2 => 0..=MAX_MONEY,
        1 => Just(MAX_MONEY),
    ]
}

pub fn rates() -> impl Strategy<Value = (FeeRate, u32)> {
    let feerate =
        prop_oneof![3 => Just(1_000u64), 2 => 1_000u64..20_000, 1 => 1_000u64..=1_000_000];
    let ppm = prop_oneof![2 => Just(0u32), 3 => 0u32..50_000, 1 => 0u32..=1_000_000];
    (
        feerate.prop_map(|rate| FeeRate::from_sat_per_kvb(rate).unwrap()),
        ppm,
    )
}
