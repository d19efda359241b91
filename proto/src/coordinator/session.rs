//! Connections: which state each is in, and how it ends.

use super::{Action, Coordinator, Event, Turn};
use crate::id::{Identity, PeerId};
use crate::message::{Challenge, ToCoordinator, ToParticipant};
use crate::reject::{Reject, RejectCode};

/// A connection's state.
pub(super) enum Session {
    /// The challenge is out. Apart, so that thousands of sessions are found among few bytes.
    Challenged(Box<Challenge>),
    /// The identity is proven.
    Joined(Identity),
}

impl Coordinator {
    pub(super) fn disconnected(&mut self, turn: &mut Turn<'_>, peer: PeerId) {
        if let Some(Session::Joined(identity)) = self.sessions.remove(&peer) {
            self.leave(turn, identity);
        }
    }

    fn leave(&mut self, turn: &mut Turn<'_>, identity: Identity) {
        if let Some(member) = self.members.remove(&identity) {
            member.slots.iter().for_each(|slot| {
                self.announced.remove(&slot.slot.key);
            });
            self.room.member_left();
            if !member.share_rate.is_idle(turn.now) {
                self.share_rates.insert(identity, member.share_rate);
            }
        }
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

    pub(super) fn close(&mut self, turn: &mut Turn<'_>, peer: PeerId, reject: Reject) {
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
        match self.sessions.get(&peer) {
            None => {} // Closed; what was still on its way does not matter.
            Some(Session::Challenged(challenge)) => {
                let challenge = challenge.clone();
                self.answered(turn, peer, &challenge, message);
            }
            Some(Session::Joined(identity)) => {
                let identity = *identity;
                self.joined_said(turn, peer, identity, message);
            }
        }
    }
}
