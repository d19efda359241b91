//! Live rounds in the store: what was saved comes back, once per transaction, for as long as it
//! lives; what is damaged is named and given up.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/store.rs"]
#[allow(dead_code, reason = "others use the rest")]
mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bitcoin::absolute::LockTime;
use bitcoin::transaction::Version;
use bitcoin::{Network, Transaction};
use rand::SeedableRng;
use rand::rngs::StdRng;
use support::{close_with, key, once_free, open, replay};
use tutti_coordinator::store::Store;
use tutti_proto::coordinator::{LiveNumber, LiveRecord, Record, RoundKind};
use tutti_proto::feerate::FeeRate;
use tutti_proto::id::{Attempt, Identity, LaneIndex, RoundId, RoundSeq, WindowSeq};
use tutti_proto::lane::{Assignments, Worker};
use tutti_proto::musig::SigningSlot;
use tutti_proto::params::PoolParams;
use tutti_proto::plan::{RoundInputs, Signer};
use tutti_proto::share::ShareRecord;
use tutti_proto::template::Template;
use tutti_proto::window::{Ledger, LedgerHead, Scoring};

fn identity(byte: u8) -> Identity {
    key(byte).identity()
}

fn coinbase(number: u32) -> Transaction {
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::from_consensus(number),
        input: Vec::new(),
        output: Vec::new(),
    }
}

/// Transactions of 3 kB each, all different.
fn transactions(from: u32, count: u32) -> Vec<Arc<[u8]>> {
    let transaction = |n: u32| n.to_be_bytes().repeat(750).into();
    (from..from + count).map(transaction).collect()
}

fn assignments(rate: u64) -> Arc<Assignments> {
    let worker = |rate| Worker { rate, z: 9 };
    let workers = BTreeMap::from([(identity(2), worker(1)), (identity(3), worker(rate))]);
    Arc::new(Assignments::divide(&workers, 2))
}

fn params() -> PoolParams {
    PoolParams {
        network: Network::Regtest,
        coordinator: identity(1),
        tag: "/pool/".into(),
        operator_fee_ppm: 7,
        lanes: 2,
        nonces_per_slot: 3,
        direct_payees: 4,
        scoring: Scoring::Epoch,
        pplns_depth: 5,
        ntime_roll: 600,
        block_zero_bits: Some(6),
        bump_credit: 5,
        bump_credit_after: 9,
    }
}

fn inputs(seq: u64, height: u32) -> RoundInputs {
    let mut rng = StdRng::seed_from_u64(seq);
    let signer = |byte| Signer {
        identity: identity(byte),
        key: SigningSlot::generate(&mut rng, 1).1.key,
    };
    let mut signers: Vec<Signer> = (1..4).map(signer).collect();
    signers.sort_by_key(|signer| signer.key);
    RoundInputs {
        seq: RoundSeq(seq),
        attempt: Attempt(1),
        height,
        bits: u32::MAX,
        reward: u64::MAX,
        witness_commitment: Some([3; 32]),
        feerate: FeeRate::FLOOR,
        roster: [4; 32],
        ledger: LedgerHead {
            seq: WindowSeq(seq),
            hash: [5; 32],
        },
        assignments: [6; 32],
        signers,
    }
}

fn round(seq: u64, height: u32, transactions: Vec<Arc<[u8]>>) -> Arc<LiveRecord> {
    Arc::new(LiveRecord {
        kind: RoundKind::Present,
        round: RoundId([seq as u8; 32]),
        inputs: inputs(seq, height),
        coinbases: vec![coinbase(7), coinbase(8)],
        template: Arc::new(Template {
            height,
            previous_block: [9; 32],
            version: -1,
            bits: u32::MAX,
            time: 5,
            time_min: 4,
            reward: u64::MAX,
            witness_commitment: Some([3; 32]),
            merkle_path: vec![[1; 32], [2; 32]],
            transactions,
            weight: 17,
            feerate: FeeRate::FLOOR,
        }),
        assignments: assignments(1),
        carry: BTreeMap::from([(identity(2), -5), (identity(3), i64::MAX)]),
        payees: vec![vec![identity(2), identity(3)], vec![identity(4)]],
        params: Arc::new(params()),
    })
}

