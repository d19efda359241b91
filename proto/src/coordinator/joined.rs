//! What a joined participant may say: outputs, slots, and answers to the round in progress.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::member::Quota;
use super::{Coordinator, Record, Turn};
use crate::deadline::{Deadline, Millis};
use crate::id::{Identity, PeerId};
use crate::message::{
    OutputExpired, SLOTS_LIMIT, Slots, ToCoordinator, ToParticipant, TxAddOutput, TxRemoveOutput,
};
use crate::reject::{Reject, RejectCode};
use crate::roster::RosterError;

impl Coordinator {
    /// Whoever has joined may say these things, within its quota.
    pub(super) fn joined_said(
        &mut self,
        turn: &mut Turn<'_>,
        peer: PeerId,
        identity: Identity,
        message: ToCoordinator,
    ) {
        let Some(quota) = self.quota(turn.now, &identity, &message) else {
            return;
        };
        let (code, limit) = (RejectCode::RateLimited, self.settings.quota);
        match quota {
            Quota::Within => {}
            Quota::Spent => {
                let wait = self.settings.quota_refill.0;
                let detail = format!("more than {limit} messages at once; wait {wait} ms");
                return self.reject(turn, peer, code, detail);
            }
            Quota::Flooded => {
                let detail = format!("far more than {limit} messages at once, refusals ignored");
                return self.close(turn, peer, Reject { code, detail });
            }
        }
        match message {
            ToCoordinator::Join(_) => {
                self.reject(
                    turn,
                    peer,
                    RejectCode::AlreadyJoined,
                    "this session has joined already".into(),
                );
            }
            ToCoordinator::TxAddOutput(output) => self.add_output(turn, peer, identity, output),
            ToCoordinator::TxRemoveOutput(removal) => {
                self.remove_output(turn, peer, identity, removal)
            }
            ToCoordinator::Slots(slots) => self.add_slots(turn, peer, identity, slots),
            ToCoordinator::TxComplete(complete) => self.tx_complete(turn, peer, identity, complete),
            ToCoordinator::TxSignatures(signatures) => {
                self.tx_signatures(turn, peer, identity, signatures)
            }
            ToCoordinator::TxAbort(abort) => self.tx_abort(turn, peer, identity, abort),
            ToCoordinator::Share(share) => self.share(turn, peer, identity, &share),
            ToCoordinator::Holds(holds) => self.holds(turn, peer, identity, &holds),
        }
    }

    /// What the quota says of a message; none if its sender has left.
    fn quota(
        &mut self,
        now: Millis,
        identity: &Identity,
        message: &ToCoordinator,
    ) -> Option<Quota> {
        // Shares have a rate of their own.
        if matches!(message, ToCoordinator::Share(_)) {
            return Some(Quota::Within);
        }
        let member = self.members.get_mut(identity)?;
        // Answers are bounded by what was asked.
        let is_answer = matches!(
            message,
            ToCoordinator::TxComplete(_)
                | ToCoordinator::TxSignatures(_)
                | ToCoordinator::TxAbort(_)
        );
        if is_answer && member.take_answer() {
            return Some(Quota::Within);
        }
        Some(member.spend_quota(now, &self.settings))
    }

    fn add_output(
        &mut self,
        turn: &mut Turn<'_>,
        peer: PeerId,
        identity: Identity,
        output: TxAddOutput,
    ) {
        if output.identity != identity {
            let detail = "tx_add_output names another identity than this session's".into();
            return self.reject(turn, peer, RejectCode::NotYou, detail);
        }
        let coordinator = self.identity();
        // Before room is made for it: a refused output changes nothing.
        if let Err(error) = self.roster.check_output(&coordinator, &output) {
            return self.reject(turn, peer, roster_code(error), error.to_string());
        }
        if let Err(Reject { code, detail }) = self.window.changes.check(&identity) {
            return self.reject(turn, peer, code, detail);
        }
        // Who moves to another script takes no place that it does not have.
        let moves = self.roster.active(&identity).is_some();
        let limit = self.settings.payees_max;
        if !moves && self.roster.len() >= limit && !self.expire_output(turn) {
            let detail = format!("the pool has {limit} payees; try later");
            return self.reject(turn, peer, RejectCode::PoolFull, detail);
        }
        if let Err(error) = self.roster.add_output(&coordinator, output.clone()) {
            return self.reject(turn, peer, roster_code(error), error.to_string());
        }
        self.room.added(output.serial_id);
        self.window.changes.note(Some(identity));
        turn.out.persist(Record::OutputAdded(output.clone()));
        self.broadcast(turn, ToParticipant::TxAddOutput(output));
    }

