//! Plans as they are signed: sizes and amounts are those of the plan.

use bitcoin::secp256k1::{Message, Secp256k1, XOnlyPublicKey, schnorr};
use bitcoin::sighash::{Prevouts, SighashCache};
use bitcoin::transaction::Version;
use bitcoin::{Amount, ScriptBuf, Sequence, TapSighashType, Transaction, TxIn};
use proptest::prelude::*;
use tutti_participant::bump::{BumpError, BumpPlan, BumpRequest, Feerate, Replaced, plan_bump};
use tutti_participant::wallet::SignError;

use crate::payout::{ANCHOR_SAT, P2TR_DUST, p2tr, pay, payout, request, wallet};

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
