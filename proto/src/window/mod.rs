//! Share windows and the ledger they form: who did how much work, and what is carried over.
//!
//! A window closes when a round's proposal is made. Its record names the head before it, so the
//! records are a chain; the head after it also commits to the whole state (spans and carries), so
//! that a newcomer can start from a snapshot that the last round's signers signed. Who has a record and
//! the hash of the state after it can follow the chain without the state.

mod booking;
mod credit;
mod scoring;
mod sums;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::digest::Digest;
use crate::id::{Identity, WindowSeq};
use crate::work::{Work, WorkOverflow};

use booking::Blocks;
pub use booking::{BOOKING_WINDOWS, BookedBlock, Booking, REMEMBERED};
pub use credit::{
    BlockPayouts, CREDITS_LIMIT, Credit, CreditError, CreditProof, PROOF_PART_LIMIT, payees_digest,
};
pub use scoring::{CountedSpan, Scoring};
pub use sums::{SpanError, WindowWork};

/// Spans of one level that are merged into one of the next: state grows with the logarithm of time.
pub const MERGE: usize = 64;

#[cfg(test)]
thread_local! {
    /// How often a ledger was asked whether somebody has worked: each time it looks into all its spans.
    pub(crate) static ASKED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

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
    /// Bumps of payouts that are credited.
    pub credits: Vec<Credit>,
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

/// A span and its hash.
#[derive(Debug, PartialEq, Eq)]
struct Kept {
    span: Span,
    digest: [u8; 32],
}

impl Kept {
    fn new(span: Span) -> Arc<Self> {
        let digest = Digest::new("tutti/span")
            .u8(span.level)
            .u64(span.last.0)
            .u32(span.height);
        let digest = tally_digest(digest, &span.tally).finish();
        Arc::new(Self { span, digest })
    }
}

/// The replicated ledger: same records, same state, same head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ledger {
    head: LedgerHead,
    previous: [u8; 32],
    record: [u8; 32],
    spans: Vec<Arc<Kept>>,
    // Shared with earlier states: few windows book a block, and checkers keep many states.
    carry: Arc<BTreeMap<Identity, i64>>,
    blocks: Arc<Blocks>,
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
    /// A credit that does not follow from its proof.
    #[error("window {window} credits a bump wrongly: {error}")]
    Credit {
        /// The window.
        window: WindowSeq,
        /// Why.
        error: CreditError,
    },
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

fn works(tally: &Tally) -> impl Iterator<Item = (&Identity, Work)> {
    tally.iter().map(|(identity, work)| (identity, *work))
}

/// Adds work of identities that ascend: so one walk finds those who have some already, who are most of them.
fn add_all<'a>(
    into: &mut Tally,
    from: impl Iterator<Item = (&'a Identity, Work)>,
) -> Result<(), WorkOverflow> {
    let mut new = Vec::new();
    let mut known = into.iter_mut().peekable();
    for (identity, work) in from {
        while known.next_if(|(who, _)| *who < identity).is_some() {}
        match known.next_if(|(who, _)| *who == identity) {
            Some((_, sum)) => *sum = sum.checked_add(work)?,
            None => new.push((*identity, work)),
        }
    }
    into.extend(new);
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
            digest = carry_digest(digest, &booking.carry).fixed(&booking.payouts);
        }
        digest = digest.count(self.credits.len());
        for credit in &self.credits {
            digest = credit.append_to(digest);
        }
        digest.finish()
    }
}

impl LedgerHead {
    /// The head after a window, of which the record's hash and that of the state after it are given.
    pub fn of(seq: WindowSeq, previous: &[u8; 32], record: &[u8; 32], state: &[u8; 32]) -> Self {
        let hash = Digest::new("tutti/ledger-head")
            .u64(seq.0)
            .fixed(previous)
            .fixed(record)
            .fixed(state)
            .finish();
        Self { seq, hash }
    }
}

impl Default for Ledger {
    fn default() -> Self {
        let (none, seq) = ([0; 32], WindowSeq(0));
        let (spans, carry, blocks) = (Vec::new(), BTreeMap::new(), Blocks::new());
        let state = state_digest(&spans, &carry, &blocks);
        Self {
            head: LedgerHead::of(seq, &none, &none, &state),
            previous: none,
            record: none,
            spans,
            carry: Arc::new(carry),
            blocks: Arc::new(blocks),
        }
    }
}

/// Commits to all that rounds are computed from.
fn state_digest(spans: &[Arc<Kept>], carry: &BTreeMap<Identity, i64>, blocks: &Blocks) -> [u8; 32] {
    let digest = Digest::new("tutti/ledger-state").count(spans.len());
    let digest = spans.iter().fold(digest, |d, kept| d.fixed(&kept.digest));
    booking::blocks_digest(carry_digest(digest, carry), blocks).finish()
}

impl Ledger {
    /// Number of the last closed window.
    pub fn seq(&self) -> WindowSeq {
        self.head.seq
    }

    /// The head: number and hash of the present state.
    pub fn head(&self) -> LedgerHead {
        self.head
    }

    /// Hash of the state that the head commits to.
    pub fn state(&self) -> [u8; 32] {
        state_digest(&self.spans, &self.carry, &self.blocks)
    }

