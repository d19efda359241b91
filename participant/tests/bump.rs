//! The fee bump: sizes, feerates, replacement, and every refusal.

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::secp256k1::{Message, Secp256k1, XOnlyPublicKey, schnorr};
use bitcoin::sighash::{Prevouts, SighashCache};
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, Network, OutPoint, Script, ScriptBuf, Sequence, TapSighashType, Transaction, TxIn,
    TxOut, Txid, Witness,
};
use proptest::prelude::*;
use tutti_participant::bump::{
    BumpError, BumpPlan, BumpRequest, Coin, Feerate, OwnOutput, Replaced, plan_bump,
};
use tutti_participant::keys::Seed;
use tutti_participant::wallet::{SignError, Wallet};

const ANCHOR_SAT: u64 = 240;
const P2TR_DUST: u64 = 330;

fn p2tr(byte: u8) -> ScriptBuf {
    let mut bytes = vec![0x51, 0x20];
    bytes.extend([byte; 32]);
    ScriptBuf::from_bytes(bytes)
}

fn pay(sat: u64, script: &Script) -> TxOut {
    TxOut {
        value: Amount::from_sat(sat),
        script_pubkey: script.to_owned(),
    }
}

/// A signed payout: `others` payees, then the own output, then the anchor.
fn payout(others: usize, own_sat: u64, own: &Script) -> Transaction {
    let mut output: Vec<_> = (0..others).map(|i| pay(1_000, &p2tr(i as u8))).collect();
    output.push(pay(own_sat, own));
    output.push(pay(
        ANCHOR_SAT,
        Script::from_bytes(&[0x51, 0x02, 0x4e, 0x73]),
    ));
    Transaction {
        version: Version(3),
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::new(Txid::hash(b"coinbase"), 0),
            script_sig: ScriptBuf::new(),
            sequence: Sequence(0xffff_fffd),
            witness: Witness::from_slice(&[[1_u8; 64]]),
        }],
        output,
    }
}

/// 1 sat/vB for the parent, 10 sat/vB for the package.
fn request<'a>(parent: &'a Transaction, own: &Script) -> BumpRequest<'a> {
    let vout = parent.output.len() as u32 - 2;
    BumpRequest {
        parent,
        parent_fee: Amount::from_sat(parent.vsize() as u64),
        anchor_vout: vout + 1,
        own: Some(OwnOutput {
            vout,
            value: parent.output[vout as usize].value,
            script: own.to_owned(),
        }),
        coins: Vec::new(),
        target: Feerate::from_sat_per_kvb(10_000),
        feerate_max: None,
        cost_max: None,
        change_script: p2tr(0xcc),
        replaces: None,
    }
}

fn own_of<'a>(request: &'a mut BumpRequest<'_>) -> &'a mut OwnOutput {
    request.own.as_mut().expect("it has one")
}

fn wallet(directory: &tempfile::TempDir) -> Wallet {
    Wallet::open(
        directory.path(),
        &Seed::from_entropy(&mut [8; 32]),
        Network::Regtest,
    )
    .expect("a wallet")
}

fn verify_own_input(plan: &BumpPlan, signed: &Transaction) {
    let spent: Vec<_> = plan
        .psbt
        .inputs
        .iter()
        .filter_map(|input| input.witness_utxo.clone())
        .collect();
    let sighash = SighashCache::new(signed)
        .taproot_key_spend_signature_hash(1, &Prevouts::All(&spent), TapSighashType::Default)
        .expect("a sighash");
    assert!(signed.input[0].witness.is_empty());
    assert_eq!(signed.input[1].witness.len(), 1);
    let signature = schnorr::Signature::from_slice(&signed.input[1].witness[0]).expect("64 bytes");
    let key = XOnlyPublicKey::from_slice(&spent[1].script_pubkey.as_bytes()[2..]).expect("a key");
    Secp256k1::verification_only()
        .verify_schnorr(&signature, &Message::from(sighash), &key)
        .expect("a valid signature");
}

