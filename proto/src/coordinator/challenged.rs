//! A connection whose identity is not proven yet: the challenge is out, and only a join is taken.

use std::sync::Arc;

use super::member::Member;
use super::session::Session;
use super::{Coordinator, Event, Turn};
use crate::deadline::Deadline;
use crate::id::{PeerId, WindowSeq};
use crate::lane::Assignments;
use crate::message::{AssignmentsSet, Challenge, Join, ToCoordinator, ToParticipant, Welcome};
use crate::params::PROTOCOL_VERSION;
use crate::reject::{Reject, RejectCode};

/// The replicated state, as whoever joins is told it: the same until something of it changes. Thousands come
/// at once when a coordinator is back, and the ledger is large.
pub(super) struct Greeting {
    /// The last closed window, and changes of the payee set since.
    state: (WindowSeq, usize),
    assignments: Arc<Assignments>,
    messages: [Arc<ToParticipant>; 2],
}

impl Coordinator {
    pub(super) fn connected(&mut self, turn: &mut Turn<'_>, peer: PeerId) {
        let challenge = Challenge {
            version: PROTOCOL_VERSION,
            nonce: turn.aux(),
            params: self.params.clone(),
        };
        turn.send(peer, ToParticipant::Challenge(challenge.clone()));
        self.sessions
            .insert(peer, Session::Challenged(Box::new(challenge)));
    }

    pub(super) fn answered(
        &mut self,
        turn: &mut Turn<'_>,
        peer: PeerId,
        challenge: &Challenge,
        message: ToCoordinator,
    ) {
        let reject = match message {
            ToCoordinator::Join(join) => match self.refuse_join(challenge, &join) {
                None => return self.join(turn, peer, &join),
                Some(reject) => reject,
            },
            _ => Reject {
                code: RejectCode::NotJoined,
                detail: "answer the challenge with a join first".into(),
            },
        };
        self.close(turn, peer, reject);
    }

    fn refuse_join(&self, challenge: &Challenge, join: &Join) -> Option<Reject> {
        let (code, detail) = if join.verify(challenge).is_err() {
            let detail = "the join is not signed by its identity over this session's challenge";
            (RejectCode::BadSignature, detail.into())
        } else if join.identity == self.identity() {
            let detail = "the coordinator's own identity cannot join";
            (RejectCode::NotYou, detail.into())
        } else if self.members.len() >= self.settings.members_max
            && !self.members.contains_key(&join.identity)
        {
            let limit = self.settings.members_max;
            let detail = format!("the pool serves at most {limit} participants; try later");
            (RejectCode::PoolFull, detail)
        } else {
            return None;
        };
        Some(Reject { code, detail })
    }

    fn join(&mut self, turn: &mut Turn<'_>, peer: PeerId, join: &Join) {
        if let Some(old) = self.members.get(&join.identity).map(|member| member.peer) {
            let detail = "the same identity joined on another connection; \
                          run one participant per identity";
            let reject = Reject {
                code: RejectCode::Replaced,
                detail: detail.into(),
            };
            self.close(turn, old, reject);
        }
        let mut member = Member::new(turn.now, peer, join.hashrate, &self.settings);
        let rate = self.share_rates.remove(&join.identity);
        member.share_rate = rate.unwrap_or_default();
        self.members.insert(join.identity, member);
        self.sessions.insert(peer, Session::Joined(join.identity));
        for message in self.greeting() {
            turn.send_shared(peer, message);
        }
        self.deadlines
            .arm_if_unset(Deadline::Pace, turn.now.after(self.settings.share_interval));
        turn.tell(Event::Joined {
            identity: join.identity,
            user_agent: join.user_agent.clone(),
            members: self.members.len(),
        });
    }

    fn greeting(&mut self) -> [Arc<ToParticipant>; 2] {
        let state = (self.ledger.seq(), self.window.changes());
        let is_so = |greeting: &Greeting| {
            greeting.state == state && Arc::ptr_eq(&greeting.assignments, &self.assignments)
        };
        if let Some(greeting) = self.greeting.as_ref().filter(|greeting| is_so(greeting)) {
            return greeting.messages.clone();
        }
        let outputs = self.roster.in_order_of_adding();
        let outputs = outputs.into_iter().map(|(_, output)| output.clone());
        let welcome = ToParticipant::Welcome(Welcome {
            outputs: outputs.collect(),
            ledger: self.ledger.snapshot(),
            head: self.head,
        });
        let assignments = Assignments::clone(&self.assignments);
        let assignments = ToParticipant::Assignments(AssignmentsSet { assignments });
        let messages = [welcome, assignments].map(Arc::new);
        self.greeting = Some(Greeting {
            state,
            assignments: self.assignments.clone(),
            messages: messages.clone(),
        });
        messages
    }
}
