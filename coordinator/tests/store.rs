//! The store: what was saved is there after a crash, and what is damaged is named.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;
use std::path::Path;

use bitcoin::{Network, ScriptBuf};
use tutti_coordinator::store::{FORMAT, Replayed, Store, StoreError};
use tutti_proto::coordinator::{Committed, Coordinator, Found, Record, Settings};
use tutti_proto::id::{Identity, LaneIndex, RoundId, RoundSeq, SerialId, WindowSeq};
use tutti_proto::identity::IdentityKey;
use tutti_proto::message::{SignedHead, TxAddOutput};
use tutti_proto::params::PoolParams;
use tutti_proto::script::PayoutScript;
use tutti_proto::segment::WindowEnd;
use tutti_proto::share::{ShareRecord, ShareTree};
use tutti_proto::window::{BlockPayouts, Ledger, Scoring, WindowRecord};

const NETWORK: Network = Network::Regtest;

fn key(byte: u8) -> IdentityKey {
    IdentityKey::from_bytes(&mut [byte; 32]).unwrap()
}

fn coordinator() -> Identity {
    key(1).identity()
}

fn script(byte: u8) -> PayoutScript {
    let hex = format!("0014{}", hex::encode([byte; 20]));
    PayoutScript::parse(ScriptBuf::from_hex(&hex).unwrap()).unwrap()
}

fn output(byte: u8, serial_id: u64) -> Record {
    let serial_id = SerialId(serial_id);
    let key = key(byte);
    Record::OutputAdded(TxAddOutput::sign(
        &key,
        &coordinator(),
        serial_id,
        script(byte),
        &[0; 32],
    ))
}

fn share(n: u8) -> ShareRecord {
    ShareRecord {
        identity: key(2).identity(),
        round: RoundId([8; 32]),
        lane: LaneIndex(0),
        z: 10,
        header: [n; 80],
    }
}

fn shares(ledger: &Ledger, count: u8) -> Vec<Record> {
    let record = |n: u8| Record::Share {
        window: ledger.head().seq.next(),
        index: u64::from(n),
        share: share(n),
    };
    (0..count).map(record).collect()
}

/// Closes a window in which `count` shares came.
fn close(ledger: &mut Ledger, count: u8) -> Record {
    let shares: Vec<ShareRecord> = (0..count).map(share).collect();
    let mut tally = BTreeMap::new();
    for n in 0..count {
        let work = share(n).work();
        let sum: &mut tutti_proto::work::Work = tally.entry(share(n).identity).or_default();
        *sum = sum.checked_add(work).unwrap();
    }
    let record = WindowRecord {
        seq: ledger.head().seq.next(),
        height: 1,
        previous: ledger.head().hash,
        shares_root: ShareTree::of(&shares).unwrap().root(),
        shares: u64::from(count),
        tally,
        bookings: Vec::new(),
        credits: Vec::new(),
    };
    ledger.append(&record).unwrap();
    Record::WindowClosed(WindowEnd {
        record,
        state: ledger.state(),
        head: SignedHead {
            head: ledger.head(),
            signature: [0; 64],
        },
    })
}

fn found(byte: u8) -> Found {
    Found {
        hash: [byte; 32],
        height: 7,
        seq: tutti_proto::id::RoundSeq(1),
        round: RoundId([8; 32]),
        lane: LaneIndex(0),
        finder: key(2).identity(),
        carry: BTreeMap::new(),
        payouts: BlockPayouts {
            height: 7,
            bits: 1,
            bump_credit: 2,
            bump_credit_after: 3,
            coinbase: [byte; 32],
            shards: Vec::new(),
        },
        payees: Vec::new(),
        header: [byte; 80],
    }
}

/// sled lets go of its file some moments after it was dropped; only a test opens it again at once.
fn once_free<T, E: std::fmt::Debug>(mut open: impl FnMut() -> Result<T, E>) -> Result<T, E> {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        let opened = open();
        let held = |error: &E| format!("{error:?}").contains("could not acquire lock");
        if !opened.as_ref().err().is_some_and(held) || std::time::Instant::now() > deadline {
            return opened;
        }
        std::thread::yield_now();
    }
}

fn open(path: &Path) -> Store {
    once_free(|| Store::open(path, NETWORK)).unwrap()
}

fn replay(store: &Store) -> Replayed {
    store.replay(&coordinator(), |_, _| {}).unwrap()
}

/// A life of the pool: payees come and go, two windows close, blocks are found, a third window is open.
fn fill(store: &mut Store) -> Ledger {
    let mut ledger = Ledger::default();
    store
        .save(&[output(1, 0), output(2, 1), output(3, 3)])
        .unwrap();
    store.save(&[Record::OutputExpired(SerialId(3))]).unwrap();
    let mut first = shares(&ledger, 3);
    first.push(close(&mut ledger, 3));
    store.save(&first).unwrap();
    store.save(&[close(&mut ledger, 0)]).unwrap();
    let committed = Committed {
        round: RoundId([8; 32]),
        seq: RoundSeq(2),
        height: 7,
        lanes: Vec::new(),
    };
    store
        .save(&[
            Record::Committed(committed),
            Record::Candidate(found(5)),
            Record::Candidate(found(6)),
        ])
        .unwrap();
    let verdict = Record::Verdict {
        hash: [5; 32],
        accepted: true,
    };
    store.save(&[verdict]).unwrap();
    let open = shares(&ledger, 5);
    store.save(&open[..2]).unwrap();
    store.save(&open[2..]).unwrap();
    ledger
}

