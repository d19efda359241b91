//! Windows as they are told while they are open: each piece is checked as it comes, amounts at the end,
//! when the window's changes of the payee set are known.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::compare::compare_told;
use super::history::History;
use super::{AuditError, Auditor, Before, WindowReport};
use crate::follower::{FollowError, Follower, TERMS_LIMIT};
use crate::id::{RoundId, WindowSeq};
use crate::message::SignedHead;
use crate::params::PoolName;
use crate::roster::{CHANGES_LIMIT, Roster};
use crate::segment::{Checkpoint, OutputChange, WindowEnd, WindowPart};
use crate::terms::CheckedTerms;
use crate::window::{Ledger, WindowWork};

/// What was told of the open window.
#[derive(Default)]
pub(super) struct Told {
    /// By the stream that tells it now: another tells them again from the window's beginning.
    changes: Vec<OutputChange>,
    /// By all streams: shares of a round that only an earlier one told are counted all the same.
    rounds: BTreeMap<RoundId, Arc<CheckedTerms>>,
}

impl Auditor {
    /// Goes on after a state that was checked before, of which the payee set is that at the window's end.
    pub fn after(pool: PoolName, ledger: Ledger, roster: Roster) -> Self {
        let mut auditor = Self::new(pool);
        auditor.history = History::with(ledger.clone(), roster);
        auditor.follower = Some(Follower::new(pool, ledger));
        auditor
    }

    /// Begins with the state of a checkpoint; says whether a round was signed on it. Rounds that were
    /// proposed before it stay unchecked.
    pub fn start_from(&mut self, checkpoint: Checkpoint) -> Result<bool, AuditError> {
        let head = checkpoint.head.head;
        let signed = self.know(checkpoint)?;
        self.start(&head)?;
        Ok(signed)
    }

    /// The open window, and how many of its shares are checked: where to go on.
    pub fn position(&self) -> (WindowSeq, u64) {
        let follower = self.follower.as_ref();
        follower.map_or((WindowSeq(1), 0), Follower::position)
    }

    /// Terms of the open window, in the order in which shares name them.
    pub fn terms(&self) -> &[Arc<CheckedTerms>] {
        self.follower.as_ref().map_or(&[], Follower::terms)
    }

    /// A new stream begins: it tells the window's terms and changes again.
    pub fn resume(&mut self) {
        self.told.changes.clear();
        if let Some(follower) = &mut self.follower {
            follower.resume();
        }
    }

    /// Without a state the first window is the pool's first.
    fn following(&mut self) -> &mut Follower {
        let pool = self.pool;
        let start = || Follower::new(pool, Ledger::default());
        self.follower.get_or_insert_with(start)
    }

    /// Takes more of the open window. On an error it is false, and nothing after it can be checked.
    pub fn part(&mut self, part: &WindowPart) -> Result<(), AuditError> {
        let window = part.window;
        let follower = self.following();
        let known = follower.terms().len();
        follower.part(part)?;
        let new = follower.terms().get(known..).unwrap_or_default().to_vec();
        for terms in new {
            let round = terms.round();
            let outputs = &terms.terms().outputs;
            match self.told.rounds.get(&round) {
                Some(known) => compare_told(window, &round, outputs, &known.terms().outputs)?,
                None if self.told.rounds.len() >= TERMS_LIMIT => {
                    return Err(FollowError::TooManyTerms(window).into());
                }
                None => {
                    self.told.rounds.insert(round, terms);
                }
            }
        }
        if part.outputs.len() > CHANGES_LIMIT.saturating_sub(self.told.changes.len()) {
            return Err(AuditError::TooManyChanges(window));
        }
        self.told.changes.extend(part.outputs.iter().cloned());
        Ok(())
    }

    /// The window closes: its record and head, and all amounts that were told in it.
    pub fn end(&mut self, end: &WindowEnd) -> Result<WindowReport, AuditError> {
        let record = &end.record;
        let window = record.seq;
        let follower = self.following();
        let (terms, has_state) = (follower.terms().to_vec(), follower.ledger().is_some());
        let before: Vec<Before> = record
            .bookings
            .iter()
            .map(|booking| Before {
                counted: follower.counted_in(&booking.block),
                booked: follower
                    .ledger()
                    .is_none_or(|ledger| ledger.block(&booking.block).is_some()),
            })
            .collect();
        follower.end(end)?;
        let Told { changes, rounds } = std::mem::take(&mut self.told);
        let mut report = WindowReport::of(record, changes.len(), has_state)?;
        if let Some(ledger) = self.ledger().cloned() {
            self.history.append(&self.pool, ledger, changes)?;
        } else if self.history.has_state_from(window) {
            let (height, tally) = (record.height, record.tally.clone());
            let work = WindowWork { height, tally };
            self.before_state.insert(window, work);
        }
        self.meet_checkpoint()?;
        let again: BTreeSet<RoundId> = terms.iter().map(|terms| terms.round()).collect();
        let earlier = rounds.into_values();
        let earlier: Vec<_> = earlier
            .filter(|told| !again.contains(&told.round()))
            .collect();
        for terms in terms.iter().chain(&earlier) {
            match self.check_round(window, terms)? {
                true => report.rounds_checked += 1,
                false => report.rounds_unchecked += 1,
            }
        }
        for (booking, before) in record.bookings.iter().zip(&before) {
            let booked = self.check_booking(window, booking, before, &terms)?;
            report.bookings.extend(booked);
        }
        self.forget(window);
        self.totals.add(&report)?;
        Ok(report)
    }

    /// The state after the last checked window, whose head was signed so: what to go on
    /// [after](Self::after) another time. None if the state is not known.
    pub fn checkpoint(&self, head: SignedHead) -> Result<Option<Checkpoint>, AuditError> {
        let Some(ledger) = self.ledger().filter(|ledger| ledger.head() == head.head) else {
            return Ok(None);
        };
        let Some(roster) = self.history.roster_after(&self.pool, ledger.seq())? else {
            return Ok(None);
        };
        let outputs = roster.in_order_of_adding().into_iter();
        Ok(Some(Checkpoint {
            pool: self.pool,
            ledger: ledger.snapshot(),
            head,
            outputs: outputs.map(|(_, output)| output.clone()).collect(),
            signed: None,
        }))
    }
}