fn live(number: u64, round: &Arc<LiveRecord>) -> Record {
    let (number, round) = (LiveNumber(number), round.clone());
    Record::Live { number, round }
}

fn jobs(number: u64, z: u8) -> Record {
    Record::JobsIssued {
        number: LiveNumber(number),
        z: vec![(identity(2), z), (identity(3), z)],
    }
}

/// All keys with one of these first letters, behind the store's back.
fn keys(path: &Path, letters: &[u8]) -> Vec<Vec<u8>> {
    let db = sled_once_free(path);
    let tree = db.open_tree("records").unwrap();
    let keys = tree.iter().keys().map(|key| key.unwrap().to_vec());
    keys.filter(|key| letters.contains(&key[0])).collect()
}

fn sled_once_free(path: &Path) -> sled::Db {
    once_free(|| sled::open(path)).unwrap()
}

fn tamper(path: &Path, key: &[u8], change: impl Fn(Vec<u8>) -> Option<Vec<u8>>) {
    let db = sled_once_free(path);
    let tree = db.open_tree("records").unwrap();
    let value = tree.get(key).unwrap().expect("the key is there").to_vec();
    match change(value) {
        Some(value) => tree.insert(key, value).unwrap(),
        None => tree.remove(key).unwrap(),
    };
    db.flush().unwrap();
}

fn flip(mut value: Vec<u8>) -> Option<Vec<u8>> {
    *value.last_mut().unwrap() ^= 0x40;
    Some(value)
}

fn restored_records(store: &Store) -> Vec<Record> {
    store.live_records().unwrap()
}

#[test]
fn live_rounds_come_back_as_they_were() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let first = round(2, 7, transactions(0, 20));
    // Most of the next template is the one before.
    let mut more = transactions(5, 15);
    more.extend(transactions(100, 3));
    let second = Arc::new(LiveRecord {
        assignments: assignments(9),
        ..LiveRecord::clone(&round(4, 7, more))
    });
    let ahead = Arc::new(LiveRecord {
        kind: RoundKind::NextHeight,
        carry: BTreeMap::new(),
        ..LiveRecord::clone(&round(5, 8, Vec::new()))
    });
    store.save(&[live(0, &first), jobs(0, 11)]).unwrap();
    store
        .save(&[Record::KeptAhead(Some(ahead.clone()))])
        .unwrap();
    drop(store);
    let mut store = open(dir.path());
    store.save(&[live(1, &second), jobs(1, 12)]).unwrap();
    store
        .save(&[Record::JobsIssued {
            number: LiveNumber(1),
            z: vec![(identity(4), 13)],
        }])
        .unwrap();
    let mut all = jobs(1, 12);
    if let Record::JobsIssued { z, .. } = &mut all {
        z.push((identity(4), 13));
    }
    let expected = [
        live(0, &first),
        jobs(0, 11),
        live(1, &second),
        all,
        Record::KeptAhead(Some(ahead)),
    ];
    assert_eq!(restored_records(&store), expected);
    drop(store);
    assert_eq!(restored_records(&open(dir.path())), expected);
    // 20 transactions and 3 more, of 3 kB, in parts of 7 kB: each is there once.
    assert_eq!(keys(dir.path(), b"X").len(), 9 + 2);
}

#[test]
fn what_lives_no_more_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let mut store = open(dir.path());
    let rounds = [
        round(2, 7, transactions(0, 20)),
        round(4, 7, transactions(1, 20)),
        round(6, 8, transactions(2, 20)),
    ];
    for (number, round) in (0..).zip(&rounds) {
        store.save(&[live(number, round), jobs(number, 9)]).unwrap();
    }
    store.save(&[Record::LiveStale(LiveNumber(0))]).unwrap();
    let stale = Record::LiveStale(LiveNumber(0));
    assert_eq!(restored_records(&store)[1], stale, "it stays so");
    store
        .save(&[
            Record::LiveForgotten(LiveNumber(0)),
            Record::LiveForgotten(LiveNumber(1)),
        ])
        .unwrap();
    assert_eq!(restored_records(&store), [live(2, &rounds[2]), jobs(2, 9)]);
    store
        .save(&[
            Record::LiveForgotten(LiveNumber(2)),
            Record::KeptAhead(None),
        ])
        .unwrap();
    drop(store);
    assert_eq!(keys(dir.path(), b"RJNAX"), Vec::<Vec<u8>>::new());
}

