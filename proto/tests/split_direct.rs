//! The split of a coinbase that pays the payees itself: few outputs, and nobody loses by it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::collections::BTreeMap;

use proptest::prelude::*;
use support::reference_split::reference_direct;
use support::strategies::{accounts, rates, reward};
use tutti_proto::id::SerialId;
use tutti_proto::split::{Account, DirectSplit, MAX_MONEY, SplitError, split_direct};

fn p2tr(serial_id: u64, weight: u128, carry: i64) -> Account {
    Account {
        serial_id: SerialId(serial_id),
        dust_limit: 330,
        output_size: 43,
        weight,
        carry,
    }
}

fn outputs(split: &DirectSplit) -> Vec<(u64, u64)> {
    let outputs = split.outputs.iter();
    outputs.map(|(id, sat)| (id.0, *sat)).collect()
}

fn carries(split: &DirectSplit) -> Vec<(u64, i64)> {
    let after = split.carry_after.iter();
    after.map(|(id, sat)| (id.0, *sat)).collect()
}

fn run(reward: u64, payees_max: usize, accounts: &[Account]) -> DirectSplit {
    split_direct(reward, 0, payees_max, accounts).unwrap()
}

#[test]
fn nothing_is_spent_on_fees_or_anchors() {
    let split = run(10_000, 39, &[p2tr(1, 7, 0), p2tr(3, 7, 0), p2tr(5, 7, 0)]);
    assert_eq!(outputs(&split), [(1, 3_334), (3, 3_333), (5, 3_333)]);
    assert_eq!(carries(&split), []);
}

#[test]
fn those_paid_get_the_others_amounts_in_advance_and_owe_them() {
    let accounts = [p2tr(1, 1, 0), p2tr(3, 2, 0), p2tr(5, 3, 0)];
    let split = run(6_000, 2, &accounts);
    // 1,000 sat in advance, 2 to 3.
    assert_eq!(outputs(&split), [(3, 2_400), (5, 3_600)]);
    assert_eq!(carries(&split), [(1, 1_000), (3, -400), (5, -600)]);
    // What is owed comes back with the next block: with all of them paid, carries are even again.
    let carry: BTreeMap<u64, i64> = carries(&split).into_iter().collect();
    let accounts = accounts.map(|a| p2tr(a.serial_id.0, a.weight, carry[&a.serial_id.0]));
    let split = run(6_000, 3, &accounts);
    assert_eq!(outputs(&split), [(1, 2_000), (3, 1_600), (5, 2_400)]);
    assert_eq!(carries(&split), []);
}

#[test]
fn of_equal_amounts_the_lower_serial_id_is_paid() {
    let split = run(4_000, 1, &[p2tr(1, 1, 0), p2tr(3, 1, 0)]);
    assert_eq!(outputs(&split), [(1, 4_000)]);
    assert_eq!(carries(&split), [(1, -2_000), (3, 2_000)]);
}

#[test]
fn dust_is_no_advance() {
    let split = run(10_000, 1, &[p2tr(1, 1, 0), p2tr(3, 99, 0)]);
    assert_eq!(outputs(&split), [(3, 10_000)]);
    assert_eq!(carries(&split), [(1, 100)]);
}

#[test]
fn the_operator_fee_is_an_amount_like_any_other() {
    let accounts = [p2tr(0, 0, 0), p2tr(1, 1, 0), p2tr(3, 1, 0)];
    let split = split_direct(100_000, 50_000, 2, &accounts).unwrap();
    // 5,000 and twice 47,500: the operator waits.
    assert_eq!(outputs(&split), [(1, 50_000), (3, 50_000)]);
    assert_eq!(carries(&split), [(0, 5_000), (1, -2_500), (3, -2_500)]);
}

#[test]
fn carries_beyond_the_reward_stay_owed_and_are_no_advance() {
    let split = run(9_000, 1, &[p2tr(1, 5, 8_000), p2tr(3, 5, 4_000)]);
    // 6,000 and 3,000 by what is owed; the 3,000 are paid to 1 in advance of its other 2,000.
    assert_eq!(outputs(&split), [(1, 9_000)]);
    assert_eq!(carries(&split), [(1, -1_000), (3, 4_000)]);
}

#[test]
fn without_an_output_there_is_nothing_to_pay_with() {
    let got = split_direct(10_000, 0, 0, &[p2tr(1, 1, 0)]);
    assert_eq!(got, Err(SplitError::NothingPayable { reward: 10_000 }));
    let got = split_direct(329, 0, 1, &[p2tr(1, 1, 0)]);
    assert_eq!(got, Err(SplitError::NothingPayable { reward: 329 }));
    assert_eq!(outputs(&run(330, 1, &[p2tr(1, 1, 0)])), [(1, 330)]);
    assert_eq!(
        split_direct(10_000, 0, 9, &[]),
        Err(SplitError::NothingPayable { reward: 10_000 })
    );
}

