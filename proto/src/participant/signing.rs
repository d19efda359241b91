//! Proposals: compute, compare, sign, and verify what comes back. Nothing else ever signs.

use std::collections::BTreeSet;

use super::hashing::Lanes;
use super::joined::{ATTEMPTS_LIMIT, Joined, Settles};
use super::{Event, Held, HeldLane, HeldPayee, Participant, Record, Turn};
use crate::id::{Identity, RoundId, SerialId};
use crate::lane::Assigned;
use crate::message::{
    AbortReason, AnnouncedSlot, Commit, Proposal, Slots, ToCoordinator, TxAbort, TxAborted,
    TxComplete, TxSignatures,
};
use crate::musig::{PublicSlot, SigningSlot, SlotKey};
use crate::plan::{
    Checked, CheckedPlan, Checker, DirectPlan, PlanError, PlanView, ProposedPlan, RoundInputs,
};
use crate::window::Tally;
use crate::work::Work;

/// Refused rounds remembered: a block of one may be booked as long as of any other.
const REFUSED_LIMIT: usize = 4_096;

/// A plan that we accepted; its commit is awaited.
pub(super) struct Pending {
    plan: CheckedPlan,
    assigned: Vec<Assigned>,
    payees: Vec<HeldPayee>,
}

/// A plan that we agree to, and all that follows from the state that it was proposed on.
pub(super) struct Agreed {
    pub(super) checked: Checked,
    /// The slots of ours that it names.
    pub(super) slots: Vec<SigningSlot>,
    payees: Vec<HeldPayee>,
    assigned: Vec<Assigned>,
}

impl Agreed {
    fn new(checked: Checked, slots: Vec<SigningSlot>, view: &PlanView<'_>, me: &Identity) -> Self {
        let payees = match &checked {
            Checked::ToSign(plan) => {
                let shards = plan.split().shards.iter();
                let outputs: Vec<_> = shards.flat_map(|shard| shard.outputs.clone()).collect();
                payees(&outputs, plan.weights(), view)
            }
            Checked::Direct(plan) => payees(&plan.split().outputs, plan.weights(), view),
        };
        Self {
            checked,
            slots,
            payees,
            assigned: view.assignments.of(me).to_vec(),
        }
    }
}

impl Joined {
    /// Computes what a round that is nothing for us would do to the carries: others may find a block of it.
    fn remember_refused(&mut self, plan: &ProposedPlan) {
        if let Ok(checked) = plan.compute(&self.view()) {
            let settles = Settles::of(&checked, &self.view());
            self.remember(plan.inputs.ledger.seq, checked.round(), settles);
        }
    }
}

impl Participant {
    /// Announces fresh slots until enough are ahead; none while the check of the ledger is behind, or we
    /// would be asked for signatures that we cannot give in time.
    pub(super) fn top_up_slots(&mut self, turn: &mut Turn<'_>) {
        if self.check_is_behind() {
            return;
        }
        let ahead = self.settings.slots_ahead;
        let Some(joined) = self.joined() else { return };
        let nonces = usize::from(joined.params.nonces_per_slot);
        let coordinator = joined.params.coordinator;
        let mut fresh: Vec<PublicSlot> = Vec::new();
        while joined.slots.len() < ahead {
            let (secret, public) = SigningSlot::generate(&mut *turn.rng, nonces);
            joined.slots.insert(public.key, secret);
            fresh.push(public);
        }
        let mut slots = Vec::with_capacity(fresh.len());
        for slot in fresh {
            let aux = turn.aux();
            slots.push(AnnouncedSlot::sign(&self.key, &coordinator, slot, &aux));
        }
        if !slots.is_empty() {
            turn.send(ToCoordinator::Slots(Slots { slots }));
        }
    }

    pub(super) fn proposed(&mut self, turn: &mut Turn<'_>, proposal: Proposal) {
        let Some(joined) = self.joined() else { return };
        if proposal.verify(&joined.params.coordinator).is_err() {
            return self.leave(turn, Event::UnsignedProposal);
        }
        let coordinator = joined.params.coordinator;
        let (seq, attempt) = (proposal.plan.inputs.seq, proposal.plan.inputs.attempt);
        if attempt.0 >= ATTEMPTS_LIMIT {
            return self.leave(turn, Event::TooManyAttempts { seq, attempt });
        }
        // Of a round that cannot be the next one nothing is noted: what is kept could be flooded.
        let next = seq.0 == joined.ledger.seq().0;
        if next && let Err(proof) = self.statements.note_proposal(&coordinator, &proposal) {
            return self.convict(turn, *proof);
        }
        self.consider(turn, &proposal.plan);
    }

