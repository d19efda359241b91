//! Rounds: proposal, signatures, blame, the next attempt, commit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::live::LiveRound;
use super::member::{is_candidate, mass_failure};
use super::{Committed, Coordinator, Event, Record, Turn};
use crate::deadline::{Deadline, Millis};
use crate::id::{Attempt, Identity, PeerId, RoundId, RoundSeq};
use crate::lane::Assignments;
use crate::message::{
    AbortReason, AssignmentsSet, Commit, Proposal, ToParticipant, TxAbort, TxComplete,
    TxSignatures, WindowClosed,
};
use crate::musig::{
    AggregateNonce, MusigError, PartialSignature, PublicNonce, PublicSlot, SigningSlot,
};
use crate::plan::{CheckedPlan, PlanError, ProposedPlan, RoundInputs, Signer};
use crate::reject::RejectCode;
use crate::template::Template;
use crate::work::Work;

/// After so many attempts a round is given up until the next template.
const ATTEMPTS_LIMIT: u32 = 16;

/// Attempts of a round in which signers without work may take part.
const FREE_ATTEMPTS: u32 = 2;
/// A hashrate that no work has shown counts at most as so many times the slowest claim.
const CLAIM_LIMIT: u64 = 64;

/// An attempt that waits for partial signatures.
pub(super) struct Signing {
    draft: Draft,
    plan: CheckedPlan,
    carry: BTreeMap<Identity, i64>,
    slots: BTreeMap<Identity, PublicSlot>,
    partials: BTreeMap<Identity, Vec<PartialSignature>>,
    agreed: BTreeSet<Identity>,
    /// Sessions that were shown the proposal: only they can hold its payouts.
    shown: BTreeSet<PeerId>,
}

/// What the attempts of one round share.
#[derive(Clone)]
struct Draft {
    seq: RoundSeq,
    attempt: Attempt,
    template: Arc<Template>,
    /// Who failed in this round: payees, no longer signers.
    excluded: BTreeSet<Identity>,
    started: Millis,
}

impl Signing {
    pub(super) fn was_shown_to(&self, peer: PeerId) -> bool {
        self.shown.contains(&peer)
    }

    pub(super) fn round(&self) -> RoundId {
        self.plan.round()
    }

    fn missing(&self) -> Vec<Identity> {
        self.slots
            .keys()
            .filter(|signer| !self.partials.contains_key(signer))
            .copied()
            .collect()
    }

    /// Sums every session's partial signatures and verifies the sums.
    fn combine(&self) -> Result<Vec<[u8; 64]>, MusigError> {
        let sessions = self
            .plan
            .sessions()
            .iter()
            .zip(self.plan.sighashes())
            .enumerate();
        sessions
            .map(|(place, (session, sighash))| {
                let partials = self
                    .partials
                    .values()
                    .filter_map(|partials| partials.get(place));
                session.combine(self.plan.key(), sighash, partials)
            })
            .collect()
    }

    /// Signers with at least one invalid partial signature.
    fn culprits(&self) -> Vec<Identity> {
        let invalid = |identity: &Identity, slot: &PublicSlot| {
            let Some(partials) = self.partials.get(identity) else {
                return true;
            };
            self.plan
                .sessions()
                .iter()
                .enumerate()
                .any(
                    |(place, session)| match (partials.get(place), slot.nonces.get(place)) {
                        (Some(partial), Some(nonce)) => {
                            !session.partial_is_valid(self.plan.key(), partial, nonce, &slot.key)
                        }
                        _ => true,
                    },
                )
        };
        self.slots
            .iter()
            .filter(|(identity, slot)| invalid(identity, slot))
            .map(|(who, _)| *who)
            .collect()
    }
}

impl Coordinator {
    /// Closes the window and proposes a round for the present template.
    pub(super) fn start_round(&mut self, turn: &mut Turn<'_>) {
        let workers = self.workers();
        let Some(template) = self.template.clone() else {
            return;
        };
        if workers.is_empty() {
            return; // The next participant's slots bring us back.
        }
        if let Some(signing) = self.signing.take() {
            let abort = TxAbort {
                round: signing.round(),
                reason: AbortReason::Superseded,
                culprits: Vec::new(),
            };
            self.broadcast(turn, ToParticipant::TxAbort(abort));
        }
        self.deadlines.disarm(Deadline::Signatures);
        self.deadlines.disarm(Deadline::Regroup);
        self.last_round_at = turn.now;
        self.deadlines
            .arm(Deadline::Refresh, turn.now.after(self.settings.refresh));
        if !self.close_window(turn) {
            return;
        }
        let (now, settings) = (turn.now, self.settings);
        self.standings
            .retain(|_, standing| !standing.is_forgotten(now, &settings));
        let assignments = Assignments::divide(&workers, self.params.lanes);
        if assignments != self.assignments {
            self.assignments = assignments.clone();
            self.broadcast(
                turn,
                ToParticipant::Assignments(AssignmentsSet { assignments }),
            );
        }
        // A round is numbered by the window that its proposal closed: both only ever count up.
        let seq = RoundSeq(self.ledger.head().seq.0);
        let (attempt, excluded) = (Attempt(0), BTreeSet::new());
        self.propose(
            turn,
            Draft {
                seq,
                attempt,
                template,
                excluded,
                started: turn.now,
            },
        );
    }

