//! A reader's TCP connection: it has a place, can be cut, and ends when nothing was asked on it for long.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, Sleep, sleep};
use tonic::transport::server::Connected;

use super::places::Place;

pub(super) struct Connection {
    stream: TcpStream,
    peer: Peer,
    cut: mpsc::Receiver<()>,
    idle: Pin<Box<Sleep>>,
    idle_within: Duration,
    _place: Place,
}

/// Whose connection it is, for the calls on it.
#[derive(Clone)]
pub(super) struct Peer {
    pub(super) address: SocketAddr,
    cut: mpsc::Sender<()>,
    downloads: Arc<AtomicUsize>,
}

/// A connection is not idle while there is one.
pub(super) struct Busy(Arc<AtomicUsize>);

impl Connection {
    pub(super) fn new(
        stream: TcpStream,
        address: SocketAddr,
        idle_within: Duration,
        place: Place,
    ) -> Self {
        let (sender, cut) = mpsc::channel(1);
        Self {
            stream,
            peer: Peer {
                address,
                cut: sender,
                downloads: Arc::default(),
            },
            cut,
            idle: Box::pin(sleep(idle_within)),
            idle_within,
            _place: place,
        }
    }

    /// Looked at with every read and write: while one of both cannot go on, HTTP/2 may not try the other.
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.cut.poll_recv(context).is_ready() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        while self.idle.as_mut().poll(context).is_ready() {
            if self.peer.downloads.load(Ordering::Relaxed) == 0 {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let next = Instant::now() + self.idle_within;
            self.idle.as_mut().reset(next);
        }
        Ok(())
    }
}

impl Peer {
    /// Ends the connection. An end of its streams would not do: who reads nothing does not learn of it.
    pub(super) fn cut(&self) {
        // If there is a word in it, it is this one.
        let _ = self.cut.try_send(());
    }

    pub(super) fn busy(&self) -> Busy {
        self.downloads.fetch_add(1, Ordering::Relaxed);
        Busy(self.downloads.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
