//! Between rounds: when one starts, over which template, and who signs it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::Network;

use super::expected::{EXPECT_AFTER, Expected};
use super::member::is_candidate;
use super::signing::Signing;
use super::{Coordinator, Event, Record, Turn};
use crate::deadline::{Deadline, Millis};
use crate::id::{Attempt, Identity, RoundSeq};
use crate::lane::{Assignments, Worker};
use crate::message::{
    AnnouncedSlot, AssignmentsSet, Proposal, SignedHead, ToParticipant, TxSignatures, WindowClosed,
};
use crate::musig::{AggregateNonce, NoncesAhead, nonce_sums};
use crate::plan::{CheckedPlan, PlanError, ProposedPlan, RoundInputs, Signer};
use crate::roster::PROPOSED_CHANGES;
use crate::segment::WindowEnd;
use crate::template::Template;
use crate::work::zero_bits_of_target;

/// Attempts of a round in which signers without work may take part.
const FREE_ATTEMPTS: u32 = 2;
/// However many attempts have failed, so many are asked.
const SIGNERS_LEFT: usize = 3;
/// A hashrate that no work has shown counts at most as so many times the slowest claim.
const CLAIM_LIMIT: u64 = 64;

/// A slot of each signer of an attempt.
type Slots = BTreeMap<Identity, Arc<AnnouncedSlot>>;

/// What the attempts of one round share.
#[derive(Clone)]
pub(super) struct Draft {
    pub(super) kind: RoundKind,
    pub(super) seq: RoundSeq,
    pub(super) attempt: Attempt,
    pub(super) template: Arc<Template>,
    /// Who failed in this round: payees, no longer signers.
    pub(super) excluded: BTreeSet<Identity>,
    pub(super) started: Millis,
    /// Signers of the first attempt.
    pub(super) asked: usize,
    /// Who left or said nothing so far: together they may be the network's victims.
    pub(super) silent: BTreeSet<Identity>,
}

/// What a round is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoundKind {
    /// The block being mined.
    Present,
    /// The empty block after it, signed ahead.
    NextHeight,
}

impl Coordinator {
    /// Proposes a round for the present template.
    pub(super) fn start_round(&mut self, turn: &mut Turn<'_>) {
        let Some(template) = self.template.clone() else {
            return;
        };
        self.deadlines.disarm(Deadline::Regroup);
        // What it would be signed ahead of is over.
        self.deadlines.disarm(Deadline::NextHeight);
        self.last_round_at = turn.now;
        self.deadlines
            .arm(Deadline::Refresh, turn.now.after(self.settings.refresh));
        if self.open_round(turn, RoundKind::Present, template) {
            let at = turn.now.after(self.settings.direct_after);
            self.deadlines.arm(Deadline::Direct, at);
        }
    }

    /// Proposes the round of the next height: whoever signed the present one is there.
    pub(super) fn start_next_height(&mut self, turn: &mut Turn<'_>) {
        let Some(template) = &self.template else {
            return;
        };
        let network = self.params.network;
        let template = template.next_height(network);
        // It has no witness commitment, without which no block is valid on a signet (BIP325).
        if template.reward > 0 && network != Network::Signet {
            self.open_round(turn, RoundKind::NextHeight, Arc::new(template));
        }
    }

