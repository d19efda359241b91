//! The split where the payouts cannot hold everyone: the smallest amounts become carry.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use support::reference_split::reference;
use support::strategies::{accounts, large_accounts, rates, reward};
use tutti_proto::feerate::FeeRate;
use tutti_proto::id::SerialId;
use tutti_proto::payout;
use tutti_proto::split::{Account, Split, SplitError, SplitInput, split};

/// P2TR outputs that one payout holds.
const FULL: usize = 230;
/// What a full payout costs at 1 sat/vB: 9,971 vB and the anchor.
const FULL_COST: u64 = 9_971 + 240;

fn p2tr(serial_id: u64, weight: u128, carry: i64) -> Account {
    Account {
        serial_id: SerialId(serial_id),
        dust_limit: 330,
        output_size: 43,
        weight,
        carry,
    }
}

fn run(reward: u64, shards_max: usize, accounts: &[Account]) -> Result<Split, SplitError> {
    split(&SplitInput {
        reward,
        feerate: FeeRate::FLOOR,
        operator_fee_ppm: 0,
        shards_max,
        accounts,
    })
}

fn paid(split: &Split) -> BTreeMap<u64, u64> {
    let outputs = split.shards.iter().flat_map(|shard| &shard.outputs);
    outputs.map(|(id, sat)| (id.0, *sat)).collect()
}

fn carries(split: &Split) -> Vec<(u64, i64)> {
    let after = split.carry_after.iter();
    after.map(|(id, sat)| (id.0, *sat)).collect()
}

#[test]
fn of_equal_amounts_the_higher_serial_ids_wait() {
    let accounts: Vec<_> = (0..232).map(|n| p2tr(2 * n + 1, 5, 0)).collect();
    let split = run(FULL_COST + 232_000, 1, &accounts).unwrap();
    // First pass: 1,000 sat each. Second: the same 232,000 for 230, 1,008 each and 160 left over.
    let paid = paid(&split);
    assert_eq!(paid.len(), FULL);
    assert_eq!(
        (paid[&1], paid[&319], paid[&321], paid[&459]),
        (1_009, 1_009, 1_008, 1_008)
    );
    assert_eq!(carries(&split), [(461, 1_000), (463, 1_000)]);
}

#[test]
fn the_smallest_amounts_wait_wherever_they_stand() {
    let mut accounts: Vec<_> = (0..232).map(|n| p2tr(2 * n + 1, 5, 0)).collect();
    accounts[0].weight = 4;
    // By weight alone the last would wait too; its carry puts it before the one in the middle.
    (accounts[231].weight, accounts[231].carry) = (3, 500);
    accounts[100].weight = 3;
    let rest = (5 * 229 + 4 + 3 + 3) * 200;
    let split = run(FULL_COST + rest + 500, 1, &accounts).unwrap();
    assert_eq!(carries(&split), [(1, 800), (201, 600)]);
    assert!(paid(&split)[&463] > 1_100);
}

#[test]
fn who_waited_is_paid_first_next_time() {
    let accounts: Vec<_> = (0..232).map(|n| p2tr(2 * n + 1, 5, 0)).collect();
    let first = run(FULL_COST + 232_000, 1, &accounts).unwrap();
    let carries: BTreeMap<u64, i64> = carries(&first).into_iter().collect();
    let carry = |id: u64| carries.get(&id).copied().unwrap_or(0);
    let accounts: Vec<_> = (0..232)
        .map(|n| 2 * n + 1)
        .map(|id| p2tr(id, 5, carry(id)))
        .collect();
    let second = run(FULL_COST + 234_000, 1, &accounts).unwrap();
    let paid = paid(&second);
    assert!(paid[&461] > 2_000 && paid[&463] > 2_000, "{paid:?}");
    assert!(!paid.contains_key(&457) && !paid.contains_key(&459));
}

#[test]
fn shards_that_are_not_made_cost_nothing() {
    let accounts: Vec<_> = (0..700).map(|n| p2tr(2 * n + 1, 1_000, 0)).collect();
    for shards_max in [1, 2, 3] {
        let split = run(312_500_000, shards_max, &accounts).unwrap();
        let sizes: Vec<_> = split.shards.iter().map(|s| s.outputs.len()).collect();
        assert_eq!(sizes, vec![FULL; shards_max]);
        let fees: u64 = split.shards.iter().map(|s| s.fee).sum();
        assert_eq!(fees, 9_971 * shards_max as u64);
    }
    assert_eq!(
        run(312_500_000, 4, &accounts),
        run(312_500_000, 9, &accounts)
    );
}

#[test]
fn at_least_one_shard_is_made() {
    let accounts = [p2tr(1, 1, 0), p2tr(3, 2, 0)];
    assert_eq!(run(10_000, 0, &accounts), run(10_000, 1, &accounts));
}

