//! The protobuf messages of what the wire has no type for, and what they are read into.

use std::collections::BTreeMap;

use bitcoin::Transaction;
use bitcoin::consensus::encode::{deserialize, serialize};
use prost::Message;
use tutti_proto::coordinator::{Committed, Fate, Found};
use tutti_proto::id::{Identity, LaneIndex, RoundId, RoundSeq};
use tutti_proto::window::{BlockPayouts, payees_digest};

use super::RecordError;

#[derive(Clone, PartialEq, Message)]
pub(super) struct OutputExpiredRow {
    #[prost(uint64, tag = "1")]
    pub(super) serial_id: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct WindowOpenedRow {
    #[prost(uint32, tag = "1")]
    pub(super) height: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct CommittedRow {
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
pub(super) struct LaneRow {
    #[prost(bytes = "vec", tag = "1")]
    coinbase: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "2")]
    payouts: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct CandidateRow {
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
pub(super) struct VerdictRow {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) hash: Vec<u8>,
    #[prost(bool, tag = "2")]
    pub(super) accepted: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct BlockFateRow {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) hash: Vec<u8>,
    /// 1: lost, 2: back, 3: settled.
    #[prost(uint32, tag = "2")]
    pub(super) fate: u32,
}

pub(super) const FATES: [Fate; 3] = [Fate::Lost, Fate::Back, Fate::Settled];

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

pub(super) fn committed_row(committed: &Committed) -> CommittedRow {
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

pub(super) fn committed(row: CommittedRow) -> Result<Committed, RecordError> {
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

pub(super) fn candidate_row(found: &Found) -> CandidateRow {
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

pub(super) fn candidate(row: CandidateRow) -> Result<Found, RecordError> {
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