#[test]
fn the_signed_child_is_valid_and_as_large_as_planned() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut wallet = wallet(&directory);
    let own = wallet.next_payout_script().expect("a script");
    let change = wallet.next_change_script().expect("a script");
    let parent = payout(4, 100_000, &own);
    let plan = plan_bump(BumpRequest {
        change_script: change.clone(),
        ..request(&parent, &own)
    })
    .expect("a plan");
    let child = wallet.sign_bump(&plan).expect("signed");
    assert_eq!(child.vsize() as u64, plan.vsize);
    assert_eq!(plan.vsize, 153);
    assert_eq!(child.version, Version(3));
    assert_eq!(child.output, [pay(plan.change.to_sat(), &change)]);
    let sequence = |input: &TxIn| input.sequence == Sequence(0xffff_fffd);
    assert!(child.input.iter().all(sequence));
    verify_own_input(&plan, &child);
}

#[test]
fn another_wallets_output_is_not_signed() {
    let directory = tempfile::tempdir().expect("a directory");
    let wallet = wallet(&directory);
    let foreign = p2tr(0xee);
    let parent = payout(0, 100_000, &foreign);
    let plan = plan_bump(request(&parent, &foreign)).expect("a plan");
    assert_eq!(
        wallet.sign_bump(&plan),
        Err(SignError::NotOurs { input: 1 })
    );
}

#[test]
fn every_plan_keeps_its_promises() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut wallet = wallet(&directory);
    let own = wallet.next_payout_script().expect("a script");
    let change_scripts = [
        p2tr(0xcc),
        ScriptBuf::from_bytes([&[0x00, 0x14][..], &[3; 20]].concat()),
        ScriptBuf::from_bytes([&[0x00, 0x20][..], &[3; 32]].concat()),
    ];
    proptest!(|(
        others in 0_usize..229,
        own_sat in P2TR_DUST..2_000_000,
        parent_rate in 1_000_u64..30_000,
        target in 1_001_u64..300_000,
        change in 0_usize..3,
        replaced in proptest::option::of((0_u64..50_000, 100_u64..1_000)),
    )| {
        let parent = payout(others, own_sat, &own);
        let parent_vsize = parent.vsize() as u64;
        let parent_fee = Feerate::from_sat_per_kvb(parent_rate).fee(parent_vsize).expect("a fee");
        let change_script = change_scripts[change].clone();
        let dust = change_script.minimal_non_dust();
        let target = Feerate::from_sat_per_kvb(target);
        let replaces = replaced.map(|(fee, vsize)| Replaced { fee: Amount::from_sat(fee), vsize });
        let plan = plan_bump(BumpRequest {
            parent_fee,
            target,
            change_script,
            replaces,
            ..request(&parent, &own)
        });
        match plan {
            Ok(plan) => {
                let child = wallet.sign_bump(&plan).expect("signed");
                prop_assert_eq!(child.vsize() as u64, plan.vsize);
                prop_assert!(plan.vsize <= 1_000);
                prop_assert_eq!(plan.change + plan.fee, Amount::from_sat(own_sat + ANCHOR_SAT));
                prop_assert_eq!(child.output[0].value, plan.change);
                prop_assert!(plan.change >= dust);
                prop_assert!(plan.package_feerate >= target);
                let rate = |fee: u64| {
                    let fee = Amount::from_sat(fee) + parent_fee;
                    Feerate::paid(fee, parent_vsize + plan.vsize).expect("a rate")
                };
                prop_assert_eq!(rate(plan.fee.to_sat()), plan.package_feerate);
                match replaces {
                    // Not a sat more than needed.
                    None => prop_assert!(rate(plan.fee.to_sat() - 1) < target),
                    Some(old) => {
                        prop_assert!(plan.fee.to_sat() >= old.fee.to_sat() + plan.vsize);
                        prop_assert!(
                            u128::from(plan.fee.to_sat()) * u128::from(old.vsize)
                                > u128::from(old.fee.to_sat()) * u128::from(plan.vsize)
                        );
                    }
                }
            }
            Err(BumpError::TargetBelowParent { parent: alone, .. }) => {
                prop_assert!(alone >= target);
            }
            Err(BumpError::TargetBelowReplaced { package, .. }) => {
                prop_assert!(replaces.is_some() && package >= target);
            }
            Err(BumpError::NotEnough { have, need, fee, dust: least, most }) => {
                prop_assert!(most < target || replaces.is_some());
                prop_assert_eq!(have, Amount::from_sat(own_sat + ANCHOR_SAT));
                prop_assert!(have < need);
                prop_assert_eq!(need, fee + least);
                prop_assert_eq!(least, dust);
            }
            Err(other) => return Err(TestCaseError::fail(other.to_string())),
        }
    });
}

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

