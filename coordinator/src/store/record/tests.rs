use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::transaction::Version;
use bitcoin::{Amount, ScriptBuf, Transaction, TxOut};
use tutti_proto::coordinator::{Fate, Found};
use tutti_proto::id::{LaneIndex, RoundId, RoundSeq, WindowSeq};
use tutti_proto::identity::IdentityKey;
use tutti_proto::message::SignedHead;
use tutti_proto::payout::SignedPayouts;
use tutti_proto::script::PayoutScript;
use tutti_proto::window::{
    BlockPayouts, Booking, CreditProof, LedgerHead, WindowRecord, payees_digest,
};
use tutti_proto::work::Work;

use super::*;

fn key(byte: u8) -> IdentityKey {
    IdentityKey::from_bytes(&mut [byte; 32]).unwrap()
}

fn transaction(lock_time: u32) -> Transaction {
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::from_consensus(lock_time),
        input: vec![bitcoin::TxIn::default()],
        output: Vec::new(),
    }
}

fn carry() -> BTreeMap<Identity, i64> {
    BTreeMap::from([
        (key(1).identity(), -5),
        (key(2).identity(), i64::MAX),
        (key(3).identity(), i64::MIN),
    ])
}

fn payees_of_two() -> Vec<Vec<Identity>> {
    let who = |n| key(n).identity();
    vec![vec![who(1), who(2)], vec![who(3)]]
}

fn found() -> Found {
    Found {
        hash: [9; 32],
        height: u32::MAX,
        seq: RoundSeq(u64::MAX),
        round: RoundId([8; 32]),
        lane: LaneIndex(u16::MAX),
        finder: key(2).identity(),
        carry: carry(),
        payouts: BlockPayouts {
            height: u32::MAX,
            bits: 6,
            bump_credit: u32::MAX,
            bump_credit_after: u16::MAX,
            coinbase: [7; 32],
            shards: payees_of_two().iter().map(|of| payees_digest(of)).collect(),
        },
        payees: payees_of_two(),
        header: [4; 80],
    }
}

fn credit() -> Credit {
    let header = bitcoin::constants::genesis_block(bitcoin::Network::Regtest).header;
    let txids = [transaction(1).compute_txid()];
    let tree = bitcoin::merkle_tree::PartialMerkleTree::from_txids(&txids, &[true]);
    Credit {
        block: [1; 32],
        shard: u16::MAX,
        identity: key(1).identity(),
        sat: u32::MAX,
        proof: Box::new(CreditProof {
            payouts: found().payouts,
            payees: vec![key(2).identity()],
            payout: transaction(1),
            child: transaction(2),
            coinbase: transaction(3),
            // As whoever reads it has it: its flags fill their last byte.
            block: deserialize(&serialize(&bitcoin::MerkleBlock { header, txn: tree })).unwrap(),
        }),
    }
}

fn log_records() -> Vec<Record> {
    let script =
        PayoutScript::parse(ScriptBuf::from_hex(&format!("0014{}", "ab".repeat(20))).unwrap());
    let output = TxAddOutput::sign(
        &key(2),
        &key(1).identity(),
        SerialId(u64::MAX),
        script.unwrap(),
        &[0; 32],
    );
    vec![
        Record::OutputAdded(output),
        Record::OutputRemoved(TxRemoveOutput::sign(
            &key(2),
            &key(1).identity(),
            SerialId(u64::MAX),
            &[0; 32],
        )),
        Record::OutputExpired(SerialId(u64::MAX)),
        Record::WindowOpened { height: u32::MAX },
        Record::WindowClosed(WindowEnd {
            state: [5; 32],
            head: SignedHead {
                head: LedgerHead {
                    seq: WindowSeq(u64::MAX),
                    hash: [6; 32],
                },
                signature: [7; 64],
            },
            record: WindowRecord {
                seq: WindowSeq(u64::MAX),
                height: 1,
                previous: [1; 32],
                shares_root: [2; 32],
                shares: u64::MAX,
                tally: BTreeMap::from([(key(2).identity(), Work(u128::MAX))]),
                bookings: vec![Booking {
                    block: [3; 32],
                    round: RoundId([4; 32]),
                    lane: LaneIndex(255),
                    undone: false,
                    carry: carry(),
                    payouts: [6; 32],
                    header: [5; 80],
                }],
                credits: vec![credit()],
            },
        }),
        Record::Credit(Box::new(credit())),
        Record::Candidate(found()),
        Record::Verdict {
            hash: [9; 32],
            accepted: true,
        },
        Record::BlockFate {
            hash: [8; 32],
            fate: Fate::Settled,
        },
        Record::Verdict {
            hash: [0; 32],
            accepted: false,
        },
    ]
}

