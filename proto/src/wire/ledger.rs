//! The ledger: tallies, carries, records, snapshots.
//!
//! Maps are sent as lists that ascend strictly by identity, so that a value has one encoding and
//! no identity comes twice.

use std::collections::{BTreeMap, BTreeSet};

use super::error::{WireError, WireReason};
use super::field::{all, ascending, bytes, fixed, identity, lane};
use super::field::{list, message, messages, round};
use super::{
    BLOCKS_LIMIT, BOOKINGS_LIMIT, ENTRIES_LIMIT, FromWire, SHARDS_LIMIT, ToWire, pb, spans,
};
use crate::id::{Identity, WindowSeq};
use crate::message::{PayeeWork, SignedHead, WindowClosed};
use crate::roster::PAYEES_LIMIT;
use crate::window::{
    BookedBlock, Booking, CREDITS_LIMIT, LedgerHead, LedgerSnapshot, Tally, WindowRecord,
};
use crate::work::Work;

type Carry = BTreeMap<Identity, i64>;

fn tally_to_wire(tally: &Tally) -> Vec<pb::TallyEntry> {
    let entry = |(who, work): (&Identity, &Work)| pb::TallyEntry {
        identity: bytes(who.as_bytes()),
        work: bytes(&work.0.to_le_bytes()),
    };
    tally.iter().map(entry).collect()
}

fn tally(field: &str, entries: Vec<pb::TallyEntry>) -> Result<Tally, WireError> {
    let entries = list(field, entries, ENTRIES_LIMIT, |entry| {
        let work = fixed("work", &entry.work)?;
        let who = identity("identity", &entry.identity)?;
        Ok((who, Work(u128::from_le_bytes(work))))
    })?;
    ascending(field, &entries, |(who, _)| *who)?;
    Ok(entries.into_iter().collect())
}

fn carry_to_wire(carry: &Carry) -> Vec<pb::CarryEntry> {
    let entry = |(who, sat): (&Identity, &i64)| pb::CarryEntry {
        identity: bytes(who.as_bytes()),
        sat: *sat,
    };
    carry.iter().map(entry).collect()
}

/// Of a state; changes of it may be any.
fn nonzero_carry(field: &str, entries: Vec<pb::CarryEntry>) -> Result<Carry, WireError> {
    let carry = carry(field, entries)?;
    match carry.values().all(|sat| *sat != 0) {
        true => Ok(carry),
        false => Err(WireError::here(WireReason::ZeroCarry).under(field)),
    }
}

fn carry(field: &str, entries: Vec<pb::CarryEntry>) -> Result<Carry, WireError> {
    let entries = list(field, entries, ENTRIES_LIMIT, |entry| {
        Ok((identity("identity", &entry.identity)?, entry.sat))
    })?;
    ascending(field, &entries, |(who, _)| *who)?;
    Ok(entries.into_iter().collect())
}

impl ToWire for Booking {
    type Message = pb::Booking;

    fn to_wire(&self) -> pb::Booking {
        pb::Booking {
            block: bytes(&self.block),
            round: bytes(&self.round.0),
            lane: u32::from(self.lane.0),
            undone: self.undone,
            carry: carry_to_wire(&self.carry),
            header: bytes(&self.header),
            payouts: bytes(&self.payouts),
        }
    }
}

impl FromWire for Booking {
    fn from_wire(wire: pb::Booking) -> Result<Self, WireError> {
        Ok(Self {
            block: fixed("block", &wire.block)?,
            round: round("round", &wire.round)?,
            lane: lane("lane", wire.lane)?,
            undone: wire.undone,
            carry: carry("carry", wire.carry)?,
            header: fixed("header", &wire.header)?,
            payouts: fixed("payouts", &wire.payouts)?,
        })
    }
}

impl ToWire for WindowRecord {
    type Message = pb::WindowRecord;

    fn to_wire(&self) -> pb::WindowRecord {
        pb::WindowRecord {
            seq: self.seq.0,
            previous: bytes(&self.previous),
            shares_root: bytes(&self.shares_root),
            shares: self.shares,
            height: self.height,
            tally: tally_to_wire(&self.tally),
            bookings: all(&self.bookings),
            credits: all(&self.credits),
        }
    }
}

impl FromWire for WindowRecord {
    fn from_wire(wire: pb::WindowRecord) -> Result<Self, WireError> {
        Ok(Self {
            seq: WindowSeq(wire.seq),
            previous: fixed("previous", &wire.previous)?,
            shares_root: fixed("shares_root", &wire.shares_root)?,
            shares: wire.shares,
            height: wire.height,
            tally: tally("tally", wire.tally)?,
            bookings: messages("bookings", wire.bookings, BOOKINGS_LIMIT)?,
            credits: messages("credits", wire.credits, CREDITS_LIMIT)?,
        })
    }
}

impl ToWire for WindowClosed {
    type Message = pb::WindowClosed;

