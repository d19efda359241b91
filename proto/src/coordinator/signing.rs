//! An attempt that waits for partial signatures.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::drafting::{Draft, RoundKind};
use super::live::Ahead;
use super::member::mass_failure;
use super::{Committed, Coordinator, Event, LiveRecord, Record, Settings, Turn};
use crate::deadline::{Deadline, Millis};
use crate::id::{Identity, PeerId, RoundId};
use crate::message::{
    AbortReason, AnnouncedSlot, Blame, Commit, Evidence, ToParticipant, TxAbort, TxComplete,
    TxSignatures,
};
use crate::musig::{MusigError, PartialSums};
use crate::payout::SignedPayouts;
use crate::plan::CheckedPlan;
use crate::reject::RejectCode;

/// Culprits of one attempt whose evidence is shown; a slot and its partial signatures are 100 kB at
/// most, and all are sent to everyone.
const EVIDENCE_LIMIT: usize = 64;

/// How long an attempt that has lost a signer waits for others that are lost with it.
const MOMENT: Millis = Millis(10);
/// Whoever needs more than this part of the deadline is slow: 250 ms by default.
const LAGGARD: u64 = 8;

/// The attempt.
pub(super) struct Signing {
    pub(super) draft: Draft,
    pub(super) plan: CheckedPlan,
    carry: BTreeMap<Identity, i64>,
    payees: Vec<Vec<Identity>>,
    pub(super) slots: BTreeMap<Identity, Arc<AnnouncedSlot>>,
    signatures: BTreeMap<Identity, TxSignatures>,
    /// Of all of them.
    sums: PartialSums,
    agreed: BTreeSet<Identity>,
    /// Signers that left or refused.
    lost: Vec<Blame>,
    proposed_at: Millis,
    /// Sessions that were shown the proposal: only they can hold its payouts.
    shown: BTreeSet<PeerId>,
}

impl Signing {
    /// An attempt that we signed ourselves.
    pub(super) fn new(
        (draft, proposed_at): (Draft, Millis),
        plan: CheckedPlan,
        (carry, payees): (BTreeMap<Identity, i64>, Vec<Vec<Identity>>),
        slots: BTreeMap<Identity, Arc<AnnouncedSlot>>,
        shown: BTreeSet<PeerId>,
        me: Identity,
        own: TxSignatures,
    ) -> Self {
        Self {
            proposed_at,
            draft,
            plan,
            carry,
            payees,
            slots,
            sums: PartialSums::of(&own.partials),
            signatures: BTreeMap::from([(me, own)]),
            agreed: BTreeSet::new(),
            lost: Vec::new(),
            shown,
        }
    }

    /// Whether this session will have a job on the present tip once this attempt is committed.
    pub(super) fn is_for(&self, peer: PeerId) -> bool {
        self.draft.kind == RoundKind::Present && self.shown.contains(&peer)
    }

    pub(super) fn round(&self) -> RoundId {
        self.plan.round()
    }

    /// Whether this signer left or refused.
    fn has_lost(&self, identity: &Identity) -> bool {
        self.lost.iter().any(|lost| lost.identity == *identity)
    }

    fn missing(&self) -> Vec<Identity> {
        let signers = self.slots.keys();
        let silent = |signer: &&Identity| !self.signatures.contains_key(signer);
        signers.filter(silent).copied().collect()
    }

    /// Who keeps an attempt waiting that must end now, if it is not the network: left out of the next
    /// round, which a new tip makes urgent.
    pub(super) fn laggards(&self, now: Millis, settings: &Settings) -> Vec<Identity> {
        let patience = settings.signatures.0 / LAGGARD;
        let missing = self.missing();
        let waited = now.since(self.proposed_at).0 >= patience;
        if waited && !mass_failure(&missing, self.slots.len()) {
            missing
        } else {
            Vec::new()
        }
    }

    /// Every session's partial signatures as one; `complete` of the plan verifies the sums.
    fn sums(&self) -> Result<Vec<[u8; 64]>, MusigError> {
        let sessions = self.plan.sessions().iter().enumerate();
        let sum = sessions.map(|(place, session)| self.sums.signature(place, session));
        sum.collect()
    }

