//! A live round as bytes. Its template's transactions and its assignments, which it shares with its
//! neighbours, are stored beside it and named by number.

use std::sync::Arc;

use bitcoin::consensus::encode::serialize;
use prost::Message;
use tutti_proto::coordinator::{LiveRecord, RoundKind};
use tutti_proto::feerate::FeeRate;
use tutti_proto::id::{Identity, LaneIndex, RoundId};
use tutti_proto::lane::{Assigned, Assignments, Slice};
use tutti_proto::params::PoolParams;
use tutti_proto::plan::RoundInputs;
use tutti_proto::template::Template;
use tutti_proto::wire::{FromWire, ToWire};

use super::RecordError;
use super::rows::{CarryRow, PayeesRow, array, carries, carry_rows, identity};
use super::rows::{payees, payees_rows, row, transaction};

const SLICE_SIZE: usize = 2 + 2 + 1 + 32 + 1;
const JOB_SIZE: usize = 32 + 1;

#[derive(Clone, PartialEq, Message)]
struct LiveRow {
    /// 0: present, 1: next height.
    #[prost(uint32, tag = "1")]
    kind: u32,
    /// What it is computed from, as on the wire.
    #[prost(bytes = "vec", tag = "2")]
    inputs: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    round: Vec<u8>,
    #[prost(bytes = "vec", repeated, tag = "5")]
    coinbases: Vec<Vec<u8>>,
    #[prost(message, required, tag = "6")]
    template: TemplateRow,
    /// Number of the assignments.
    #[prost(uint64, tag = "7")]
    assignments: u64,
    #[prost(message, repeated, tag = "8")]
    carry: Vec<CarryRow>,
    /// The pool's parameters, as on the wire.
    #[prost(bytes = "vec", tag = "9")]
    params: Vec<u8>,
    #[prost(message, repeated, tag = "10")]
    payees: Vec<PayeesRow>,
}

#[derive(Clone, PartialEq, Message)]
struct TemplateRow {
    #[prost(uint32, tag = "1")]
    height: u32,
    #[prost(bytes = "vec", tag = "2")]
    previous_block: Vec<u8>,
    #[prost(int32, tag = "3")]
    version: i32,
    #[prost(fixed32, tag = "4")]
    bits: u32,
    #[prost(fixed32, tag = "5")]
    time: u32,
    #[prost(fixed32, tag = "6")]
    time_min: u32,
    #[prost(uint64, tag = "7")]
    reward: u64,
    #[prost(bytes = "vec", optional, tag = "8")]
    witness_commitment: Option<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "9")]
    merkle_path: Vec<Vec<u8>>,
    #[prost(uint64, tag = "10")]
    weight: u64,
    #[prost(uint64, tag = "11")]
    feerate: u64,
    /// Places among the height's transactions.
    #[prost(uint64, repeated, tag = "12")]
    transactions: Vec<u64>,
}

/// What a round shares with its neighbours, by number.
pub(super) struct Shared {
    pub(super) assignments: u64,
    pub(super) transactions: Vec<u64>,
}

/// The bytes of a live round.
pub(super) fn encode(of: &LiveRecord, shared: Shared) -> Vec<u8> {
    let template = &of.template;
    let row = LiveRow {
        kind: match of.kind {
            RoundKind::Present => 0,
            RoundKind::NextHeight => 1,
        },
        inputs: of.inputs.encode(),
        round: of.round.0.to_vec(),
        coinbases: of.coinbases.iter().map(serialize).collect(),
        template: TemplateRow {
            height: template.height,
            previous_block: template.previous_block.to_vec(),
            version: template.version,
            bits: template.bits,
            time: template.time,
            time_min: template.time_min,
            reward: template.reward,
            witness_commitment: template.witness_commitment.map(|hash| hash.to_vec()),
            merkle_path: template
                .merkle_path
                .iter()
                .map(|hash| hash.to_vec())
                .collect(),
            weight: template.weight,
            feerate: template.feerate.sat_per_kvb(),
            transactions: shared.transactions,
        },
        assignments: shared.assignments,
        carry: carry_rows(&of.carry),
        payees: payees_rows(&of.payees),
        params: of.params.encode(),
    };
    row.encode_to_vec()
}

/// A live round that was read; what it shares is yet to be found.
pub(super) struct Read(LiveRow);

impl Read {
    pub(super) fn decode(content: &[u8]) -> Result<Self, RecordError> {
        row(content).map(Self)
    }

    pub(super) fn height(&self) -> u32 {
        self.0.template.height
    }

    pub(super) fn assignments(&self) -> u64 {
        self.0.assignments
    }

