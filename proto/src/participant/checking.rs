//! Nothing is signed or hashed whose amounts follow from work that nobody here has checked: a proposal
//! waits until the [follower](crate::follower) has checked the ledger that it builds on.

use super::{Action, Event, Participant, State, Turn};
use crate::audit::AuditError;
use crate::follower::FollowError;
use crate::id::RoundId;
use crate::message::Proposal;
use crate::plan::{PlanError, ProposedPlan};
use crate::sample::SampleError;
use crate::segment::CheckpointError;
use crate::window::LedgerHead;

/// Checked heads remembered: attempts of one round share one, and rounds follow each other.
const CHECKED_LIMIT: usize = 16;
/// Proposals that wait. Of those to be signed only the newest can still be committed.
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
    /// The state to start from is the word of fewer than we sign with.
    #[error("the checkpoint to start from is signed by {signers}, by at least {min} is asked")]
    FewSigners {
        /// Signers of its round.
        signers: usize,
        /// What our policy asks for.
        min: u16,
    },
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
        !self.settings.follows || self.checked.contains(head)
    }

    /// Keeps a proposal until its ledger is checked.
    pub(super) fn wait_for_check(&mut self, turn: &mut Turn<'_>, proposal: Proposal) {
        let direct = proposal.plan.inputs.is_direct();
        let Some(joined) = self.joined() else { return };
        if !direct {
            joined.pending = None;
            let waiting = joined.waiting.iter();
            let signed = waiting.filter(|other| !other.inputs.is_direct());
            let older: Vec<RoundId> = signed.map(|other| other.round).collect();
            older
                .iter()
                .for_each(|round| self.forget_waiting(turn, round));
        }
        let Some(joined) = self.joined() else { return };
        if joined.waiting.len() >= WAITING_LIMIT {
            joined.waiting.remove(0);
        }
        joined.waiting.push(proposal.plan);
    }

    /// The ledger is checked up to this head.
    pub(super) fn ledger_checked(&mut self, turn: &mut Turn<'_>, head: LedgerHead) {
        if self.checked.len() >= CHECKED_LIMIT {
            self.checked.pop_front();
        }
        self.checked.push_back(head);
        for plan in self.take_waiting(|plan| plan.inputs.ledger == head) {
            self.consider(turn, plan);
        }
    }

    /// The check takes so long that others would wait for us.
    pub(super) fn check_is_late(&mut self, turn: &mut Turn<'_>) {
        for plan in self.take_waiting(|_| true) {
            let window = plan.inputs.ledger.seq;
            let signs = self.erase_slots(&plan);
            self.refuse(turn, &plan, !signs, PlanError::Unchecked(window));
        }
        self.top_up_slots(turn);
    }

    /// The ledger is false: nothing of it is signed or hashed, and we do not come back by ourselves.
    pub(super) fn ledger_false(&mut self, turn: &mut Turn<'_>, fault: LedgerFault) {
        self.offline(turn);
        turn.tell(Event::LedgerFalse(fault));
        turn.out.act(Action::LeaveForGood);
    }

    /// Whether a proposal waits for the check of its ledger.
    pub fn waits_for_check(&self) -> bool {
        matches!(&self.state, State::Joined(joined) if !joined.waiting.is_empty())
    }

    fn take_waiting(&mut self, wanted: impl Fn(&ProposedPlan) -> bool) -> Vec<ProposedPlan> {
        let Some(joined) = self.joined() else {
            return Vec::new();
        };
        let waiting = std::mem::take(&mut joined.waiting);
        let (wanted, kept) = waiting.into_iter().partition(wanted);
        joined.waiting = kept;
        wanted
    }

    /// A round that waited is over. Its slots were named: they are never used for anything else.
    pub(super) fn forget_waiting(&mut self, turn: &mut Turn<'_>, round: &RoundId) {
        let over = self.take_waiting(|plan| plan.round == *round);
        if over.is_empty() {
            return;
        }
        for plan in &over {
            self.erase_slots(plan);
            self.note_refused(plan.round);
        }
        self.top_up_slots(turn);
    }

    /// Erases the slots that a plan names; says whether any was ours.
    fn erase_slots(&mut self, plan: &ProposedPlan) -> bool {
        let Some(joined) = self.joined() else {
            return false;
        };
        let signers = plan.inputs.signers.iter();
        let erased = signers.filter(|signer| joined.slots.remove(&signer.key).is_some());
        erased.count() > 0
    }
}
