//! Share windows and the ledger they form: who did how much work, and what is carried over.
//!
//! A window closes when a round's proposal is made. Its record names the head before it, so the
//! records are a chain; the head after it also commits to the whole state (spans and carries), so
//! that a newcomer can start from a snapshot that the last round's signers signed.

mod booking;
mod scoring;

use std::collections::BTreeMap;

use crate::digest::Digest;
use crate::id::{Identity, WindowSeq};
use crate::work::{Work, WorkOverflow};

use booking::Blocks;
pub use booking::{BookedBlock, Booking, REMEMBERED};
pub use scoring::Scoring;

/// Spans of one level that are merged into one of the next: state grows with the logarithm of time.
pub const MERGE: usize = 64;

/// Work per identity.
pub type Tally = BTreeMap<Identity, Work>;

/// A closed window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowRecord {
    /// Number, one more than the head's before it.
    pub seq: WindowSeq,
    /// Hash of the head before it.
    pub previous: [u8; 32],
    /// Merkle root of its shares.
    pub shares_root: [u8; 32],
    /// How many shares.
    pub shares: u64,
    /// Height of the block that was being mined.
    pub height: u32,
    /// Work of each participant in it.
    pub tally: Tally,
    /// Blocks booked while it was open.
    pub bookings: Vec<Booking>,
}

/// The state of the ledger after a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerHead {
    /// The last closed window.
    pub seq: WindowSeq,
    /// Commits to all that came before.
    pub hash: [u8; 32],
}

/// Consecutive windows, summed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// How often it was merged.
    pub level: u8,
    /// Newest window in it.
    pub last: WindowSeq,
    /// That window's height.
    pub height: u32,
    /// Sum of the windows' tallies.
    pub tally: Tally,
}

/// The replicated ledger: same records, same state, same head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger {
    seq: WindowSeq,
    previous: [u8; 32],
    record: [u8; 32],
    spans: Vec<Span>,
    carry: BTreeMap<Identity, i64>,
    blocks: Blocks,
}

/// A snapshot as one party sends it to another; `Ledger::from_snapshot` checks it against a head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerSnapshot {
    /// The last closed window.
    pub seq: WindowSeq,
    /// Head before that window.
    pub previous: [u8; 32],
    /// Hash of that window's record.
    pub record: [u8; 32],
    /// Scoring state, oldest first.
    pub spans: Vec<Span>,
    /// Nonzero carries, sat.
    pub carry: BTreeMap<Identity, i64>,
    /// Blocks booked or unbooked lately, by hash.
    pub blocks: BTreeMap<[u8; 32], BookedBlock>,
}

/// Why a record or a snapshot is not the next state of this ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// The record's number does not follow.
    #[error("window {got} does not follow window {head}")]
    Gap {
        /// Our last window.
        head: WindowSeq,
        /// Theirs.
        got: WindowSeq,
    },
    /// The record builds on another history.
    #[error("window {0} builds on another ledger head: the ledger has forked")]
    Forked(WindowSeq),
    /// A block that counts was booked again, or another of its round.
    #[error("window {0} books a block, or a block of a round, a second time")]
    BookedTwice(WindowSeq),
    /// A block that does not count was unbooked.
    #[error("window {0} unbooks a block that is not booked")]
    NotBooked(WindowSeq),
    /// A block was unbooked, or booked again, otherwise than it was booked.
    #[error("window {0} unbooks or rebooks a block with other numbers than it was booked with")]
    OtherBooking(WindowSeq),
    /// A tally or carry leaves the range of its integer.
    #[error("tally or carry overflows")]
    Overflow,
    /// The snapshot does not hash to the head it is said to be.
    #[error("the ledger snapshot is not that of head {0}")]
    NotThisHead(WindowSeq),
}

impl From<WorkOverflow> for LedgerError {
    fn from(_: WorkOverflow) -> Self {
        LedgerError::Overflow
    }
}

/// Sum of a tally.
pub fn total(tally: &Tally) -> Result<Work, WorkOverflow> {
    tally
        .values()
        .try_fold(Work::ZERO, |sum, work| sum.checked_add(*work))
}

fn add_all(into: &mut Tally, from: &Tally) -> Result<(), WorkOverflow> {
    for (identity, work) in from {
        let sum = into.entry(*identity).or_default();
        *sum = sum.checked_add(*work)?;
    }
    Ok(())
}

fn tally_digest(digest: Digest, tally: &Tally) -> Digest {
    tally
        .iter()
        .fold(digest.count(tally.len()), |d, (who, work)| {
            d.fixed(who.as_bytes()).u128(work.0)
        })
}