    /// Closes the window, divides the lanes and proposes the first attempt. Says whether there is anybody
    /// to hash it.
    fn open_round(
        &mut self,
        turn: &mut Turn<'_>,
        kind: RoundKind,
        template: Arc<Template>,
    ) -> bool {
        let workers = self.workers(template.bits);
        if workers.is_empty() {
            return false; // The next participant's slots bring us back.
        }
        let excluded = self.supersede(turn);
        if !self.close_window(turn) {
            return true;
        }
        let (now, settings) = (turn.now, self.settings);
        self.standings
            .retain(|_, standing| !standing.is_forgotten(now, &settings));
        let assignments = Assignments::divide(&workers, self.params.lanes);
        if assignments != *self.assignments {
            self.assignments = Arc::new(assignments.clone());
            self.broadcast(
                turn,
                ToParticipant::Assignments(AssignmentsSet { assignments }),
            );
        }
        // A round is numbered by the window that its proposal closed: both only ever count up.
        let draft = Draft {
            kind,
            seq: RoundSeq(self.ledger.seq().0),
            attempt: Attempt(0),
            template,
            excluded,
            started: turn.now,
            asked: 0,
            silent: BTreeSet::new(),
        };
        self.propose(turn, draft);
        true
    }

    /// No block has fewer leading zero bits: who is asked for more would never send it.
    pub(super) fn fewest_of_a_block(&self, bits: u32) -> u8 {
        let fewest = zero_bits_of_target(bits).max(self.params.block_zero_bits.unwrap_or(0));
        fewest.max(self.settings.z_min)
    }

    /// Participants that hash under this target, and how fast. A claim widens a slice only as far as work backs it:
    /// without any, to the fastest of those who have shown some.
    fn workers(&self, bits: u32) -> BTreeMap<Identity, Worker> {
        let hardest = self.fewest_of_a_block(bits);
        let registered = |identity: &Identity| self.roster.active(identity).is_some();
        let mut workers: BTreeMap<Identity, Worker> = self
            .members
            .iter()
            .filter(|(who, _)| registered(who))
            .map(|(who, member)| (*who, member.worker()))
            .collect();
        let working = workers.keys().filter(|who| self.ledger.has_work_of(who));
        let shown: BTreeSet<Identity> = working.copied().collect();
        let fastest = workers
            .iter()
            .filter(|(who, _)| shown.contains(who))
            .map(|(_, worker)| worker.rate)
            .max();
        let slowest = workers
            .values()
            .map(|worker| worker.rate)
            .min()
            .unwrap_or(1);
        let limit = fastest.unwrap_or(slowest.saturating_mul(CLAIM_LIMIT));
        // All who have shown none share at most what the others have.
        let newcomers = workers.keys().filter(|who| !shown.contains(who)).count();
        let proven: u64 = workers
            .iter()
            .filter(|(who, _)| shown.contains(who))
            .fold(0, |sum, (_, worker)| sum.saturating_add(worker.rate));
        let part = proven.checked_div(u64::try_from(newcomers).unwrap_or(u64::MAX));
        let limit = part
            .filter(|part| *part > 0)
            .map_or(limit, |part| limit.min(part));
        for (who, worker) in &mut workers {
            worker.z = worker.z.min(hardest);
            if !shown.contains(who) {
                worker.rate = worker.rate.min(limit);
            }
        }
        workers
    }

    fn close_window(&mut self, turn: &mut Turn<'_>) -> bool {
        let height = self.template.as_ref().map_or(0, |template| template.height);
        let bookings = self.due_bookings();
        let credits = self.due_credits(&bookings);
        let head = self.head.head;
        let record = self.window.record(&head, height, bookings, credits);
        if self.ledger.append(&record).is_err() {
            // Only an overflow of 2^128 hashes or 2^63 sat could: keep the window open.
            return false;
        }
        let aux = turn.aux();
        // Nobody sees it before the record is durable: after a crash another may be signed.
        self.head = SignedHead::sign(&self.key, self.ledger.head(), &aux);
        self.window = super::OpenWindow::after(&self.head.head, Some(height));
        // A ledger's whole copy, which is not so any more.
        self.greeting = None;
        self.forget_unbookable(turn);
        self.share_rates.retain(|_, rate| !rate.is_idle(turn.now));
        self.note_booked(&record);
        self.note_credited(turn, &record);
        let head = self.head;
        turn.out.persist(Record::WindowClosed(WindowEnd {
            record: record.clone(),
            state: self.ledger.state(),
            head,
        }));
        turn.out.persist(Record::WindowOpened { height });
        let closed = WindowClosed::new(record, head, &self.roster);
        self.broadcast(turn, ToParticipant::WindowClosed(closed));
        self.forget_settled(turn);
        true
    }

