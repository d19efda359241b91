//! Nothing is signed or hashed whose amounts follow from work that nobody here has checked: what we
//! agree to waits until the [follower](crate::follower) has checked the ledger that it builds on.

use super::signing::Agreed;
use super::{Action, Event, Participant, State, Turn};
use crate::audit::AuditError;
use crate::follower::FollowError;
use crate::id::RoundId;
use crate::message::SignedHead;
use crate::plan::PlanError;
use crate::sample::SampleError;
use crate::segment::CheckpointError;
use crate::window::LedgerHead;

/// Checked heads remembered: attempts of one round share one, and rounds follow each other.
const CHECKED_LIMIT: usize = 16;
/// Plans that wait. Of those to be signed only the newest can still be committed.
const WAITING_LIMIT: usize = 16;

/// What shows that the coordinator's ledger is not that of work done for this pool.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LedgerFault {
    /// A share, or a record.
    #[error(transparent)]
    Followed(#[from] FollowError),
    /// An amount.
    #[error(transparent)]
    Amounts(Box<AuditError>),
    /// A share that was picked at random.
    #[error(transparent)]
    Sampled(#[from] SampleError),
    /// The state to start from.
    #[error("the checkpoint to start from: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The coordinator has not signed the state to start from.
    #[error("the coordinator is not among those who signed the checkpoint to start from")]
    NotCoordinators,
}

impl From<AuditError> for LedgerFault {
    fn from(error: AuditError) -> Self {
        match error {
            AuditError::Follow(fault) => Self::Followed(*fault),
            other => Self::Amounts(Box::new(other)),
        }
    }
}

impl Participant {
    pub(super) fn is_checked(&self, head: &LedgerHead) -> bool {
        self.is_sighted() && (!self.settings.follows || self.checked.contains(head))
    }

    /// Whether the check, or our node, is more than the window behind that is just being closed.
    pub(super) fn check_is_behind(&self) -> bool {
        let State::Joined(joined) = &self.state else {
            return false;
        };
        let checked = self.checked.iter().map(|head| head.seq.0).max();
        let checked = checked.unwrap_or_default();
        let last = joined.ledger.seq();
        self.settings.follows && last.0 > checked.saturating_add(1) || self.sighted.is_behind(last)
    }

    /// Keeps what we agree to until its ledger is checked.
    pub(super) fn wait_for_check(&mut self, turn: &mut Turn<'_>, agreed: Agreed) {
        let direct = agreed.checked.inputs().is_direct();
        if !direct {
            let older = self.take_waiting(|other| !other.checked.inputs().is_direct());
            self.forget(turn, older);
        }
        let Some(joined) = self.joined() else { return };
        if joined.waiting.len() >= WAITING_LIMIT {
            joined.waiting.remove(0);
        }
        joined.waiting.push(agreed);
    }

    /// The ledger is checked up to this head.
    pub(super) fn ledger_checked(&mut self, turn: &mut Turn<'_>, head: LedgerHead) {
        if self.checked.len() >= CHECKED_LIMIT {
            self.checked.pop_front();
        }
        self.checked.push_back(head);
        self.release(turn);
        self.top_up_slots(turn);
    }

    /// Agrees to what waited for nothing else.
    pub(super) fn release(&mut self, turn: &mut Turn<'_>) {
        if !self.is_sighted() {
            return;
        }
        let (follows, checked) = (self.settings.follows, self.checked.clone());
        let is_checked = |agreed: &Agreed| checked.contains(&agreed.checked.inputs().ledger);
        for agreed in self.take_waiting(|agreed| !follows || is_checked(agreed)) {
            self.agree(turn, agreed);
        }
    }

    /// A head of the same ledger, told elsewhere: two for one window prove fraud, wherever they were told.
    pub(super) fn head_told(&mut self, turn: &mut Turn<'_>, head: &SignedHead) {
        let Some(joined) = self.joined() else { return };
        // As of those that we are told ourselves: what is kept could be flooded.
        let next = head.head.seq <= joined.ledger.seq().next();
        let coordinator = joined.params.coordinator;
        if next && head.verify(&coordinator).is_ok() {
            self.note_head(turn, &coordinator, head);
        }
    }

    /// The check takes so long that others would wait for us.
    pub(super) fn check_is_late(&mut self, turn: &mut Turn<'_>) {
        self.tell_unseen(turn);
        for agreed in self.take_waiting(|_| true) {
            let (inputs, round) = (agreed.checked.inputs().clone(), agreed.checked.round());
            let late = PlanError::Unchecked(inputs.ledger.seq);
            self.refuse(turn, &inputs, round, agreed.slots.is_empty(), late);
        }
        self.top_up_slots(turn);
    }

    /// The ledger is false: nothing of it is signed or hashed, and we do not come back by ourselves.
    pub(super) fn ledger_false(&mut self, turn: &mut Turn<'_>, fault: LedgerFault) {
        self.offline(turn);
        turn.tell(Event::LedgerFalse(fault));
        turn.out.act(Action::LeaveForGood);
    }

    /// The newest round that waits for the check of its ledger.
    pub fn waits_for_check(&self) -> Option<RoundId> {
        match &self.state {
            State::Joined(joined) => joined.waiting.last().map(|agreed| agreed.checked.round()),
            _ => None,
        }
    }

    fn take_waiting(&mut self, wanted: impl Fn(&Agreed) -> bool) -> Vec<Agreed> {
        let Some(joined) = self.joined() else {
            return Vec::new();
        };
        let waiting = std::mem::take(&mut joined.waiting);
        let (wanted, kept) = waiting.into_iter().partition(wanted);
        joined.waiting = kept;
        wanted
    }

    /// A round that waited is over.
    pub(super) fn forget_waiting(&mut self, turn: &mut Turn<'_>, round: &RoundId) {
        let over = self.take_waiting(|agreed| agreed.checked.round() == *round);
        self.forget(turn, over);
    }

    /// Their slots were named: they are never used for anything else, and end here.
    fn forget(&mut self, turn: &mut Turn<'_>, over: Vec<Agreed>) {
        if over.is_empty() {
            return;
        }
        for agreed in &over {
            self.note_refused(agreed.checked.round());
        }
        drop(over);
        self.top_up_slots(turn);
    }
}