    fn spans(&self) -> impl DoubleEndedIterator<Item = &Span> {
        self.spans.iter().map(|kept| &kept.span)
    }

    /// Takes the next record. On an error nothing has changed.
    pub fn append(&mut self, record: &WindowRecord) -> Result<(), LedgerError> {
        let head = self.head;
        if record.seq != head.seq.next() {
            return Err(LedgerError::Gap {
                head: head.seq,
                got: record.seq,
            });
        }
        if record.previous != head.hash {
            return Err(LedgerError::Forked(record.seq));
        }
        total(&record.tally)?;
        let (mut carry, mut blocks) = (self.carry.clone(), self.blocks.clone());
        for (place, booking) in record.bookings.iter().enumerate() {
            if record.bookings[..place]
                .iter()
                .any(|other| other.block == booking.block)
            {
                return Err(LedgerError::BookedTwice(record.seq));
            }
            booking::book(Arc::make_mut(&mut blocks), booking, record.seq)?;
            let carry = Arc::make_mut(&mut carry);
            for (identity, change) in &booking.carry {
                let sum = carry.entry(*identity).or_default();
                *sum = sum.checked_add(*change).ok_or(LedgerError::Overflow)?;
            }
        }
        let window = record.seq;
        for credit in &record.credits {
            credit::note(Arc::make_mut(&mut blocks), credit)
                .map_err(|error| LedgerError::Credit { window, error })?;
            let owed = Arc::make_mut(&mut carry);
            let sum = owed.entry(credit.identity).or_default();
            *sum = sum
                .checked_add(i64::from(credit.sat))
                .ok_or(LedgerError::Overflow)?;
        }
        if !record.bookings.is_empty() || !record.credits.is_empty() {
            Arc::make_mut(&mut carry).retain(|_, sat| *sat != 0);
        }
        if booking::is_any_forgotten(&blocks, record.seq) {
            booking::forget(Arc::make_mut(&mut blocks), record.seq);
        }
        let mut spans = self.spans.clone();
        spans.push(Kept::new(Span {
            level: 0,
            last: record.seq,
            height: record.height,
            tally: record.tally.clone(),
        }));
        merge(&mut spans)?;
        let (digest, state) = (record.digest(), state_digest(&spans, &carry, &blocks));
        *self = Self {
            head: LedgerHead::of(record.seq, &head.hash, &digest, &state),
            previous: head.hash,
            record: digest,
            spans,
            carry,
            blocks,
        };
        Ok(())
    }

    /// Work of an identity, oldest first: up to which window, and how much since the one before.
    pub fn work_of(&self, identity: &Identity) -> impl Iterator<Item = (WindowSeq, Work)> {
        let work = |span: &Span| span.tally.get(identity).copied().unwrap_or_default();
        self.spans().map(move |span| (span.last, work(span)))
    }

    /// Whether nothing is owed to this identity, by it, or for work of it: its output may expire.
    pub fn has_forgotten(&self, identity: &Identity) -> bool {
        self.carry(identity) == 0 && !self.has_work_of(identity)
    }

    /// Whether it has done any work that is remembered. Whoever works has mostly done some lately.
    pub fn has_work_of(&self, identity: &Identity) -> bool {
        #[cfg(test)]
        ASKED.with(|asked| asked.set(asked.get() + 1));
        let mut newest = self.spans().rev();
        newest.any(|span| span.tally.contains_key(identity))
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
            seq: self.head.seq,
            previous: self.previous,
            record: self.record,
            spans: self.spans().cloned().collect(),
            carry: BTreeMap::clone(&self.carry),
            blocks: Blocks::clone(&self.blocks),
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
        let spans: Vec<Arc<Kept>> = spans.into_iter().map(Kept::new).collect();
        let state = state_digest(&spans, &carry, &blocks);
        if LedgerHead::of(seq, &previous, &record, &state) != *head {
            return Err(LedgerError::NotThisHead(head.seq));
        }
        Ok(Self {
            head: *head,
            previous,
            record,
            spans,
            carry: Arc::new(carry),
            blocks: Arc::new(blocks),
        })
    }
}

/// Whenever a level holds twice `MERGE` spans, its oldest `MERGE` become one of the next level.
fn merge(spans: &mut Vec<Arc<Kept>>) -> Result<(), WorkOverflow> {
    let mut level = 0u8;
    loop {
        // Levels only fall from oldest to newest, so one level is one run of the list.
        let Some(first) = spans.iter().position(|kept| kept.span.level == level) else {
            return Ok(());
        };
        let count = spans[first..]
            .iter()
            .take_while(|kept| kept.span.level == level)
            .count();
        if count < 2 * MERGE || level == u8::MAX {
            return Ok(());
        }
        let oldest: Vec<Arc<Kept>> = spans.drain(first..first + MERGE).collect();
        let mut tally = Tally::new();
        for kept in &oldest {
            add_all(&mut tally, works(&kept.span.tally))?;
        }
        let newest = oldest.last().map(|kept| (kept.span.last, kept.span.height));
        let (last, height) = newest.unwrap_or((WindowSeq(0), 0));
        level += 1;
        let merged = Span {
            level,
            last,
            height,
            tally,
        };
        spans.insert(first, Kept::new(merged));
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
            credits: Vec::new(),
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