    /// Who signs the next attempt: those with the most work; beyond the free places a signer needs
    /// some, and so does everyone once attempts have failed: stalling rounds must cost hashrate.
    pub(super) fn admitted(
        &self,
        now: Millis,
        bits: u32,
        excluded: &BTreeSet<Identity>,
        attempt: Attempt,
    ) -> Vec<Identity> {
        let candidates = self.members.iter().filter(|(who, member)| {
            !excluded.contains(who)
                && self.roster.active(who).is_some()
                && is_candidate(member, self.standings.get(who), now)
        });
        let weights = self.params.weights(&self.ledger, bits);
        let weights = weights.unwrap_or_default();
        let (mut admitted, others): (Vec<Identity>, Vec<Identity>) = candidates
            .map(|(who, _)| *who)
            .partition(|who| weights.contains_key(who));
        admitted.sort_by_key(|who| Reverse(weights.get(who)));
        let stalled = attempt.0.checked_sub(FREE_ATTEMPTS);
        match stalled.filter(|_| !admitted.is_empty()) {
            None => {
                let free = self.settings.free_signers.saturating_sub(admitted.len());
                admitted.extend(others.into_iter().take(free));
            }
            // Half of those who worked the most, then a quarter of these, and so on: work that is
            // cheap to show lasts for two attempts.
            Some(times) => {
                let part = 1usize.checked_shl(times.saturating_mul(2).saturating_add(1));
                let kept = admitted.len().div_ceil(part.unwrap_or(usize::MAX));
                admitted.truncate(kept.max(SIGNERS_LEFT));
            }
        }
        admitted.truncate(self.settings.signers_max);
        admitted
    }

    /// Takes one slot of every signer of the next attempt.
    fn take_slots(&mut self, turn: &Turn<'_>, draft: &Draft) -> Slots {
        let mut slots = BTreeMap::new();
        let (bits, excluded) = (draft.template.bits, &draft.excluded);
        for identity in self.admitted(turn.now, bits, excluded, draft.attempt) {
            let member = self.members.get_mut(&identity);
            if let Some(slot) = member.and_then(|member| member.slots.pop_front()) {
                self.announced.remove(&slot.slot.key);
                slots.insert(identity, slot);
            }
        }
        slots
    }

    fn put_slots_back(&mut self, slots: Slots) {
        for (identity, slot) in slots {
            if let Some(member) = self.members.get_mut(&identity) {
                self.announced.insert(slot.slot.key);
                member.slots.push_front(slot);
            }
        }
    }

    /// Before something is proposed: whoever checks it looks for its payee set among those of the window,
    /// and hashes each. So after many changes a new window begins, whose first set it is.
    pub(super) fn close_changed_window(&mut self, turn: &mut Turn<'_>) {
        if self.window.changes.all() > PROPOSED_CHANGES {
            self.close_window(turn);
        }
    }