#[test]
fn what_cannot_come_from_a_ledger_is_an_error() {
    let overflow = [p2tr(1, u128::MAX, 0), p2tr(3, 1, 0)];
    assert_eq!(
        split_direct(MAX_MONEY, 0, 2, &overflow),
        Err(SplitError::Overflow)
    );
    let error = SplitError::RewardAboveMoney(MAX_MONEY + 1);
    assert_eq!(
        split_direct(MAX_MONEY + 1, 0, 2, &[p2tr(1, 1, 0)]),
        Err(error)
    );
    let wrong = [p2tr(3, 1, 0), p2tr(1, 1, 0)];
    assert_eq!(
        split_direct(10_000, 0, 2, &wrong),
        Err(SplitError::Unordered)
    );
}

/// What each account has of this block: paid now, or owed.
fn has(split: &DirectSplit) -> BTreeMap<u64, i128> {
    let mut has: BTreeMap<u64, i128> = BTreeMap::new();
    for (id, sat) in outputs(split) {
        *has.entry(id).or_default() += i128::from(sat);
    }
    for (id, sat) in carries(split) {
        *has.entry(id).or_default() += i128::from(sat);
    }
    has.retain(|_, sat| *sat != 0);
    has
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_result_is_the_references(
        accounts in accounts(60), reward in reward(), (_, ppm) in rates(), payees_max in 0usize..45,
    ) {
        let ours = split_direct(reward, ppm, payees_max, &accounts);
        match (ours, reference_direct(reward, ppm, payees_max, &accounts)) {
            (Ok(ours), Some(theirs)) => {
                prop_assert_eq!(outputs(&ours), theirs.outputs);
                let theirs: Vec<_> = theirs.carry_after.into_iter().collect();
                prop_assert_eq!(carries(&ours), theirs);
            }
            (Err(SplitError::NothingPayable { .. }), None) => {}
            (ours, theirs) => prop_assert!(false, "{ours:?} but the reference says {theirs:?}"),
        }
    }

    #[test]
    fn few_outputs_take_nothing_from_anybody(
        accounts in accounts(60), reward in reward(), (_, ppm) in rates(), payees_max in 1usize..45,
    ) {
        let Ok(all) = split_direct(reward, ppm, usize::MAX, &accounts) else {
            prop_assert_eq!(
                split_direct(reward, ppm, payees_max, &accounts),
                Err(SplitError::NothingPayable { reward })
            );
            return Ok(());
        };
        let few = split_direct(reward, ppm, payees_max, &accounts).unwrap();
        // To the sat: the whole reward, in at most so many outputs, none below its dust limit.
        prop_assert_eq!(few.outputs.iter().map(|(_, sat)| sat).sum::<u64>(), reward);
        prop_assert_eq!(few.outputs.len(), all.outputs.len().min(payees_max));
        for (id, sat) in &few.outputs {
            let account = accounts.iter().find(|a| a.serial_id == *id).unwrap();
            prop_assert!(*sat >= account.dust_limit);
        }
        prop_assert!(few.outputs.is_sorted_by(|a, b| a.0 < b.0));
        prop_assert!(few.carry_after.is_sorted_by(|a, b| a.0 < b.0));
        prop_assert!(few.carry_after.iter().all(|(_, sat)| *sat != 0));
        // What one is paid and owed together does not depend on the number of outputs; so the
        // carries' changes, but for dust, add up to what was paid off the old ones.
        prop_assert_eq!(has(&few), has(&all));
        // The largest are paid.
        let mut by_size = all.outputs.clone();
        by_size.sort_by_key(|(id, sat)| (u64::MAX - sat, *id));
        by_size.truncate(payees_max);
        by_size.sort();
        let largest: Vec<SerialId> = by_size.iter().map(|(id, _)| *id).collect();
        let paid: Vec<SerialId> = few.outputs.iter().map(|(id, _)| *id).collect();
        prop_assert_eq!(paid, largest);
        // And nobody is paid less than with room for all.
        for (id, sat) in &few.outputs {
            let alone = all.outputs.iter().find(|(other, _)| other == id).unwrap();
            prop_assert!(*sat >= alone.1);
        }
    }

    #[test]
    fn no_input_panics(
        accounts in proptest::collection::vec(
            (any::<u64>(), any::<u64>(), any::<u128>(), any::<i64>()), 0..20,
        ),
        sorted in any::<bool>(), reward in any::<u64>(), ppm in any::<u32>(), payees_max in 0usize..9,
    ) {
        let mut accounts: Vec<_> = accounts.into_iter().map(|(id, dust_limit, weight, carry)| {
            let dust_limit = if weight % 3 == 0 { 0 } else { dust_limit >> (weight % 64) };
            Account { serial_id: SerialId(id), dust_limit, output_size: 43, weight: weight >> 5, carry }
        }).collect();
        if sorted {
            accounts.sort_by_key(|a| a.serial_id);
        }
        for reward in [reward, reward % (MAX_MONEY + 1)] {
            let _ = split_direct(reward, ppm, payees_max, &accounts);
        }
    }
}
