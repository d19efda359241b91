//! What the log before a record adds up to. It stands in place of what was before it, so that a store
//! grows with what is live and not with the time that the pool runs.
//!
//! It is written in parts. Once they are durable the store names it as the one that counts, and once
//! that is durable the records before it go. So a crash leaves one that is whole, and perhaps remains
//! of another, which the next one removes.

use prost::Message;
use sled::Batch;
use tutti_proto::coordinator::{Record, RestoreError, Restored};
use tutti_proto::id::{Identity, WindowSeq};
use tutti_proto::params::PoolName;
use tutti_proto::segment::{Checkpoint, CheckpointError};
use tutti_proto::wire::{FromWire, ToWire};

use super::key::{self, Key, Space};
use super::reader::Reader;
use super::record::{kind, of_kind, open_log, seal, seal_content, unseal};
use super::rows;
use super::shelf::PART_SIZE;
use super::{RecordError, StoreError};

/// Parts of one write.
const PARTS_OF_BATCH: usize = 64;
/// Names the base that counts.
const NAME: Key = Key::Meta("base");

/// The state after a window closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base {
    /// Number of the next record of the log.
    pub number: u64,
    /// Ledger, its head, and payee set.
    pub state: Checkpoint,
    /// Candidates and verdicts of the found blocks that are not settled, and credits that are due.
    pub blocks: Vec<Record>,
}

#[derive(Clone, PartialEq, Message)]
struct BaseRow {
    /// As on the wire.
    #[prost(bytes = "vec", tag = "1")]
    state: Vec<u8>,
    /// Sealed like records of the log.
    #[prost(bytes = "vec", repeated, tag = "2")]
    blocks: Vec<Vec<u8>>,
}

impl Base {
    /// The last closed window.
    pub fn window(&self) -> WindowSeq {
        self.state.head.head.seq
    }

    /// The state machine's state.
    pub(super) fn restore(self, reader: &Reader, of: &Identity) -> Result<Restored, StoreError> {
        let path = reader.path().to_owned();
        // The head is checked again: the pool's own, not that of the state.
        let signed = self.state.head.verify(of);
        let state = signed.map_err(|_| CheckpointError::UnsignedHead);
        let state = state.and_then(|()| self.state.check());
        let (ledger, roster) = state.map_err(|source| StoreError::Base { path, source })?;
        let mut restored = Restored::after(ledger, roster);
        for record in self.blocks {
            let applied = restored.apply(of, record);
            applied.map_err(|source| reader.contradiction(&NAME, source))?;
        }
        Ok(restored)
    }

    fn encode(&self) -> Vec<u8> {
        let blocks = (0..).zip(&self.blocks);
        let row = BaseRow {
            state: self.state.encode(),
            blocks: blocks
                .map(|(place, record)| seal(&self.block(place), record))
                .collect(),
        };
        row.encode_to_vec()
    }

    fn block(&self, place: u64) -> Key {
        Key::Part(Space::Base, self.number, place)
    }

    fn decode(number: u64, content: &[u8]) -> Result<Self, RecordError> {
        let row: BaseRow = rows::row(content)?;
        let mut base = Self {
            number,
            state: Checkpoint::decode(&row.state)?,
            blocks: Vec::new(),
        };
        for (place, sealed) in (0..).zip(&row.blocks) {
            let record = open_log(&base.block(place), sealed)?;
            base.blocks.push(record);
        }
        Ok(base)
    }
}

impl Reader {
    /// What the log before its first record adds up to; none if that is the beginning.
    pub fn base(&self) -> Result<Option<Base>, StoreError> {
        let number = self.base_number()?;
        if number == 0 {
            return Ok(None);
        }
        let mut content = Vec::new();
        let mut ended = false;
        for part in 0.. {
            let key = Key::Part(Space::Base, number, part);
            let Some(value) = self.value(&key)? else {
                break;
            };
            let sealed = unseal(&key, &value).and_then(|sealed| of_kind(kind::BASE, sealed));
            let sealed = sealed.map_err(|error| self.damaged(&key, error))?;
            let (last, part) = sealed
                .split_first()
                .ok_or_else(|| self.damaged(&key, RecordError::Length))?;
            content.extend_from_slice(part);
            ended = *last == 1;
        }
        if !ended {
            return Err(self.damaged(&NAME, RecordError::Missing));
        }
        let base = Base::decode(number, &content);
        Ok(Some(base.map_err(|error| self.damaged(&NAME, error))?))
    }

