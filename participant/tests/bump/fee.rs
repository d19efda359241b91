//! What a child pays, and with what: to the last sat, to replace another, within a policy.

use bitcoin::hashes::Hash;
use bitcoin::{Amount, OutPoint, Script, Txid};
use tutti_participant::bump::{BumpError, BumpRequest, Coin, Feerate, Replaced, plan_bump};

use crate::payout::{ANCHOR_SAT, P2TR_DUST, p2tr, payout, request, wallet};

#[test]
fn the_last_sat_above_dust_is_spent_and_not_one_more() {
    let own = p2tr(7);
    // The fee does not depend on the own output's value.
    let fee = plan_bump(request(&payout(2, 1_000_000, &own), &own))
        .expect("a plan")
        .fee
        .to_sat();
    let enough = fee + P2TR_DUST - ANCHOR_SAT;
    let plan = plan_bump(request(&payout(2, enough, &own), &own)).expect("just enough");
    assert_eq!(plan.change.to_sat(), P2TR_DUST);
    let parent = payout(2, enough - 1, &own);
    let error = plan_bump(request(&parent, &own)).unwrap_err();
    let BumpError::NotEnough { most, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(
        error,
        BumpError::NotEnough {
            have: Amount::from_sat(fee + P2TR_DUST - 1),
            need: Amount::from_sat(fee + P2TR_DUST),
            fee: Amount::from_sat(fee),
            dust: Amount::from_sat(P2TR_DUST),
            most,
        }
    );
    // What the refusal advises can be had.
    let advised = BumpRequest {
        target: most,
        ..request(&parent, &own)
    };
    let plan = plan_bump(advised).expect("a plan");
    assert!(plan.package_feerate >= most && plan.change.to_sat() >= P2TR_DUST);
}

fn coin(place: u8, sat: u64, script: &Script) -> Coin {
    Coin {
        outpoint: OutPoint::new(Txid::hash(&[place]), u32::from(place)),
        value: Amount::from_sat(sat),
        script: script.to_owned(),
    }
}

#[test]
fn coins_pay_what_the_own_output_cannot_the_largest_first() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut wallet = wallet(&directory);
    let own = wallet.next_payout_script().expect("a script");
    let other = wallet.next_payout_script().expect("a script");
    let parent = payout(2, P2TR_DUST, &own);
    let coins = vec![
        coin(1, 9_000, &other),
        coin(2, 15_000, &own),
        coin(3, 7_000, &other),
    ];
    let near_dust = BumpRequest {
        coins: coins.clone(),
        ..request(&parent, &own)
    };
    assert!(matches!(
        plan_bump(request(&parent, &own)).unwrap_err(),
        BumpError::NotEnough { .. }
    ));
    let plan = plan_bump(near_dust).expect("a plan");
    let spent: Vec<_> = plan.psbt.unsigned_tx.input.iter().skip(1).collect();
    let spent: Vec<_> = spent.iter().map(|input| input.previous_output).collect();
    assert_eq!(spent[0].txid, parent.compute_txid());
    assert_eq!(spent[1], coins[1].outpoint);
    let child = wallet.sign_bump(&plan).expect("all inputs are signed");
    assert!(child.input.iter().skip(1).all(|i| i.witness.len() == 1));

    // Who has no output of the payout pays with a coin alone; who has neither cannot.
    let stranger = BumpRequest {
        own: None,
        coins: vec![coin(4, 100_000, &other)],
        ..request(&parent, &own)
    };
    assert_eq!(plan_bump(stranger).expect("a plan").vsize, 153);
    let nobody = BumpRequest {
        own: None,
        ..request(&parent, &own)
    };
    assert_eq!(plan_bump(nobody).unwrap_err(), BumpError::NothingToPayWith);
}

#[test]
fn a_large_cheap_child_is_evicted_at_its_fee_plus_the_relay_of_the_own() {
    let own = p2tr(7);
    let parent = payout(2, 100_000, &own);
    let plan = plan_bump(BumpRequest {
        target: Feerate::from_sat_per_kvb(2_000),
        replaces: Some(Replaced {
            fee: Amount::from_sat(988),
            vsize: 988,
        }),
        ..request(&parent, &own)
    })
    .expect("a plan");
    assert_eq!(plan.fee.to_sat(), 988 + plan.vsize);
}

