//! The split to the sat: invariant 4, and the rules of SPEC.md ("Split").
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use proptest::prelude::*;
use support::reference_split::reference;
use support::strategies::{accounts, rates, reward};
use tutti_proto::feerate::FeeRate;
use tutti_proto::id::SerialId;
use tutti_proto::payout;
use tutti_proto::split::{Account, MAX_MONEY, Split, SplitError, SplitInput, split};

fn p2tr(serial_id: u64, weight: u128, carry: i64) -> Account {
    Account {
        serial_id: SerialId(serial_id),
        dust_limit: 330,
        output_size: 43,
        weight,
        carry,
    }
}

fn run(reward: u64, ppm: u32, accounts: &[Account]) -> Result<Split, SplitError> {
    split(&SplitInput {
        reward,
        feerate: FeeRate::FLOOR,
        operator_fee_ppm: ppm,
        shards_max: usize::MAX,
        accounts,
    })
}

fn amounts(split: &Split) -> Vec<(u64, u64)> {
    split
        .shards
        .iter()
        .flat_map(|shard| shard.outputs.iter().map(|(s, sat)| (s.0, *sat)))
        .collect()
}

fn carries(split: &Split) -> Vec<(u64, i64)> {
    split
        .carry_after
        .iter()
        .map(|(s, sat)| (s.0, *sat))
        .collect()
}

// By hand. One P2TR payee is 124 vB, two are 167, three are 210; the anchor is 240 sat.

#[test]
fn equal_weights_share_the_remainder_by_serial_id() {
    let split = run(10_000, 0, &[p2tr(1, 7, 0), p2tr(3, 7, 0), p2tr(5, 7, 0)]).unwrap();
    assert_eq!(amounts(&split), [(1, 3_184), (3, 3_183), (5, 3_183)]);
    assert_eq!((split.shards[0].fee, split.shards[0].value), (210, 10_000));
    assert_eq!(carries(&split), []);
}

#[test]
fn the_operator_fee_below_dust_is_carried_and_shared_out() {
    let accounts = [p2tr(0, 0, 0), p2tr(1, 1, 0), p2tr(3, 2, 0)];
    let split = run(10_000, 10_000, &accounts).unwrap();
    // First pass: 100 sat for the operator, under 330. Second: 9,593 = 3,197.67 + 6,395.33.
    assert_eq!(amounts(&split), [(1, 3_198), (3, 6_395)]);
    assert_eq!(carries(&split), [(0, 100)]);
}

#[test]
fn the_operator_fee_is_rounded_down_and_paid_on_top_of_its_work() {
    let accounts = [p2tr(0, 1, 0), p2tr(1, 1, 0)];
    let split = run(99_999, 25_000, &accounts).unwrap();
    // 2,499.975 is 2,499; 99,999 - 407 - 2,499 = 97,093 = 48,547 + 48,546.
    assert_eq!(amounts(&split), [(0, 48_547 + 2_499), (1, 48_546)]);
}

#[test]
fn what_was_overpaid_is_taken_off_the_next_payout() {
    let split = run(10_000, 0, &[p2tr(1, 1, -1_000), p2tr(3, 1, 0)]).unwrap();
    // 9,593 + 1,000 = 10,593 by weight: 5,297 and 5,296.
    assert_eq!(amounts(&split), [(1, 4_297), (3, 5_296)]);
    assert_eq!(carries(&split), []);
}

#[test]
fn what_is_owed_is_paid_before_new_work() {
    let split = run(10_000, 0, &[p2tr(1, 0, 600), p2tr(3, 1, 0)]).unwrap();
    assert_eq!(amounts(&split), [(1, 600), (3, 8_993)]);
}

#[test]
fn carries_beyond_the_reward_are_paid_in_proportion_and_the_rest_stays_owed() {
    let split = run(10_000, 0, &[p2tr(1, 5, 8_000), p2tr(3, 5, 4_000)]).unwrap();
    // 9,593 by what is owed: 6,395.33 and 3,197.67.
    assert_eq!(amounts(&split), [(1, 6_395), (3, 3_198)]);
    assert_eq!(carries(&split), [(1, 1_605), (3, 802)]);
}

