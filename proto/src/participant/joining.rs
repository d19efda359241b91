//! The join is out: the welcome brings the replicated state.

use super::joined::Joined;
use super::{Event, Participant, State, Turn};
use crate::message::Welcome;
use crate::params::PoolParams;

impl Participant {
    pub(super) fn welcomed(&mut self, turn: &mut Turn<'_>, params: PoolParams, welcome: Welcome) {
        if !self.note_head(turn, &params.coordinator, &welcome.head) {
            return;
        }
        let joined = match Joined::new(params, welcome) {
            Err(error) => return self.leave(turn, Event::BadState(error)),
            Ok(joined) => joined,
        };
        let missing = joined.missing_work(&self.identity(), &self.own_work);
        let closed = joined.ledger.seq();
        self.own_work.retain(|window, _| *window > closed);
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
                self.state = State::Joined(Box::new(joined));
                // Before the slots: who goes on with a round need not hurry the next one.
                self.name_held(turn);
                self.register_output(turn);
                self.top_up_slots(turn);
                self.send_again(turn);
            }
        }
    }
}
