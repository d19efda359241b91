//! What no child is planned for, and feerates that are none.

use bitcoin::transaction::Version;
use bitcoin::{Amount, ScriptBuf, Witness};
use tutti_participant::bump::{BumpError, BumpRequest, Feerate, OwnOutput, Replaced, plan_bump};

use crate::payout::{ANCHOR_SAT, p2tr, payout, request};

fn own_of<'a>(request: &'a mut BumpRequest<'_>) -> &'a mut OwnOutput {
    request.own.as_mut().expect("it has one")
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
