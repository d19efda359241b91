//! Records as bytes: a checksum over key and content, a byte that says which kind, the content.
//!
//! Contents are protobuf: those of the wire where the wire has the type, else the messages below.

use std::collections::BTreeMap;

use bitcoin::Transaction;
use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::hashes::{Hash, HashEngine, sha256};
use prost::Message;
use thiserror::Error;
use tutti_proto::coordinator::{Committed, Fate, Found, Record};
use tutti_proto::id::{Identity, LaneIndex, RoundId, RoundSeq, SerialId};
use tutti_proto::message::{TxAddOutput, TxRemoveOutput};
use tutti_proto::segment::WindowEnd;
use tutti_proto::share::{SHARE_RECORD_SIZE, ShareRecord};
use tutti_proto::terms::RoundTerms;
use tutti_proto::window::{BlockPayouts, Credit, payees_digest};
use tutti_proto::wire::{FromWire, ToWire, WireError};

use super::key::Key;

const CHECKSUM_SIZE: usize = 8;
/// Bytes before the content.
pub(super) const SEAL_SIZE: usize = CHECKSUM_SIZE + 1;

/// What is wrong with a record.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    #[error("it is missing")]
    Missing,
    #[error("its key is no number")]
    Key,
    #[error("it has the wrong length")]
    Length,
    #[error("its checksum is wrong")]
    Checksum,
    #[error("its kind {0} is unknown")]
    Kind(u8),
    #[error("{0}")]
    Wire(#[from] WireError),
    #[error("{0}")]
    Protobuf(String),
    #[error("its {0} is malformed")]
    Field(&'static str),
}

/// Kinds. A number is never used again.
pub(super) mod kind {
    pub(in crate::store) const OUTPUT_ADDED: u8 = 1;
    pub(in crate::store) const OUTPUT_REMOVED: u8 = 2;
    pub(in crate::store) const WINDOW_CLOSED: u8 = 3;
    pub(in crate::store) const SHARES: u8 = 4;
    pub(in crate::store) const COMMITTED: u8 = 5;
    pub(in crate::store) const CANDIDATE: u8 = 6;
    pub(in crate::store) const VERDICT: u8 = 7;
    pub(in crate::store) const BLOCK_FATE: u8 = 8;
    pub(in crate::store) const OUTPUT_EXPIRED: u8 = 9;
    pub(in crate::store) const TERMS: u8 = 10;
    pub(in crate::store) const LIVE: u8 = 11;
    pub(in crate::store) const JOBS: u8 = 12;
    pub(in crate::store) const ASSIGNMENTS: u8 = 13;
    pub(in crate::store) const TRANSACTIONS: u8 = 14;
    pub(in crate::store) const BASE: u8 = 15;
    pub(in crate::store) const CREDIT: u8 = 16;
    pub(in crate::store) const MARK: u8 = 17;
    pub(in crate::store) const BASE_NAME: u8 = 18;
    pub(in crate::store) const WINDOW_OPENED: u8 = 19;
}

#[derive(Clone, PartialEq, Message)]
struct OutputExpiredRow {
    #[prost(uint64, tag = "1")]
    serial_id: u64,
}

#[derive(Clone, PartialEq, Message)]
struct WindowOpenedRow {
    #[prost(uint32, tag = "1")]
    height: u32,
}

#[derive(Clone, PartialEq, Message)]
struct CommittedRow {
    #[prost(bytes = "vec", tag = "1")]
    round: Vec<u8>,
    #[prost(uint64, tag = "2")]
    seq: u64,
    #[prost(uint32, tag = "3")]
    height: u32,
    #[prost(message, repeated, tag = "4")]
    lanes: Vec<LaneRow>,
}

#[derive(Clone, PartialEq, Message)]
struct LaneRow {
    #[prost(bytes = "vec", tag = "1")]
    coinbase: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    payouts: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct CandidateRow {
    #[prost(bytes = "vec", tag = "1")]
    hash: Vec<u8>,
    #[prost(uint32, tag = "2")]
    height: u32,
    #[prost(bytes = "vec", tag = "3")]
    round: Vec<u8>,
    #[prost(uint32, tag = "4")]
    lane: u32,
    #[prost(bytes = "vec", tag = "5")]
    finder: Vec<u8>,
    #[prost(message, repeated, tag = "6")]
    carry: Vec<CarryRow>,
    #[prost(uint64, tag = "7")]
    seq: u64,
    #[prost(bytes = "vec", tag = "8")]
    header: Vec<u8>,
    #[prost(uint32, tag = "9")]
    bits: u32,
    #[prost(uint32, tag = "10")]
    bump_credit: u32,
    #[prost(uint32, tag = "11")]
    bump_credit_after: u32,
    #[prost(bytes = "vec", tag = "12")]
    coinbase: Vec<u8>,
    #[prost(message, repeated, tag = "13")]
    payees: Vec<PayeesRow>,
}

/// Whom a payout pays: identities, one after the other.
#[derive(Clone, PartialEq, Message)]
pub(super) struct PayeesRow {
    #[prost(bytes = "vec", tag = "1")]
    identities: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct CarryRow {
    #[prost(bytes = "vec", tag = "1")]
    identity: Vec<u8>,
    #[prost(sint64, tag = "2")]
    sat: i64,
}

#[derive(Clone, PartialEq, Message)]
struct VerdictRow {
    #[prost(bytes = "vec", tag = "1")]
    hash: Vec<u8>,
    #[prost(bool, tag = "2")]
    accepted: bool,
}

#[derive(Clone, PartialEq, Message)]
struct BlockFateRow {
    #[prost(bytes = "vec", tag = "1")]
    hash: Vec<u8>,
    /// 1: lost, 2: back, 3: settled.
    #[prost(uint32, tag = "2")]
    fate: u32,
}

const FATES: [Fate; 3] = [Fate::Lost, Fate::Back, Fate::Settled];

/// The bytes of a record at its place.
pub(super) fn seal(key: &Key, record: &Record) -> Vec<u8> {
    let (kind, content) = match record {
        Record::OutputAdded(output) => (kind::OUTPUT_ADDED, output.encode()),
        Record::OutputRemoved(removal) => (kind::OUTPUT_REMOVED, removal.encode()),
        Record::OutputExpired(serial_id) => {
            let serial_id = serial_id.0;
            let row = OutputExpiredRow { serial_id };
            (kind::OUTPUT_EXPIRED, row.encode_to_vec())
        }
        Record::Terms(_, terms) => (kind::TERMS, terms.encode()),
        Record::WindowClosed(window) => (kind::WINDOW_CLOSED, window.encode()),
        Record::WindowOpened { height } => {
            let height = *height;
            let row = WindowOpenedRow { height };
            (kind::WINDOW_OPENED, row.encode_to_vec())
        }
        // Window and index are in the key.
        Record::Share { share, .. } => (kind::SHARES, share.to_bytes().to_vec()),
        Record::Committed(committed) => (kind::COMMITTED, committed_row(committed).encode_to_vec()),
        Record::Candidate(found) => (kind::CANDIDATE, candidate_row(found).encode_to_vec()),
        Record::Verdict { hash, accepted } => {
            let (hash, accepted) = (hash.to_vec(), *accepted);
            (kind::VERDICT, VerdictRow { hash, accepted }.encode_to_vec())
        }
        Record::BlockFate { hash, fate } => {
            let number = (1..).zip(FATES).find(|(_, known)| known == fate);
            let row = BlockFateRow {
                hash: hash.to_vec(),
                fate: number.map_or(0, |(number, _)| number),
            };
            (kind::BLOCK_FATE, row.encode_to_vec())
        }
        Record::Credit(credit) => (kind::CREDIT, credit.encode()),
        // The shelf writes these.
        Record::Live { .. }
        | Record::JobsIssued { .. }
        | Record::LiveStale(_)
        | Record::LiveForgotten(_)
        | Record::KeptAhead(_) => return Vec::new(),
    };
    seal_content(key, kind, &content)
}

/// The bytes of consecutive shares, the first of which is at this place.
pub(super) fn seal_shares(key: &Key, shares: &[u8]) -> Vec<u8> {
    seal_content(key, kind::SHARES, shares)
}

pub(super) fn seal_content(key: &Key, kind: u8, content: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::with_capacity(SEAL_SIZE + content.len());
    sealed.extend_from_slice(&[0; CHECKSUM_SIZE]);
    sealed.push(kind);
    sealed.extend_from_slice(content);
    let checksum = checksum(key, &sealed[CHECKSUM_SIZE..]);
    sealed[..CHECKSUM_SIZE].copy_from_slice(&checksum);
    sealed
}

fn checksum(key: &Key, body: &[u8]) -> [u8; CHECKSUM_SIZE] {
    let mut engine = sha256::Hash::engine();
    engine.input(&key.to_bytes());
    engine.input(body);
    let hash = sha256::Hash::from_engine(engine).to_byte_array();
    let mut checksum = [0u8; CHECKSUM_SIZE];
    checksum.copy_from_slice(&hash[..CHECKSUM_SIZE]);
    checksum
}

/// Kind and content of what was sealed.
pub(super) fn unseal<'a>(key: &Key, value: &'a [u8]) -> Result<(u8, &'a [u8]), RecordError> {
    let (expected, body) = value
        .split_first_chunk::<CHECKSUM_SIZE>()
        .ok_or(RecordError::Length)?;
    if *expected != checksum(key, body) {
        return Err(RecordError::Checksum);
    }
    let (kind, content) = body.split_first().ok_or(RecordError::Length)?;
    Ok((*kind, content))
}

/// A record of the log.
pub(super) fn open_log(key: &Key, value: &[u8]) -> Result<Record, RecordError> {
    let (kind, content) = unseal(key, value)?;
    Ok(match kind {
        kind::OUTPUT_ADDED => Record::OutputAdded(TxAddOutput::decode(content)?),
        kind::OUTPUT_REMOVED => Record::OutputRemoved(TxRemoveOutput::decode(content)?),
        kind::OUTPUT_EXPIRED => {
            Record::OutputExpired(SerialId(row::<OutputExpiredRow>(content)?.serial_id))
        }
        kind::WINDOW_CLOSED => Record::WindowClosed(WindowEnd::decode(content)?),
        kind::WINDOW_OPENED => {
            let height = row::<WindowOpenedRow>(content)?.height;
            Record::WindowOpened { height }
        }
        kind::CANDIDATE => Record::Candidate(candidate(row(content)?)?),
        kind::VERDICT => {
            let row: VerdictRow = row(content)?;
            let hash = array("hash", &row.hash)?;
            let accepted = row.accepted;
            Record::Verdict { hash, accepted }
        }
        kind::BLOCK_FATE => {
            let row: BlockFateRow = row(content)?;
            let hash = array("hash", &row.hash)?;
            let place = usize::try_from(row.fate)
                .ok()
                .and_then(|n| n.checked_sub(1));
            let fate = place.and_then(|place| FATES.get(place).copied());
            let fate = fate.ok_or(RecordError::Field("fate"))?;
            Record::BlockFate { hash, fate }
        }
        kind::CREDIT => Record::Credit(Box::new(Credit::decode(content)?)),
        other => return Err(RecordError::Kind(other)),
    })
}

/// Shares, one or many.
pub(super) fn open_shares(
    key: &Key,
    value: &[u8],
    known: &mut BTreeMap<[u8; 32], Identity>,
) -> Result<Vec<ShareRecord>, RecordError> {
    let content = of_kind(kind::SHARES, unseal(key, value)?)?;
    let (shares, rest) = content.as_chunks::<SHARE_RECORD_SIZE>();
    if shares.is_empty() || !rest.is_empty() {
        return Err(RecordError::Length);
    }
    let share = |bytes| ShareRecord::read(bytes, known).ok_or(RecordError::Field("identity"));
    shares.iter().map(share).collect()
}

/// The terms of a round.
pub(super) fn open_terms(key: &Key, value: &[u8]) -> Result<RoundTerms, RecordError> {
    let content = of_kind(kind::TERMS, unseal(key, value)?)?;
    Ok(RoundTerms::decode(content)?)
}

/// A committed round.
pub(super) fn open_committed(key: &Key, value: &[u8]) -> Result<Committed, RecordError> {
    let content = of_kind(kind::COMMITTED, unseal(key, value)?)?;
    let row: CommittedRow = row(content)?;
    let lane = |lane: LaneRow| {
        let payouts = lane.payouts.iter().map(|bytes| transaction(bytes));
        Ok((
            transaction(&lane.coinbase)?,
            payouts.collect::<Result<_, RecordError>>()?,
        ))
    };
    Ok(Committed {
        round: RoundId(array("round", &row.round)?),
        seq: RoundSeq(row.seq),
        height: row.height,
        lanes: row
            .lanes
            .into_iter()
            .map(lane)
            .collect::<Result<_, RecordError>>()?,
    })
}

pub(super) fn of_kind(expected: u8, (kind, content): (u8, &[u8])) -> Result<&[u8], RecordError> {
    if kind == expected {
        Ok(content)
    } else {
        Err(RecordError::Kind(kind))
    }
}

pub(super) fn row<M: Message + Default>(content: &[u8]) -> Result<M, RecordError> {
    M::decode(content).map_err(|error| RecordError::Protobuf(error.to_string()))
}

pub(super) fn array<const N: usize>(
    field: &'static str,
    bytes: &[u8],
) -> Result<[u8; N], RecordError> {
    bytes.try_into().map_err(|_| RecordError::Field(field))
}

pub(super) fn identity(field: &'static str, bytes: &[u8]) -> Result<Identity, RecordError> {
    Identity::parse(&array(field, bytes)?).map_err(|_| RecordError::Field(field))
}

pub(super) fn transaction(bytes: &[u8]) -> Result<Transaction, RecordError> {
    deserialize(bytes).map_err(|_| RecordError::Field("transaction"))
}

fn committed_row(committed: &Committed) -> CommittedRow {
    let lane = |(coinbase, payouts): &(Transaction, Vec<Transaction>)| LaneRow {
        coinbase: serialize(coinbase),
        payouts: payouts.iter().map(serialize).collect(),
    };
    CommittedRow {
        round: committed.round.0.to_vec(),
        seq: committed.seq.0,
        height: committed.height,
        lanes: committed.lanes.iter().map(lane).collect(),
    }
}

fn candidate_row(found: &Found) -> CandidateRow {
    CandidateRow {
        hash: found.hash.to_vec(),
        height: found.height,
        round: found.round.0.to_vec(),
        lane: u32::from(found.lane.0),
        finder: found.finder.as_bytes().to_vec(),
        carry: carry_rows(&found.carry),
        seq: found.seq.0,
        header: found.header.to_vec(),
        bits: found.payouts.bits,
        bump_credit: found.payouts.bump_credit,
        bump_credit_after: u32::from(found.payouts.bump_credit_after),
        coinbase: found.payouts.coinbase.to_vec(),
        payees: payees_rows(&found.payees),
    }
}

fn candidate(row: CandidateRow) -> Result<Found, RecordError> {
    let lane = u16::try_from(row.lane).map_err(|_| RecordError::Field("lane"))?;
    let after = u16::try_from(row.bump_credit_after);
    let payees = payees(&row.payees)?;
    Ok(Found {
        hash: array("hash", &row.hash)?,
        height: row.height,
        seq: RoundSeq(row.seq),
        round: RoundId(array("round", &row.round)?),
        lane: LaneIndex(lane),
        finder: identity("finder", &row.finder)?,
        carry: carries(&row.carry)?,
        header: array("header", &row.header)?,
        payouts: BlockPayouts {
            height: row.height,
            bits: row.bits,
            bump_credit: row.bump_credit,
            bump_credit_after: after.map_err(|_| RecordError::Field("bump_credit_after"))?,
            coinbase: array("coinbase", &row.coinbase)?,
            shards: payees.iter().map(|of| payees_digest(of)).collect(),
        },
        payees,
    })
}

pub(super) fn payees_rows(payees: &[Vec<Identity>]) -> Vec<PayeesRow> {
    let row = |shard: &Vec<Identity>| PayeesRow {
        identities: shard.iter().flat_map(|who| *who.as_bytes()).collect(),
    };
    payees.iter().map(row).collect()
}

pub(super) fn payees(rows: &[PayeesRow]) -> Result<Vec<Vec<Identity>>, RecordError> {
    let shard = |row: &PayeesRow| {
        let (payees, rest) = row.identities.as_chunks::<32>();
        if !rest.is_empty() {
            return Err(RecordError::Field("payees"));
        }
        let payees = payees.iter().map(|who| identity("payees", who));
        payees.collect()
    };
    rows.iter().map(shard).collect()
}

pub(super) fn carry_rows(carry: &BTreeMap<Identity, i64>) -> Vec<CarryRow> {
    let row = |(who, sat): (&Identity, &i64)| CarryRow {
        identity: who.as_bytes().to_vec(),
        sat: *sat,
    };
    carry.iter().map(row).collect()
}

pub(super) fn carries(rows: &[CarryRow]) -> Result<BTreeMap<Identity, i64>, RecordError> {
    let carry = |row: &CarryRow| Ok((identity("carry", &row.identity)?, row.sat));
    rows.iter().map(carry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::ScriptBuf;
    use bitcoin::absolute::LockTime;
    use bitcoin::transaction::Version;
    use tutti_proto::id::WindowSeq;
    use tutti_proto::identity::IdentityKey;
    use tutti_proto::message::SignedHead;
    use tutti_proto::script::PayoutScript;
    use tutti_proto::window::{Booking, CreditProof, LedgerHead, WindowRecord};
    use tutti_proto::work::Work;

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
                block: deserialize(&serialize(&bitcoin::MerkleBlock { header, txn: tree }))
                    .unwrap(),
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
        let committed = Committed {
            round: RoundId([8; 32]),
            seq: RoundSeq(u64::MAX),
            height: 900_000,
            lanes: vec![
                (transaction(1), vec![transaction(2), transaction(3)]),
                (transaction(4), vec![transaction(5)]),
            ],
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
}
