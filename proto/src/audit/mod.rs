//! Auditing closed windows from their files alone: every share, every record and head, and, from the
//! empty ledger or a checkpoint on, every amount.
//!
//! Pure. An [`Auditor`] takes one run of segments in their order, or what is told of windows while they
//! are open, and stops at the first difference between what they claim and what follows. What it could
//! not check it says too.

mod compare;
mod error;
mod explain;
mod header;
mod history;
mod live;
mod report;

use std::collections::BTreeMap;
use std::sync::Arc;

use bitcoin::{Amount, ScriptBuf};

pub use error::{AuditError, ShownOutput};
pub use explain::{Explanation, PaidPayout, PayeeLine, SpanLine, WhereFrom};
pub use header::{HeaderError, WinningShare, check_header, find_header};
pub use report::{BookingReport, CreditReport, Totals, WindowReport};

use crate::follower::{FollowError, Follower, ROUND_WINDOWS};
use crate::id::{LaneIndex, RoundId, WindowSeq};
use crate::params::PoolName;
use crate::plan::{Amounts, PlanView};
use crate::segment::{Checkpoint, Segment, SignedRound, terms_of};
use crate::terms::{CheckedTerms, RoundTerms};
use crate::window::BOOKING_WINDOWS;
use crate::window::{Booking, Ledger, LedgerHead, WindowWork};

use compare::{
    Known, check_canonical, check_head, check_named, compare_carry, compare_outputs,
    compare_payout, compare_payouts, compare_told,
};
use history::{History, Sought, Start};
use live::Told;

/// Outputs of a round's coinbases, and whether they were computed from the state.
struct Seen {
    outputs: Vec<(ScriptBuf, Amount)>,
    proposed: WindowSeq,
    checked: bool,
}

/// What was known of a block before the window that books it was appended.
struct Before {
    /// The round as whose share its header was counted.
    counted: Option<RoundId>,
    /// The ledger has had it booked; or its state is not known, so that it may have.
    booked: bool,
}

/// Checks consecutive windows.
pub struct Auditor {
    pool: PoolName,
    follower: Option<Follower>,
    /// Windows that were checked without the state before them, for a checkpoint's state after them.
    before_state: BTreeMap<WindowSeq, WindowWork>,
    history: History,
    /// Of the open window.
    told: Told,
    rounds: BTreeMap<RoundId, Seen>,
    totals: Totals,
    explains: bool,
}

impl Auditor {
    /// Of a pool; of its first window it knows what came before: nothing.
    pub fn new(pool: PoolName) -> Self {
        Self {
            pool,
            follower: None,
            before_state: BTreeMap::new(),
            history: History::default(),
            told: Told::default(),
            rounds: BTreeMap::new(),
            totals: Totals::default(),
            explains: false,
        }
    }

    /// Explains the blocks that are booked, too.
    pub fn explaining(mut self) -> Self {
        self.explains = true;
        self
    }

    /// What was checked so far.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// The head after the last checked window.
    pub fn head(&self) -> Option<LedgerHead> {
        self.follower.as_ref().map(Follower::head)
    }

    /// The ledger after the last checked window, if the state is known.
    pub fn ledger(&self) -> Option<&Ledger> {
        self.follower.as_ref().and_then(Follower::ledger)
    }

    /// Takes a state to go on from once its window is reached. If a round was signed on it, also that its
    /// amounts are those that follow; says whether there was one.
    pub fn know(&mut self, checkpoint: Checkpoint) -> Result<bool, AuditError> {
        let window = checkpoint.head.head.seq;
        if checkpoint.pool != self.pool {
            return Err(AuditError::Params(window));
        }
        let signed = checkpoint.signed.clone();
        let (ledger, roster) = checkpoint
            .check()
            .map_err(|error| AuditError::Checkpoint { window, error })?;
        self.history.pin(ledger, roster)?;
        if let Some(signed) = &signed {
            self.check_signed(window, signed)?;
        }
        Ok(signed.is_some())
    }