fn share_on(round: &LiveRecord, n: u8) -> ShareRecord {
    let mut header = [n; 80];
    header[4..36].copy_from_slice(&round.template.previous_block);
    ShareRecord {
        identity: identity(2),
        round: round.round,
        lane: LaneIndex(0),
        z: 9,
        header,
    }
}

/// Two live rounds, whose shares are in two closed windows and the open one.
fn with_shares(store: &mut Store) -> Vec<Arc<LiveRecord>> {
    let rounds = vec![
        round(1, 7, transactions(0, 10)),
        round(2, 7, transactions(0, 12)),
    ];
    let mut ledger = Ledger::default();
    for window in 1..=3u64 {
        let of = &rounds[usize::from(window > 2)];
        let count = if window == 1 { 0u8 } else { 5 };
        let shares = (0..count).map(|index| share_on(of, window as u8 * 10 + index));
        let shares: Vec<ShareRecord> = shares.collect();
        let mut records = Vec::new();
        for (index, share) in (0..).zip(&shares) {
            records.push(Record::Share {
                window: WindowSeq(window),
                index,
                share: *share,
            });
        }
        records.push(close_with(&mut ledger, &shares, Vec::new()));
        if let Some(round) = rounds.get(window as usize - 1) {
            records.extend([live(window - 1, round), jobs(window - 1, 9)]);
        }
        store.save(&records).unwrap();
    }
    rounds
}

fn part(letter: u8, number: u64, part: u64) -> Vec<u8> {
    [&[letter], &number.to_be_bytes()[..], &part.to_be_bytes()].concat()
}

#[test]
fn a_damaged_live_round_is_named_and_given_up_and_the_rest_is_kept() {
    let cases: [(Vec<u8>, &str, usize); 5] = [
        (part(b'R', 1, 0), "record live/1/0 ", 1),
        (part(b'J', 0, 0), "record jobs/0/0 ", 1),
        (part(b'X', 7, 1), "record transactions/7/1 ", 0),
        (part(b'A', 0, 0), "record assignments/0/0 ", 0),
        (part(b'R', 0, 0), "record live/0/0 ", 1),
    ];
    for (key, named, left) in cases {
        for removes in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            with_shares(&mut open(dir.path()));
            tamper(dir.path(), &key, |value| match removes {
                true => None,
                false => flip(value),
            });
            // Jobs that nobody knows of are as if they had not been issued.
            if removes && key[0] == b'J' {
                continue;
            }
            let mut store = open(dir.path());
            let replayed = replay(&store);
            let words: Vec<String> = replayed.given_up.iter().map(|e| e.to_string()).collect();
            assert!(words.iter().all(|w| w.contains(named)), "{words:?}");
            assert_eq!((words.len(), replayed.restored.live()), (2 - left, left));
            // Once that was said, it is gone.
            store.save(&replayed.repairs).unwrap();
            drop(store);
            let again = replay(&open(dir.path()));
            assert_eq!((again.given_up.len(), again.restored.live()), (0, left));
        }
    }
}

/// What was accepted in it is unknown, so nothing is accepted any more that may have been.
#[test]
fn a_damaged_share_of_a_closed_window_stops_the_credits_of_its_rounds() {
    let share_key = |window: u64, index: u64| part(b'Z', window, index);
    for removes in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        with_shares(&mut open(dir.path()));
        assert_eq!(
            replay(&open(dir.path())).restored.credits_from(),
            WindowSeq(2)
        );
        tamper(dir.path(), &share_key(2, 0), |value| match removes {
            true => None,
            false => flip(value),
        });
        let mut store = open(dir.path());
        let replayed = replay(&store);
        let words = replayed.given_up[0].to_string();
        assert!(words.contains("record share/2/0 "), "{words}");
        assert_eq!(replayed.restored.live(), 2, "their blocks still count");
        assert_eq!(replayed.restored.credits_from(), WindowSeq(3));
        // Once that was said, it is so.
        store.save(&replayed.repairs).unwrap();
        drop(store);
        let again = replay(&open(dir.path()));
        assert_eq!((again.given_up.len(), again.restored.live()), (0, 2));
        assert_eq!(again.restored.credits_from(), WindowSeq(3));
    }
}
