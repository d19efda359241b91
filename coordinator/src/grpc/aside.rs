//! Fresh slots come when a round is committed, while its jobs are being sent, and are for rounds to
//! come. Decoding their nonces, two square roots each, waits until the jobs are out.

use std::future::pending;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tutti_proto::wire::pb::{ToCoordinator, to_coordinator::Message};

/// Longer than it takes to send a thousand jobs.
const SLOTS_WAIT: Duration = Duration::from_millis(100);

/// A session's slots that wait. What else it says is handled meanwhile.
#[derive(Default)]
pub(super) struct Aside {
    /// Its first slots did not wait: without any it takes part in no round.
    announced: bool,
    waiting: Option<(ToCoordinator, Instant)>,
}

impl Aside {
    /// Takes a message; gives what is to be handled now: itself, or slots that came before these.
    pub(super) fn take(&mut self, message: ToCoordinator) -> Option<ToCoordinator> {
        let has_slots = matches!(message.message, Some(Message::Slots(_)));
        if !has_slots || !std::mem::replace(&mut self.announced, true) {
            return Some(message);
        }
        let until = Instant::now() + SLOTS_WAIT;
        let before = self.waiting.replace((message, until));
        before.map(|(before, _)| before)
    }

    /// The slots that wait, when they have waited. May be dropped and called again.
    pub(super) async fn due(&mut self) -> ToCoordinator {
        if let Some((_, until)) = &self.waiting {
            sleep_until(*until).await;
        }
        match self.waiting.take() {
            Some((waited, _)) => waited,
            None => pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tutti_proto::wire::pb::{PublicSlot, Share, Slots};

    fn slots(count: usize) -> ToCoordinator {
        let slot = tutti_proto::wire::pb::AnnouncedSlot {
            slot: Some(PublicSlot::default()),
            ..Default::default()
        };
        let slots = vec![slot; count];
        let message = Some(Message::Slots(Slots { slots }));
        ToCoordinator { message }
    }

    #[tokio::test]
    async fn slots_wait_and_nothing_else_does() {
        let share = Some(Message::Share(Share::default()));
        let share = ToCoordinator { message: share };
        let mut aside = Aside::default();
        assert_eq!(aside.take(slots(4)), Some(slots(4)), "the first");
        let began = Instant::now();
        assert_eq!(aside.take(slots(1)), None);
        assert_eq!(aside.take(share.clone()), Some(share));
        assert_eq!(aside.take(slots(2)), Some(slots(1)), "in their order");
        assert_eq!(aside.due().await, slots(2));
        assert!(began.elapsed() >= SLOTS_WAIT);
        assert_eq!(aside.take(slots(3)), None);
    }
}