#[test]
fn what_one_payout_cannot_hold_is_no_reason_to_pay_nobody() {
    // Costs are those of the one shard that is made: ten of them would exceed the reward.
    let accounts: Vec<_> = (0..2_300)
        .map(|n| p2tr(2 * n + 1, n as u128 + 1, 0))
        .collect();
    let split = run(FULL_COST + 5_000_000, 1, &accounts).unwrap();
    let paid = paid(&split);
    assert!(paid.keys().all(|id| *id > 2 * (2_300 - 230)));
    assert_eq!(paid.values().sum::<u64>(), 5_000_000);
}

/// Invariant 4 under a limit, and what the limit means.
fn check(input: &SplitInput<'_>, split: &Split) {
    assert!(split.shards.len() <= input.shards_max.max(1));
    let by_id = |id: SerialId| input.accounts.iter().find(|a| a.serial_id == id).unwrap();
    let mut total = 0;
    for shard in &split.shards {
        let sizes = shard.outputs.iter().map(|(id, _)| by_id(*id).output_size);
        let vsize = payout::vsize(shard.outputs.len(), sizes.sum());
        assert!(vsize <= payout::PAYOUT_VSIZE_LIMIT || shard.outputs.len() == 1);
        assert_eq!(shard.fee, input.feerate.fee(vsize));
        let outputs: u64 = shard.outputs.iter().map(|(_, sat)| sat).sum();
        assert_eq!(shard.value, outputs + shard.fee + payout::ANCHOR_SAT);
        total += shard.value;
        let above_dust = |(id, sat): &(SerialId, u64)| *sat >= by_id(*id).dust_limit;
        assert!(shard.outputs.iter().all(above_dust));
    }
    assert_eq!(total, input.reward);
    let (paid, after) = (paid(split), carries(split));
    let after: BTreeMap<u64, i64> = after.into_iter().collect();
    for account in input.accounts {
        let id = account.serial_id.0;
        let has = i128::from(paid.get(&id).copied().unwrap_or(0));
        let owed = i128::from(after.get(&id).copied().unwrap_or(0));
        assert!(
            has + owed >= i128::from(account.carry),
            "{id} lost what it was owed"
        );
    }
}

fn compare(input: &SplitInput<'_>) -> Result<(), TestCaseError> {
    match (split(input), reference(input)) {
        (Ok(ours), Some(theirs)) => {
            check(input, &ours);
            let rows = ours.shards.iter().map(|s| {
                let outputs = s.outputs.iter().map(|(id, sat)| (id.0, *sat));
                (outputs.collect::<Vec<_>>(), s.fee)
            });
            prop_assert_eq!(rows.collect::<Vec<_>>(), theirs.shards);
            let theirs: Vec<_> = theirs.carry_after.into_iter().collect();
            prop_assert_eq!(carries(&ours), theirs);
        }
        (Err(SplitError::NothingPayable { .. }), None) => {}
        (ours, theirs) => prop_assert!(false, "{ours:?} but the reference says {theirs:?}"),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn the_result_is_the_references_where_a_few_outputs_fill_a_payout(
        accounts in large_accounts(24), reward in reward(), (feerate, operator_fee_ppm) in rates(),
        shards_max in 0usize..5,
    ) {
        compare(&SplitInput { reward, feerate, operator_fee_ppm, shards_max, accounts: &accounts })?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn the_result_is_the_references_for_outputs_as_they_are(
        accounts in accounts(500), reward in 1_000_000_000u64..5_000_000_000,
        (feerate, operator_fee_ppm) in rates(), shards_max in 1usize..3,
    ) {
        compare(&SplitInput { reward, feerate, operator_fee_ppm, shards_max, accounts: &accounts })?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whoever_waits_has_less_than_whoever_is_paid(
        weights in proptest::collection::vec(1_000u128..1_000_000, 231..800),
        shards_max in 1usize..4, reward in 1_000_000_000u64..=5_000_000_000,
    ) {
        let accounts: Vec<_> = (0u64..).zip(&weights).map(|(n, w)| p2tr(2 * n + 1, *w, 0)).collect();
        let split = run(reward, shards_max, &accounts).unwrap();
        let paid: BTreeSet<u64> = paid(&split).into_keys().collect();
        prop_assert_eq!(paid.len(), weights.len().min(shards_max * FULL), "as many as fit");
        // All are far above dust, and of one size: the heaviest are paid, ties to the lower serial_id.
        // Two amounts may be alike though their weights differ, by less than a sat.
        let sat = weights.iter().sum::<u128>() / u128::from(reward) + 1;
        let lightest = accounts.iter().filter(|a| paid.contains(&a.serial_id.0)).map(|a| a.weight).min().unwrap();
        for account in &accounts {
            if !paid.contains(&account.serial_id.0) {
                prop_assert!(account.weight < lightest + sat);
            }
        }
        let waiting: BTreeSet<u64> = carries(&split).into_iter().map(|(id, _)| id).collect();
        prop_assert!(waiting.is_disjoint(&paid));
        prop_assert_eq!(waiting.len() + paid.len(), accounts.len());
    }

    #[test]
    fn a_limit_that_is_not_reached_changes_nothing(
        accounts in accounts(200), reward in reward(), shards_max in 1usize..5,
    ) {
        prop_assert_eq!(run(reward, shards_max, &accounts), run(reward, usize::MAX, &accounts));
    }
}
