//! A session as bytes: the generator must not spend the coordinator's cores on parsing messages of
//! which all participants get the same, nor on tasks and queues between a participant and its socket.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
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

const FAILED: &str = "the connection failed";
const ENDED: &str = "the connection ended";

/// A session over a connection of its own.
pub struct Link {
    socket: TcpStream,
    wire: Wire,
}

/// A session whose socket is no task's: for a thread that looks at many.
pub struct Polled {
    socket: std::net::TcpStream,
    wire: Wire,
}

/// What of a session is no socket.
struct Wire {
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
        let wire = Wire {
            connection: Connection::new(address, SESSION)?,
            input: BytesMut::new(),
            awaited: 0,
            grown: false,
        };
        let mut link = Link { socket, wire };
        link.flush().await?;
        Ok(link)
    }

    /// Sends messages, with one write if the coordinator lets us.
    pub async fn send(&mut self, messages: &[Bytes]) -> Result<()> {
        for message in messages {
            let mut bytes = framed(message)?;
            self.wire.connection.send(&mut bytes);
            while bytes.has_remaining() {
                self.flush().await?;
                self.read().await?;
                self.wire.connection.send(&mut bytes);
            }
        }
        self.flush().await
    }

    /// The next message. Nothing is lost if this is dropped before it is there.
    pub async fn receive(&mut self) -> Result<Bytes> {
        loop {
            if let Some(message) = self.wire.received()? {
                return Ok(message);
            }
            // Of what we owe the other end, which may wait for it.
            self.flush().await?;
            self.read().await?;
        }
    }

    /// Takes the session from its task.
    pub fn polled(self) -> Result<Polled> {
        let socket = self.socket.into_std()?;
        let wire = self.wire;
        Ok(Polled { socket, wire })
    }

    async fn read(&mut self) -> Result<()> {
        let awaited = self.wire.awaited.clamp(READ_LEAST, READ_MOST);
        self.wire.input.reserve(awaited);
        let read = self.socket.read_buf(&mut self.wire.input).await;
        let read = read.context(FAILED)?;
        ensure!(read > 0, ENDED);
        self.wire.take()
    }

    async fn flush(&mut self) -> Result<()> {
        let outgoing = &mut self.wire.connection.outgoing;
        while outgoing.has_remaining() {
            let written = self.socket.write(outgoing).await;
            outgoing.advance(written.context(FAILED)?);
        }
        Ok(())
    }
}

impl Polled {
    /// Back to a task, from within the runtime.
    pub fn into_link(self) -> Result<Link> {
        let socket = TcpStream::from_std(self.socket)?;
        let wire = self.wire;
        Ok(Link { socket, wire })
    }

    /// Sends messages with one write; what there is no room for goes with the next call.
    pub fn send(&mut self, messages: &[Bytes]) -> Result<()> {
        for message in messages {
            let mut bytes = framed(message)?;
            self.wire.connection.send(&mut bytes);
            ensure!(!bytes.has_remaining(), "the coordinator does not read");
        }
        let outgoing = &mut self.wire.connection.outgoing;
        while outgoing.has_remaining() {
            match self.socket.write(outgoing) {
                Ok(written) => outgoing.advance(written),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context(FAILED),
            }
        }
        Ok(())
    }

    /// Takes what has come, by way of a buffer.
    pub fn read(&mut self, buffer: &mut [u8]) -> Result<()> {
        let read = match self.socket.read(buffer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            read => read.context(FAILED)?,
        };
        ensure!(read > 0, ENDED);
        self.wire.input.extend_from_slice(&buffer[..read]);
        self.wire.take()
    }

    /// The next message, if it was read before.
    pub fn received(&mut self) -> Result<Option<Bytes>> {
        self.wire.received()
    }
}

impl AsFd for Polled {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Wire {
    fn take(&mut self) -> Result<()> {
        self.connection.receive(&mut self.input)
    }

    /// The next message, if it was read before.
    fn received(&mut self) -> Result<Option<Bytes>> {
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
}

/// A message with what gRPC puts before it.
fn framed(message: &Bytes) -> Result<impl Buf> {
    let mut head = BytesMut::with_capacity(MESSAGE_HEADER);
    head.put_u8(0);
    head.put_u32(u32::try_from(message.len())?);
    Ok(head.chain(message.clone()))
}