    /// The round, with what it shares.
    pub(super) fn complete(
        self,
        assignments: Arc<Assignments>,
        known: &[Arc<[u8]>],
    ) -> Result<LiveRecord, RecordError> {
        let Self(row) = self;
        let transactions = row.template.transactions.iter().map(|place| {
            let known = usize::try_from(*place).ok().and_then(|n| known.get(n));
            known.cloned().ok_or(RecordError::Field("transactions"))
        });
        let transactions = transactions.collect::<Result<_, _>>()?;
        let coinbases = row.coinbases.iter().map(|bytes| transaction(bytes));
        Ok(LiveRecord {
            kind: match row.kind {
                0 => RoundKind::Present,
                1 => RoundKind::NextHeight,
                _ => return Err(RecordError::Field("kind")),
            },
            round: RoundId(array("round", &row.round)?),
            inputs: RoundInputs::decode(&row.inputs)?,
            coinbases: coinbases.collect::<Result<_, _>>()?,
            template: Arc::new(template(row.template, transactions)?),
            assignments,
            carry: carries(&row.carry)?,
            payees: payees(&row.payees)?,
            params: Arc::new(PoolParams::decode(&row.params)?),
        })
    }
}

fn template(row: TemplateRow, transactions: Vec<Arc<[u8]>>) -> Result<Template, RecordError> {
    let commitment = row.witness_commitment.as_deref();
    let commitment = commitment.map(|hash| array("witness_commitment", hash));
    let path = row.merkle_path.iter();
    Ok(Template {
        height: row.height,
        previous_block: array("previous_block", &row.previous_block)?,
        version: row.version,
        bits: row.bits,
        time: row.time,
        time_min: row.time_min,
        reward: row.reward,
        witness_commitment: commitment.transpose()?,
        merkle_path: path
            .map(|hash| array("merkle_path", hash))
            .collect::<Result<_, _>>()?,
        transactions,
        weight: row.weight,
        feerate: FeeRate::from_sat_per_kvb(row.feerate)
            .map_err(|_| RecordError::Field("feerate"))?,
    })
}

pub(super) fn encode_assignments(assignments: &Assignments) -> Vec<u8> {
    let mut bytes = Vec::new();
    for Assigned { slice, owner, z } in assignments.iter() {
        bytes.extend_from_slice(&slice.lane.0.to_be_bytes());
        bytes.extend_from_slice(&slice.prefix.to_be_bytes());
        bytes.push(slice.prefix_len);
        bytes.extend_from_slice(owner.as_bytes());
        bytes.push(z);
    }
    bytes
}

pub(super) fn decode_assignments(content: &[u8]) -> Result<Assignments, RecordError> {
    let (slices, rest) = content.as_chunks::<SLICE_SIZE>();
    if !rest.is_empty() {
        return Err(RecordError::Length);
    }
    let slice = |bytes: &[u8; SLICE_SIZE]| {
        let slice = Slice {
            lane: LaneIndex(u16::from_be_bytes([bytes[0], bytes[1]])),
            prefix: u16::from_be_bytes([bytes[2], bytes[3]]),
            prefix_len: bytes[4],
        };
        let owner = identity("owner", &bytes[5..37])?;
        let z = bytes[37];
        Ok(Assigned { slice, owner, z })
    };
    let slices = slices
        .iter()
        .map(slice)
        .collect::<Result<_, RecordError>>()?;
    Assignments::parse(slices, u16::MAX).map_err(|_| RecordError::Field("slices"))
}

pub(super) fn encode_jobs(jobs: &[(Identity, u8)]) -> Vec<u8> {
    let job = |(who, z): &(Identity, u8)| [who.as_bytes().as_slice(), &[*z]].concat();
    jobs.iter().flat_map(job).collect()
}

pub(super) fn decode_jobs(content: &[u8]) -> Result<Vec<(Identity, u8)>, RecordError> {
    let (jobs, rest) = content.as_chunks::<JOB_SIZE>();
    if !rest.is_empty() {
        return Err(RecordError::Length);
    }
    let job = |bytes: &[u8; JOB_SIZE]| Ok((identity("identity", &bytes[..32])?, bytes[32]));
    jobs.iter().map(job).collect()
}

/// Transactions one after another, each behind its length.
pub(super) fn encode_transactions<'a>(of: impl Iterator<Item = &'a Arc<[u8]>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for transaction in of {
        bytes.extend_from_slice(&(transaction.len() as u64).to_be_bytes());
        bytes.extend_from_slice(transaction);
    }
    bytes
}

pub(super) fn decode_transactions(mut content: &[u8]) -> Result<Vec<Arc<[u8]>>, RecordError> {
    let mut transactions = Vec::new();
    while let Some((length, rest)) = content.split_first_chunk::<8>() {
        let length = usize::try_from(u64::from_be_bytes(*length)).ok();
        let split = length.and_then(|length| rest.split_at_checked(length));
        let (transaction, rest) = split.ok_or(RecordError::Length)?;
        transactions.push(transaction.into());
        content = rest;
    }
    if content.is_empty() {
        Ok(transactions)
    } else {
        Err(RecordError::Length)
    }
}