    /// Computes a plan, from what we hold at this moment, and says what we think of it.
    fn consider(&mut self, turn: &mut Turn<'_>, plan: &ProposedPlan) {
        let (me, last, policy) = (self.identity(), self.last, self.settings.policy);
        let Some(joined) = self.joined() else { return };
        let keys: BTreeSet<SlotKey> = joined.slots.keys().copied().collect();
        let checker = Checker {
            identity: &me,
            slots: &keys,
            last,
            policy: &policy,
        };
        let checked = plan.check(&joined.view(), &checker);
        // Whatever comes of it, a slot that was named is never used for anything else.
        let signers = plan.inputs.signers.iter();
        let slots: Vec<SigningSlot> = signers
            .filter_map(|signer| joined.slots.remove(&signer.key))
            .collect();
        if !plan.inputs.is_direct() {
            joined.pending = None;
        } else if joined.is_one_direct_round_too_many() {
            return self.leave(turn, Event::OutOfOrder);
        }
        match checked {
            Err(error) => {
                if error.is_policy() || error == PlanError::NotPayee {
                    joined.remember_refused(plan);
                }
                self.refuse(turn, &plan.inputs, plan.round, slots.is_empty(), error);
                self.top_up_slots(turn);
            }
            Ok(checked) => {
                let direct = matches!(checked, Checked::Direct(_));
                let settles = Settles::of(&checked, &joined.view());
                joined.remember(plan.inputs.ledger.seq, checked.round(), settles);
                let agreed = Agreed::new(checked, slots, &joined.view(), &me);
                if !direct {
                    self.last = Some((plan.inputs.seq, plan.inputs.attempt));
                }
                if self.is_checked(&plan.inputs.ledger) {
                    self.agree(turn, agreed);
                } else {
                    self.wait_for_check(turn, agreed);
                }
            }
        }
    }

    /// Says that we agree, and signs.
    pub(super) fn agree(&mut self, turn: &mut Turn<'_>, agreed: Agreed) {
        let Agreed {
            checked,
            slots,
            payees,
            assigned,
            ..
        } = agreed;
        match checked {
            Checked::ToSign(plan) => {
                self.sign(turn, &plan, slots);
                let Some(joined) = self.joined() else { return };
                joined.pending = Some(Pending {
                    plan,
                    assigned,
                    payees,
                });
            }
            Checked::Direct(plan) => {
                self.hold_direct(turn, &plan, assigned, payees);
                // Signed by nobody, it went out to whoever had agreed by then.
                self.job_waited(turn, plan.round());
            }
        }
    }

    pub(super) fn refuse(
        &mut self,
        turn: &mut Turn<'_>,
        inputs: &RoundInputs,
        round: RoundId,
        payee_only: bool,
        error: PlanError,
    ) {
        let (seq, attempt) = (inputs.seq, inputs.attempt);
        let reason = match error {
            _ if error.is_policy() => AbortReason::Policy,
            PlanError::Ledger { .. } => AbortReason::LedgerDispute,
            PlanError::Unchecked(_) => AbortReason::Unchecked,
            _ => AbortReason::PlanMismatch,
        };
        if !payee_only {
            let aux = turn.aux();
            let abort = TxAbort::sign(&self.key, round, reason, &aux);
            turn.send(ToCoordinator::TxAbort(abort));
        }
        self.note_refused(round);
        let lost_sync = matches!(
            error,
            PlanError::Roster | PlanError::Ledger { .. } | PlanError::Assignments
        );
        let event = Event::PlanRefused {
            seq,
            attempt,
            error,
        };
        if lost_sync {
            // Our replica differs from the coordinator's: join again from a fresh snapshot.
            self.leave(turn, event);
        } else {
            turn.tell(event);
        }
    }

    /// Remembers a round that we shall not hash.
    pub(super) fn note_refused(&mut self, round: RoundId) {
        if let Some(joined) = self.joined() {
            if joined.refused.len() >= REFUSED_LIMIT {
                joined.refused.pop_front();
            }
            joined.refused.push_back(round);
        }
    }

    fn sign(&mut self, turn: &mut Turn<'_>, plan: &CheckedPlan, slots: Vec<SigningSlot>) {
        let (round, seq, attempt) = (plan.round(), plan.inputs().seq, plan.inputs().attempt);
        let mut partials = None;
        for slot in slots {
            // `check` made sure that at most one slot of ours is named.
            partials = plan.sign(slot).ok();
        }
        let signed = partials.is_some();
        turn.send(ToCoordinator::TxComplete(TxComplete { round }));
        if let Some(partials) = partials {
            let aux = turn.aux();
            let proposal = plan.proposal();
            let signatures = TxSignatures::sign(&self.key, round, proposal, partials, &aux);
            turn.send(ToCoordinator::TxSignatures(signatures));
        }
        turn.tell(Event::PlanAccepted {
            seq,
            attempt,
            signed,
        });
    }

