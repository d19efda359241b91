//! The way to the owner: one queue, in the order in which things come, and a bell for those that are not
//! to wait for the owner's next flush.

use std::sync::Arc;

use thiserror::Error;
use tokio::sync::{Notify, mpsc};
use tutti_proto::coordinator::Input;
use tutti_proto::id::PeerId;
use tutti_proto::message::ToCoordinator;

use super::group::GROUP_LIMIT;
use crate::grpc::Outbound;

/// Inputs that wait while a group is stored and the next one is full; then whoever brings one waits, each
/// connection with one message, in the order in which they came. So a share waits for four flushes at most
/// once it is read, however much is sent, and who sends much is not before who sends little.
const INBOX_LIMIT: usize = 2 * GROUP_LIMIT;

/// Shares that are looked at together at the latest, while others are being stored.
const LOOKED_AT: usize = INBOX_LIMIT / 4;

/// What comes to the owner.
pub enum Incoming {
    /// A session was opened; this is the way back.
    Opened {
        /// Our number for it.
        peer: PeerId,
        /// The way back.
        outbound: Outbound,
    },
    /// Something for the state machine.
    Input(Input),
    /// The daemon is to stop.
    Stop,
}

impl Incoming {
    fn is_share(&self) -> bool {
        matches!(
            self,
            Self::Input(Input::Received {
                message: ToCoordinator::Share(_),
                ..
            })
        )
    }
}

/// The owner is gone: the daemon stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the coordinator is stopping")]
pub struct Stopped;

/// The way to the owner.
#[derive(Clone)]
pub struct Inbox {
    queue: mpsc::Sender<Incoming>,
    bell: Arc<Notify>,
}

/// The owner's end of it.
pub struct Mailbox {
    pub(crate) queue: mpsc::Receiver<Incoming>,
    /// Rung for whatever is not to wait for the next flush of shares.
    pub(super) bell: Arc<Notify>,
}

impl Inbox {
    /// An inbox and what is put into it.
    pub fn new() -> (Self, Mailbox) {
        let (sender, receiver) = mpsc::channel(INBOX_LIMIT);
        let bell = Arc::new(Notify::new());
        let mailbox = Mailbox {
            queue: receiver,
            bell: bell.clone(),
        };
        let queue = sender;
        (Self { queue, bell }, mailbox)
    }

    /// Waits for room. From a task.
    pub async fn send(&self, incoming: Incoming) -> Result<(), Stopped> {
        let is_share = incoming.is_share();
        let sent = self.queue.send(incoming).await;
        self.ring(is_share);
        sent.map_err(|_| Stopped)
    }

    /// Waits for room. From a thread.
    pub fn give(&self, input: Input) -> Result<(), Stopped> {
        let sent = self.queue.blocking_send(Incoming::Input(input));
        self.ring(false);
        sent.map_err(|_| Stopped)
    }

    /// Shares wait for each other, unless there are many.
    fn ring(&self, is_share: bool) {
        if !is_share || self.queue.capacity().is_multiple_of(LOOKED_AT) {
            self.bell.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use tutti_proto::id::{JobId, LaneIndex};
    use tutti_proto::message::Share;

    use super::*;

    fn now<F: Future>(future: F) -> Option<F::Output> {
        match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        }
    }

    fn share(seq: u64) -> Incoming {
        Incoming::Input(Input::Received {
            peer: PeerId(1),
            message: ToCoordinator::Share(Share {
                seq,
                job: JobId(1),
                lane: LaneIndex(0),
                version: 0,
                time: 0,
                nonce: 0,
            }),
        })
    }

    #[test]
    fn the_bell_rings_for_many_shares_and_for_what_is_no_share() {
        let (inbox, mut mailbox) = Inbox::new();
        let rang = |mailbox: &Mailbox| now(mailbox.bell.notified()).is_some();
        for seq in 1..=INBOX_LIMIT {
            assert_eq!(now(inbox.send(share(seq as u64))), Some(Ok(())));
            assert_eq!(rang(&mailbox), seq.is_multiple_of(LOOKED_AT), "{seq}");
        }
        assert_eq!(now(inbox.send(share(0))), None, "whoever sends more waits");
        while mailbox.queue.try_recv().is_ok() {}
        assert_eq!(inbox.give(Input::Wake), Ok(()));
        assert!(rang(&mailbox));
        assert_eq!(now(inbox.send(Incoming::Stop)), Some(Ok(())));
        assert!(rang(&mailbox));
    }
}
