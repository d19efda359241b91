//! Records as bytes: a checksum over key and content, a byte that says which kind, the content.
//!
//! Contents are protobuf: those of the wire where the wire has the type, else those of `rows`.

use std::collections::BTreeMap;

use bitcoin::hashes::{Hash, HashEngine, sha256};
use prost::Message;
use thiserror::Error;
use tutti_proto::coordinator::{Committed, Record};
use tutti_proto::id::{Identity, SerialId};
use tutti_proto::message::{TxAddOutput, TxRemoveOutput};
use tutti_proto::segment::WindowEnd;
use tutti_proto::share::{SHARE_RECORD_SIZE, ShareRecord};
use tutti_proto::terms::RoundTerms;
use tutti_proto::window::Credit;
use tutti_proto::wire::{FromWire, ToWire, WireError};

use super::key::Key;
use super::rows::{self, BlockFateRow, FATES, OutputExpiredRow, VerdictRow, WindowOpenedRow};
use super::rows::{array, row};

#[cfg(test)]
mod tests;

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
        Record::Committed(committed) => (
            kind::COMMITTED,
            rows::committed_row(committed).encode_to_vec(),
        ),
        Record::Candidate(found) => (kind::CANDIDATE, rows::candidate_row(found).encode_to_vec()),
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
        kind::CANDIDATE => Record::Candidate(rows::candidate(row(content)?)?),
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
    rows::committed(row(content)?)
}

pub(super) fn of_kind(expected: u8, (kind, content): (u8, &[u8])) -> Result<&[u8], RecordError> {
    if kind == expected {
        Ok(content)
    } else {
        Err(RecordError::Kind(kind))
    }
}