fn carry_digest(digest: Digest, carry: &BTreeMap<Identity, i64>) -> Digest {
    carry
        .iter()
        .fold(digest.count(carry.len()), |d, (who, sat)| {
            d.fixed(who.as_bytes()).i64(*sat)
        })
}

impl WindowRecord {
    /// Hash of the record.
    pub fn digest(&self) -> [u8; 32] {
        let digest = Digest::new("tutti/window")
            .u64(self.seq.0)
            .fixed(&self.previous)
            .fixed(&self.shares_root)
            .u64(self.shares)
            .u32(self.height);
        let mut digest = tally_digest(digest, &self.tally).count(self.bookings.len());
        for booking in &self.bookings {
            digest = digest
                .fixed(&booking.block)
                .fixed(&booking.round.0)
                .u16(booking.lane.0)
                .u8(u8::from(booking.undone));
            digest = carry_digest(digest, &booking.carry);
        }
        digest.finish()
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            seq: WindowSeq(0),
            previous: [0; 32],
            record: [0; 32],
            spans: Vec::new(),
            carry: BTreeMap::new(),
            blocks: Blocks::new(),
        }
    }
}

impl Ledger {
    /// Number of the last closed window.
    pub fn seq(&self) -> WindowSeq {
        self.seq
    }

    /// The head: number and hash of the present state. Hashes the whole state.
    pub fn head(&self) -> LedgerHead {
        let mut digest = Digest::new("tutti/ledger-head")
            .u64(self.seq.0)
            .fixed(&self.previous)
            .fixed(&self.record)
            .count(self.spans.len());
        for span in &self.spans {
            digest = tally_digest(
                digest.u8(span.level).u64(span.last.0).u32(span.height),
                &span.tally,
            );
        }
        LedgerHead {
            seq: self.seq,
            hash: booking::blocks_digest(carry_digest(digest, &self.carry), &self.blocks).finish(),
        }
    }

    /// Takes the next record. On an error nothing has changed.
    pub fn append(&mut self, record: &WindowRecord) -> Result<(), LedgerError> {
        let head = self.head();
        if record.seq != self.seq.next() {
            return Err(LedgerError::Gap {
                head: self.seq,
                got: record.seq,
            });
        }
        if record.previous != head.hash {
            return Err(LedgerError::Forked(record.seq));
        }
        total(&record.tally)?;
        let mut carry = self.carry.clone();
        let mut blocks = self.blocks.clone();
        for (place, booking) in record.bookings.iter().enumerate() {
            if record.bookings[..place]
                .iter()
                .any(|other| other.block == booking.block)
            {
                return Err(LedgerError::BookedTwice(record.seq));
            }
            booking::book(&mut blocks, booking, record.seq)?;
            for (identity, change) in &booking.carry {
                let sum = carry.entry(*identity).or_default();
                *sum = sum.checked_add(*change).ok_or(LedgerError::Overflow)?;
            }
        }
        carry.retain(|_, sat| *sat != 0);
        booking::forget(&mut blocks, record.seq);
        let mut spans = self.spans.clone();
        spans.push(Span {
            level: 0,
            last: record.seq,
            height: record.height,
            tally: record.tally.clone(),
        });
        merge(&mut spans)?;
        *self = Self {
            seq: record.seq,
            previous: head.hash,
            record: record.digest(),
            spans,
            carry,
            blocks,
        };
        Ok(())
    }

    /// Work of an identity, oldest first: up to which window, and how much since the one before.
    pub fn work_of(&self, identity: &Identity) -> impl Iterator<Item = (WindowSeq, Work)> {
        let work = |span: &Span| span.tally.get(identity).copied().unwrap_or_default();
        self.spans.iter().map(move |span| (span.last, work(span)))
    }

    /// Whether nothing is owed to this identity, by it, or for work of it: its output may expire.
    pub fn has_forgotten(&self, identity: &Identity) -> bool {
        self.carry(identity) == 0
            && self
                .spans
                .iter()
                .all(|span| !span.tally.contains_key(identity))
    }

    /// What is owed to an identity from earlier blocks, sat.
    pub fn carry(&self, identity: &Identity) -> i64 {
        self.carry.get(identity).copied().unwrap_or(0)
    }

    /// Everyone to whom something is owed, or who was overpaid.
    pub fn carries(&self) -> &BTreeMap<Identity, i64> {
        &self.carry
    }

