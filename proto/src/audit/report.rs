//! What was checked, and what was not.

use std::sync::Arc;

use bitcoin::Txid;

use super::Explanation;
use crate::id::{Identity, LaneIndex, RoundId, WindowSeq};
use crate::terms::CheckedTerms;
use crate::window::{Booking, Credit, WindowRecord, total};
use crate::work::{Work, WorkOverflow};

/// One window that holds.
#[derive(Clone, Debug)]
pub struct WindowReport {
    /// The window.
    pub window: WindowSeq,
    /// Height of the block that was being mined.
    pub height: u32,
    /// Shares, each checked.
    pub shares: u64,
    /// Their work.
    pub work: Work,
    /// Who worked.
    pub workers: usize,
    /// Changes of the payee set.
    pub changes: usize,
    /// Whether the state before it was known: if not, neither its changes nor the state after it follow.
    pub state: bool,
    /// Rounds whose amounts were computed and are the coinbases'.
    pub rounds_checked: u64,
    /// Rounds that were proposed on a state that is not known.
    pub rounds_unchecked: u64,
    /// Blocks that it books or unbooks.
    pub bookings: Vec<BookingReport>,
    /// Bumps that it credits. Where the state is known, each was checked by its proof.
    pub credits: Vec<CreditReport>,
}

/// One bump that a window credits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreditReport {
    /// The block whose payout was bumped, in the byte order in which it is hashed.
    pub block: [u8; 32],
    /// The payout.
    pub payout: Txid,
    /// Whose bump it was.
    pub identity: Identity,
    /// What is credited, sat.
    pub sat: u32,
}

/// One block that a window books or unbooks.
#[derive(Clone, Debug)]
pub struct BookingReport {
    /// The block, in the byte order in which it is hashed.
    pub block: [u8; 32],
    /// Its round.
    pub round: RoundId,
    /// Its lane.
    pub lane: LaneIndex,
    /// The chain has lost it.
    pub undone: bool,
    /// Identities whose carry it changes.
    pub carries: usize,
    /// Whether those changes were compared with the round's payout.
    pub checked: bool,
    /// Whether its header is among the shares that were checked.
    pub among_shares: bool,
    /// The round's terms.
    pub terms: Arc<CheckedTerms>,
    /// Every sat of it, if that was asked for and the state is known.
    pub explanation: Option<Box<Explanation>>,
}

/// All windows together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// The first and the last.
    pub windows: Option<(WindowSeq, WindowSeq)>,
    /// First window before which the state was known.
    pub state_since: Option<WindowSeq>,
    /// Shares, each checked.
    pub shares: u64,
    /// Their work.
    pub work: Work,
    /// Windows whose changes of the payee set and state were followed.
    pub windows_with_state: u64,
    /// Times that a window tells a round whose amounts were compared.
    pub rounds_checked: u64,
    /// Times that a window tells one that was proposed on a state that is not known.
    pub rounds_unchecked: u64,
    /// Bookings whose carries were compared.
    pub bookings_checked: u64,
    /// Bookings whose carries were not.
    pub bookings_unchecked: u64,
    /// Credits that were checked by their proofs.
    pub credits_checked: u64,
    /// Credits in windows before which the state was not known.
    pub credits_unchecked: u64,
}

impl WindowReport {
    pub(super) fn of(
        record: &WindowRecord,
        changes: usize,
        state: bool,
    ) -> Result<Self, WorkOverflow> {
        Ok(Self {
            window: record.seq,
            height: record.height,
            shares: record.shares,
            work: total(&record.tally)?,
            workers: record.tally.len(),
            changes,
            state,
            rounds_checked: 0,
            rounds_unchecked: 0,
            bookings: Vec::new(),
            credits: record.credits.iter().map(CreditReport::of).collect(),
        })
    }
}

impl CreditReport {
    fn of(credit: &Credit) -> Self {
        Self {
            block: credit.block,
            payout: credit.payout(),
            identity: credit.identity,
            sat: credit.sat,
        }
    }
}

impl BookingReport {
    pub(super) fn of(booking: &Booking, terms: Arc<CheckedTerms>, among_shares: bool) -> Self {
        Self {
            block: booking.block,
            round: booking.round,
            lane: booking.lane,
            undone: booking.undone,
            carries: booking.carry.len(),
            checked: false,
            among_shares,
            terms,
            explanation: None,
        }
    }
}

impl Totals {
    pub(super) fn add(&mut self, report: &WindowReport) -> Result<(), WorkOverflow> {
        let first = self.windows.map_or(report.window, |(first, _)| first);
        self.windows = Some((first, report.window));
        self.shares = self.shares.saturating_add(report.shares);
        self.work = self.work.checked_add(report.work)?;
        if report.state {
            self.state_since.get_or_insert(report.window);
            self.windows_with_state += 1;
        }
        self.rounds_checked += report.rounds_checked;
        self.rounds_unchecked += report.rounds_unchecked;
        for booking in &report.bookings {
            match booking.checked {
                true => self.bookings_checked += 1,
                false => self.bookings_unchecked += 1,
            }
        }
        let credits = report.credits.len() as u64;
        match report.state {
            true => self.credits_checked += credits,
            false => self.credits_unchecked += credits,
        }
        Ok(())
    }
}