    fn to_wire(&self) -> pb::WindowClosed {
        pb::WindowClosed {
            record: Some(self.record.to_wire()),
            head: Some(self.head.to_wire()),
            skipped: self.payees.iter().map(|payee| payee.skipped).collect(),
            work: self.payees.iter().map(|payee| payee.work).collect(),
        }
    }
}

impl FromWire for WindowClosed {
    fn from_wire(wire: pb::WindowClosed) -> Result<Self, WireError> {
        let (got, want) = (wire.work.len(), wire.skipped.len());
        if got != want {
            return Err(WireError::here(WireReason::Count { got, want }).under("work"));
        }
        let places = wire.skipped.into_iter().zip(wire.work).collect();
        Ok(Self {
            record: message("record", wire.record)?,
            payees: list("skipped", places, PAYEES_LIMIT, |(skipped, work)| {
                Ok(PayeeWork { skipped, work })
            })?,
            head: message("head", wire.head)?,
        })
    }
}

impl ToWire for LedgerHead {
    type Message = pb::LedgerHead;

    fn to_wire(&self) -> pb::LedgerHead {
        pb::LedgerHead {
            seq: self.seq.0,
            hash: bytes(&self.hash),
        }
    }
}

impl FromWire for LedgerHead {
    fn from_wire(wire: pb::LedgerHead) -> Result<Self, WireError> {
        Ok(Self {
            seq: WindowSeq(wire.seq),
            hash: fixed("hash", &wire.hash)?,
        })
    }
}

impl ToWire for SignedHead {
    type Message = pb::SignedHead;

    fn to_wire(&self) -> pb::SignedHead {
        pb::SignedHead {
            head: Some(self.head.to_wire()),
            signature: bytes(&self.signature),
        }
    }
}

impl FromWire for SignedHead {
    fn from_wire(wire: pb::SignedHead) -> Result<Self, WireError> {
        Ok(Self {
            head: message("head", wire.head)?,
            signature: fixed("signature", &wire.signature)?,
        })
    }
}

fn block_to_wire((hash, block): (&[u8; 32], &BookedBlock)) -> pb::BookedBlock {
    pb::BookedBlock {
        block: bytes(hash),
        round: bytes(&block.round.0),
        lane: u32::from(block.lane.0),
        booked: block.booked,
        changed: block.changed.0,
        carry: bytes(&block.carry),
        payouts: bytes(&block.payouts),
        credited: block
            .credited
            .iter()
            .map(|shard| u32::from(*shard))
            .collect(),
    }
}

fn credited(shards: Vec<u32>) -> Result<BTreeSet<u16>, WireError> {
    let shards = list("credited", shards, SHARDS_LIMIT, |shard| {
        let shard: u32 = shard;
        u16::try_from(shard).map_err(|_| {
            let (got, limit) = (u64::from(shard), u64::from(u16::MAX));
            WireError::here(WireReason::OutOfRange { got, limit })
        })
    })?;
    ascending("credited", &shards, |shard| *shard)?;
    Ok(shards.into_iter().collect())
}

fn blocks(
    field: &str,
    blocks: Vec<pb::BookedBlock>,
) -> Result<BTreeMap<[u8; 32], BookedBlock>, WireError> {
    let blocks = list(field, blocks, BLOCKS_LIMIT, |wire| {
        let block = BookedBlock {
            round: round("round", &wire.round)?,
            lane: lane("lane", wire.lane)?,
            booked: wire.booked,
            changed: WindowSeq(wire.changed),
            carry: fixed("carry", &wire.carry)?,
            payouts: fixed("payouts", &wire.payouts)?,
            credited: credited(wire.credited)?,
        };
        Ok((fixed("block", &wire.block)?, block))
    })?;
    ascending(field, &blocks, |(hash, _)| *hash)?;
    Ok(blocks.into_iter().collect())
}

impl ToWire for LedgerSnapshot {
    type Message = pb::LedgerSnapshot;

    fn to_wire(&self) -> pb::LedgerSnapshot {
        let (workers, spans) = spans::to_wire(&self.spans);
        pb::LedgerSnapshot {
            seq: self.seq.0,
            previous: bytes(&self.previous),
            record: bytes(&self.record),
            spans,
            workers,
            carry: carry_to_wire(&self.carry),
            blocks: self.blocks.iter().map(block_to_wire).collect(),
        }
    }
}

impl FromWire for LedgerSnapshot {
    fn from_wire(wire: pb::LedgerSnapshot) -> Result<Self, WireError> {
        Ok(Self {
            seq: WindowSeq(wire.seq),
            previous: fixed("previous", &wire.previous)?,
            record: fixed("record", &wire.record)?,
            spans: spans::from_wire(&wire.workers, wire.spans)?,
            carry: nonzero_carry("carry", wire.carry)?,
            blocks: blocks("blocks", wire.blocks)?,
        })
    }
}