    /// Participants that hash, and how fast. A claim widens a slice only as far as work backs it:
    /// without any, to the fastest of those who have shown some.
    fn workers(&self) -> BTreeMap<Identity, u64> {
        let registered = |identity: &Identity| self.roster.active(identity).is_some();
        let mut rates: BTreeMap<Identity, u64> = self
            .members
            .iter()
            .filter(|(who, _)| registered(who))
            .map(|(who, member)| (*who, member.rate()))
            .collect();
        let shown = self.ledger.weights(Work(u128::MAX)).unwrap_or_default();
        let fastest = rates
            .iter()
            .filter(|(who, _)| shown.contains_key(who))
            .map(|(_, rate)| *rate)
            .max();
        let slowest = rates.values().min().copied().unwrap_or(1);
        let limit = fastest.unwrap_or(slowest.saturating_mul(CLAIM_LIMIT));
        for (who, rate) in &mut rates {
            if !shown.contains_key(who) {
                *rate = (*rate).min(limit);
            }
        }
        rates
    }

    fn close_window(&mut self, turn: &mut Turn<'_>) -> bool {
        let record = self
            .window
            .record(&self.ledger.head(), std::mem::take(&mut self.bookings));
        if self.ledger.append(&record).is_err() {
            // Only an overflow of 2^128 hashes or 2^63 sat could: keep the window open.
            self.bookings = record.bookings;
            return false;
        }
        self.window = super::OpenWindow::after(&self.ledger.head());
        turn.out.persist(Record::WindowClosed(record.clone()));
        self.broadcast(turn, ToParticipant::WindowClosed(WindowClosed { record }));
        true
    }

    /// Takes one slot of every signer of the next attempt.
    fn take_slots(&mut self, turn: &Turn<'_>, draft: &Draft) -> BTreeMap<Identity, PublicSlot> {
        let candidates: Vec<Identity> = self
            .members
            .iter()
            .filter(|(who, member)| {
                !draft.excluded.contains(who)
                    && self.roster.active(who).is_some()
                    && is_candidate(member, self.standings.get(who), turn.now)
            })
            .map(|(who, _)| *who)
            .collect();
        let depth = self.params.scoring_depth(draft.template.bits);
        let weights = self.ledger.weights(depth).unwrap_or_default();
        // Beyond the free places a signer needs work, and so does everyone once attempts have failed:
        // stalling rounds must cost hashrate.
        let (mut admitted, others): (Vec<_>, Vec<_>) = candidates
            .into_iter()
            .partition(|who| weights.contains_key(who));
        let stalled = draft.attempt.0 >= FREE_ATTEMPTS && !admitted.is_empty();
        let free = self.settings.free_signers.saturating_sub(admitted.len());
        admitted.extend(others.into_iter().take(if stalled { 0 } else { free }));
        let mut slots = BTreeMap::new();
        for identity in admitted {
            let slot = self
                .members
                .get_mut(&identity)
                .and_then(|member| member.slots.pop_front());
            if let Some(slot) = slot {
                self.announced.remove(&slot.key);
                slots.insert(identity, slot);
            }
        }
        slots
    }

    fn put_slots_back(&mut self, slots: BTreeMap<Identity, PublicSlot>) {
        for (identity, slot) in slots {
            if let Some(member) = self.members.get_mut(&identity) {
                self.announced.insert(slot.key);
                member.slots.push_front(slot);
            }
        }
    }

