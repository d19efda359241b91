//! The log cut short: what it began with is replaced by what that adds up to, and nothing else changes.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/store.rs"]
mod support;

use std::path::Path;

use support::{
    NETWORK, close, coordinator, found, key, machine, once_free, open, output, replay, shares,
};
use tutti_coordinator::store::{Reader, Store, StoreError};
use tutti_proto::coordinator::{Coordinator, Fate, Record};
use tutti_proto::id::{LaneIndex, RoundId, SerialId, WindowSeq};
use tutti_proto::params::PoolName;
use tutti_proto::window::{BookedBlock, Ledger};

const WINDOWS: u64 = 12;

fn pool() -> PoolName {
    PoolName {
        network: NETWORK,
        coordinator: coordinator(),
    }
}

/// A life of twelve windows: payees come and go, a block is lost, one is open, one is settled.
fn live(store: &mut Store) -> Ledger {
    let mut ledger = Ledger::default();
    store
        .save(&[output(1, 0), output(2, 1), output(3, 3)])
        .unwrap();
    for window in 1..=WINDOWS {
        let mut records = shares(&ledger, 3);
        records.push(close(&mut ledger, 3));
        let verdict = |byte: u8, accepted| Record::Verdict {
            hash: [byte; 32],
            accepted,
        };
        let fate = |byte: u8, fate| Record::BlockFate {
            hash: [byte; 32],
            fate,
        };
        match window {
            2 => records.push(Record::OutputExpired(SerialId(3))),
            // The second output of an identity: the order in which they came decides which is paid.
            3 => records.extend([output(2, 9), output(4, 7)]),
            4 => records.extend([
                Record::Candidate(found(4)),
                verdict(4, true),
                Record::Candidate(found(5)),
                verdict(5, true),
                Record::Candidate(found(6)),
            ]),
            5 => records.extend([fate(4, Fate::Lost), fate(5, Fate::Settled)]),
            9 => records.push(fate(4, Fate::Back)),
            _ => {}
        }
        store.save(&records).unwrap();
    }
    store.save(&shares(&ledger, 5)).unwrap();
    ledger
}

/// All of a state that can be seen.
fn seen(store: &Store) -> String {
    let replayed = replay(store);
    let unsettled: Vec<_> = replayed.restored.unsettled().collect();
    let mut seen = format!("{unsettled:?}");
    let open: Vec<_> = replayed.restored.open_candidates().collect();
    seen += &format!("{open:?}");
    let (machine, records): (Coordinator, _) = machine(replayed);
    assert_eq!(records, []);
    let outputs = machine.roster().in_order_of_adding();
    seen + &format!("{:?}{outputs:?}", machine.ledger().snapshot())
}

fn cut(reader: &Reader, window: u64, end: u64) {
    let base = reader.state_after(WindowSeq(window), &pool(), end).unwrap();
    let base = base.unwrap();
    assert_eq!(base.window(), WindowSeq(window));
    reader.begin_with(&base).unwrap();
    assert_eq!(reader.base().unwrap(), Some(base));
}

#[test]
fn a_log_cut_anywhere_leads_to_the_same_state() {
    for first in 1..=WINDOWS {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        let mut ledger = live(&mut store);
        let (before, records) = (seen(&store), replay(&store).records);
        let (reader, end) = (store.reader(), store.log_end());
        cut(&reader, first, end);
        assert_eq!(seen(&store), before, "cut after window {first}");
        assert!(replay(&store).records < records);
        drop((store, reader));
        let mut store = open(dir.path());
        assert_eq!(seen(&store), before, "and opened again");
        assert_eq!(store.log_end(), end, "numbers go on");
        // Cut again, later or at the same place, and gone on with.
        cut(&store.reader(), WINDOWS, end);
        assert_eq!(seen(&store), before);
        let last = store.reader().after_closing(WindowSeq(WINDOWS), end);
        assert_eq!(last.unwrap(), end, "nothing but shares came after");
        store.save(&[close(&mut ledger, 5)]).unwrap();
        let restored = machine(replay(&store)).0;
        assert_eq!(restored.ledger().head(), ledger.head());
    }
}

