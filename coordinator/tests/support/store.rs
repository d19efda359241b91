//! A store's records, as a pool would leave them.

use std::collections::BTreeMap;
use std::path::Path;

use bitcoin::{Network, ScriptBuf};
use tutti_coordinator::store::{Replayed, Store};
use tutti_proto::coordinator::{Coordinator, Found, Record, Settings};
use tutti_proto::id::{Identity, LaneIndex, RoundId, SerialId};
use tutti_proto::identity::IdentityKey;
use tutti_proto::message::{SignedHead, TxAddOutput};
use tutti_proto::params::PoolParams;
use tutti_proto::script::PayoutScript;
use tutti_proto::segment::WindowEnd;
use tutti_proto::share::{ShareRecord, ShareTree};
use tutti_proto::window::{BlockPayouts, Booking, Ledger, Scoring, WindowRecord};

pub const NETWORK: Network = Network::Regtest;

pub fn key(byte: u8) -> IdentityKey {
    IdentityKey::from_bytes(&mut [byte; 32]).unwrap()
}

pub fn coordinator() -> Identity {
    key(1).identity()
}

pub fn script(byte: u8) -> PayoutScript {
    let hex = format!("0014{}", hex::encode([byte; 20]));
    PayoutScript::parse(ScriptBuf::from_hex(&hex).unwrap()).unwrap()
}

pub fn output(byte: u8, serial_id: u64) -> Record {
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

pub fn share(n: u8) -> ShareRecord {
    ShareRecord {
        identity: key(2).identity(),
        round: RoundId([8; 32]),
        lane: LaneIndex(0),
        z: 10,
        header: [n; 80],
    }
}

pub fn shares(ledger: &Ledger, count: u8) -> Vec<Record> {
    let record = |n: u8| Record::Share {
        window: ledger.head().seq.next(),
        index: u64::from(n),
        share: share(n),
    };
    (0..count).map(record).collect()
}

/// Closes a window in which `count` shares came.
pub fn close(ledger: &mut Ledger, count: u8) -> Record {
    let shares: Vec<ShareRecord> = (0..count).map(share).collect();
    close_with(ledger, &shares, Vec::new())
}

/// Closes a window with these shares and bookings.
pub fn close_with(ledger: &mut Ledger, shares: &[ShareRecord], bookings: Vec<Booking>) -> Record {
    let shares = ShareTree::of(shares).unwrap();
    let record = WindowRecord {
        seq: ledger.head().seq.next(),
        height: 1,
        previous: ledger.head().hash,
        shares_root: shares.root(),
        shares: shares.shares(),
        tally: shares.tally().clone(),
        bookings,
        credits: Vec::new(),
    };
    ledger.append(&record).unwrap();
    Record::WindowClosed(WindowEnd {
        record,
        state: ledger.state(),
        head: SignedHead::sign(&key(1), ledger.head(), &[0; 32]),
    })
}

pub fn found(byte: u8) -> Found {
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
pub fn once_free<T, E: std::fmt::Debug>(mut open: impl FnMut() -> Result<T, E>) -> Result<T, E> {
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

pub fn open(path: &Path) -> Store {
    once_free(|| Store::open(path, NETWORK)).unwrap()
}

pub fn replay(store: &Store) -> Replayed {
    store.replay(&coordinator(), |_, _| {}).unwrap()
}

pub fn machine(replayed: Replayed) -> (Coordinator, Vec<Record>) {
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