    /// Takes out an output of someone who is not here and whom nobody owes anything.
    fn expire_output(&mut self, turn: &mut Turn<'_>) -> bool {
        let Some((serial_id, identity)) = self.expirable() else {
            return false;
        };
        self.room.removed(serial_id);
        let removed = self.roster.remove_output(identity, serial_id).is_ok();
        self.window.changes.note(None);
        turn.out.persist(Record::OutputExpired(serial_id));
        self.broadcast(
            turn,
            ToParticipant::OutputExpired(OutputExpired { serial_id }),
        );
        removed
    }

    fn remove_output(
        &mut self,
        turn: &mut Turn<'_>,
        peer: PeerId,
        identity: Identity,
        removal: TxRemoveOutput,
    ) {
        if removal.identity != identity {
            let detail = "tx_remove_output names another identity than this session's".into();
            return self.reject(turn, peer, RejectCode::NotYou, detail);
        }
        if removal.verify(&self.identity()).is_err() {
            let detail = "tx_remove_output is not signed by its identity".into();
            return self.reject(turn, peer, RejectCode::BadSignature, detail);
        }
        if let Err(Reject { code, detail }) = self.window.changes.check(&identity) {
            return self.reject(turn, peer, code, detail);
        }
        if let Err(error) = self.roster.take_out(identity, removal.serial_id) {
            return self.reject(turn, peer, roster_code(error), error.to_string());
        }
        self.room.removed(removal.serial_id);
        self.window.changes.note(Some(identity));
        turn.out.persist(Record::OutputRemoved(removal.clone()));
        self.broadcast(turn, ToParticipant::TxRemoveOutput(removal));
    }

    fn add_slots(&mut self, turn: &mut Turn<'_>, peer: PeerId, identity: Identity, slots: Slots) {
        let need = usize::from(self.params.nonces_per_slot);
        let Some(member) = self.members.get(&identity) else {
            return;
        };
        if member.slots.len() + slots.slots.len() > SLOTS_LIMIT
            || slots.slots.iter().any(|s| s.slot.nonces.len() != need)
        {
            let detail = format!("at most {SLOTS_LIMIT} unused slots, each with {need} nonces");
            return self.reject(turn, peer, RejectCode::SlotQuota, detail);
        }
        let me = self.identity();
        if slots
            .slots
            .iter()
            .any(|s| s.verify(&me, &identity).is_err())
        {
            let detail = "a slot is not signed by this session's identity".into();
            return self.reject(turn, peer, RejectCode::BadSignature, detail);
        }
        let mut fresh = BTreeSet::new();
        if slots
            .slots
            .iter()
            .map(|slot| slot.slot.key)
            .any(|key| self.announced.contains(&key) || !fresh.insert(key))
        {
            let detail = "a slot key is announced already; every slot needs a fresh key".into();
            return self.reject(turn, peer, RejectCode::DuplicateSlot, detail);
        }
        self.announced.extend(fresh);
        let Some(member) = self.members.get_mut(&identity) else {
            return;
        };
        let any = !slots.slots.is_empty();
        member.slots.extend(slots.slots.into_iter().map(Arc::new));
        if any {
            self.gather(turn, &identity);
        }
    }

    /// A participant that could hash and has no job brings the next round nearer: soon, to gather
    /// whoever comes within the moment, but not so soon that joining could make others' work stale.
    pub(super) fn gather(&mut self, turn: &Turn<'_>, identity: &Identity) {
        let assigned = !self.assignments.of(identity).is_empty();
        let peer = self.members.get(identity).map(|member| member.peer);
        let shown = |peer| self.signing.as_ref().is_some_and(|s| s.is_for(peer));
        let proposed = assigned && peer.is_some_and(shown);
        if self.roster.active(identity).is_none() || self.has_signed_job(identity) || proposed {
            return;
        }
        let soon = turn.now.after(self.settings.regroup);
        let gap = Millis(self.settings.refresh.0 / 4);
        let at = if self.signing.is_some() || self.hashes_tip() {
            soon.max(self.last_round_at.after(gap))
        } else {
            soon
        };
        self.deadlines.arm_if_unset(Deadline::Regroup, at);
    }
}

