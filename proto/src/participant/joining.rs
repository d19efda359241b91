//! The join is out: the welcome brings the replicated state, without the ledger if the join named its head.

use super::joined::Joined;
use super::{Event, Participant, State, Turn};
use crate::message::Welcome;
use crate::params::PoolParams;

impl Participant {
    pub(super) fn welcomed(&mut self, turn: &mut Turn<'_>, params: PoolParams, welcome: Welcome) {
        if !self.note_head(turn, &params.coordinator, &welcome.head) {
            return;
        }
        let got = welcome.head.head.seq;
        if let Some(signed) = self.statements.newest()
            && signed > got
            && !self.statements.knows(&got.next())
        {
            // It signs no head before its window is durable, so an honest one never goes back. Where we
            // know what it signed for the next window, it will stand by that or convict itself.
            return self.leave(turn, Event::RolledBack { signed, got });
        }
        let kept = self.kept.take();
        let joined = match Joined::new(params, welcome, kept) {
            Err(error) => return self.leave(turn, Event::BadState(error)),
            Ok(joined) => joined,
        };
        let missing = joined.missing_work(&self.identity(), &self.own_work);
        let closed = joined.ledger.seq();
        self.own_work.retain(|window, _| *window > closed);
        self.hashing.acknowledged.closed(closed);
        match missing {
            Some(missing) => self.leave(turn, missing),
            None => {
                turn.tell(Event::Joined {
                    coordinator: joined.params.coordinator,
                    payees: joined.roster.len(),
                    window: joined.ledger.head().seq,
                });
                // Rounds count up within a session; a coordinator that was set up anew starts over.
                self.last = None;
                let claims = joined.claims();
                self.state = State::Joined(Box::new(joined));
                self.forget_claims();
                self.look_up(turn, claims);
                // Before the slots: who goes on with a round need not hurry the next one.
                self.name_held(turn);
                self.register_output(turn);
                self.miss_output(turn);
                self.top_up_slots(turn);
                self.send_again(turn);
            }
        }
    }
}
