//! Connections: challenge, join, and what a joined participant may say.

use std::collections::BTreeSet;

use super::member::Member;
use super::{Action, Coordinator, Event, Record, Turn};
use crate::deadline::{Deadline, Millis};
use crate::id::{Identity, PeerId};
use crate::message::{
    AssignmentsSet, Challenge, Join, SLOTS_LIMIT, Slots, ToCoordinator, ToParticipant, TxAddOutput,
    TxRemoveOutput, Welcome,
};
use crate::params::PROTOCOL_VERSION;
use crate::reject::{Reject, RejectCode};
use crate::roster::RosterError;

/// Payees of one payout if each output is of the largest standard type, P2TR or P2WSH.
const PAYEES_PER_SHARD: usize = 230;

/// A connection's state.
pub(super) enum Session {
    /// The challenge is out.
    Challenged(Challenge),
    /// The identity is proven.
    Joined(Identity),
}

impl Coordinator {
    pub(super) fn connected(&mut self, turn: &mut Turn<'_>, peer: PeerId) {
        let challenge = Challenge {
            version: PROTOCOL_VERSION,
            nonce: turn.aux(),
            params: self.params.clone(),
        };
        turn.send(peer, ToParticipant::Challenge(challenge.clone()));
        self.sessions.insert(peer, Session::Challenged(challenge));
    }

    pub(super) fn disconnected(&mut self, turn: &mut Turn<'_>, peer: PeerId) {
        if let Some(Session::Joined(identity)) = self.sessions.remove(&peer) {
            self.leave(turn, identity);
        }
    }

    fn leave(&mut self, turn: &mut Turn<'_>, identity: Identity) {
        if let Some(member) = self.members.remove(&identity) {
            member.slots.iter().for_each(|slot| {
                self.announced.remove(&slot.key);
            });
        }
        self.jobs.retain(|_, job| job.identity != identity);
        turn.tell(Event::Left {
            identity,
            members: self.members.len(),
        });
        self.signer_left(turn, identity);
    }

    pub(super) fn unreadable(&mut self, turn: &mut Turn<'_>, peer: PeerId, reject: Reject) {
        // A peer that cannot encode cannot be talked to: tell it why, and close.
        self.close(turn, peer, reject);
    }

    fn close(&mut self, turn: &mut Turn<'_>, peer: PeerId, reject: Reject) {
        let identity = match self.sessions.remove(&peer) {
            Some(Session::Joined(identity)) => Some(identity),
            _ => None,
        };
        turn.out.act(Action::Disconnect {
            peer,
            reject: reject.clone(),
        });
        turn.tell(Event::Refused { identity, reject });
        if let Some(identity) = identity {
            self.leave(turn, identity);
        }
    }

    pub(super) fn reject(
        &self,
        turn: &mut Turn<'_>,
        peer: PeerId,
        code: RejectCode,
        detail: String,
    ) {
        let identity = match self.sessions.get(&peer) {
            Some(Session::Joined(identity)) => Some(*identity),
            _ => None,
        };
        let reject = Reject { code, detail };
        turn.send(peer, ToParticipant::Reject(reject.clone()));
        turn.tell(Event::Refused { identity, reject });
    }

    pub(super) fn received(&mut self, turn: &mut Turn<'_>, peer: PeerId, message: ToCoordinator) {
        let identity = match self.sessions.get(&peer) {
            None => return, // Closed; what was still on its way does not matter.
            Some(Session::Challenged(challenge)) => {
                let challenge = challenge.clone();
                return match message {
                    ToCoordinator::Join(join) => self.join(turn, peer, &challenge, &join),
                    _ => {
                        let detail = "answer the challenge with a join first".into();
                        let code = RejectCode::NotJoined;
                        self.close(turn, peer, Reject { code, detail });
                    }
                };
            }
            Some(Session::Joined(identity)) => *identity,
        };
        let signing = self.signing.as_ref().map(|signing| signing.round());
        // Shares are paced by z; answers to the open attempt are bounded by its state.
        let quota_free = match &message {
            ToCoordinator::Share(_) => true,
            ToCoordinator::TxComplete(complete) => Some(complete.round) == signing,
            ToCoordinator::TxSignatures(signatures) => Some(signatures.round) == signing,
            ToCoordinator::TxAbort(abort) => Some(abort.round) == signing,
            _ => false,
        };
        let settings = self.settings;
        let Some(member) = self.members.get_mut(&identity) else {
            return;
        };
        if !quota_free && !member.spend_quota(turn.now, &settings) {
            let detail = format!(
                "more than {} messages at once; wait {} ms",
                settings.quota, settings.quota_refill.0
            );
            return self.reject(turn, peer, RejectCode::RateLimited, detail);
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
            ToCoordinator::TxAbort(abort) => self.tx_abort(turn, peer, identity, &abort),
            ToCoordinator::Share(share) => self.share(turn, peer, identity, &share),
        }
    }