    /// Compares the amounts of a checkpoint's round, down to the payout that its signers signed.
    fn check_signed(&mut self, window: WindowSeq, signed: &SignedRound) -> Result<(), AuditError> {
        let checked = signed.terms.clone().check(&self.pool);
        let checked = checked.map_err(|error| AuditError::Checkpoint {
            window,
            error: error.into(),
        })?;
        let round = checked.round();
        self.history.prepare(&self.pool, &checked.terms().inputs)?;
        let Sought::Found(known) = self.known(window, &round, checked.terms())? else {
            let inputs = &checked.terms().inputs;
            return Err(self.history.no_roster(window, round, inputs));
        };
        compare_outputs(window, &round, &known, checked.terms())?;
        compare_payout(window, &round, &known, &signed.payout)
    }

    /// Checks the next window. On an error there is nothing more to check after it.
    pub fn segment(&mut self, segment: &Segment) -> Result<WindowReport, AuditError> {
        let record = &segment.end.record;
        if segment.pool != self.pool {
            return Err(AuditError::Params(record.seq));
        }
        // Whatever a file holds, no work is done for it that the coordinator did not sign for.
        check_head(segment)?;
        check_named(segment)?;
        if self.follower.is_none() {
            let seq = WindowSeq(record.seq.0.saturating_sub(1));
            let hash = record.previous;
            self.start(&LedgerHead { seq, hash })?;
        }
        for part in &segment.parts {
            self.part(part)?;
        }
        check_canonical(segment, self.terms())?;
        self.end(&segment.end)
    }

    /// Begins after the window of this head.
    fn start(&mut self, head: &LedgerHead) -> Result<(), AuditError> {
        self.follower = Some(match self.history.start(head)? {
            Start::State(ledger) => Follower::new(self.pool, ledger),
            Start::Head => Follower::after(self.pool, *head),
        });
        Ok(())
    }

    /// Goes on with the state of a checkpoint whose window was reached. What it says of windows whose
    /// shares were checked must be what they have.
    fn meet_checkpoint(&mut self) -> Result<(), AuditError> {
        let Some(follower) = self.follower.as_mut().filter(|f| f.ledger().is_none()) else {
            return Ok(());
        };
        let Start::State(ledger) = self.history.start(&follower.head())? else {
            return Ok(());
        };
        let windows = std::mem::take(&mut self.before_state);
        let window = ledger.seq();
        let checked = ledger.check_spans(&windows);
        checked.map_err(|error| AuditError::Spans { window, error })?;
        if let Some(first) = windows.keys().next() {
            self.history.is_of_windows_since(*first);
        }
        follower.learn(ledger);
        Ok(())
    }

