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
use crate::window::LedgerSnapshot;

/// The replicated state, as whoever joins is told it: the same until something of it changes. Thousands come
/// at once when a coordinator is back, and the ledger is large: who still holds it is not told it again.
pub(super) struct Greeting {
    /// The last closed window, and changes of the payee set since.
    state: (WindowSeq, usize),
    assignments: Arc<Assignments>,
    /// The welcomes, once somebody is to be told them.
    with_ledger: Option<Arc<ToParticipant>>,
    without_ledger: Option<Arc<ToParticipant>>,
    assigned: Arc<ToParticipant>,
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
        for message in self.greeting(join.head) {
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

    /// What one who joins is told, and holds the ledger of this head.
    fn greeting(&mut self, held: Option<[u8; 32]>) -> [Arc<ToParticipant>; 2] {
        let state = (self.ledger.seq(), self.window.changes.all());
        let is_so = |greeting: &Greeting| {
            greeting.state == state && Arc::ptr_eq(&greeting.assignments, &self.assignments)
        };
        let mut greeting = match self.greeting.take().filter(is_so) {
            Some(greeting) => greeting,
            None => Greeting::new(state, &self.assignments),
        };
        let welcome = if held == Some(self.head.head.hash) {
            let welcome = || self.welcome(None);
            greeting.without_ledger.get_or_insert_with(welcome)
        } else {
            let welcome = || self.welcome(Some(self.ledger.snapshot()));
            greeting.with_ledger.get_or_insert_with(welcome)
        };
        let messages = [welcome.clone(), greeting.assigned.clone()];
        self.greeting = Some(greeting);
        messages
    }

    fn welcome(&self, ledger: Option<LedgerSnapshot>) -> Arc<ToParticipant> {
        let outputs = self.roster.in_order_of_adding();
        let outputs = outputs.into_iter().map(|(_, output)| output.clone());
        Arc::new(ToParticipant::Welcome(Welcome {
            outputs: outputs.collect(),
            ledger,
            head: self.head,
        }))
    }
}

impl Greeting {
    fn new(state: (WindowSeq, usize), assignments: &Arc<Assignments>) -> Self {
        let set = AssignmentsSet {
            assignments: Assignments::clone(assignments),
        };
        Self {
            state,
            assignments: assignments.clone(),
            with_ledger: None,
            without_ledger: None,
            assigned: Arc::new(ToParticipant::Assignments(set)),
        }
    }
}