#[test]
fn what_is_already_paid_is_not_paid_again() {
    let own = p2tr(7);
    let parent = payout(2, 100_000, &own);
    let low = BumpRequest {
        target: Feerate::from_sat_per_kvb(1_000),
        ..request(&parent, &own)
    };
    assert_eq!(
        plan_bump(low).unwrap_err(),
        BumpError::TargetBelowParent {
            target: Feerate::from_sat_per_kvb(1_000),
            parent: Feerate::from_sat_per_kvb(1_000),
        }
    );
    let first = plan_bump(request(&parent, &own)).expect("a plan");
    let again = BumpRequest {
        replaces: Some(Replaced {
            fee: first.fee,
            vsize: first.vsize,
        }),
        ..request(&parent, &own)
    };
    assert!(matches!(
        plan_bump(again).unwrap_err(),
        BumpError::TargetBelowReplaced { .. }
    ));
}

#[test]
fn every_wrong_input_has_its_own_refusal() {
    let own = p2tr(7);
    let parent = payout(2, 100_000, &own);
    let refusal = |change: &dyn Fn(&mut BumpRequest<'_>)| {
        let mut request = request(&parent, &own);
        change(&mut request);
        plan_bump(request).unwrap_err()
    };
    assert!(matches!(
        refusal(&|r| r.anchor_vout = 9),
        BumpError::NotAnOutput {
            vout: 9,
            outputs: 4
        }
    ));
    assert!(matches!(
        refusal(&|r| own_of(r).vout = 4),
        BumpError::NotAnOutput { vout: 4, .. }
    ));
    assert!(matches!(
        refusal(&|r| r.anchor_vout = 2),
        BumpError::NotAnAnchor { vout: 2, .. }
    ));
    assert!(matches!(
        refusal(&|r| own_of(r).value = Amount::from_sat(99_999)),
        BumpError::NotTheOwnOutput { vout: 2, .. }
    ));
    assert!(matches!(
        refusal(&|r| own_of(r).script = p2tr(8)),
        BumpError::NotTheOwnOutput { vout: 2, .. }
    ));
    assert!(matches!(
        refusal(&|r| {
            *own_of(r) = OwnOutput {
                vout: 3,
                value: Amount::from_sat(ANCHOR_SAT),
                script: parent.output[3].script_pubkey.clone(),
            }
        }),
        BumpError::NotTaproot { outpoint, .. } if outpoint.vout == 3
    ));
    assert!(matches!(
        refusal(&|r| r.change_script = ScriptBuf::from_bytes(vec![0x6a])),
        BumpError::UnspendableChange { .. }
    ));
    assert!(matches!(
        refusal(&|r| r.change_script = ScriptBuf::from_bytes(vec![0x51; 900])),
        BumpError::ChildTooLarge { .. }
    ));
    assert_eq!(
        refusal(&|r| {
            r.replaces = Some(Replaced {
                fee: Amount::from_sat(u64::MAX),
                vsize: 153,
            });
        }),
        BumpError::Overflow
    );
}

#[test]
fn an_unsigned_or_old_parent_is_refused() {
    let own = p2tr(7);
    let mut unsigned = payout(2, 100_000, &own);
    unsigned.input[0].witness = Witness::new();
    assert_eq!(
        plan_bump(request(&unsigned, &own)).unwrap_err(),
        BumpError::ParentUnsigned
    );
    let mut old = payout(2, 100_000, &own);
    old.version = Version::TWO;
    assert_eq!(
        plan_bump(request(&old, &own)).unwrap_err(),
        BumpError::ParentVersion { version: 2 }
    );
}

#[test]
fn feerates_are_read_and_written_in_sat_per_vb() {
    for (text, sat_per_kvb) in [
        ("1", 1_000),
        ("2.5", 2_500),
        ("0.1", 100),
        ("12.345", 12_345),
    ] {
        assert_eq!(text.parse(), Ok(Feerate::from_sat_per_kvb(sat_per_kvb)));
    }
    for text in [
        "",
        "0",
        "0.0",
        "-1",
        "1.",
        ".5",
        "1.2345",
        "1e3",
        "99999999999999999999",
    ] {
        assert!(text.parse::<Feerate>().is_err(), "{text:?}");
    }
    assert_eq!(
        Feerate::from_sat_per_kvb(12_345).to_string(),
        "12.345 sat/vB"
    );
}