fn machine(replayed: Replayed) -> (Coordinator, Vec<Record>) {
    let params = PoolParams {
        network: NETWORK,
        coordinator: coordinator(),
        tag: "/T/".into(),
        operator_fee_ppm: 0,
        lanes: 1,
        nonces_per_slot: 1,
        direct_payees: 32,
        scoring: Scoring::Pplns,
        pplns_depth: 8,
        ntime_roll: 600,
        block_zero_bits: None,
        bump_credit: 20_000,
        bump_credit_after: 3,
    };
    Coordinator::new(
        key(1),
        params,
        Settings::default(),
        script(1),
        replayed.restored,
        &[0; 32],
    )
}

#[test]
fn a_restart_comes_back_to_the_same_state() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = fill(&mut open(dir.path()));
    let mut store = open(dir.path());
    let replayed = replay(&store);
    assert_eq!(replayed.records, 3 + 1 + 1 + 1 + 2 + 1 + 5);
    assert_eq!(replayed.last_round, RoundSeq(2));
    let open_candidates: Vec<[u8; 32]> = replayed
        .restored
        .open_candidates()
        .map(|found| found.hash)
        .collect();
    assert_eq!(open_candidates, [[6; 32]]);
    let (machine, records) = machine(replayed);
    assert_eq!(records, []);
    assert_eq!(machine.ledger().head(), ledger.head());
    assert_eq!(machine.roster().len(), 2);
    let committed = store
        .committed(RoundSeq(2), RoundId([8; 32]))
        .unwrap()
        .unwrap();
    assert_eq!(committed.round, RoundId([8; 32]));
    let other = store.committed(RoundSeq(2), RoundId([9; 32])).unwrap();
    assert!(other.is_none());
    // Goes on where it stopped.
    store.save(&[output(4, 5)]).unwrap();
    assert_eq!(replay(&store).records, 15);
}

#[test]
fn what_was_saved_is_there_when_the_process_was_killed() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    fill(&mut store);
    // A copy of the files while the store is open is what a killed process leaves.
    let copy = tempfile::tempdir().unwrap();
    copy_files(dir.path(), copy.path());
    assert_eq!(replay(&open(copy.path())).records, 14);
}

fn copy_files(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir_all(&target).unwrap();
            copy_files(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Changes a stored value behind the store's back.
fn tamper(path: &Path, key: &[u8], change: impl Fn(Vec<u8>) -> Option<Vec<u8>>) {
    let db = once_free(|| sled::open(path)).unwrap();
    let tree = db.open_tree("records").unwrap();
    let value = tree.get(key).unwrap().expect("the key is there").to_vec();
    match change(value) {
        Some(value) => tree.insert(key, value).unwrap(),
        None => tree.remove(key).unwrap(),
    };
    db.flush().unwrap();
}

fn flip(mut value: Vec<u8>) -> Option<Vec<u8>> {
    let last = value.len() - 1;
    value[last] ^= 0x40;
    Some(value)
}

fn log_key(number: u64) -> Vec<u8> {
    [b"L".as_slice(), &number.to_be_bytes()].concat()
}

fn share_key(window: u64, index: u64) -> Vec<u8> {
    [b"S".as_slice(), &window.to_be_bytes(), &index.to_be_bytes()].concat()
}

fn replay_error(path: &Path) -> String {
    let Err(error) = open(path).replay(&coordinator(), |_, _| {}) else {
        panic!("the damage was not noticed");
    };
    error.to_string()
}

#[test]
fn a_windows_shares_come_back_in_order_however_many_were_saved_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let mut ledger = Ledger::default();
    let mut first = shares(&ledger, 100);
    first.push(close(&mut ledger, 100));
    first.extend(shares(&ledger, 49));
    store.save(&first).unwrap();
    let of = |window| store.shares(WindowSeq(window)).unwrap();
    assert_eq!(of(1), (0..100).map(share).collect::<Vec<_>>());
    assert_eq!(of(2), (0..49).map(share).collect::<Vec<_>>());
    assert_eq!(of(3), []);
    assert_eq!(replay(&store).records, 1 + 49);
    let windows = store.windows().unwrap();
    assert_eq!(windows.len(), 1);
    assert_eq!(windows[0].record.shares, 100);
}

#[test]
fn a_flipped_byte_is_named_with_its_record() {
    let cases = [
        (log_key(4), "record log/4 "),
        (share_key(3, 2), "record share/3/2 "),
    ];
    for (key, named) in cases {
        let dir = tempfile::tempdir().unwrap();
        fill(&mut open(dir.path()));
        tamper(dir.path(), &key, flip);
        let error = replay_error(dir.path());
        assert!(
            error.contains(named) && error.contains("its checksum is wrong"),
            "{error}"
        );
    }
}

#[test]
fn a_missing_record_is_named() {
    let cases = [
        (log_key(4), "record log/4 "),
        (share_key(3, 0), "record share/3/0 "),
    ];
    for (key, named) in cases {
        let dir = tempfile::tempdir().unwrap();
        fill(&mut open(dir.path()));
        tamper(dir.path(), &key, |_| None);
        let error = replay_error(dir.path());
        assert!(
            error.contains(named) && error.contains("it is missing"),
            "{error}"
        );
    }
}

#[test]
fn a_damaged_payout_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fill(&mut open(dir.path()));
    let key = [b"C".as_slice(), &2u64.to_be_bytes(), &[8; 32]].concat();
    tamper(dir.path(), &key, flip);
    let error = open(dir.path())
        .committed(RoundSeq(2), RoundId([8; 32]))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("record committed/2/0808080808080808 "),
        "{error}"
    );
}