    pub(super) fn aborted(&mut self, turn: &mut Turn<'_>, aborted: TxAborted) {
        let Some(joined) = self.joined() else { return };
        let coordinator = joined.params.coordinator;
        if aborted.verify(&coordinator).is_err() {
            return self.leave(turn, Event::UnsignedProposal);
        }
        let ended = |pending: &mut Pending| pending.plan.round() == aborted.round;
        if let Some(pending) = joined.pending.take_if(ended) {
            for blame in &aborted.blamed {
                if let Err(error) = blame.check(&coordinator, &pending.plan) {
                    let (round, identity) = (aborted.round, blame.identity);
                    return self.leave(
                        turn,
                        Event::FalseBlame {
                            round,
                            identity,
                            error,
                        },
                    );
                }
            }
        }
        self.forget_waiting(turn, &aborted.round);
        turn.tell(Event::Aborted(aborted));
        self.top_up_slots(turn);
    }

    pub(super) fn committed(&mut self, turn: &mut Turn<'_>, commit: &Commit) {
        let Some(joined) = self.joined() else { return };
        let matches = |pending: &Pending| pending.plan.round() == commit.round;
        if !joined.pending.as_ref().is_some_and(matches) {
            self.forget_waiting(turn, &commit.round);
            return; // A round that we refused: we do not hash it, and hold no payout of it.
        }
        let Some(pending) = joined.pending.take() else {
            return;
        };
        let payouts = match pending.plan.complete(&commit.signatures) {
            Ok(payouts) => payouts,
            Err(error) => {
                turn.tell(Event::BadCommit(error));
                return self.top_up_slots(turn);
            }
        };
        let lanes = pending.plan.lanes().iter().enumerate();
        let lanes = lanes.map(|(place, lane)| HeldLane {
            coinbase: lane.coinbase.clone(),
            payouts: payouts.of_lane(place, &lane.coinbase),
        });
        let inputs = pending.plan.inputs();
        let mut held = held(
            pending.plan.round(),
            inputs,
            lanes.collect(),
            pending.payees,
        );
        held.bump_credit = joined.params.bump_credit;
        held.bump_credit_after = joined.params.bump_credit_after;
        let lanes = Lanes {
            round: held.round,
            seq: held.seq,
            job: inputs.job(),
            height: inputs.height,
            bits: inputs.bits,
            txids: pending.plan.lanes().iter().map(|lane| lane.txid).collect(),
            assigned: pending.assigned,
        };
        self.hold(turn, held, lanes);
        // Not before: others' signatures would wait behind slots that no round needs yet.
        self.top_up_slots(turn);
    }

    /// A direct round's coinbases are all there is to hold.
    fn hold_direct(
        &mut self,
        turn: &mut Turn<'_>,
        plan: &DirectPlan,
        assigned: Vec<Assigned>,
        payees: Vec<HeldPayee>,
    ) {
        let round = plan.round();
        turn.send(ToCoordinator::TxComplete(TxComplete { round }));
        if self.hashing.holds(&round) {
            return; // It is made again for others.
        }
        let coinbases = plan.coinbases().iter().cloned();
        let lanes = coinbases.map(|coinbase| HeldLane {
            coinbase,
            payouts: Vec::new(),
        });
        let held = held(round, plan.inputs(), lanes.collect(), payees);
        let lanes = Lanes {
            round,
            seq: held.seq,
            job: plan.inputs().job(),
            height: plan.inputs().height,
            bits: plan.inputs().bits,
            txids: plan.txids(),
            assigned,
        };
        self.hold(turn, held, lanes);
    }

    fn hold(&mut self, turn: &mut Turn<'_>, held: Held, lanes: Lanes) {
        let me = self.identity();
        let own = held.payees.iter().filter(|payee| payee.identity == me);
        let event = Event::Holding {
            seq: held.seq,
            height: held.height,
            lanes: held.lanes.len(),
            signers: held.signers,
            sat: own.map(|payee| payee.sat).sum(),
        };
        self.hashing.hold(lanes);
        // The record comes first: no action, and so no hash, before it is on disk.
        turn.out.persist(Record::Held(held));
        turn.tell(event);
    }
}

/// A round whose payouts, if it has any, are credited with nothing.
fn held(
    round: RoundId,
    inputs: &RoundInputs,
    lanes: Vec<HeldLane>,
    payees: Vec<HeldPayee>,
) -> Held {
    Held {
        round,
        seq: inputs.seq,
        height: inputs.height,
        feerate: inputs.feerate,
        window: inputs.ledger.seq,
        signers: inputs.signers.len(),
        lanes,
        payees,
        bump_credit: 0,
        bump_credit_after: 0,
    }
}

fn payees(outputs: &[(SerialId, u64)], weights: &Tally, view: &PlanView<'_>) -> Vec<HeldPayee> {
    let payee = |(serial_id, sat): &(SerialId, u64)| {
        let identity = view.roster.payee(*serial_id)?.identity;
        Some(HeldPayee {
            identity,
            serial_id: *serial_id,
            work: weights.get(&identity).copied().unwrap_or(Work::ZERO),
            sat: *sat,
        })
    };
    outputs.iter().filter_map(payee).collect()
}