#[test]
fn what_a_crash_left_of_another_cut_is_not_taken_and_goes_with_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    live(&mut store);
    let (before, reader, end) = (seen(&store), store.reader(), store.log_end());
    cut(&reader, 4, end);
    drop((store, reader));
    // The next cut was begun, and some records before the first were not forgotten yet.
    let db = once_free(|| sled::open(dir.path())).unwrap();
    let tree = db.open_tree("records").unwrap();
    for key in [
        &b"B\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0"[..],
        b"L\0\0\0\0\0\0\0\x02",
    ] {
        tree.insert(key, b"remains").unwrap();
    }
    drop((tree, db));
    let store = open(dir.path());
    assert_eq!(seen(&store), before);
    let reader = store.reader();
    cut(&reader, 6, end);
    assert_eq!(seen(&store), before);
    drop((store, reader));
    let db = once_free(|| sled::open(dir.path())).unwrap();
    let tree = db.open_tree("records").unwrap();
    let left = |key: &[u8]| {
        tree.iter()
            .keys()
            .filter(|k| k.as_ref().unwrap() == key)
            .count()
    };
    assert_eq!(left(b"B\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\0\0"), 0);
    assert_eq!(left(b"L\0\0\0\0\0\0\0\x02"), 0);
}

#[test]
fn a_damaged_beginning_is_named_and_the_store_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    live(&mut store);
    cut(&store.reader(), 4, store.log_end());
    drop(store);
    spoil(dir.path());
    let Err(error @ StoreError::Damaged { .. }) =
        open(dir.path()).replay(&coordinator(), |_, _| {})
    else {
        panic!("a damaged state was taken");
    };
    assert!(error.to_string().contains("record base/"), "{error}");
}

#[test]
fn a_damaged_name_of_the_beginning_is_not_read_as_none() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    live(&mut store);
    cut(&store.reader(), 4, store.log_end());
    drop(store);
    let whole = change(dir.path(), b"Mbase", |value| value);
    for (spoilt, why) in [
        (whole[..7].to_vec(), "the wrong length"),
        (whole[..whole.len() - 1].to_vec(), "its checksum is wrong"),
        ([&whole[..], &[0]].concat(), "its checksum is wrong"),
        (4u64.to_be_bytes().to_vec(), "its checksum is wrong"),
    ] {
        change(dir.path(), b"Mbase", |_| spoilt.clone());
        let Err(error) = once_free(|| Store::open(dir.path(), NETWORK)) else {
            panic!("the log began elsewhere");
        };
        let error = error.to_string();
        assert!(
            error.contains("record meta/base ") && error.contains(why),
            "{error}"
        );
    }
    change(dir.path(), b"Mbase", |_| whole.clone());
    replay(&open(dir.path()));
}

/// Changes a value; says what it was.
fn change(path: &Path, key: &[u8], to: impl Fn(Vec<u8>) -> Vec<u8>) -> Vec<u8> {
    let db = once_free(|| sled::open(path)).unwrap();
    let tree = db.open_tree("records").unwrap();
    let value = tree.get(key).unwrap().unwrap().to_vec();
    tree.insert(key, to(value.clone())).unwrap();
    value
}

#[test]
fn the_beginning_of_another_pools_log_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    live(&mut store);
    cut(&store.reader(), 4, store.log_end());
    let mut other = pool();
    other.coordinator = key(9).identity();
    let state = store
        .reader()
        .state_after(WindowSeq(6), &other, store.log_end());
    assert!(matches!(state, Err(StoreError::Base { .. })), "{state:?}");
}

/// Flips a bit of the base's first part.
fn spoil(path: &Path) {
    let db = once_free(|| sled::open(path)).unwrap();
    let tree = db.open_tree("records").unwrap();
    let (key, value) = tree.scan_prefix(b"B").next().unwrap().unwrap();
    let mut value = value.to_vec();
    value[20] ^= 1;
    tree.insert(key, value).unwrap();
}

#[test]
fn what_could_not_be_read_back_replaces_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    live(&mut store);
    let (before, reader, end) = (seen(&store), store.reader(), store.log_end());
    let base = reader.state_after(WindowSeq(4), &pool(), end).unwrap();
    let mut large = base.unwrap();
    // More found blocks than a ledger may remember.
    for number in 0..=65_536u32 {
        let mut hash = [7; 32];
        hash[..4].copy_from_slice(&number.to_be_bytes());
        let booked = BookedBlock {
            round: RoundId([7; 32]),
            lane: LaneIndex(0),
            booked: true,
            changed: WindowSeq(4),
            carry: [7; 32],
            payouts: [7; 32],
            credited: Default::default(),
        };
        large.state.ledger.blocks.insert(hash, booked);
    }
    let refused = reader.begin_with(&large).unwrap_err();
    assert!(matches!(refused, StoreError::Uncut { .. }), "{refused}");
    assert_eq!(reader.base().unwrap(), None);
    assert_eq!(seen(&store), before);
    cut(&reader, 4, end);
    let refused = reader.begin_with(&large).unwrap_err();
    assert!(matches!(refused, StoreError::Uncut { .. }), "{refused}");
    assert_eq!(
        seen(&store),
        before,
        "the base before it is still the one that counts"
    );
}