    /// Finds the state that a round was proposed on, and computes its amounts.
    fn known<'a>(
        &'a self,
        window: WindowSeq,
        round: &RoundId,
        terms: &'a RoundTerms,
    ) -> Result<Sought<Known<'a>>, AuditError> {
        let inputs = &terms.inputs;
        let (ledger, roster) = match self.history.find(window, round, inputs)? {
            Sought::Found(found) => found,
            Sought::Before => return Ok(Sought::Before),
        };
        let view = PlanView {
            params: &terms.params,
            roster,
            ledger,
            assignments: &terms.assignments,
        };
        let amounts = Amounts::of(inputs, &view).map_err(|error| AuditError::Plan {
            window,
            round: *round,
            error: Box::new(error),
        })?;
        Ok(Sought::Found(Known {
            view,
            inputs,
            amounts,
        }))
    }

    /// Compares the amounts of a round with what follows; `false` if the state that they follow from is
    /// not known.
    fn check_round(&mut self, window: WindowSeq, terms: &CheckedTerms) -> Result<bool, AuditError> {
        let (round, told) = (terms.round(), terms.terms());
        if let Some(seen) = self.rounds.get(&round) {
            compare_told(window, &round, &told.outputs, &seen.outputs)?;
            return Ok(seen.checked);
        }
        let proposed = told.inputs.ledger.seq;
        if proposed >= window {
            // No state of it can be known, and none may be taken for one from before the start.
            return Err(FollowError::OldRound { window, round }.into());
        }
        if told.inputs.seq.0 != proposed.0 {
            let (claimed, follows) = (told.inputs.seq, proposed);
            return Err(AuditError::RoundSeq {
                window,
                round,
                claimed,
                follows,
            });
        }
        self.history.prepare(&self.pool, &told.inputs)?;
        let checked = match self.known(window, &round, told)? {
            Sought::Before => false,
            Sought::Found(known) => {
                compare_outputs(window, &round, &known, told)?;
                true
            }
        };
        let outputs = told.outputs.clone();
        let seen = Seen {
            outputs,
            proposed,
            checked,
        };
        self.rounds.insert(round, seen);
        Ok(checked)
    }

    /// Compares what a booking does to the carries with what its round's own payout does. None if the
    /// round is not told, and need not be: the ledger has compared it with the block's first booking.
    fn check_booking(
        &mut self,
        window: WindowSeq,
        booking: &Booking,
        before: &Before,
        terms: &[Arc<CheckedTerms>],
    ) -> Result<Option<BookingReport>, AuditError> {
        let (block, round, lane) = (booking.block, booking.round, booking.lane);
        let counted = before.counted;
        if let Some(follows) = counted.filter(|counted| *counted != round) {
            return Err(AuditError::BookedElsewhere {
                window,
                block,
                claimed: round,
                follows,
            });
        }
        let told = terms_of(booking, terms).and_then(|place| terms.get(place));
        let Some(terms) = told.cloned() else {
            let no_terms = AuditError::NoTerms { window, round };
            return if before.booked {
                Ok(None)
            } else {
                Err(no_terms)
            };
        };
        let Some(coinbase) = terms.coinbase(lane) else {
            return Err(AuditError::NoLane {
                window,
                block,
                lane,
            });
        };
        check_header(&booking.header, &block, &terms, lane).map_err(|error| {
            AuditError::Header {
                window,
                block,
                error,
            }
        })?;
        let age = window.0.saturating_sub(terms.terms().inputs.ledger.seq.0);
        if !before.booked && !booking.undone && age > BOOKING_WINDOWS {
            return Err(FollowError::OldRound { window, round }.into());
        }
        let mut report = BookingReport::of(booking, terms.clone(), counted.is_some());
        self.history.prepare(&self.pool, &terms.terms().inputs)?;
        let Sought::Found(known) = self.known(window, &round, terms.terms())? else {
            return Ok(Some(report));
        };
        compare_carry(window, booking, &known)?;
        compare_payouts(window, booking, &known, &coinbase)?;
        report.checked = true;
        if self.explains {
            let explained = self.explain(window, &known, &terms, booking.lane)?;
            report.explanation = Some(Box::new(explained));
        }
        Ok(Some(report))
    }

    /// Explains the block that a lane of this round would make, if the state is known that the round was
    /// proposed on.
    pub fn explain_lane(
        &mut self,
        terms: &CheckedTerms,
        lane: LaneIndex,
    ) -> Result<Option<Explanation>, AuditError> {
        let window = terms.terms().inputs.ledger.seq;
        self.history.prepare(&self.pool, &terms.terms().inputs)?;
        match self.known(window, &terms.round(), terms.terms())? {
            Sought::Before => Ok(None),
            Sought::Found(known) => {
                compare_outputs(window, &terms.round(), &known, terms.terms())?;
                self.explain(window, &known, terms, lane).map(Some)
            }
        }
    }

    fn explain(
        &self,
        window: WindowSeq,
        known: &Known<'_>,
        terms: &CheckedTerms,
        lane: LaneIndex,
    ) -> Result<Explanation, AuditError> {
        let replayed = self.history.replayed_since();
        let explained = Explanation::of(&known.view, terms, lane, &known.amounts, replayed);
        explained
            .map_err(|error| AuditError::Plan {
                window,
                round: terms.round(),
                error: Box::new(error),
            })?
            .balanced(window)
    }

    fn forget(&mut self, now: WindowSeq) {
        let recent = |seen: &Seen| now.0.saturating_sub(seen.proposed.0) <= ROUND_WINDOWS;
        self.rounds.retain(|_, seen| recent(seen));
        self.history.forget(now);
    }
}