    fn propose(&mut self, turn: &mut Turn<'_>, draft: Draft) {
        let mut slots = self.take_slots(turn, &draft);
        if slots.is_empty() {
            // A payout that the coordinator alone signs is no covenant: go on with the last round.
            return turn.tell(Event::NoSigners { seq: draft.seq });
        }
        let sessions = usize::from(self.params.nonces_per_slot);
        let (own, own_public) = SigningSlot::generate(&mut *turn.rng, sessions);
        slots.insert(self.identity(), own_public);
        let planned = self.plan(&draft, &slots).and_then(|(plan, nonces)| {
            let partials = plan.sign(own)?;
            Ok((plan, nonces, partials))
        });
        let (plan, nonces, partials) = match planned {
            Ok(planned) => planned,
            Err(error) => {
                // Nobody was told: the slots are as unused as before.
                self.put_slots_back(slots);
                return turn.tell(Event::Unplannable {
                    seq: draft.seq,
                    error,
                });
            }
        };
        let proposal = ProposedPlan {
            round: plan.round(),
            inputs: plan.inputs().clone(),
            coinbases: plan.lanes().iter().map(|lane| lane.txid).collect(),
            nonces,
        };
        let aux = turn.aux();
        let proposal = Proposal::sign(&self.key, proposal, &aux);
        self.broadcast(turn, ToParticipant::Proposal(proposal));
        let (seq, attempt, height) = (draft.seq, draft.attempt, draft.template.height);
        turn.tell(Event::Proposed {
            seq,
            attempt,
            height,
            signers: slots.len(),
        });
        let carry = plan.carry_changes(&self.view());
        let partials = BTreeMap::from([(self.identity(), partials)]);
        self.deadlines.arm(
            Deadline::Signatures,
            turn.now.after(self.settings.signatures),
        );
        self.signing = Some(Signing {
            draft,
            plan,
            carry,
            slots,
            partials,
            agreed: BTreeSet::new(),
            shown: self.members.values().map(|member| member.peer).collect(),
        });
        self.finish_if_complete(turn);
    }

    fn plan(
        &self,
        draft: &Draft,
        slots: &BTreeMap<Identity, PublicSlot>,
    ) -> Result<(CheckedPlan, Vec<AggregateNonce>), PlanError> {
        let mut signers: Vec<Signer> = slots
            .iter()
            .map(|(identity, slot)| Signer {
                identity: *identity,
                key: slot.key,
            })
            .collect();
        signers.sort_by_key(|signer| signer.key);
        let template = &draft.template;
        let inputs = RoundInputs {
            seq: draft.seq,
            attempt: draft.attempt,
            height: template.height,
            bits: template.bits,
            reward: template.reward,
            witness_commitment: template.witness_commitment,
            feerate: template.feerate,
            roster: self.roster.digest(),
            ledger: self.ledger.head(),
            assignments: self.assignments.digest(),
            signers,
        };
        let mut sums = Vec::new();
        let nonces = |sessions: usize| {
            for place in 0..sessions {
                let of_session = slots.values().filter_map(|slot| slot.nonces.get(place));
                let of_session: Vec<&PublicNonce> = of_session.collect();
                if of_session.len() != slots.len() {
                    let have = usize::from(self.params.nonces_per_slot);
                    return Err(MusigError::TooFewNonces {
                        have,
                        need: sessions,
                    });
                }
                sums.push(AggregateNonce::sum(of_session.into_iter())?);
            }
            Ok(sums.clone())
        };
        let plan = CheckedPlan::compute(inputs, nonces, &self.view())?;
        Ok((plan, sums))
    }

    pub(super) fn tx_complete(
        &mut self,
        turn: &mut Turn<'_>,
        peer: PeerId,
        identity: Identity,
        complete: TxComplete,
    ) {
        match &mut self.signing {
            Some(signing) if signing.round() == complete.round => {
                signing.agreed.insert(identity);
            }
            // A payee's word may arrive after the signers finished the round.
            _ if self
                .live
                .iter()
                .any(|live| live.plan.round() == complete.round) => {}
            _ => self.stale_round(turn, peer, complete.round),
        }
    }

    pub(super) fn tx_signatures(
        &mut self,
        turn: &mut Turn<'_>,
        peer: PeerId,
        identity: Identity,
        signatures: TxSignatures,
    ) {
        let signing = match &mut self.signing {
            Some(signing) if signing.round() == signatures.round => signing,
            _ => return self.stale_round(turn, peer, signatures.round),
        };
        if !signing.slots.contains_key(&identity) || signing.partials.contains_key(&identity) {
            let detail = "you are not a signer of this attempt, or have signed it".into();
            return self.reject(turn, peer, RejectCode::NotExpected, detail);
        }
        let need = signing.plan.sessions().len();
        if signatures.partials.len() != need {
            let detail = format!(
                "{} partial signatures for {need} payouts",
                signatures.partials.len()
            );
            return self.reject(turn, peer, RejectCode::PartialCount, detail);
        }
        if signatures.verify(&identity).is_err() {
            let detail = "the partial signatures are not signed by this session's identity".into();
            return self.reject(turn, peer, RejectCode::BadSignature, detail);
        }
        signing.partials.insert(identity, signatures.partials);
        signing.agreed.insert(identity);
        self.finish_if_complete(turn);
    }

