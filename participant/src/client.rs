//! The stream to the coordinator: connects, reconnects, moves messages. It knows no rule.
//!
//! Each connection is a session of its own. A message of an earlier one never reaches the driver
//! after a later one began, because everything comes through one channel, in order.

mod backoff;

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};
use tutti_proto::message::{ToCoordinator, ToParticipant};
use tutti_proto::wire::pb::pool_client::PoolClient;
use tutti_proto::wire::{
    FromWire, MESSAGE_LIMIT_TO_COORDINATOR, MESSAGE_LIMIT_TO_PARTICIPANT, ToWire, pb, reject_code,
};

pub use backoff::Backoff;

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// The coordinator speaks first; one that says nothing is not one.
const FIRST_MESSAGE_WITHIN: Duration = Duration::from_secs(10);
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// A session of this length was a good one: the next attempt comes soon.
const GOOD_SESSION: Duration = Duration::from_secs(10);
/// Messages read ahead; TCP holds back the rest.
const INCOMING: usize = 64;
/// Messages that may wait for the network: more than all shares of several seconds.
const OUTGOING: usize = 4_096;

/// What happens to the connection.
pub enum Incoming {
    /// The stream is open.
    Connected(Session),
    Received(Box<ToParticipant>),
    /// It is gone, or did not come about.
    Disconnected {
        why: String,
        retry: Duration,
    },
}

/// One connection's way out. Dropping it closes the connection.
pub struct Session {
    outgoing: mpsc::Sender<pb::ToCoordinator>,
    open: oneshot::Sender<Duration>,
}

/// Why a session ended, and how long at least there is to be no other.
struct Ended {
    why: String,
    pause: Duration,
}

impl<T: Into<String>> From<T> for Ended {
    fn from(why: T) -> Self {
        let (why, pause) = (why.into(), Duration::ZERO);
        Self { why, pause }
    }
}

/// The coordinator does not read, or the stream is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotSent;

impl Session {
    /// Queues a message; never waits.
    pub fn send(&self, message: &ToCoordinator) -> Result<(), NotSent> {
        self.outgoing
            .try_send(message.to_wire())
            .map_err(|_| NotSent)
    }

    /// Closes the connection, and opens no other for so long.
    pub fn leave(self, pause: Duration) {
        // Whoever does not hear it has closed it already.
        let _ = self.open.send(pause);
    }

    /// Whether all messages were handed to the network.
    pub fn is_flushed(&self) -> bool {
        self.outgoing.capacity() == self.outgoing.max_capacity()
    }
}

/// Connects for as long as anybody listens.
pub fn start(address: String) -> mpsc::Receiver<Incoming> {
    let (incoming, receiver) = mpsc::channel(INCOMING);
    tokio::spawn(async move {
        let mut backoff = Backoff::default();
        loop {
            let started = tokio::time::Instant::now();
            let Ended { why, pause } = session(&address, &incoming).await;
            if started.elapsed() >= GOOD_SESSION {
                backoff = Backoff::default();
            }
            let retry = backoff.next(rand::random()).max(pause);
            let lost = Incoming::Disconnected { why, retry };
            if incoming.send(lost).await.is_err() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(retry) => {}
                () = incoming.closed() => return,
            }
        }
    });
    receiver
}

/// One connection, from its beginning to the reason of its end.
async fn session(address: &str, incoming: &mpsc::Sender<Incoming>) -> Ended {
    let (outgoing, queue) = mpsc::channel(OUTGOING);
    let mut messages = match timeout(CONNECT_WITHIN, open(address, queue)).await {
        Err(_) => return "the coordinator does not answer".into(),
        Ok(Err(why)) => return why.into(),
        Ok(Ok(messages)) => messages,
    };
    let (open, mut closed) = oneshot::channel();
    let session = Session { outgoing, open };
    if incoming.send(Incoming::Connected(session)).await.is_err() {
        return "stopping".into();
    }
    let mut patience = Some(FIRST_MESSAGE_WITHIN);
    loop {
        let next = async {
            match patience {
                Some(patience) => timeout(patience, messages.message()).await,
                None => Ok(messages.message().await),
            }
        };
        let message = tokio::select! {
            message = next => message,
            left = &mut closed => {
                let why = "left the session".to_owned();
                let pause = left.unwrap_or_default();
                return Ended { why, pause };
            }
        };
        let message = match message {
            Err(_) => return "the coordinator says nothing".into(),
            Ok(Err(status)) => return ended(&status).into(),
            Ok(Ok(None)) => return "the coordinator ended the session".into(),
            Ok(Ok(Some(message))) => message,
        };
        patience = None;
        let message = match ToParticipant::from_wire(message) {
            Ok(message) => Incoming::Received(Box::new(message)),
            Err(error) => {
                return format!("the coordinator sent a malformed message: {error}").into();
            }
        };
        if incoming.send(message).await.is_err() {
            return "stopping".into();
        }
    }
}

async fn open(
    address: &str,
    queue: mpsc::Receiver<pb::ToCoordinator>,
) -> Result<Streaming<pb::ToParticipant>, String> {
    let endpoint = Endpoint::from_shared(address.to_owned())
        .map_err(|error| causes(&error))?
        .connect_timeout(CONNECT_WITHIN)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .tcp_keepalive(Some(KEEP_ALIVE));
    let unanswered = |error| format!("nothing answers at {address}: {}", causes(&error));
    let channel: Channel = endpoint.connect().await.map_err(unanswered)?;
    let mut client = PoolClient::new(channel)
        .max_encoding_message_size(MESSAGE_LIMIT_TO_COORDINATOR)
        .max_decoding_message_size(MESSAGE_LIMIT_TO_PARTICIPANT);
    let response = client.session(ReceiverStream::new(queue)).await;
    Ok(response
        .map_err(|status| format!("at {address}: {}", ended(&status)))?
        .into_inner())
}

pub(crate) fn ended(status: &tonic::Status) -> String {
    // A coordinator's words, on a person's terminal.
    let words = status.message().replace(char::is_control, " ");
    let words: String = words.chars().take(512).collect();
    match reject_code(status) {
        Some(code) => format!("refused by the coordinator, {code}: {words}"),
        None => format!("{:?}: {words}", status.code()),
    }
}

/// The whole chain: the outermost error of a transport says nothing.
pub(crate) fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