    /// The state for somebody who was not there.
    pub fn snapshot(&self) -> LedgerSnapshot {
        LedgerSnapshot {
            seq: self.seq,
            previous: self.previous,
            record: self.record,
            spans: self.spans.clone(),
            carry: self.carry.clone(),
            blocks: self.blocks.clone(),
        }
    }

    /// Takes a snapshot, if it is the state of `head`.
    pub fn from_snapshot(snapshot: LedgerSnapshot, head: &LedgerHead) -> Result<Self, LedgerError> {
        let LedgerSnapshot {
            seq,
            previous,
            record,
            spans,
            carry,
            blocks,
        } = snapshot;
        let ledger = Self {
            seq,
            previous,
            record,
            spans,
            carry,
            blocks,
        };
        if ledger.head() == *head {
            Ok(ledger)
        } else {
            Err(LedgerError::NotThisHead(head.seq))
        }
    }
}

/// Whenever a level holds twice `MERGE` spans, its oldest `MERGE` become one of the next level.
fn merge(spans: &mut Vec<Span>) -> Result<(), WorkOverflow> {
    let mut level = 0u8;
    loop {
        // Levels only fall from oldest to newest, so one level is one run of the list.
        let Some(first) = spans.iter().position(|span| span.level == level) else {
            return Ok(());
        };
        let count = spans[first..]
            .iter()
            .take_while(|span| span.level == level)
            .count();
        if count < 2 * MERGE || level == u8::MAX {
            return Ok(());
        }
        let oldest: Vec<Span> = spans.drain(first..first + MERGE).collect();
        let mut tally = Tally::new();
        for span in &oldest {
            add_all(&mut tally, &span.tally)?;
        }
        let newest = oldest.last().map(|span| (span.last, span.height));
        let (last, height) = newest.unwrap_or((WindowSeq(0), 0));
        level += 1;
        spans.insert(
            first,
            Span {
                level,
                last,
                height,
                tally,
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn who(n: u8) -> Identity {
        let secret = bitcoin::secp256k1::SecretKey::from_slice(&[n; 32]).unwrap();
        Identity::from(
            secret
                .x_only_public_key(&bitcoin::secp256k1::Secp256k1::new())
                .0,
        )
    }

    pub(super) fn grow(ledger: &mut Ledger, tally: &[(u8, u128)]) -> WindowRecord {
        grow_at(ledger, 1, tally)
    }

    pub(super) fn grow_at(ledger: &mut Ledger, height: u32, tally: &[(u8, u128)]) -> WindowRecord {
        let head = ledger.head();
        let record = WindowRecord {
            seq: head.seq.next(),
            previous: head.hash,
            shares_root: [0; 32],
            shares: 0,
            height,
            tally: tally
                .iter()
                .map(|(n, work)| (who(*n), Work(*work)))
                .collect(),
            bookings: Vec::new(),
        };
        ledger.append(&record).unwrap();
        record
    }

    #[test]
    fn a_record_of_another_history_changes_nothing() {
        let (mut ours, mut theirs) = (Ledger::default(), Ledger::default());
        grow(&mut ours, &[(1, 1)]);
        grow(&mut theirs, &[(1, 2)]);
        let next = grow(&mut theirs, &[(1, 1)]);
        let before = ours.clone();
        assert_eq!(ours.append(&next), Err(LedgerError::Forked(WindowSeq(2))));
        assert_eq!(ours, before);
    }

    #[test]
    fn merging_keeps_the_sums_and_bounds_the_state() {
        let mut ledger = Ledger::default();
        for _ in 0..10_000 {
            grow(&mut ledger, &[(1, 3), (2, 1)]);
        }
        assert!(ledger.spans.len() < 2 * MERGE * 3, "{}", ledger.spans.len());
        let weights = ledger.weights(Work(u128::MAX)).unwrap();
        assert_eq!(
            weights,
            Tally::from([(who(1), Work(30_000)), (who(2), Work(10_000))])
        );
    }

    #[test]
    fn a_snapshot_stands_for_the_history_it_hashes_to_and_no_other() {
        let mut ledger = Ledger::default();
        grow(&mut ledger, &[(1, 3)]);
        let mut snapshot = ledger.snapshot();
        assert_eq!(
            Ledger::from_snapshot(snapshot.clone(), &ledger.head()),
            Ok(ledger.clone())
        );
        snapshot.carry.insert(who(1), 1);
        assert!(Ledger::from_snapshot(snapshot, &ledger.head()).is_err());
    }
}