#[test]
fn of_equal_carries_beyond_the_reward_the_lower_serial_id_gets_the_odd_sat() {
    let split = run(10_000, 0, &[p2tr(1, 1, 6_000), p2tr(3, 9, 6_000)]).unwrap();
    assert_eq!(amounts(&split), [(1, 4_797), (3, 4_796)]);
    assert_eq!(carries(&split), [(1, 1_203), (3, 1_204)]);
}

#[test]
fn somebody_overpaid_takes_nothing_from_carries_beyond_the_reward() {
    let accounts = [p2tr(1, 1, 8_000), p2tr(3, 1, -500), p2tr(5, 1, 4_000)];
    let split = run(10_000, 0, &accounts).unwrap();
    assert_eq!(amounts(&split), [(1, 6_395), (5, 3_198)]);
    assert_eq!(carries(&split), [(1, 1_605), (3, -500), (5, 802)]);
}

#[test]
fn dust_becomes_carry_and_falls_to_the_others() {
    let split = run(10_000, 0, &[p2tr(1, 1, 0), p2tr(3, 99, 0)]).unwrap();
    // First pass: 9,593 = 95.93 + 9,497.07, so 96 sat are dust; alone, 9,636.
    assert_eq!(amounts(&split), [(3, 9_636)]);
    assert_eq!(carries(&split), [(1, 96)]);
}

#[test]
fn a_carry_that_crosses_the_dust_limit_is_paid() {
    let split = run(10_000, 0, &[p2tr(1, 1, 300), p2tr(3, 99, 0)]).unwrap();
    // 9,293 by weight: 92.93 and 9,200.07.
    assert_eq!(amounts(&split), [(1, 393), (3, 9_200)]);
    assert_eq!(carries(&split), []);
}

#[test]
fn without_any_weight_the_candidates_share_equally() {
    let split = run(
        10_000,
        0,
        &[p2tr(1, 0, 400), p2tr(3, 0, 500), p2tr(5, 0, 0)],
    )
    .unwrap();
    assert_eq!(amounts(&split), [(1, 4_747), (3, 4_846)]);
    assert_eq!(
        run(10_000, 0, &[p2tr(1, 0, 0), p2tr(3, 0, 0)]),
        Err(SplitError::NothingPayable { reward: 10_000 })
    );
}

#[test]
fn a_reward_below_costs_or_dust_pays_nobody() {
    for reward in [0, 363, 364, 364 + 329] {
        let got = run(reward, 0, &[p2tr(1, 1, 0)]);
        assert_eq!(got, Err(SplitError::NothingPayable { reward }));
    }
    assert_eq!(amounts(&run(694, 0, &[p2tr(1, 1, 0)]).unwrap()), [(1, 330)]);
}

#[test]
fn what_cannot_come_from_a_ledger_is_an_error() {
    let max = u128::MAX;
    assert_eq!(
        run(MAX_MONEY, 0, &[p2tr(1, max, 0), p2tr(3, 1, 0)]),
        Err(SplitError::Overflow)
    );
    assert_eq!(
        run(MAX_MONEY + 1, 0, &[p2tr(1, 1, 0)]),
        Err(SplitError::RewardAboveMoney(MAX_MONEY + 1))
    );
    for wrong in [[3, 1], [1, 1]] {
        let accounts = wrong.map(|serial_id| p2tr(serial_id, 1, 0));
        assert_eq!(run(10_000, 0, &accounts), Err(SplitError::Unordered));
    }
}

#[test]
fn the_largest_weights_and_the_largest_reward_fit() {
    let accounts = [p2tr(1, u128::MAX / 3 * 2, 0), p2tr(3, u128::MAX / 3, 0)];
    let split = run(MAX_MONEY, 0, &accounts).unwrap();
    // 2,099,999,999,999,593 = 2/3 and 1/3.
    assert_eq!(
        amounts(&split),
        [(1, 1_399_999_999_999_729), (3, 699_999_999_999_864)]
    );
}

#[test]
fn more_than_230_payees_are_paid_by_several_payouts() {
    for (payees, shards) in [
        (230, [230].as_slice()),
        (231, &[230, 1]),
        (700, &[230, 230, 230, 10]),
    ] {
        let accounts: Vec<_> = (0..payees).map(|n| p2tr(2 * n + 1, 1_000, 0)).collect();
        let split = run(312_500_000, 0, &accounts).unwrap();
        let sizes: Vec<_> = split.shards.iter().map(|s| s.outputs.len()).collect();
        assert_eq!(sizes, shards);
        let fees: Vec<_> = split.shards.iter().map(|s| s.fee).collect();
        assert_eq!(fees[0], 9_971);
        let value: u64 = split.shards.iter().map(|s| s.value).sum();
        assert_eq!(value, 312_500_000);
    }
}

