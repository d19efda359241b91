//! The way from the owner of the rounds to one session. Sending never waits.

use std::net::SocketAddr;

use prost::bytes::Bytes;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tonic::Status;

use super::Hangup;

/// Messages that wait for a peer to read: four of the owner's batches, if all of one were for it.
pub(super) const QUEUE_LIMIT: usize = 4_096;

/// The peer does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFull;

/// A session's queue. Dropping it ends the session after what was sent before.
pub struct Outbound {
    queue: mpsc::Sender<Result<Bytes, Status>>,
    hangup: Option<Hangup>,
    /// Whether the peer has joined. Dropped with this: the session reads no more.
    joined: watch::Sender<bool>,
}

/// What the session does with it.
pub(super) struct Inner {
    pub(super) queue: mpsc::Receiver<Result<Bytes, Status>>,
    /// Whether the peer has joined. Closed when the owner has ended the session.
    pub(super) joined: watch::Receiver<bool>,
}

impl Outbound {
    pub(super) fn new(hangup: Option<Hangup>) -> (Self, Inner) {
        let (sender, queue) = mpsc::channel(QUEUE_LIMIT);
        let (sets_joined, joined) = watch::channel(false);
        let outbound = Self {
            queue: sender,
            hangup,
            joined: sets_joined,
        };
        (outbound, Inner { queue, joined })
    }

    /// Queues an encoded message. A peer that is gone takes anything.
    pub fn send(&self, message: Bytes) -> Result<(), QueueFull> {
        match self.queue.try_send(Ok(message)) {
            Ok(()) | Err(TrySendError::Closed(_)) => Ok(()),
            Err(TrySendError::Full(_)) => Err(QueueFull),
        }
    }

    /// The peer has joined, and may stay.
    pub fn joined(&self) {
        self.joined.send_replace(true);
    }

    /// Ends the session with a last word, after what was sent before.
    pub fn close(self, status: Status) {
        if let Err(TrySendError::Full(_)) = self.queue.try_send(Err(status)) {
            self.hang_up();
        }
    }

    /// Cuts the connection: the peer would never read a last word.
    pub fn hang_up(self) {
        if let Some(hangup) = &self.hangup {
            hangup.now();
        }
    }

    /// Where the peer is.
    pub fn address(&self) -> Option<SocketAddr> {
        self.hangup.as_ref().map(Hangup::address)
    }
}