#[test]
fn records_that_contradict_each_other_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    store.save(&[output(2, 1), output(3, 1)]).unwrap();
    let Err(error) = store.replay(&coordinator(), |_, _| {}) else {
        panic!("two outputs of one number were accepted");
    };
    let error = error.to_string();
    assert!(
        error.contains("record log/1 ") && error.contains("serial_id 1 is taken"),
        "{error}"
    );
}

#[test]
fn a_store_of_another_identity_chain_or_format_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    fill(&mut open(dir.path()));
    let other = open(dir.path()).replay(&key(9).identity(), |_, _| {});
    let Err(error @ StoreError::Contradiction { .. }) = other else {
        panic!("another identity's records were accepted");
    };
    assert!(
        error.to_string().contains("was identity.key replaced?"),
        "{error}"
    );
    let Err(error) = once_free(|| Store::open(dir.path(), Network::Signet)) else {
        panic!("another chain's store was opened");
    };
    assert!(
        error.to_string().contains("is not of network signet"),
        "{error}"
    );
    for other in [FORMAT - 1, FORMAT + 1] {
        tamper(dir.path(), b"Mformat", |_| {
            Some(other.to_be_bytes().to_vec())
        });
        let Err(error) = once_free(|| Store::open(dir.path(), NETWORK)) else {
            panic!("format {other} was opened");
        };
        let words = format!("has format {other}, but this version");
        assert!(error.to_string().contains(&words), "{error}");
    }
}

#[test]
fn two_rounds_of_one_number_keep_their_payouts() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let committed = |round| Committed {
        round: RoundId([round; 32]),
        seq: RoundSeq(2),
        height: u32::from(round),
        lanes: Vec::new(),
    };
    let records = [8, 9].map(|round| Record::Committed(committed(round)));
    store.save(&records).unwrap();
    for round in [8, 9] {
        let kept = store.committed(RoundSeq(2), RoundId([round; 32])).unwrap();
        assert_eq!(kept, Some(committed(round)));
    }
}

#[test]
fn a_reader_forgets_shares_and_rounds_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let mut ledger = Ledger::default();
    let committed = |seq: u64, round| {
        Record::Committed(Committed {
            round: RoundId([round; 32]),
            seq: RoundSeq(seq),
            height: 1,
            lanes: Vec::new(),
        })
    };
    for window in 1..4u64 {
        let mut records = shares(&ledger, 3);
        records.push(close(&mut ledger, 3));
        records.push(committed(window, u8::try_from(window).unwrap()));
        store.save(&records).unwrap();
    }
    let reader = store.reader();
    let all = [1, 2, 3].map(WindowSeq);
    assert_eq!(reader.windows_with_shares(WindowSeq(4)).unwrap(), all);
    reader.forget_shares(WindowSeq(2)).unwrap();
    let left = reader.windows_with_shares(WindowSeq(3)).unwrap();
    assert_eq!(left, [WindowSeq(1)]);
    assert_eq!(store.shares(WindowSeq(3)).unwrap().len(), 3);
    // Round 1 has an unsettled block.
    let keep = std::collections::BTreeSet::from([RoundId([1; 32])]);
    reader.forget_rounds(WindowSeq(3), &keep).unwrap();
    let kept = |seq: u64| {
        let round = RoundId([u8::try_from(seq).unwrap(); 32]);
        store.committed(RoundSeq(seq), round).unwrap().is_some()
    };
    assert_eq!([1, 2, 3].map(kept), [true, false, true]);
    let end = store.log_end();
    assert_eq!(reader.closing(WindowSeq(2), end).unwrap(), Some(1));
    assert_eq!(reader.closing(WindowSeq(0), end).unwrap(), None);
    assert_eq!(replay(&store).records, 3);
}