    /// Proposes an attempt to everyone, signed by ourselves already.
    pub(super) fn propose(&mut self, turn: &mut Turn<'_>, mut draft: Draft) {
        self.close_changed_window(turn);
        draft.seq = RoundSeq(self.ledger.seq().0);
        let mut slots = self.take_slots(turn, &draft);
        draft.asked = draft.asked.max(slots.len());
        if slots.is_empty() {
            // A payout that the coordinator alone signs is no covenant: go on with the last round.
            turn.tell(Event::NoSigners { seq: draft.seq });
            return self.give_up(turn, draft.kind);
        }
        let me = self.identity();
        let Expected {
            own,
            own_public,
            nonces,
        } = self.take_expected(turn);
        slots.insert(me, own_public);
        let planned = self
            .plan(&draft, &slots, nonces)
            .and_then(|(plan, nonces)| {
                let partials = plan.sign(own)?;
                Ok((plan, nonces, partials))
            });
        let (plan, nonces, partials) = match planned {
            Ok(planned) => planned,
            Err(error) => {
                // Nobody was told: the slots are as unused as before.
                self.put_slots_back(slots);
                let seq = draft.seq;
                turn.tell(Event::Unplannable { seq, error });
                return self.give_up(turn, draft.kind);
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
        self.members
            .values_mut()
            .for_each(|member| member.expect_answers());
        turn.tell(Event::Proposed {
            seq: draft.seq,
            attempt: draft.attempt,
            height: draft.template.height,
            signers: slots.len(),
        });
        let aux = turn.aux();
        let own = TxSignatures::sign(&self.key, plan.round(), plan.proposal(), partials, &aux);
        let view = self.view();
        let settles = (plan.carry_changes(&view), plan.payees(&view));
        let shown = self.members.values().map(|member| member.peer).collect();
        let at = turn.now.after(self.settings.signatures);
        self.deadlines.arm(Deadline::Signatures, at);
        self.payouts = plan.sessions().len();
        self.deadlines
            .arm(Deadline::Expect, turn.now.after(EXPECT_AFTER));
        let draft = (draft, turn.now);
        self.signing = Some(Signing::new(draft, plan, settles, slots, shown, me, own));
        self.finish_if_complete(turn);
    }

    /// No attempt of this round can succeed now. Soon another one may: at first after the time to
    /// regroup, then after twice as long each time.
    pub(super) fn give_up(&mut self, turn: &mut Turn<'_>, kind: RoundKind) {
        if kind == RoundKind::Present {
            self.direct_round(turn);
            let factor = 1u64.checked_shl(self.given_up).unwrap_or(u64::MAX);
            self.given_up = self.given_up.saturating_add(1);
            let wait = self.settings.regroup.0.max(1).saturating_mul(factor);
            let wait = Millis(wait.min(self.settings.refresh.0));
            self.deadlines.arm(Deadline::Regroup, turn.now.after(wait));
        }
    }

    fn plan(
        &self,
        draft: &Draft,
        slots: &Slots,
        ahead: Option<NoncesAhead<AnnouncedSlot>>,
    ) -> Result<(CheckedPlan, Vec<AggregateNonce>), PlanError> {
        let signer = |(identity, slot): (&Identity, &Arc<AnnouncedSlot>)| Signer {
            identity: *identity,
            key: slot.slot.key,
        };
        let mut signers: Vec<Signer> = slots.iter().map(signer).collect();
        signers.sort_by_key(|signer| signer.key);
        let inputs = self.inputs(draft.seq, draft.attempt, &draft.template, signers);
        let mut sums = Vec::new();
        let nonces = |sessions: usize| {
            let announced: Vec<_> = slots.values().cloned().collect();
            sums = match ahead {
                Some(ahead) => ahead.finish(&announced, sessions)?,
                None => nonce_sums(&announced, sessions)?,
            };
            Ok(sums.clone())
        };
        let plan = CheckedPlan::compute(inputs, nonces, &self.view())?;
        for lane in plan.lanes() {
            draft.template.check_room(&lane.coinbase)?;
        }
        Ok((plan, sums))
    }

    /// What a round of this template is computed from, in our present state.
    pub(super) fn inputs(
        &self,
        seq: RoundSeq,
        attempt: Attempt,
        template: &Template,
        signers: Vec<Signer>,
    ) -> RoundInputs {
        RoundInputs {
            seq,
            attempt,
            height: template.height,
            bits: template.bits,
            reward: template.reward,
            witness_commitment: template.witness_commitment,
            feerate: template.feerate,
            roster: self.roster.digest(),
            ledger: self.head.head,
            assignments: self.assignments.digest(),
            signers,
        }
    }
}