    /// Signers with at least one invalid partial signature, and what they signed.
    fn culprits(&self) -> Vec<Blame> {
        // One session whose sum is wrong shows who is: looking at all of them could take seconds.
        let sums = self.sums().unwrap_or_default();
        let mut verified = self.plan.sighashes().zip(&sums);
        let wrong = verified.position(|(sighash, sum)| !self.plan.key().verify(sighash, sum));
        let place = wrong.unwrap_or(0);
        let mut blamed = Vec::new();
        for (identity, slot) in &self.slots {
            let Some(signed) = self.signatures.get(identity) else {
                continue;
            };
            if self
                .plan
                .partial_is_valid(place, &slot.slot, &signed.partials)
            {
                continue;
            }
            let shown = blamed.len() < EVIDENCE_LIMIT;
            let evidence = shown.then(|| Evidence::BadPartial {
                slot: AnnouncedSlot::clone(slot),
                signatures: signed.clone(),
            });
            blamed.push(Blame {
                identity: *identity,
                evidence,
            });
        }
        blamed
    }
}

/// Silence leaves nothing to show.
pub(super) fn silent(identity: Identity) -> Blame {
    Blame {
        identity,
        evidence: None,
    }
}

impl Coordinator {
    pub(super) fn tx_complete(
        &mut self,
        turn: &mut Turn<'_>,
        peer: PeerId,
        identity: Identity,
        complete: TxComplete,
    ) {
        let round = complete.round;
        let signing = self.signing.as_mut().filter(|s| s.round() == round);
        if let Some(signing) = signing {
            signing.agreed.insert(identity);
        } else if !self.is_committed(&round) {
            // (A payee's word may arrive after the signers finished the round.)
            self.stale_round(turn, peer, round);
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
        // Whoever was lost to the attempt is blamed for it: its signatures do not undo that.
        if !signing.slots.contains_key(&identity)
            || signing.signatures.contains_key(&identity)
            || signing.has_lost(&identity)
        {
            let detail = "you are not a signer of this attempt, or have signed or refused it";
            return self.reject(turn, peer, RejectCode::NotExpected, detail.into());
        }
        let need = signing.plan.sessions().len();
        if signatures.partials.len() != need {
            let detail = format!(
                "{} partial signatures for {need} payouts",
                signatures.partials.len()
            );
            return self.reject(turn, peer, RejectCode::PartialCount, detail);
        }
        if signatures.proposal != signing.plan.proposal() {
            let detail = "the partial signatures answer another proposal of this round".into();
            return self.reject(turn, peer, RejectCode::StaleRound, detail);
        }
        if signatures.verify(&identity).is_err() {
            let detail = "the partial signatures are not signed by this session's identity".into();
            return self.reject(turn, peer, RejectCode::BadSignature, detail);
        }
        signing.sums.add(&signatures.partials);
        signing.signatures.insert(identity, signatures);
        signing.agreed.insert(identity);
        self.finish_if_complete(turn);
    }

    pub(super) fn tx_abort(
        &mut self,
        turn: &mut Turn<'_>,
        peer: PeerId,
        identity: Identity,
        abort: TxAbort,
    ) {
        let signer = match &self.signing {
            Some(signing) if signing.round() == abort.round => {
                signing.slots.contains_key(&identity)
            }
            // Whoever refuses a direct round does not hash it; that is all.
            _ if self.is_committed(&abort.round) => return,
            _ => return self.stale_round(turn, peer, abort.round),
        };
        if abort.verify(&identity).is_err() {
            let detail = "the refusal is not signed by this session's identity".into();
            return self.reject(turn, peer, RejectCode::BadSignature, detail);
        }
        if signer && abort.reason == AbortReason::Unchecked {
            // As good as silent: no fault of the plan's.
            self.lose(turn, silent(identity));
        } else if signer {
            let evidence = Some(Evidence::Refused(abort));
            self.lose(turn, Blame { identity, evidence });
        }
    }

    /// An answer to an attempt that has just ended crossed the news of it; any other is a mistake.
    fn stale_round(&mut self, turn: &mut Turn<'_>, peer: PeerId, round: RoundId) {
        if self.ended.contains(&round) {
            return;
        }
        self.reject(
            turn,
            peer,
            RejectCode::StaleRound,
            format!("round {round:.16} is not being signed"),
        );
    }

    pub(super) fn signer_left(&mut self, turn: &mut Turn<'_>, identity: Identity) {
        let signing = self.signing.as_ref();
        if signing.is_some_and(|s| s.missing().contains(&identity)) {
            self.lose(turn, silent(identity));
        }
    }

    /// The attempt cannot succeed any more. It ends in a moment, with all who are lost in it: every
    /// attempt costs everybody a slot, and who leaves one by one would use up all of them.
    fn lose(&mut self, turn: &Turn<'_>, blame: Blame) {
        let Some(signing) = &mut self.signing else {
            return;
        };
        if !signing.has_lost(&blame.identity) {
            signing.lost.push(blame);
        }
        let at = turn.now.after(MOMENT);
        self.deadlines.arm_if_unset(Deadline::Lost, at);
    }

    /// Time is up for the signatures, or for others to be lost as well.
    pub(super) fn signers_lost(&mut self, turn: &mut Turn<'_>, deadline: Deadline) {
        let Some(signing) = &mut self.signing else {
            return;
        };
        let mut blamed = std::mem::take(&mut signing.lost);
        let refused = blamed.iter().any(|blame| blame.evidence.is_some());
        let reason = match (deadline, refused) {
            (Deadline::Signatures, _) => AbortReason::Timeout,
            (_, true) => AbortReason::SignerRefused,
            (_, false) => AbortReason::SignerLeft,
        };
        if deadline == Deadline::Signatures {
            let known: BTreeSet<Identity> = blamed.iter().map(|blame| blame.identity).collect();
            let missing = signing.missing().into_iter();
            blamed.extend(missing.filter(|who| !known.contains(who)).map(silent));
        }
        self.fail_attempt(turn, reason, blamed);
    }

    pub(super) fn finish_if_complete(&mut self, turn: &mut Turn<'_>) {
        let Some(signing) = &self.signing else { return };
        if signing.signatures.len() < signing.slots.len() {
            return;
        }
        let complete = signing
            .sums()
            .ok()
            .and_then(|signatures| signing.plan.complete(&signatures).ok());
        match complete {
            Some(payouts) => self.commit(turn, payouts),
            None => {
                let blamed = signing.culprits();
                self.fail_attempt(turn, AbortReason::BadPartialSignature, blamed);
            }
        }
    }

    fn commit(&mut self, turn: &mut Turn<'_>, payouts: SignedPayouts) {
        let Some(signing) = self.signing.take() else {
            return;
        };
        self.deadlines.disarm(Deadline::Signatures);
        self.deadlines.disarm(Deadline::Lost);
        let Signing {
            draft,
            plan,
            carry,
            payees,
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
        let coinbases: Vec<_> = plan
            .lanes()
            .iter()
            .map(|lane| lane.coinbase.clone())
            .collect();
        let signatures = payouts.signatures().to_vec();
        turn.out.persist(Record::Committed(Committed {
            round: plan.round(),
            seq: draft.seq,
            height: draft.template.height,
            coinbases: coinbases.clone(),
            payouts,
        }));
        let shards = plan.split().shards.iter();
        turn.tell(Event::Committed {
            kind: draft.kind,
            seq: draft.seq,
            round: plan.round(),
            attempt: draft.attempt,
            height: draft.template.height,
            signers: slots.len(),
            agreed: agreed.len(),
            payouts: signatures.len(),
            payees: shards.map(|shard| shard.outputs.len()).sum(),
            took: turn.now.since(draft.started),
        });
        let round = plan.round();
        let commit = Commit { round, signatures };
        self.broadcast(turn, ToParticipant::Commit(commit));
        let of = Arc::new(LiveRecord {
            kind: draft.kind,
            round,
            inputs: plan.inputs().clone(),
            coinbases,
            template: draft.template,
            assignments: self.assignments.clone(),
            carry,
            payees,
            params: Arc::new(self.params.clone()),
        });
        match draft.kind {
            RoundKind::Present => {
                self.given_up = 0;
                self.go_live(turn, of, shown, self.members.keys().copied().collect());
                // Once the jobs are on their way.
                self.deadlines.arm(Deadline::NextHeight, turn.now);
            }
            RoundKind::NextHeight => {
                turn.out.persist(Record::KeptAhead(Some(of.clone())));
                self.next_height = Some(Ahead { of, shown });
            }
        }
    }
}