#[test]
fn a_policys_highest_feerate_is_not_exceeded_to_replace_a_large_child() {
    let own = p2tr(7);
    let parent = payout(2, 100_000, &own);
    let policy = |target, most, fee| BumpRequest {
        target: Feerate::from_sat_per_kvb(target),
        feerate_max: Some(Feerate::from_sat_per_kvb(most)),
        replaces: Some(Replaced {
            fee: Amount::from_sat(fee),
            vsize: 988,
        }),
        ..request(&parent, &own)
    };
    // 988 vB at 5 sat/vB: a small child must pay more than that child's fee, at 15 sat/vB and more.
    let most = Feerate::from_sat_per_kvb(8_000);
    let error = plan_bump(policy(6_000, 8_000, 4_940)).unwrap_err();
    let BumpError::AboveFeerate {
        package,
        most: said,
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!(said, most);
    assert!(package > Feerate::from_sat_per_kvb(14_000), "{package}");
    let by_hand = BumpRequest {
        feerate_max: None,
        ..policy(6_000, 8_000, 4_940)
    };
    assert_eq!(plan_bump(by_hand).expect("a plan").package_feerate, package);
    // As far as it goes it is taken, and to the sat.
    for fee in 0..6_000 {
        match plan_bump(policy(6_000, 8_000, fee)) {
            Ok(plan) => {
                let together = Amount::from_sat(parent.vsize() as u64) + plan.fee;
                let size = parent.vsize() as u64 + plan.vsize;
                assert!(together <= most.fee(size).expect("a fee"), "{fee}");
            }
            Err(BumpError::AboveFeerate { package, .. }) => assert!(package >= most, "{fee}"),
            Err(BumpError::TargetBelowReplaced { .. }) => assert!(fee > 6_000 - 500, "{fee}"),
            Err(error) => panic!("{fee}: {error}"),
        }
    }
    // A target at the highest feerate is not above it, whatever the rounding.
    for others in 0..40 {
        let parent = payout(others, 1_000_000, &own);
        let request = BumpRequest {
            target: Feerate::from_sat_per_kvb(7_777),
            feerate_max: Some(Feerate::from_sat_per_kvb(7_777)),
            ..request(&parent, &own)
        };
        plan_bump(request).expect("a plan");
    }
}

#[test]
fn a_target_that_costs_too_much_is_lowered_to_what_may_be_spent_and_no_further() {
    let own = p2tr(7);
    let parent = payout(2, 100_000, &own);
    let within = |most, replaces| BumpRequest {
        cost_max: Some(Amount::from_sat(most)),
        replaces,
        ..request(&parent, &own)
    };
    let full = plan_bump(request(&parent, &own)).expect("a plan");
    let least = (full.vsize + 1)..full.fee.to_sat();
    for most in least.step_by(7) {
        let plan = plan_bump(within(most, None)).expect("a plan");
        assert_eq!(plan.fee.to_sat(), most);
        assert!(plan.package_feerate > Feerate::from_sat_per_kvb(1_000));
        assert!(plan.package_feerate < full.package_feerate);
    }
    let above = |fee, most| BumpError::AboveCap {
        fee,
        most: Amount::from_sat(most),
    };
    // A child that lifts nothing, and one that does not replace what is there.
    assert_eq!(
        plan_bump(within(100, None)).unwrap_err(),
        above(full.fee, 100)
    );
    let replaced = Some(Replaced {
        fee: Amount::from_sat(900),
        vsize: full.vsize,
    });
    assert_eq!(
        plan_bump(within(900, replaced)).unwrap_err(),
        above(full.fee, 900)
    );
    // Coins that the full target would take are not needed for what may be spent.
    let poor = payout(2, 1_000, &own);
    let poor = BumpRequest {
        cost_max: Some(Amount::from_sat(500)),
        ..request(&poor, &own)
    };
    assert_eq!(plan_bump(poor).expect("a plan").fee.to_sat(), 500);
}