    pub(super) fn tx_abort(
        &mut self,
        turn: &mut Turn<'_>,
        peer: PeerId,
        identity: Identity,
        abort: &TxAbort,
    ) {
        match &self.signing {
            Some(signing) if signing.round() == abort.round => {
                if signing.slots.contains_key(&identity) {
                    self.fail_attempt(turn, AbortReason::SignerRefused, vec![identity]);
                }
            }
            _ => self.stale_round(turn, peer, abort.round),
        }
    }

    fn stale_round(&mut self, turn: &mut Turn<'_>, peer: PeerId, round: RoundId) {
        self.reject(
            turn,
            peer,
            RejectCode::StaleRound,
            format!("round {round:.16} is not being signed"),
        );
    }

    pub(super) fn signer_left(&mut self, turn: &mut Turn<'_>, identity: Identity) {
        let awaited = self
            .signing
            .as_ref()
            .is_some_and(|s| s.missing().contains(&identity));
        if awaited {
            self.fail_attempt(turn, AbortReason::SignerLeft, vec![identity]);
        }
    }

    pub(super) fn signatures_overdue(&mut self, turn: &mut Turn<'_>) {
        let Some(missing) = self.signing.as_ref().map(Signing::missing) else {
            return;
        };
        self.fail_attempt(turn, AbortReason::Timeout, missing);
    }

    fn finish_if_complete(&mut self, turn: &mut Turn<'_>) {
        let Some(signing) = &self.signing else { return };
        if signing.partials.len() < signing.slots.len() {
            return;
        }
        let complete = signing.combine().ok().and_then(|signatures| {
            let payouts = signing.plan.complete(&signatures).ok()?;
            Some((signatures, payouts))
        });
        match complete {
            Some((signatures, payouts)) => self.commit(turn, signatures, payouts),
            None => {
                let culprits = signing.culprits();
                self.fail_attempt(turn, AbortReason::BadPartialSignature, culprits);
            }
        }
    }

    /// Ends the attempt and starts the next one with the others, at once.
    fn fail_attempt(&mut self, turn: &mut Turn<'_>, reason: AbortReason, culprits: Vec<Identity>) {
        let Some(signing) = self.signing.take() else {
            return;
        };
        self.deadlines.disarm(Deadline::Signatures);
        let network_blamed = mass_failure(&culprits, signing.slots.len());
        if !network_blamed {
            for culprit in &culprits {
                self.standings
                    .entry(*culprit)
                    .or_default()
                    .failed(turn.now, &self.settings);
            }
        }
        let abort = TxAbort {
            round: signing.round(),
            reason,
            culprits: culprits.clone(),
        };
        self.broadcast(turn, ToParticipant::TxAbort(abort));
        let mut draft = signing.draft;
        let (seq, attempt) = (draft.seq, draft.attempt);
        turn.tell(Event::AttemptFailed {
            seq,
            attempt,
            reason,
            culprits: culprits.clone(),
            network_blamed,
        });
        draft.excluded.extend(culprits);
        draft.attempt = Attempt(attempt.0.saturating_add(1));
        if draft.attempt.0 < ATTEMPTS_LIMIT {
            self.propose(turn, draft);
        }
    }

    fn commit(
        &mut self,
        turn: &mut Turn<'_>,
        signatures: Vec<[u8; 64]>,
        payouts: Vec<Vec<bitcoin::Transaction>>,
    ) {
        let Some(signing) = self.signing.take() else {
            return;
        };
        self.deadlines.disarm(Deadline::Signatures);
        let Signing {
            draft,
            plan,
            carry,
            slots,
            agreed,
            shown,
            ..
        } = signing;
        for signer in slots.keys() {
            if let Some(standing) = self.standings.get_mut(signer) {
                standing.signed();
            }
        }
        let coinbases = plan.lanes().iter().map(|lane| lane.coinbase.clone());
        turn.out.persist(Record::Committed(Committed {
            round: plan.round(),
            seq: draft.seq,
            height: draft.template.height,
            lanes: coinbases.zip(payouts).collect(),
        }));
        let payees = plan
            .split()
            .shards
            .iter()
            .map(|shard| shard.outputs.len())
            .sum();
        turn.tell(Event::Committed {
            seq: draft.seq,
            round: plan.round(),
            attempt: draft.attempt,
            height: draft.template.height,
            signers: slots.len(),
            agreed: agreed.len(),
            payouts: signatures.len(),
            payees,
            took: turn.now.since(draft.started),
        });
        self.broadcast(
            turn,
            ToParticipant::Commit(Commit {
                round: plan.round(),
                signatures,
            }),
        );
        let live = LiveRound::new(plan, draft.template, self.assignments.clone(), carry, shown);
        self.go_live(turn, live);
    }
}