fn share() -> (Key, Record) {
    let (window, index) = (WindowSeq(7), u64::MAX);
    let share = ShareRecord {
        identity: key(2).identity(),
        round: RoundId([8; 32]),
        lane: LaneIndex(3),
        z: 96,
        header: [7; 80],
    };
    let record = Record::Share {
        window,
        index,
        share,
    };
    (Key::Share(window, index), record)
}

fn committed() -> (Key, Committed) {
    let output = |sat| TxOut {
        value: Amount::from_sat(sat),
        script_pubkey: ScriptBuf::from_bytes(vec![0x51; 34]),
    };
    let shards = vec![vec![output(1), output(240)], vec![output(2), output(3)]];
    let signatures = [1, 2, 3, 4].map(|byte| [byte; 64]).to_vec();
    let committed = Committed {
        round: RoundId([8; 32]),
        seq: RoundSeq(u64::MAX),
        height: 900_000,
        coinbases: vec![transaction(1), transaction(4)],
        payouts: SignedPayouts::new(2, shards.into(), signatures).expect("two lanes of two"),
    };
    (Key::Committed(committed.seq, committed.round), committed)
}

#[test]
fn every_kind_of_record_comes_back_as_it_was() {
    for (number, record) in (0..).zip(log_records()) {
        let key = Key::Log(number);
        assert_eq!(open_log(&key, &seal(&key, &record)), Ok(record));
    }
    let (key, record) = share();
    let Record::Share { share, .. } = record else {
        panic!("a share");
    };
    let mut known = BTreeMap::new();
    let mut open = |bytes: &[u8]| open_shares(&key, bytes, &mut known);
    assert_eq!(open(&seal(&key, &record)), Ok(vec![share]));
    let other = ShareRecord { z: 3, ..share };
    let both = [share.to_bytes(), other.to_bytes()].concat();
    let sealed = seal_shares(&key, &both);
    assert_eq!(open(&sealed), Ok(vec![share, other]));
    let (key, record) = committed();
    let sealed = seal(&key, &Record::Committed(record.clone()));
    assert_eq!(open_committed(&key, &sealed), Ok(record));
}

#[test]
fn a_record_with_any_byte_changed_or_moved_to_another_key_is_noticed() {
    let (key, record) = (Key::Log(3), &log_records()[4]);
    let sealed = seal(&key, record);
    for place in 0..sealed.len() {
        let mut flipped = sealed.clone();
        flipped[place] ^= 0x01;
        assert_eq!(
            open_log(&key, &flipped),
            Err(RecordError::Checksum),
            "byte {place}"
        );
    }
    assert_eq!(open_log(&Key::Log(4), &sealed), Err(RecordError::Checksum));
    assert_eq!(open_log(&key, &sealed[..5]), Err(RecordError::Length));
    assert_eq!(open_log(&key, &sealed[..12]), Err(RecordError::Checksum));
    let (share_key, share) = share();
    let misplaced = seal(&share_key, &share);
    assert_eq!(open_log(&share_key, &misplaced), Err(RecordError::Kind(4)));
}