/// Invariant 4, and everything that a payout must be to relay.
fn check_conservation(input: &SplitInput<'_>, split: &Split) {
    let by_id = |serial_id| input.accounts.iter().find(|a| a.serial_id == serial_id);
    let mut total = 0u64;
    for shard in &split.shards {
        let bytes = shard
            .outputs
            .iter()
            .map(|(s, _)| by_id(*s).unwrap().output_size)
            .sum();
        let vsize = payout::vsize(shard.outputs.len(), bytes);
        assert!(vsize <= payout::PAYOUT_VSIZE_LIMIT);
        assert_eq!(shard.fee, input.feerate.fee(vsize));
        let paid: u64 = shard.outputs.iter().map(|(_, sat)| sat).sum();
        assert_eq!(shard.value, paid + shard.fee + payout::ANCHOR_SAT);
        total += shard.value;
        for (serial_id, sat) in &shard.outputs {
            assert!(*sat >= by_id(*serial_id).unwrap().dust_limit);
        }
    }
    assert_eq!(total, input.reward);
    assert!(amounts(split).is_sorted_by(|a, b| a.0 < b.0));
}

/// What everybody earned here, is paid here or owed later: no account loses what it was owed.
fn check_carries(input: &SplitInput<'_>, split: &Split) {
    assert!(split.carry_after.is_sorted_by(|a, b| a.0 < b.0));
    assert!(split.carry_after.iter().all(|(_, sat)| *sat != 0));
    let after = |id| {
        carries(split)
            .iter()
            .find(|(s, _)| *s == id)
            .map_or(0, |(_, sat)| *sat)
    };
    let paid = |id| {
        amounts(split)
            .iter()
            .find(|(s, _)| *s == id)
            .map(|(_, sat)| *sat)
    };
    let fee = u128::from(input.reward) * u128::from(input.operator_fee_ppm) / 1_000_000;
    let beyond = input
        .accounts
        .iter()
        .any(|a| paid(a.serial_id.0).is_some() && after(a.serial_id.0) != 0);
    for account in input.accounts {
        let id = account.serial_id.0;
        let earned =
            i128::from(paid(id).unwrap_or(0)) + i128::from(after(id)) - i128::from(account.carry);
        assert!(earned >= 0);
        if paid(id).is_some() {
            let fee = if id == 0 { fee as i128 } else { 0 };
            assert!(earned >= fee);
            // Once carries exceed the reward, nobody who is paid earns by weight.
            assert!(!beyond || (earned == fee && after(id) >= 0));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn every_sat_of_the_reward_is_paid_and_every_carry_kept(
        accounts in accounts(40), reward in reward(), (feerate, operator_fee_ppm) in rates(),
    ) {
        let input = SplitInput { reward, feerate, operator_fee_ppm, shards_max: usize::MAX, accounts: &accounts };
        match split(&input) {
            Ok(split) => {
                check_conservation(&input, &split);
                check_carries(&input, &split);
            }
            Err(error) => prop_assert_eq!(error, SplitError::NothingPayable { reward }),
        }
    }

    #[test]
    fn the_result_is_the_references(
        accounts in accounts(40), reward in reward(), (feerate, operator_fee_ppm) in rates(),
    ) {
        compare(&SplitInput { reward, feerate, operator_fee_ppm, shards_max: usize::MAX, accounts: &accounts })?;
    }

    #[test]
    fn a_ratio_of_weights_is_all_that_counts(
        weights in proptest::collection::vec(0u64.., 1..30), factor in 1u64.., reward in reward(),
    ) {
        let of = |factor: u64| -> Vec<_> {
            (1u64..).zip(&weights).map(|(id, w)| p2tr(id, u128::from(*w / 32) * u128::from(factor), 0)).collect()
        };
        prop_assert_eq!(run(reward, 0, &of(1)), run(reward, 0, &of(factor)));
    }

    #[test]
    fn more_work_never_pays_less(
        weights in proptest::collection::vec(prop_oneof![1u128..20, any::<u64>().prop_map(u128::from)], 2..60),
        // Sixty carries of 500 are within the smallest reward: beyond it, weight does not count.
        carry in -500i64..500, reward in 40_000u64..=MAX_MONEY,
    ) {
        let accounts: Vec<_> = (1u64..).zip(&weights).map(|(id, w)| p2tr(id, *w, carry)).collect();
        let split = run(reward, 0, &accounts).unwrap();
        let paid = |id: u64| amounts(&split).iter().find(|(s, _)| *s == id).map_or(0, |(_, sat)| *sat);
        for (a, heavy) in (1u64..).zip(&weights) {
            for (b, light) in (1u64..).zip(&weights) {
                if heavy > light || (heavy == light && a < b) {
                    prop_assert!(paid(a) >= paid(b), "{heavy} of {a}, {light} of {b}");
                }
                if heavy == light {
                    prop_assert!(paid(a).abs_diff(paid(b)) <= 1 || paid(a) == 0 || paid(b) == 0);
                }
            }
        }
    }

    #[test]
    fn who_holds_a_place_changes_no_more_than_the_last_sat(
        weights in proptest::collection::vec(1_000u128..2_000, 2..60).prop_shuffle(),
        seed in any::<u64>(), reward in 1_000_000u64..=MAX_MONEY,
    ) {
        let accounts: Vec<_> = (1u64..).zip(&weights).map(|(id, w)| p2tr(id, *w, 0)).collect();
        // Rotating the weights is a permutation; all are far above dust.
        let shift = (seed % weights.len() as u64) as usize;
        let mut rotated = weights.clone();
        rotated.rotate_left(shift);
        let moved: Vec<_> = (1u64..).zip(&rotated).map(|(id, w)| p2tr(id, *w, 0)).collect();
        let mut before = amounts(&run(reward, 0, &accounts).unwrap());
        let after = amounts(&run(reward, 0, &moved).unwrap());
        before.rotate_left(shift);
        for ((_, before), (_, after)) in before.iter().zip(&after) {
            prop_assert!(before.abs_diff(*after) <= 1);
        }
    }

    #[test]
    fn no_input_panics(
        accounts in proptest::collection::vec(
            (any::<u64>(), any::<u64>(), 0u64..11_000, any::<u128>(), any::<i64>()), 0..20,
        ),
        sorted in any::<bool>(), reward in any::<u64>(), ppm in any::<u32>(),
        feerate in 1_000u64..=1_000_000,
    ) {
        let mut accounts: Vec<_> = accounts.into_iter().map(|(id, dust_limit, output_size, weight, carry)| {
            Account { serial_id: SerialId(id), dust_limit, output_size, weight: weight >> 5, carry }
        }).collect();
        if sorted {
            accounts.sort_by_key(|a| a.serial_id);
        }
        let feerate = FeeRate::from_sat_per_kvb(feerate).unwrap();
        for reward in [reward, reward % (MAX_MONEY + 1)] {
            let _ = split(&SplitInput { reward, feerate, operator_fee_ppm: ppm, shards_max: usize::MAX, accounts: &accounts });
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_result_is_the_references_over_several_shards(
        accounts in accounts(700), reward in 1_000_000u64..=MAX_MONEY, (feerate, operator_fee_ppm) in rates(),
    ) {
        compare(&SplitInput { reward, feerate, operator_fee_ppm, shards_max: usize::MAX, accounts: &accounts })?;
    }
}

fn compare(input: &SplitInput<'_>) -> Result<(), TestCaseError> {
    match (split(input), reference(input)) {
        (Ok(ours), Some(theirs)) => {
            check_conservation(input, &ours);
            let shards: Vec<_> = ours
                .shards
                .iter()
                .map(|s| {
                    (
                        s.outputs.iter().map(|(id, sat)| (id.0, *sat)).collect(),
                        s.fee,
                    )
                })
                .collect();
            prop_assert_eq!(shards, theirs.shards);
            prop_assert_eq!(
                carries(&ours),
                theirs.carry_after.into_iter().collect::<Vec<_>>()
            );
        }
        (Err(SplitError::NothingPayable { .. }), None) => {}
        (ours, theirs) => prop_assert!(false, "{ours:?} but the reference says {theirs:?}"),
    }
    Ok(())
}
