//! A closed window as it is told: work by places in the payee set.

use bitcoin::ScriptBuf;
use proptest::collection::btree_map;
use proptest::prelude::*;
use tutti_proto::id::{SerialId, WindowSeq};
use tutti_proto::identity::IdentityKey;
use tutti_proto::message::{PayeeWork, PlaceError, SignedHead, TxAddOutput, WindowClosed};
use tutti_proto::roster::Roster;
use tutti_proto::script::PayoutScript;
use tutti_proto::window::{LedgerHead, WindowRecord};
use tutti_proto::wire::{FromWire, ToWire};
use tutti_proto::work::Work;

fn key(number: u8) -> IdentityKey {
    IdentityKey::from_bytes(&mut [number; 32]).expect("in range")
}

/// Payees whose identities are these keys'.
fn roster(payees: impl IntoIterator<Item = u8>) -> Roster {
    let script = ScriptBuf::from_bytes([[0, 20].as_slice(), &[7; 20]].concat());
    let script = PayoutScript::parse(script).expect("P2WPKH");
    let coordinator = key(1).identity();
    let mut roster = Roster::default();
    for payee in payees {
        let serial_id = SerialId(2 * u64::from(payee) + 1);
        let output = TxAddOutput::sign(
            &key(payee),
            &coordinator,
            serial_id,
            script.clone(),
            &[0; 32],
        );
        roster.add_output(&coordinator, output).expect("added");
    }
    roster
}

fn record(tally: impl IntoIterator<Item = (u8, u128)>) -> WindowRecord {
    let tally = tally.into_iter();
    WindowRecord {
        seq: WindowSeq(3),
        previous: [1; 32],
        shares_root: [2; 32],
        shares: 4,
        height: 5,
        tally: tally
            .map(|(who, work)| (key(who).identity(), Work(work)))
            .collect(),
        bookings: Vec::new(),
        credits: Vec::new(),
    }
}

fn closed(record: WindowRecord, roster: &Roster) -> WindowClosed {
    let head = LedgerHead {
        seq: record.seq,
        hash: [6; 32],
    };
    WindowClosed::new(record, SignedHead::sign(&key(1), head, &[0; 32]), roster)
}

/// Some of 2 to 30, each with a work on either side of what fits into 64 bits.
fn tally() -> impl Strategy<Value = std::collections::BTreeMap<u8, u128>> {
    let work = prop_oneof![
        1..1_000u128,
        any::<u64>().prop_map(u128::from),
        any::<u128>()
    ];
    btree_map(2..30u8, work, 0..20)
}

proptest! {
    #[test]
    fn whoever_has_the_payee_set_reads_the_record_again(
        payees in proptest::collection::btree_set(2..30u8, 0..20),
        tally in tally(),
    ) {
        let roster = roster(payees.iter().copied());
        let record = record(tally.clone());
        let told = closed(record.clone(), &roster);
        prop_assert_eq!(told.record(&roster), Ok(record));
        // Named are those alone whom a place does not name.
        let named = tally.iter().filter(|(who, work)| {
            !payees.contains(who) || u64::try_from(**work).is_err()
        });
        prop_assert_eq!(told.record.tally.len(), named.count());
        let back = WindowClosed::decode(&told.encode()).expect("well formed");
        prop_assert_eq!(back, told);
    }
}

#[test]
fn places_that_there_are_not_and_work_that_is_there_twice_are_refused() {
    let roster = roster([2, 3, 4]);
    let told = |places: &[u32], named: &[(u8, u128)]| {
        let mut told = closed(record(named.iter().copied()), &Roster::default());
        let payee = |skipped: &u32| PayeeWork {
            skipped: *skipped,
            work: 9,
        };
        told.payees = places.iter().map(payee).collect();
        told.record(&roster)
    };
    assert_eq!(told(&[0, 0, 0], &[]).expect("all three").tally.len(), 3);
    assert_eq!(told(&[2], &[]).expect("the last").tally.len(), 1);
    for places in [&[3][..], &[0, 2], &[0, 0, 0, 0], &[u32::MAX]] {
        assert_eq!(
            told(places, &[]),
            Err(PlaceError::NoSuchPayee),
            "{places:?}"
        );
    }
    let all = [2, 3, 4].map(|who| (who, 1));
    let first = roster.identities().next().expect("a payee");
    assert_eq!(told(&[0], &all), Err(PlaceError::Twice(*first)));
}

#[test]
fn a_payees_work_takes_a_few_bytes() {
    let payees = 2..250;
    let roster = roster(payees.clone());
    let record = record(payees.clone().map(|who| (who, 3 << 40)));
    let bytes = closed(record, &roster).encode().len();
    let each = (bytes - closed(self::record([]), &roster).encode().len()) / payees.len();
    assert!(each <= 8, "{each} bytes");
}