    /// Number of the first record of the log that counts.
    pub(super) fn base_number(&self) -> Result<u64, StoreError> {
        let Some(named) = self.value(&NAME)? else {
            return Ok(0);
        };
        let number = unseal(&NAME, &named).and_then(|sealed| of_kind(kind::BASE_NAME, sealed));
        let number = number.and_then(|n| n.try_into().map_err(|_| RecordError::Length));
        let number = number.map_err(|error| self.damaged(&NAME, error))?;
        Ok(u64::from_be_bytes(number))
    }

    /// What the log adds up to where this window closed, if it has that below `end`.
    pub fn state_after(
        &self,
        window: WindowSeq,
        pool: &PoolName,
        end: u64,
    ) -> Result<Option<Base>, StoreError> {
        let of = &pool.coordinator;
        let (mut restored, mut first) = (Restored::default(), 0);
        if let Some(base) = self.base()? {
            if base.window() == window {
                return Ok(Some(base));
            }
            first = base.number;
            restored = base.restore(self, of)?;
        }
        for number in first..end {
            let record = self.log(number)?;
            let closed = match &record {
                Record::WindowClosed(closed) if closed.record.seq == window => Some(closed.head),
                _ => None,
            };
            let applied = restored.apply(of, record);
            applied.map_err(|source| self.contradiction(&Key::Log(number), source))?;
            if let Some(head) = closed {
                let outputs = restored.roster().in_order_of_adding().into_iter();
                let state = Checkpoint {
                    pool: *pool,
                    ledger: restored.ledger().snapshot(),
                    head,
                    outputs: outputs.map(|(_, output)| output.clone()).collect(),
                    signed: None,
                };
                return Ok(Some(Base {
                    number: number.saturating_add(1),
                    state,
                    blocks: restored.blocks(),
                }));
            }
        }
        Ok(None)
    }

    fn contradiction(&self, key: &Key, source: RestoreError) -> StoreError {
        StoreError::Contradiction {
            path: self.path().to_owned(),
            key: key.to_string(),
            source,
        }
    }

    /// Lets the log begin with what it adds up to so far, and forgets the records before.
    pub fn begin_with(&self, base: &Base) -> Result<(), StoreError> {
        let write = |e| self.sled("write", e);
        let content = base.encode();
        // What could not be read back replaces nothing.
        Base::decode(base.number, &content).map_err(|source| StoreError::Uncut {
            path: self.path().to_owned(),
            source,
        })?;
        self.forget_bases_but(self.base_number()?)?;
        let parts = content.len().div_ceil(PART_SIZE) as u64;
        let of_batch = PARTS_OF_BATCH.saturating_mul(PART_SIZE);
        let mut part = 0;
        for content in content.chunks(of_batch) {
            let mut batch = Batch::default();
            for content in content.chunks(PART_SIZE) {
                let key = Key::Part(Space::Base, base.number, part);
                part = part.saturating_add(1);
                let content = [&[u8::from(part == parts)], content].concat();
                batch.insert(key.to_bytes(), seal_content(&key, kind::BASE, &content));
            }
            self.tree().apply_batch(batch).map_err(write)?;
        }
        self.sync()?;
        let number = seal_content(&NAME, kind::BASE_NAME, &base.number.to_be_bytes());
        self.tree().insert(NAME.to_bytes(), number).map_err(write)?;
        self.sync()?;
        let before = Key::LOG.to_vec()..Key::Log(base.number).to_bytes();
        for key in self.tree().range(before).keys() {
            let key = key.map_err(|e| self.sled("read", e))?;
            self.tree().remove(key).map_err(write)?;
        }
        self.forget_bases_but(base.number)
    }

    fn forget_bases_but(&self, keep: u64) -> Result<(), StoreError> {
        for key in self.tree().scan_prefix(Space::Base.prefix()).keys() {
            let key = key.map_err(|e| self.sled("read", e))?;
            if key::numbers(&key).is_none_or(|(number, _)| number != keep) {
                self.tree().remove(key).map_err(|e| self.sled("write", e))?;
            }
        }
        Ok(())
    }
}
