//! Connected: the coordinator speaks first, with its challenge and the pool's parameters.

use super::{Action, Event, Participant, State, Turn};
use crate::message::{Challenge, Join, ToCoordinator};
use crate::params::PROTOCOL_VERSION;
use crate::participant::Settings;

impl Participant {
    pub(super) fn challenged(&mut self, turn: &mut Turn<'_>, challenge: &Challenge) {
        let coordinator = challenge.params.coordinator;
        if self.convicted.contains(&coordinator) {
            self.offline(turn);
            turn.tell(Event::Convicted(coordinator));
            return turn.out.act(Action::LeaveForGood);
        }
        if let Some(why) = self.unacceptable(challenge) {
            return self.leave(turn, why);
        }
        self.hash_for(turn, coordinator);
        let aux = turn.aux();
        let Settings {
            hashrate,
            user_agent,
            ..
        } = &self.settings;
        let join = Join::sign(&self.key, challenge, *hashrate, user_agent, &aux);
        turn.send(ToCoordinator::Join(Join {
            head: self.kept.as_ref().map(|ledger| ledger.head().hash),
            ..join
        }));
        self.state = State::Joining(challenge.params.clone());
    }

    fn unacceptable(&self, challenge: &Challenge) -> Option<Event> {
        let params = &challenge.params;
        if challenge.version != PROTOCOL_VERSION {
            return Some(Event::WrongVersion {
                ours: PROTOCOL_VERSION,
                theirs: challenge.version,
            });
        }
        if let Err(error) = params.check() {
            return Some(Event::BadParams(error));
        }
        if params.network != self.settings.network {
            return Some(Event::WrongNetwork {
                ours: self.settings.network,
                theirs: params.network,
            });
        }
        if self
            .settings
            .coordinator
            .is_some_and(|expected| expected != params.coordinator)
        {
            return Some(Event::WrongCoordinator(params.coordinator));
        }
        let limit = self.settings.policy.operator_fee_ppm_max;
        if params.operator_fee_ppm > limit {
            let fee = params.operator_fee_ppm;
            return Some(Event::OperatorFeeTooHigh { fee, limit });
        }
        let (credit, limit) = (params.bump_credit, self.settings.policy.bump_credit_max);
        (credit > limit).then_some(Event::BumpCreditTooHigh { credit, limit })
    }
}
