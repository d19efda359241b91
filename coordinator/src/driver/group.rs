//! What one flush serves: whatever is ready, and of shares and newcomers also those that come soon after.

use std::time::Duration;

use tokio::runtime::Handle;
use tutti_proto::coordinator::{Action, Input, Record};
use tutti_proto::effect::Effects;
use tutti_proto::message::ToParticipant;

use super::Driver;
use super::inbox::{Incoming, Mailbox};

/// Most inputs of one group: bounds the wait of the first for the flush it shares with the last.
pub(super) const GROUP_LIMIT: usize = 1_024;
/// Shortest time from one flush to the next, unless something is urgent. A flush wakes ten threads and costs
/// as much as many shares do: under load many share one, and a share that comes alone waits for nobody. One
/// that is a block waits as long before that is seen, which loses one block in 100,000.
const FLUSH_SPACING: Duration = Duration::from_millis(3);

/// With fewer sessions than these nobody waits: each of them says much at once, and one flush serves that
/// anyway.
const MANY_SESSIONS: usize = 500;

/// What one flush serves.
#[derive(Default)]
pub(super) struct Group {
    pub(super) effects: Effects<Record, Action>,
    inputs: usize,
    /// Something in it is not to wait for more.
    urgent: bool,
    /// The daemon is to stop after it.
    pub(super) stop: bool,
}

impl Group {
    fn is_full(&self) -> bool {
        self.stop || self.inputs >= GROUP_LIMIT
    }
}

impl Driver {
    /// Handles what is ready, and what comes before the next flush is due.
    pub(super) fn gather(
        &mut self,
        first: Option<Incoming>,
        inbox: &mut Mailbox,
        runtime: &Handle,
    ) -> Group {
        let mut group = Group::default();
        self.wake_if_due(&mut group);
        while let Some(peer) = self.ended.pop_front() {
            self.handle(&mut group, Input::Disconnected { peer });
        }
        if let Some(first) = first {
            self.take(&mut group, first);
        }
        loop {
            // Taken one by one, so that nothing is taken that is not handled.
            while !group.is_full()
                && let Ok(incoming) = inbox.queue.try_recv()
            {
                self.take(&mut group, incoming);
            }
            let Some(within) = self.spare_time().filter(|_| !group.is_full()) else {
                return group;
            };
            if group.urgent || group.effects.is_empty() {
                return group;
            }
            runtime.block_on(async {
                // Either way what came is looked at.
                let _ = tokio::time::timeout(within, inbox.bell.notified()).await;
            });
        }
    }

    /// Until the next flush is due, or what the state machine waits for.
    fn spare_time(&self) -> Option<Duration> {
        if self.sessions.len() < MANY_SESSIONS {
            return None;
        }
        let since = self.flushed?.elapsed();
        let spare = FLUSH_SPACING.checked_sub(since)?;
        let due = self.coordinator.next_deadline();
        let due = due.map(|at| Duration::from_millis(at.since(self.now()).0));
        let spare = due.map_or(spare, |due| due.min(spare));
        (!spare.is_zero()).then_some(spare)
    }

    fn take(&mut self, group: &mut Group, incoming: Incoming) {
        group.inputs += 1;
        match incoming {
            Incoming::Stop => group.stop = true,
            Incoming::Opened { peer, outbound } => {
                self.sessions.insert(peer, outbound);
                self.handle(group, Input::Connected { peer });
            }
            Incoming::Input(input) => {
                if let Input::Disconnected { peer } = &input {
                    self.gone.push(*peer);
                }
                self.handle(group, input);
            }
        }
    }

    fn wake_if_due(&mut self, group: &mut Group) {
        let now = self.now();
        if self.coordinator.next_deadline().is_some_and(|at| at <= now) {
            self.handle(group, Input::Wake);
        }
    }

    fn handle(&mut self, group: &mut Group, input: Input) {
        let now = self.now();
        if let Input::Template(template) = &input {
            let height = template.height;
            self.info.send_if_modified(|info| {
                let old = std::mem::replace(&mut info.height, height);
                old != height
            });
        }
        let before = std::mem::take(&mut group.effects);
        let from = before.actions();
        group.effects = self
            .coordinator
            .handle_also(now, &mut rand::rng(), input, before);
        group.urgent |= !group.effects.may_wait(from, may_wait);
    }
}

/// Whether an action may wait for others. Of shares, because there are thousands; and of those who join,
/// who come all at once when a coordinator is back: each is told to everybody, and what is told together
/// is one write to a connection. Whatever belongs to a round, or to a block, is not to wait.
fn may_wait(action: &Action) -> bool {
    let message = match action {
        Action::Send { message, .. } | Action::Broadcast { message, .. } => message,
        other => return matches!(other, Action::AcceptShare { .. } | Action::Tell(_)),
    };
    matches!(
        (action, &**message),
        (
            Action::Send { .. },
            ToParticipant::ShareAck(_)
                | ToParticipant::ShareReject(_)
                | ToParticipant::Challenge(_)
                | ToParticipant::Welcome(_)
                | ToParticipant::Assignments(_)
        ) | (Action::Broadcast { .. }, ToParticipant::TxAddOutput(_))
    )
}
