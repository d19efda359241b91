//! A failed attempt: who is left out, for how long, and what happens next.

use std::collections::BTreeSet;

use super::drafting::Draft;
use super::member::mass_failure;
use super::signing::silent;
use super::{Coordinator, Event, Turn};
use crate::deadline::Deadline;
use crate::id::{Attempt, Identity, RoundId};
use crate::message::{AbortReason, Blame, ToParticipant, TxAborted};

/// After so many attempts a round is given up until the next template.
const ATTEMPTS_LIMIT: u32 = 16;

/// Attempts that failed lately, whose late answers are no news.
const ENDED_LIMIT: usize = 64;

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
        let culprits: Vec<Identity> = blamed.iter().map(|blame| blame.identity).collect();
        // What was signed wrongly was no network's doing.
        let mut draft: Draft = signing.draft.clone();
        let without_evidence = blamed.iter().filter(|blame| blame.evidence.is_none());
        let silent: Vec<Identity> = without_evidence.map(|blame| blame.identity).collect();
        draft.silent.extend(&silent);
        for culprit in &culprits {
            let standing = self.standings.entry(*culprit).or_default();
            standing.failed(turn.now, &self.settings);
        }
        // They may be lost one by one, in as many attempts: what counts is the round.
        let lost: Vec<Identity> = draft.silent.iter().copied().collect();
        let network_blamed = !silent.is_empty() && mass_failure(&lost, draft.asked);
        if network_blamed {
            for who in &lost {
                self.standings.remove(who);
            }
        }
        self.abort(turn, signing.round(), reason, blamed);
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

    /// Ends the attempt, if there is one, for the round that takes its place. Gives whom that one does
    /// without: whoever kept this one waiting.
    pub(super) fn supersede(&mut self, turn: &mut Turn<'_>) -> BTreeSet<Identity> {
        let Some(signing) = self.signing.take() else {
            return BTreeSet::new();
        };
        let laggards = signing.laggards(turn.now, &self.settings);
        let blamed = laggards.iter().copied().map(silent).collect();
        self.abort(turn, signing.round(), AbortReason::Superseded, blamed);
        laggards.into_iter().collect()
    }

    /// Nothing is waited for any more, and what still comes is no news.
    fn abort(
        &mut self,
        turn: &mut Turn<'_>,
        round: RoundId,
        reason: AbortReason,
        blamed: Vec<Blame>,
    ) {
        let aux = turn.aux();
        self.deadlines.disarm(Deadline::Signatures);
        self.deadlines.disarm(Deadline::Lost);
        if self.ended.len() >= ENDED_LIMIT {
            self.ended.pop_front();
        }
        self.ended.push_back(round);
        let aborted = TxAborted::sign(&self.key, round, reason, blamed, &aux);
        self.broadcast(turn, ToParticipant::TxAborted(aborted));
    }
}