    fn join(&mut self, turn: &mut Turn<'_>, peer: PeerId, challenge: &Challenge, join: &Join) {
        if join.verify(challenge).is_err() {
            let detail =
                "the join is not signed by its identity over this session's challenge".into();
            return self.close(
                turn,
                peer,
                Reject {
                    code: RejectCode::BadSignature,
                    detail,
                },
            );
        }
        if join.identity == self.identity() {
            let detail = "the coordinator's own identity cannot join".into();
            return self.close(
                turn,
                peer,
                Reject {
                    code: RejectCode::NotYou,
                    detail,
                },
            );
        }
        if let Some(old) = self.members.get(&join.identity).map(|member| member.peer) {
            let detail =
                "the same identity joined on another connection; run one participant per identity"
                    .into();
            self.close(
                turn,
                old,
                Reject {
                    code: RejectCode::Replaced,
                    detail,
                },
            );
        }
        if self.members.len() >= self.settings.members_max {
            let detail = format!(
                "the pool serves at most {} participants; try later",
                self.settings.members_max
            );
            return self.close(
                turn,
                peer,
                Reject {
                    code: RejectCode::PoolFull,
                    detail,
                },
            );
        }
        let member = Member::new(turn.now, peer, join.hashrate, &self.settings);
        self.members.insert(join.identity, member);
        self.sessions.insert(peer, Session::Joined(join.identity));
        let outputs = self
            .roster
            .in_order_of_adding()
            .into_iter()
            .map(|(_, output)| output.clone())
            .collect();
        let welcome = Welcome {
            outputs,
            ledger: self.ledger.snapshot(),
            head: self.ledger.head(),
        };
        turn.send(peer, ToParticipant::Welcome(welcome));
        let assignments = self.assignments.clone();
        turn.send(
            peer,
            ToParticipant::Assignments(AssignmentsSet { assignments }),
        );
        self.deadlines
            .arm_if_unset(Deadline::Pace, turn.now.after(self.settings.share_interval));
        turn.tell(Event::Joined {
            identity: join.identity,
            user_agent: join.user_agent.clone(),
            members: self.members.len(),
        });
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
        // Who moves to another script takes no place that it does not have.
        let moves = self.roster.active(&identity).is_some();
        if !moves && self.roster.len() >= self.payees_max() {
            let detail = format!(
                "the pool's payouts hold {} payees; try later",
                self.payees_max()
            );
            return self.reject(turn, peer, RejectCode::PoolFull, detail);
        }
        let coordinator = self.identity();
        if let Err(error) = self.roster.add_output(&coordinator, output.clone()) {
            return self.reject(turn, peer, roster_code(error), error.to_string());
        }
        turn.out.persist(Record::OutputAdded(output.clone()));
        self.broadcast(turn, ToParticipant::TxAddOutput(output));
    }

    /// Payees that the nonces of a slot can pay, were each output of the largest type.
    fn payees_max(&self) -> usize {
        let shards = self.params.nonces_per_slot / self.params.lanes.max(1);
        usize::from(shards).saturating_mul(PAYEES_PER_SHARD)
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
        if let Err(error) = self.roster.remove_output(identity, removal.serial_id) {
            return self.reject(turn, peer, roster_code(error), error.to_string());
        }
        turn.out.persist(Record::OutputRemoved(removal.serial_id));
        self.broadcast(turn, ToParticipant::TxRemoveOutput(removal));
    }

    fn add_slots(&mut self, turn: &mut Turn<'_>, peer: PeerId, identity: Identity, slots: Slots) {
        let need = usize::from(self.params.nonces_per_slot);
        let Some(member) = self.members.get(&identity) else {
            return;
        };
        if member.slots.len() + slots.slots.len() > SLOTS_LIMIT
            || slots.slots.iter().any(|s| s.nonces.len() != need)
        {
            let detail = format!("at most {SLOTS_LIMIT} unused slots, each with {need} nonces");
            return self.reject(turn, peer, RejectCode::SlotQuota, detail);
        }
        if slots.verify(&self.identity(), &identity).is_err() {
            let detail = "the slots are not signed by this session's identity".into();
            return self.reject(turn, peer, RejectCode::BadSignature, detail);
        }
        let mut fresh = BTreeSet::new();
        if slots
            .slots
            .iter()
            .any(|slot| self.announced.contains(&slot.key) || !fresh.insert(slot.key))
        {
            let detail = "a slot key is announced already; every slot needs a fresh key".into();
            return self.reject(turn, peer, RejectCode::DuplicateSlot, detail);
        }
        self.announced.append(&mut fresh);
        let Some(member) = self.members.get_mut(&identity) else {
            return;
        };
        let any = !slots.slots.is_empty();
        member.slots.extend(slots.slots);
        if any {
            self.gather(turn, &identity);
        }
    }

    /// A participant that could hash and has no job brings the next round nearer: soon, to gather
    /// whoever comes within the moment, but not so soon that joining could make others' work stale.
    fn gather(&mut self, turn: &Turn<'_>, identity: &Identity) {
        let assigned = !self.assignments.of(identity).is_empty();
        let peer = self.members.get(identity).map(|member| member.peer);
        let shown = |peer| self.signing.as_ref().is_some_and(|s| s.was_shown_to(peer));
        let proposed = assigned && peer.is_some_and(shown);
        if self.roster.active(identity).is_none() || self.has_job(identity) || proposed {
            return;
        }
        let soon = turn.now.after(self.settings.regroup);
        let gap = Millis(self.settings.refresh.0 / 4);
        let at = if self.live.is_empty() {
            soon
        } else {
            soon.max(self.last_round_at.after(gap))
        };
        self.deadlines.arm_if_unset(Deadline::Regroup, at);
    }
}

fn roster_code(error: RosterError) -> RejectCode {
    match error {
        RosterError::BadSignature(_) => RejectCode::BadSignature,
        RosterError::WrongParity(_) => RejectCode::SerialParity,
        RosterError::SerialTaken(_) => RejectCode::SerialTaken,
        RosterError::Quota => RejectCode::OutputQuota,
        RosterError::NotYours(_) => RejectCode::NotYourOutput,
        RosterError::Full => RejectCode::PoolFull,
    }
}
