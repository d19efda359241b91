//! Sessions: each turns what a peer sends into inputs.

use std::error::Error;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Sleep, sleep};
use tokio_stream::Stream;
use tonic::{Code, Request, Status, Streaming};
use tutti_proto::coordinator::Input;
use tutti_proto::id::PeerId;
use tutti_proto::message::ToCoordinator;
use tutti_proto::reject::{Reject, RejectCode};
use tutti_proto::wire::{FromWire, MESSAGE_LIMIT_TO_COORDINATOR, pb};

use super::answers::Answers;
use super::outbound::Owner;
use super::places::{Resident, Residents};
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

    /// A session, and what it answers.
    pub(super) async fn open(
        &self,
        request: Request<Streaming<pb::ToCoordinator>>,
    ) -> Result<(impl Future<Output = ()> + use<>, Answers), Status> {
        let peer = PeerId(self.next.fetch_add(1, Ordering::Relaxed));
        let hangup = request.extensions().get::<Hangup>().cloned();
        let (outbound, answered, owner) = Outbound::new(hangup.clone());
        let opened = Incoming::Opened { peer, outbound };
        let stopping = |stopped: Stopped| Status::unavailable(stopped.to_string());
        self.inbox.send(opened).await.map_err(stopping)?;
        let session = Session {
            peer,
            inbox: self.inbox.clone(),
            inbound: request.into_inner(),
            checking: Checking::by(self.points.clone()),
            owner,
            hangup,
            place: Place::Joins(Box::pin(sleep(JOIN_WITHIN))),
        };
        let session = session.run(self.residents.clone());
        Ok((session, Answers::new(answered)))
    }
}

struct Session {
    peer: PeerId,
    inbox: Inbox,
    inbound: Streaming<pb::ToCoordinator>,
    checking: Checking,
    owner: Owner,
    hangup: Option<Hangup>,
    place: Place,
}

/// Whose place a connection takes.
enum Place {
    /// Of one who is to join in time.
    Joins(Pin<Box<Sleep>>),
    /// Of a resident, as long as the session lasts.
    Resides(#[expect(dead_code, reason = "held")] Resident),
}

impl Session {
    async fn run(mut self, residents: Arc<Residents>) {
        let peer = self.peer;
        // Every way of ending is told the same way; that the owner has stopped needs no telling.
        let _ = self.read(&residents).await;
        let _ = self.input(Input::Disconnected { peer }).await;
    }

    async fn read(&mut self, residents: &Arc<Residents>) -> Result<(), Stopped> {
        let peer = self.peer;
        loop {
            let next = poll_fn(|context| self.poll_next(residents, context)).await;
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

    fn poll_next(&mut self, residents: &Arc<Residents>, context: &mut Context<'_>) -> Poll<Next> {
        let said = self.owner.says(context);
        if said.ended {
            return Poll::Ready(Next::Gone);
        }
        if let Place::Joins(within) = &mut self.place {
            let at = self.hangup.as_ref().map(Hangup::address);
            if said.joined {
                self.place = Place::Resides(residents.enter(at));
            } else if within.as_mut().poll(context).is_ready() {
                News::join_overdue(self.peer, at).tell();
                // It may not read either, and then an end of its stream would not reach it.
                if let Some(hangup) = &self.hangup {
                    hangup.now();
                }
                return Poll::Ready(Next::Gone);
            }
        }
        if let Poll::Ready(checked) = self.checking.poll_next(context) {
            return Poll::Ready(checked.map_or_else(Next::Unreadable, Next::Message));
        }
        while self.checking.has_room() {
            match ready!(Pin::new(&mut self.inbound).poll_next(context)).transpose() {
                Ok(Some(slots)) if is_slots(&slots) => {
                    if let Err(reject) = self.ask(slots) {
                        return Poll::Ready(Next::Unreadable(reject));
                    }
                    // Wakes when it is checked.
                    if let Poll::Ready(checked) = self.checking.poll_next(context) {
                        return Poll::Ready(checked.map_or_else(Next::Unreadable, Next::Message));
                    }
                }
                read => return Poll::Ready(next(read)),
            }
        }
        Poll::Pending
    }

    /// Has slots checked of one who may announce some: the check costs more than all else.
    fn ask(&mut self, slots: pb::ToCoordinator) -> Result<(), Reject> {
        if self.owner.has_joined() {
            return self.checking.ask(slots);
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
        // What failed below has its error as a source; a failed decoding has none.
        Code::Internal | Code::Unimplemented if status.source().is_none() => Some(Reject {
            code: RejectCode::Malformed,
            detail: format!("not a message of this protocol: {}", status.message()),
        }),
        _ => None,
    }
}
