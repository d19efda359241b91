//! Proposals: compute, compare, sign, and verify what comes back. Nothing else ever signs.

use std::collections::BTreeSet;

use super::hashing::Lanes;
use super::{Event, Held, HeldLane, HeldPayee, Participant, Record, Turn};
use crate::id::{Identity, RoundId};
use crate::lane::Slice;
use crate::message::{
    AbortReason, Commit, Proposal, Slots, ToCoordinator, TxAbort, TxComplete, TxSignatures,
};
use crate::musig::{PublicSlot, SigningSlot, SlotKey};
use crate::plan::{CheckedPlan, Checker, PlanError, PlanView};
use crate::work::Work;

/// A plan that we accepted; its commit is awaited.
pub(super) struct Pending {
    plan: CheckedPlan,
    slices: Vec<Slice>,
    payees: Vec<HeldPayee>,
}

impl Participant {
    /// Announces fresh slots until enough are ahead.
    pub(super) fn top_up_slots(&mut self, turn: &mut Turn<'_>) {
        let ahead = self.settings.slots_ahead;
        let Some(joined) = self.joined() else { return };
        let nonces = usize::from(joined.params.nonces_per_slot);
        let coordinator = joined.params.coordinator;
        let mut announced: Vec<PublicSlot> = Vec::new();
        while joined.slots.len() < ahead {
            let (secret, public) = SigningSlot::generate(&mut *turn.rng, nonces);
            joined.slots.insert(public.key, secret);
            announced.push(public);
        }
        if !announced.is_empty() {
            let aux = turn.aux();
            let slots = Slots::sign(&self.key, &coordinator, announced, &aux);
            turn.send(ToCoordinator::Slots(slots));
        }
    }

    pub(super) fn proposed(&mut self, turn: &mut Turn<'_>, proposal: Proposal) {
        let (me, last, policy) = (self.identity(), self.last, self.settings.policy);
        let Some(joined) = self.joined() else { return };
        if proposal.verify(&joined.params.coordinator).is_err() {
            return self.leave(turn, Event::UnsignedProposal);
        }
        let plan = proposal.plan;
        let (seq, attempt) = (plan.inputs.seq, plan.inputs.attempt);
        let keys: BTreeSet<SlotKey> = joined.slots.keys().copied().collect();
        let checker = Checker {
            identity: &me,
            slots: &keys,
            last,
            policy: &policy,
        };
        let checked = match joined.roster.active(&me) {
            Some(_) => plan.check(&joined.view(), &checker),
            None => Err(PlanError::NotPayee),
        };
        // Whatever comes of it, a slot that was named is never used for anything else.
        let slots: Vec<SigningSlot> = plan
            .inputs
            .signers
            .iter()
            .filter_map(|signer| joined.slots.remove(&signer.key))
            .collect();
        joined.pending = None;
        match checked {
            Err(error) => self.refuse(turn, plan.round, slots.is_empty(), (seq, attempt), error),
            Ok(checked) => {
                self.last = Some((seq, attempt));
                self.accept(turn, checked, slots);
            }
        }
        self.top_up_slots(turn);
    }

    fn refuse(
        &mut self,
        turn: &mut Turn<'_>,
        round: RoundId,
        payee_only: bool,
        (seq, attempt): (crate::id::RoundSeq, crate::id::Attempt),
        error: PlanError,
    ) {
        let reason = match error {
            PlanError::OperatorFee { .. }
            | PlanError::FeeRate { .. }
            | PlanError::TooFewSigners { .. }
            | PlanError::NotSigner => AbortReason::Policy,
            PlanError::Ledger { .. } => AbortReason::LedgerDispute,
            _ => AbortReason::PlanMismatch,
        };
        if !payee_only {
            turn.send(ToCoordinator::TxAbort(TxAbort {
                round,
                reason,
                culprits: Vec::new(),
            }));
        }
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

    fn accept(&mut self, turn: &mut Turn<'_>, plan: CheckedPlan, slots: Vec<SigningSlot>) {
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
            let signatures = TxSignatures::sign(&self.key, round, partials, &aux);
            turn.send(ToCoordinator::TxSignatures(signatures));
        }
        turn.tell(Event::PlanAccepted {
            seq,
            attempt,
            signed,
        });
        let me = self.identity();
        let Some(joined) = self.joined() else { return };
        let carry = plan.carry_changes(&joined.view());
        let payees = payees(&plan, &joined.view());
        let slices = joined.assignments.of(&me);
        joined.remember_carries(round, carry);
        joined.pending = Some(Pending {
            plan,
            slices,
            payees,
        });
    }

    pub(super) fn aborted(&mut self, turn: &mut Turn<'_>, abort: TxAbort) {
        let Some(joined) = self.joined() else { return };
        if joined
            .pending
            .as_ref()
            .is_some_and(|pending| pending.plan.round() == abort.round)
        {
            joined.pending = None;
        }
        turn.tell(Event::Aborted(abort));
    }

    pub(super) fn committed(&mut self, turn: &mut Turn<'_>, commit: &Commit) {
        let me = self.identity();
        let Some(joined) = self.joined() else { return };
        let matches = |pending: &Pending| pending.plan.round() == commit.round;
        if !joined.pending.as_ref().is_some_and(matches) {
            return; // A round that we refused: we do not hash it, and hold no payout of it.
        }
        let Some(pending) = joined.pending.take() else {
            return;
        };
        let payouts = match pending.plan.complete(&commit.signatures) {
            Ok(payouts) => payouts,
            Err(error) => return turn.tell(Event::BadCommit(error)),
        };
        let inputs = pending.plan.inputs();
        let coinbases = pending
            .plan
            .lanes()
            .iter()
            .map(|lane| lane.coinbase.clone());
        let held = Held {
            round: pending.plan.round(),
            seq: inputs.seq,
            height: inputs.height,
            feerate: inputs.feerate,
            window: inputs.ledger.seq,
            signers: inputs.signers.len(),
            lanes: coinbases
                .zip(payouts)
                .map(|(coinbase, payouts)| HeldLane { coinbase, payouts })
                .collect(),
            payees: pending.payees,
        };
        let sat = held
            .payees
            .iter()
            .filter(|payee| payee.identity == me)
            .map(|payee| payee.sat)
            .sum();
        let event = Event::Holding {
            seq: held.seq,
            height: held.height,
            lanes: held.lanes.len(),
            sat,
        };
        joined.lanes = Some(Lanes {
            round: held.round,
            seq: held.seq,
            bits: inputs.bits,
            txids: pending.plan.lanes().iter().map(|lane| lane.txid).collect(),
            slices: pending.slices,
        });
        // The record comes first: no action, and so no hash, before it is on disk.
        turn.out.persist(Record::Held(held));
        turn.tell(event);
    }
}

fn payees(plan: &CheckedPlan, view: &PlanView<'_>) -> Vec<HeldPayee> {
    let work = |identity: &Identity| plan.weights().get(identity).copied().unwrap_or(Work::ZERO);
    let outputs = plan.split().shards.iter().flat_map(|shard| &shard.outputs);
    outputs
        .filter_map(|(serial_id, sat)| {
            let identity = view.roster.payee(*serial_id)?.identity;
            Some(HeldPayee {
                identity,
                serial_id: *serial_id,
                work: work(&identity),
                sat: *sat,
            })
        })
        .collect()
}
