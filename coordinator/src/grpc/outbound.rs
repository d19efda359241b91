//! The way from the owner of the rounds to one session. Sending never waits.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use atomic_waker::AtomicWaker;
use prost::bytes::Bytes;
use tonic::Status;

use super::Hangup;

/// Messages that wait for a peer to read: eight of the owner's batches, if all of one were for it.
pub(super) const QUEUE_LIMIT: usize = 4_096;
/// Places for messages that a session keeps while none waits.
const KEPT_PLACES: usize = 16;

/// The peer does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueFull;

/// A session's queue. Dropping it ends the session after what was sent before.
pub struct Outbound {
    way: Arc<Way>,
    hangup: Option<Hangup>,
}

/// The session's end of it. Both are of one task: whatever comes wakes who looked at either last.
pub(super) struct Answered(Arc<Way>);
/// What the session knows of its owner.
pub(super) struct Owner(Arc<Way>);

#[derive(Default)]
struct Way {
    waits: Mutex<Waits>,
    session: AtomicWaker,
}

#[derive(Default)]
struct Waits {
    queue: VecDeque<Bytes>,
    /// After what waits.
    last: Option<Status>,
    /// The peer has joined, and may stay.
    joined: bool,
    /// The owner has ended the session.
    ended: bool,
    /// Nobody sends any more what waits.
    unsent: bool,
}

impl Way {
    fn waits(&self) -> MutexGuard<'_, Waits> {
        // Nothing panics while it holds it.
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outbound {
    pub(super) fn new(hangup: Option<Hangup>) -> (Self, Answered, Owner) {
        let way = Arc::<Way>::default();
        let (answered, owner) = (Answered(way.clone()), Owner(way.clone()));
        (Self { way, hangup }, answered, owner)
    }

    /// Queues an encoded message. A peer that is gone takes anything.
    pub fn send(&self, message: Bytes) -> Result<(), QueueFull> {
        let mut waits = self.way.waits();
        if waits.unsent {
            return Ok(());
        }
        if waits.queue.len() >= QUEUE_LIMIT {
            return Err(QueueFull);
        }
        waits.queue.push_back(message);
        drop(waits);
        self.way.session.wake();
        Ok(())
    }

    /// The peer has joined, and may stay.
    pub fn joined(&self) {
        self.way.waits().joined = true;
        self.way.session.wake();
    }

    /// Ends the session with a last word, after what was sent before.
    pub fn close(self, status: Status) {
        let mut waits = self.way.waits();
        let is_full = waits.queue.len() >= QUEUE_LIMIT;
        waits.last = Some(status);
        drop(waits);
        if is_full {
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

impl Drop for Outbound {
    fn drop(&mut self) {
        self.way.waits().ended = true;
        self.way.session.wake();
    }
}

impl Answered {
    /// The next message; the last word, or nothing, at the end.
    pub(super) fn poll_next(
        &mut self,
        context: &Context<'_>,
    ) -> Poll<Option<Result<Bytes, Status>>> {
        self.0.session.register(context.waker());
        let mut waits = self.0.waits();
        if let Some(message) = waits.queue.pop_front() {
            return Poll::Ready(Some(Ok(message)));
        }
        waits.queue.shrink_to(KEPT_PLACES);
        match waits.ended {
            true => Poll::Ready(waits.last.take().map(Err)),
            false => Poll::Pending,
        }
    }
}

impl Drop for Answered {
    fn drop(&mut self) {
        let mut waits = self.0.waits();
        waits.unsent = true;
        waits.queue = VecDeque::new();
    }
}

impl Owner {
    /// Whether the peer has joined, and the owner has ended the session. Wakes when either changes.
    pub(super) fn says(&self, context: &Context<'_>) -> Said {
        self.0.session.register(context.waker());
        let waits = self.0.waits();
        Said {
            joined: waits.joined,
            ended: waits.ended,
        }
    }

    /// Whether the peer has joined.
    pub(super) fn has_joined(&self) -> bool {
        self.0.waits().joined
    }
}

/// What the owner has said of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) joined: bool,
    pub(super) ended: bool,
}