fn roster_code(error: RosterError) -> RejectCode {
    match error {
        RosterError::BadSignature(_) => RejectCode::BadSignature,
        RosterError::WrongParity(_) => RejectCode::SerialParity,
        RosterError::SerialTaken(_) | RosterError::NotAbove(_) => RejectCode::SerialTaken,
        RosterError::Quota => RejectCode::OutputQuota,
        RosterError::NotYours(_) | RosterError::Active(_) => RejectCode::NotYourOutput,
        RosterError::Full => RejectCode::PoolFull,
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::{Hash, sha256};
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;
    use crate::coordinator::{Action, Input, Restored, Settings};
    use crate::id::{SerialId, WindowSeq};
    use crate::identity::IdentityKey;
    use crate::message::Join;
    use crate::params::PoolParams;
    use crate::payout::output_script;
    use crate::roster::Roster;
    use crate::script::PayoutScript;
    use crate::window::{ASKED, Ledger, Scoring, Tally, WindowRecord};
    use crate::work::Work;

    const PAYEES: u16 = 300;
    const WINDOWS: u64 = 200;

    fn key(number: u16) -> IdentityKey {
        let mut bytes = sha256::Hash::hash(&number.to_le_bytes()).to_byte_array();
        IdentityKey::from_bytes(&mut bytes).unwrap()
    }

    fn output(number: u16, serial_id: u64) -> TxAddOutput {
        let script = PayoutScript::parse(output_script(&[7; 32])).unwrap();
        let (key, pool) = (key(number), key(0).identity());
        TxAddOutput::sign(&key, &pool, SerialId(serial_id), script, &[1; 32])
    }

    /// All have worked, but not for so many windows.
    fn long_ago() -> Restored {
        let (mut ledger, mut roster) = (Ledger::default(), Roster::default());
        let numbers = 1..=PAYEES;
        for number in numbers.clone() {
            let output = output(number, 2 * u64::from(number) + 1);
            roster.add_output(&key(0).identity(), output).unwrap();
        }
        let mut tally: Tally = numbers.map(|n| (key(n).identity(), Work(1))).collect();
        for seq in 1..=WINDOWS {
            let record = WindowRecord {
                seq: WindowSeq(seq),
                previous: ledger.head().hash,
                shares_root: [0; 32],
                shares: 0,
                height: 1,
                tally: std::mem::take(&mut tally),
                bookings: Vec::new(),
                credits: Vec::new(),
            };
            ledger.append(&record).unwrap();
        }
        Restored::after(ledger, roster)
    }

    /// The coordinator decides everything in turn: what one refusal costs all wait for.
    #[test]
    fn a_full_set_whose_owners_worked_long_ago_is_searched_once() {
        let params = PoolParams {
            network: bitcoin::Network::Regtest,
            coordinator: key(0).identity(),
            tag: "/Tutti/".into(),
            operator_fee_ppm: 0,
            lanes: 1,
            nonces_per_slot: 1,
            direct_payees: 0,
            scoring: Scoring::Pplns,
            pplns_depth: 8,
            ntime_roll: 600,
            block_zero_bits: None,
            bump_credit: 0,
            bump_credit_after: 3,
        };
        let settings = Settings {
            payees_max: usize::from(PAYEES) + 1,
            ..Settings::default()
        };
        let script = PayoutScript::parse(output_script(&[9; 32])).unwrap();
        let (mut coordinator, _) =
            Coordinator::new(key(0), params, settings, script, long_ago(), &[1; 32]);
        let mut dice = StdRng::seed_from_u64(1);
        let mut said = |input| {
            let effects = coordinator.handle(Millis(1), &mut dice, input);
            effects.save(|_| Ok::<(), ()>(())).unwrap()
        };
        let peer = PeerId(1);
        let connected = said(Input::Connected { peer });
        let [Action::Send { message, .. }] = &connected[..] else {
            panic!("the challenge")
        };
        let ToParticipant::Challenge(challenge) = &**message else {
            panic!("the challenge")
        };
        let newcomer = PAYEES + 1;
        let join = Join::sign(&key(newcomer), challenge, 1, "test/1", &[1; 32]);
        let message = ToCoordinator::Join(join);
        said(Input::Received { peer, message });
        ASKED.with(|asked| asked.set(0));
        for n in 0..64u64 {
            let message = ToCoordinator::TxAddOutput(output(newcomer, 9_001 + 2 * n));
            let actions = said(Input::Received { peer, message });
            let is_refused = |action: &Action| {
                matches!(action, Action::Send { message, .. } if matches!(
                    &**message,
                    ToParticipant::Reject(reject) if reject.code == RejectCode::PoolFull
                ))
            };
            assert!(actions.iter().any(is_refused), "{n}");
        }
        let asked = ASKED.with(|asked| asked.get());
        assert!(
            asked <= usize::from(PAYEES),
            "{asked} looks into the ledger"
        );
    }
}
