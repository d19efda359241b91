//! A session as bytes: the generator must not spend the coordinator's cores on parsing messages of
//! which all participants get the same.

use std::time::Duration;

use anyhow::{Context, Result};
use prost::bytes::{Buf, BufMut, Bytes};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Endpoint;
use tonic::{Request, Status, Streaming};
use tutti_proto::wire::{MESSAGE_LIMIT_TO_COORDINATOR, MESSAGE_LIMIT_TO_PARTICIPANT};

/// The one streaming call of the schema.
const SESSION: &str = "/tutti.v1.Pool/Session";
/// A thousand connections at once are accepted one by one.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);
/// h2 ends a connection of which many small frames are unread, by a budget that grows with this: all
/// participants share the cores that one would have, and read late.
const CONNECTION_WINDOW: u32 = 64 << 20;
/// More than anybody here sends before it waits for an answer.
const OUTGOING: usize = 64;

/// Messages as they are on the wire.
#[derive(Clone, Copy, Debug, Default)]
struct Opaque;

impl Codec for Opaque {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Opaque {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }
}

impl Decoder for Opaque {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// A session over a connection of its own.
pub struct Link {
    outgoing: mpsc::Sender<Bytes>,
    incoming: Streaming<Bytes>,
}

impl Link {
    /// Connects to `host:port`.
    pub async fn open(address: &str) -> Result<Link> {
        let channel = Endpoint::from_shared(format!("http://{address}"))?
            .connect_timeout(CONNECT_WITHIN)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .connect()
            .await
            .context("cannot connect")?;
        let mut client = tonic::client::Grpc::new(channel)
            .max_encoding_message_size(MESSAGE_LIMIT_TO_COORDINATOR)
            .max_decoding_message_size(MESSAGE_LIMIT_TO_PARTICIPANT);
        client.ready().await.context("the connection is gone")?;
        let (outgoing, queue) = mpsc::channel(OUTGOING);
        let request = Request::new(ReceiverStream::new(queue));
        let incoming = client
            .streaming(request, PathAndQuery::from_static(SESSION), Opaque)
            .await?
            .into_inner();
        Ok(Link { outgoing, incoming })
    }

    /// Queues a message.
    pub async fn send(&self, message: Bytes) -> Result<()> {
        let sent = self.outgoing.send(message).await;
        sent.ok().context("the session is closed")
    }

    /// The next message.
    pub async fn receive(&mut self) -> Result<Bytes> {
        let message = self.incoming.message().await;
        message
            .context("the session failed")?
            .context("the session ended")
    }
}
