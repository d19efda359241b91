//! What one flush serves: whatever is ready, and of shares and newcomers also those that come soon after.

use std::time::Duration;

use tutti_proto::coordinator::{Action, Input, Record};
use tutti_proto::effect::Effects;
use tutti_proto::id::PeerId;
use tutti_proto::message::ToParticipant;

use super::inbox::{Incoming, Mailbox};
use super::{Driver, Kept, TemplateOf};
use crate::grpc::Outbound;
use crate::store::APPENDED_MAX;

/// Most inputs of one group: bounds the wait of the first for the flush it shares with the last. A few who send
/// much fill each group, and while one is stored the next is decided: of twice the size there would be no next.
pub(super) const GROUP_LIMIT: usize = 512;
const _: () = assert!(GROUP_LIMIT <= APPENDED_MAX, "sled would take what is more");
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
    pub(super) opened: Vec<(PeerId, Outbound)>,
    pub(super) gone: Vec<PeerId>,
    inputs: usize,
    /// Another template came, which Pool.Info tells.
    other_template: bool,
    /// Something in it is not to wait for more.
    pub(super) urgent: bool,
    /// The daemon is to stop after it.
    pub(super) stop: bool,
}

impl Group {
    fn is_full(&self) -> bool {
        self.stop || self.inputs >= GROUP_LIMIT
    }

    fn is_empty(&self) -> bool {
        let sessions = self.opened.len() + self.gone.len();
        !self.stop && !self.other_template && sessions == 0 && self.effects.is_empty()
    }
}

/// What the owner waits for, for so long.
enum Wait {
    /// What comes next.
    Next(Option<Duration>),
    /// What is not to wait, or the keeper.
    More(Option<Duration>),
    /// The keeper alone.
    Keeper,
    /// Nothing: it is time for a flush.
    Nothing,
}

/// What ended a wait.
enum Came {
    Next(Option<Incoming>),
    Bell,
    Kept(Option<Kept>),
}

impl Driver {
    /// Handles what is ready, and what comes before the keeper is, and before the next flush is due. Nothing, if
    /// the keeper is gone.
    pub(super) fn gather(&mut self, mailbox: &mut Mailbox) -> Option<Group> {
        let mut group = Group::default();
        loop {
            // A round's messages are on their way before anything else takes the cores.
            if self.keeping.is_some_and(|batch| batch.urgent) {
                self.hear_keeper(&mut group)?;
            }
            // What is due may take long: it comes after what is urgent.
            if !group.urgent && !group.stop {
                self.wake_if_due(&mut group);
            }
            // Taken one by one, so that nothing is taken that is not handled.
            while !group.is_full()
                && let Ok(incoming) = mailbox.queue.try_recv()
            {
                self.take(&mut group, incoming);
            }
            if group.is_empty() {
                group.inputs = 0;
            }
            match self.wait_for(&group) {
                Wait::Nothing => return Some(group),
                Wait::Keeper => self.hear_keeper(&mut group)?,
                Wait::Next(within) => self.wait(true, within, mailbox, &mut group)?,
                Wait::More(within) => self.wait(false, within, mailbox, &mut group)?,
            }
        }
    }

    fn wait_for(&self, group: &Group) -> Wait {
        match self.keeping {
            Some(_) if group.urgent || group.is_full() => Wait::Keeper,
            Some(_) => Wait::More(self.until_due()),
            None if group.is_empty() => Wait::Next(self.until_due()),
            None if group.urgent || group.is_full() => Wait::Nothing,
            None => match self.spare_time() {
                None => Wait::Nothing,
                spare => Wait::More(spare),
            },
        }
    }

    /// Waits for whatever comes next, or only for what is not to wait; and for the keeper. Nothing, if that is
    /// gone.
    fn wait(
        &mut self,
        any: bool,
        within: Option<Duration>,
        mailbox: &mut Mailbox,
        group: &mut Group,
    ) -> Option<()> {
        // Far from all deadlines; then it waits again.
        let within = within.unwrap_or(Duration::from_secs(3_600));
        let runtime = self.runtime.clone();
        let came = runtime.block_on(async {
            tokio::time::timeout(within, async {
                tokio::select! {
                    kept = self.kept.recv() => Came::Kept(kept),
                    next = mailbox.queue.recv(), if any => Came::Next(next),
                    () = mailbox.bell.notified(), if !any => Came::Bell,
                }
            })
            .await
        });
        match came {
            Ok(Came::Next(Some(next))) => self.take(group, next),
            Ok(Came::Next(None)) => group.stop = true,
            Ok(Came::Kept(kept)) => self.kept(group, kept?),
            Ok(Came::Bell) | Err(_) => {}
        }
        Some(())
    }

    /// Waits for the keeper alone, for as long as the disk takes.
    fn hear_keeper(&mut self, group: &mut Group) -> Option<()> {
        let kept = self.kept.blocking_recv()?;
        self.kept(group, kept);
        Some(())
    }

    fn kept(&mut self, group: &mut Group, kept: Kept) {
        self.keeping = None;
        for peer in kept.ended {
            self.handle(group, Input::Disconnected { peer });
        }
    }

    /// Until the next flush is due, or what the state machine waits for.
    fn spare_time(&self) -> Option<Duration> {
        if self.coordinator.joined() < MANY_SESSIONS {
            return None;
        }
        let spare = FLUSH_SPACING.checked_sub(self.handed?.elapsed())?;
        let spare = self.until_due().map_or(spare, |due| due.min(spare));
        (!spare.is_zero()).then_some(spare)
    }

    fn take(&mut self, group: &mut Group, incoming: Incoming) {
        group.inputs += 1;
        match incoming {
            Incoming::Stop => group.stop = true,
            Incoming::Opened { peer, outbound } => {
                group.opened.push((peer, outbound));
                self.handle(group, Input::Connected { peer });
            }
            Incoming::Input(input) => {
                if let Input::Disconnected { peer } = &input {
                    group.gone.push(*peer);
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
            let template = TemplateOf {
                height: template.height,
                time: template.time,
            };
            group.other_template |= self.template != template;
            self.template = template;
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
    let message: &ToParticipant = match action {
        Action::Send { message, .. } => message,
        Action::Broadcast { message, .. } => message,
        other => return matches!(other, Action::AcceptShare { .. } | Action::Tell(_)),
    };
    matches!(
        (action, message),
        (
            Action::Send { .. },
            ToParticipant::ShareAck(_)
                | ToParticipant::ShareReject(_)
                | ToParticipant::Challenge(_)
                | ToParticipant::Welcome(_)
                | ToParticipant::Assignments(_)
        ) | (
            Action::Broadcast { .. },
            ToParticipant::TxAddOutput(_) | ToParticipant::TxRemoveOutput(_)
        )
    )
}
