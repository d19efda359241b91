//! A failed attempt: who is left out, for how long, and what happens next.

use super::drafting::Draft;
use super::member::mass_failure;
use super::{Coordinator, Event, Turn};
use crate::deadline::Deadline;
use crate::id::{Attempt, Identity, RoundId};
use crate::message::{AbortReason, Blame, ToParticipant, TxAborted};

/// After so many attempts a round is given up until the next template.
const ATTEMPTS_LIMIT: u32 = 16;

impl Coordinator {
    /// Ends the attempt and starts the next one with the others, at once.
    pub(super) fn fail_attempt(
        &mut self,
        turn: &mut Turn<'_>,
        reason: AbortReason,
        blamed: Vec<Blame>,
    ) {
        let Some(signing) = self.signing.take() else {
            return;
        };
        self.deadlines.disarm(Deadline::Signatures);
        let culprits: Vec<Identity> = blamed.iter().map(|blame| blame.identity).collect();
        let network_blamed = mass_failure(&culprits, signing.slots.len());
        if !network_blamed {
            for culprit in &culprits {
                let standing = self.standings.entry(*culprit).or_default();
                standing.failed(turn.now, &self.settings);
            }
        }
        self.abort(turn, signing.round(), reason, blamed);
        let mut draft: Draft = signing.draft;
        let (seq, attempt) = (draft.seq, draft.attempt);
        draft.excluded.extend(&culprits);
        turn.tell(Event::AttemptFailed {
            seq,
            attempt,
            reason,
            culprits,
            network_blamed,
        });
        draft.attempt = Attempt(attempt.0.saturating_add(1));
        if draft.attempt.0 < ATTEMPTS_LIMIT {
            self.propose(turn, draft);
        } else {
            self.give_up(turn, draft.kind);
        }
    }

    /// Ends the attempt, if there is one, without blame and without another.
    pub(super) fn abandon(&mut self, turn: &mut Turn<'_>, reason: AbortReason) {
        self.deadlines.disarm(Deadline::Signatures);
        if let Some(signing) = self.signing.take() {
            self.abort(turn, signing.round(), reason, Vec::new());
        }
    }

    fn abort(&self, turn: &mut Turn<'_>, round: RoundId, reason: AbortReason, blamed: Vec<Blame>) {
        let aux = turn.aux();
        let aborted = TxAborted::sign(&self.key, round, reason, blamed, &aux);
        self.broadcast(turn, ToParticipant::TxAborted(aborted));
    }
}
