//! Sessions: a task each that turns what a peer sends into inputs.

use std::error::Error;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prost::bytes::Bytes;
use tokio::sync::watch;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming};
use tutti_proto::coordinator::Input;
use tutti_proto::id::PeerId;
use tutti_proto::message::ToCoordinator;
use tutti_proto::reject::{Reject, RejectCode};
use tutti_proto::wire::{FromWire, MESSAGE_LIMIT_TO_COORDINATOR, pb};

use super::aside::Aside;
use super::{Hangup, Outbound};
use crate::driver::{Inbox, Incoming, Stopped};
use crate::news::News;

/// A peer that connects and does not join, whatever else it sends, takes a place of those who would.
const JOIN_WITHIN: Duration = Duration::from_secs(10);

pub(super) struct Sessions {
    inbox: Inbox,
    next: AtomicU64,
}

impl Sessions {
    pub(super) fn new(inbox: Inbox) -> Self {
        Self {
            inbox,
            next: AtomicU64::new(1),
        }
    }

    pub(super) async fn open(
        &self,
        request: Request<Streaming<pb::ToCoordinator>>,
    ) -> Result<ReceiverStream<Result<Bytes, Status>>, Status> {
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
            aside: Aside::default(),
            joined: inner.joined,
            hangup,
        };
        tokio::spawn(session.run());
        Ok(ReceiverStream::new(inner.queue))
    }
}

struct Session {
    peer: PeerId,
    inbox: Inbox,
    inbound: Streaming<pb::ToCoordinator>,
    aside: Aside,
    joined: watch::Receiver<bool>,
    hangup: Option<Hangup>,
}

impl Session {
    async fn run(mut self) {
        let peer = self.peer;
        let overdue = join_overdue(self.joined.clone());
        // Every way of ending is told the same way; that the owner has stopped needs no telling.
        tokio::select! {
            _ = self.read() => {}
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

    async fn read(&mut self) -> Result<(), Stopped> {
        let peer = self.peer;
        loop {
            let input = match self.next().await {
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

    async fn next(&mut self) -> Next {
        loop {
            let read = tokio::select! {
                biased;
                // Resolves, with an error, when the owner drops its end.
                _ = self.joined.wait_for(|_| false) => return Next::Gone,
                wire = self.aside.due() => return Next::of(wire),
                read = self.inbound.message() => read,
            };
            match read {
                Ok(Some(wire)) => {
                    if let Some(wire) = self.aside.take(wire) {
                        return Next::of(wire);
                    }
                }
                Ok(None) => return Next::Gone,
                Err(status) => {
                    return unreadable(&status).map_or(Next::Gone, Next::Unreadable);
                }
            }
        }
    }

    async fn input(&self, input: Input) -> Result<(), Stopped> {
        self.inbox.send(Incoming::Input(input)).await
    }
}

/// Resolves if the peer has not joined in time. A session that its owner ends is another matter.
async fn join_overdue(mut joined: watch::Receiver<bool>) {
    let joined = joined.wait_for(|joined| *joined);
    if tokio::time::timeout(JOIN_WITHIN, joined).await.is_ok() {
        std::future::pending().await
    }
}

enum Next {
    Message(ToCoordinator),
    Unreadable(Reject),
    Gone,
}

impl Next {
    fn of(wire: pb::ToCoordinator) -> Self {
        match ToCoordinator::from_wire(wire) {
            Ok(message) => Self::Message(message),
            Err(error) => Self::Unreadable(error.into()),
        }
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
