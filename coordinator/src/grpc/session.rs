//! Sessions: a task each that turns what a peer sends into inputs.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tonic::{Code, Request, Status, Streaming};
use tutti_proto::coordinator::Input;
use tutti_proto::id::PeerId;
use tutti_proto::message::ToCoordinator;
use tutti_proto::reject::{Reject, RejectCode};
use tutti_proto::wire::{FromWire, MESSAGE_LIMIT_TO_COORDINATOR, pb};

use super::answers::Answers;
use super::places::Residents;
use super::points::{Checking, Points, is_slots};
use super::{Hangup, Outbound};
use crate::driver::{Inbox, Incoming, Stopped};
use crate::news::News;

/// A peer that connects and does not join, whatever else it sends, takes a place of those who would.
const JOIN_WITHIN: Duration = Duration::from_secs(10);

pub(super) struct Sessions {
    inbox: Inbox,
    residents: Arc<Residents>,
    points: Points,
    next: AtomicU64,
}

impl Sessions {
    pub(super) fn new(inbox: Inbox, residents: Arc<Residents>, points: Points) -> Self {
        Self {
            inbox,
            residents,
            points,
            next: AtomicU64::new(1),
        }
    }

    pub(super) async fn open(
        &self,
        request: Request<Streaming<pb::ToCoordinator>>,
    ) -> Result<Answers, Status> {
        let peer = PeerId(self.next.fetch_add(1, Ordering::Relaxed));
        let hangup = request.extensions().get::<Hangup>().cloned();
        let (outbound, inner) = Outbound::new(hangup.clone());
        let opened = Incoming::Opened { peer, outbound };
        let stopping = |stopped: Stopped| Status::unavailable(stopped.to_string());
        self.inbox.send(opened).await.map_err(stopping)?;
        let session = Session {
            peer,
            inbox: self.inbox.clone(),
            inbound: request.into_inner(),
            joined: inner.joined,
            residents: self.residents.clone(),
            hangup,
        };
        tokio::spawn(session.run(Checking::by(self.points.clone())));
        Ok(Answers::new(inner.queue))
    }
}

struct Session {
    peer: PeerId,
    inbox: Inbox,
    inbound: Streaming<pb::ToCoordinator>,
    joined: watch::Receiver<bool>,
    residents: Arc<Residents>,
    hangup: Option<Hangup>,
}

impl Session {
    async fn run(mut self, mut checking: Checking) {
        let peer = self.peer;
        let at = self.hangup.as_ref().map(Hangup::address);
        let overdue = join_overdue(self.joined.clone(), self.residents.clone(), at);
        // Every way of ending is told the same way; that the owner has stopped needs no telling.
        tokio::select! {
            _ = self.read(&mut checking) => {}
            () = overdue => {
                News::join_overdue(peer, self.hangup.as_ref().map(Hangup::address)).tell();
                // It may not read either, and then an end of its stream would not reach it.
                if let Some(hangup) = &self.hangup {
                    hangup.now();
                }
            }
        }
        let _ = self.input(Input::Disconnected { peer }).await;
    }

    async fn read(&mut self, checking: &mut Checking) -> Result<(), Stopped> {
        let peer = self.peer;
        let mut joined = self.joined.clone();
        // Resolves, with an error, when the owner drops its end. Waited for once, not once for each
        // message: most of them are shares.
        let ended = joined.wait_for(|_| false);
        tokio::pin!(ended);
        loop {
            let room = checking.has_room();
            let next = tokio::select! {
                biased;
                _ = &mut ended => return Ok(()),
                checked = checking.next() => checked.map_or_else(Next::Unreadable, Next::Message),
                read = self.inbound.message(), if room => match read {
                    Ok(Some(slots)) if is_slots(&slots) => match self.ask(slots, checking) {
                        Ok(()) => continue,
                        Err(reject) => Next::Unreadable(reject),
                    },
                    read => next(read),
                },
            };
            let input = match next {
                Next::Message(message) => Input::Received { peer, message },
                Next::Unreadable(reject) => Input::Unreadable { peer, reject },
                Next::Gone => return Ok(()),
            };
            let last = matches!(input, Input::Unreadable { .. });
            self.input(input).await?;
            if last {
                return Ok(());
            }
        }
    }

    /// Has slots checked of one who may announce some: the check costs more than all else.
    fn ask(&self, slots: pb::ToCoordinator, checking: &mut Checking) -> Result<(), Reject> {
        if *self.joined.borrow() {
            return checking.ask(slots);
        }
        Err(Reject {
            code: RejectCode::NotJoined,
            detail: "answer the challenge with a join first".into(),
        })
    }

    async fn input(&self, input: Input) -> Result<(), Stopped> {
        self.inbox.send(Incoming::Input(input)).await
    }
}

/// Resolves if the peer has not joined in time; else it is a resident, as long as this is waited for. A
/// session that its owner ends is another matter.
async fn join_overdue(
    mut joined: watch::Receiver<bool>,
    residents: Arc<Residents>,
    at: Option<SocketAddr>,
) {
    let joined = joined.wait_for(|joined| *joined);
    let joined = tokio::time::timeout(JOIN_WITHIN, joined).await;
    let joined = joined.map(|joined| joined.is_ok());
    if let Ok(joined) = joined {
        let _resident = joined.then(|| residents.enter(at));
        std::future::pending().await
    }
}

enum Next {
    Message(ToCoordinator),
    Unreadable(Reject),
    Gone,
}

fn next(read: Result<Option<pb::ToCoordinator>, Status>) -> Next {
    match read {
        Ok(Some(wire)) => match ToCoordinator::from_wire(wire) {
            Ok(message) => Next::Message(message),
            Err(error) => Next::Unreadable(error.into()),
        },
        Ok(None) => Next::Gone,
        Err(status) => unreadable(&status).map_or(Next::Gone, Next::Unreadable),
    }
}

/// Whether the peer sent something that is no message, or the connection failed.
fn unreadable(status: &Status) -> Option<Reject> {
    match status.code() {
        Code::OutOfRange => Some(Reject {
            code: RejectCode::Oversized,
            detail: format!("a message has at most {MESSAGE_LIMIT_TO_COORDINATOR} bytes"),
        }),
        // A failed connection has its I/O error as a source; a failed decoding has none.
        Code::Internal | Code::Unimplemented if status.source().is_none() => Some(Reject {
            code: RejectCode::Malformed,
            detail: format!("not a message of this protocol: {}", status.message()),
        }),
        _ => None,
    }
}
