//! A session as bytes: the generator must not spend the coordinator's cores on parsing messages of
//! which all participants get the same, nor on tasks and queues between a participant and its socket.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use prost::bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tutti_proto::wire::MESSAGE_LIMIT_TO_PARTICIPANT;

use super::http2::Connection;

/// The one streaming call of the schema.
const SESSION: &str = "/tutti.v1.Pool/Session";
/// A thousand connections at once are accepted one by one.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);
/// Whether it is compressed, and its length: what gRPC puts before each message.
const MESSAGE_HEADER: usize = 5;
/// Read at once: an answer or two, or much of a larger message.
const READ_LEAST: usize = 1_024;
const READ_MOST: usize = 64 << 10;

/// A session over a connection of its own.
pub struct Link {
    socket: TcpStream,
    connection: Connection,
    input: BytesMut,
    /// What is missing of the next message, bytes, as far as it is known.
    awaited: usize,
    /// Whether there was a message that left more room than answers need.
    grown: bool,
}

impl Link {
    /// Connects to `host:port`.
    pub async fn open(address: &str) -> Result<Link> {
        let connecting = TcpStream::connect(address);
        let socket = tokio::time::timeout(CONNECT_WITHIN, connecting)
            .await
            .context("nobody accepts")?
            .context("cannot connect")?;
        socket.set_nodelay(true)?;
        let mut link = Link {
            socket,
            connection: Connection::new(address, SESSION)?,
            input: BytesMut::new(),
            awaited: 0,
            grown: false,
        };
        link.flush().await?;
        Ok(link)
    }

    /// Sends messages, with one write if the coordinator lets us.
    pub async fn send(&mut self, messages: &[Bytes]) -> Result<()> {
        for message in messages {
            let mut head = BytesMut::with_capacity(MESSAGE_HEADER);
            head.put_u8(0);
            head.put_u32(u32::try_from(message.len())?);
            let mut bytes = head.chain(message.clone());
            self.connection.send(&mut bytes);
            while bytes.has_remaining() {
                self.flush().await?;
                self.read().await?;
                self.connection.send(&mut bytes);
            }
        }
        self.flush().await
    }

    /// The next message. Nothing is lost if this is dropped before it is there.
    pub async fn receive(&mut self) -> Result<Bytes> {
        loop {
            if let Some(message) = self.received()? {
                return Ok(message);
            }
            // Of what we owe the other end, which may wait for it.
            self.flush().await?;
            self.read().await?;
        }
    }

    /// The next message, if it was read before.
    pub fn received(&mut self) -> Result<Option<Bytes>> {
        let body = &mut self.connection.body;
        let Some((head, _)) = body.split_first_chunk::<MESSAGE_HEADER>() else {
            return Ok(None);
        };
        let [compressed, length @ ..] = *head;
        let length = u32::from_be_bytes(length) as usize;
        ensure!(compressed == 0, "a message is compressed");
        ensure!(length <= MESSAGE_LIMIT_TO_PARTICIPANT, "{length} bytes");
        let whole = MESSAGE_HEADER + length;
        self.awaited = whole.saturating_sub(body.len());
        if self.awaited > 0 {
            body.reserve(self.awaited);
            return Ok(None);
        }
        body.advance(MESSAGE_HEADER);
        // What is small is copied: to share it would cost more.
        let message = if length <= READ_LEAST {
            let message = Bytes::copy_from_slice(&body[..length]);
            body.advance(length);
            message
        } else {
            body.split_to(length).freeze()
        };
        // A snapshot's room is not kept for answers: there are thousands of us.
        self.grown |= whole > READ_LEAST;
        if self.grown && body.is_empty() && self.input.is_empty() {
            (*body, self.input) = (BytesMut::new(), BytesMut::new());
            self.grown = false;
        }
        Ok(Some(message))
    }

    async fn read(&mut self) -> Result<()> {
        self.input
            .reserve(self.awaited.clamp(READ_LEAST, READ_MOST));
        let read = self.socket.read_buf(&mut self.input).await;
        ensure!(
            read.context("the connection failed")? > 0,
            "the connection ended"
        );
        self.connection.receive(&mut self.input)
    }

    async fn flush(&mut self) -> Result<()> {
        let outgoing = &mut self.connection.outgoing;
        while outgoing.has_remaining() {
            let written = self.socket.write(outgoing).await;
            outgoing.advance(written.context("the connection failed")?);
        }
        Ok(())
    }
}
