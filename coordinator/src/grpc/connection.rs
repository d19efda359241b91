//! TCP connections: counted, without Nagle's delay, and such that we can cut them.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use atomic_waker::AtomicWaker;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
#[cfg(target_os = "linux")]
use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::news::News;

/// A peer may leave unread for so long what was sent to it.
pub(super) const UNREAD_WITHIN: Duration = Duration::from_secs(30);
/// After the socket fails, as it does while the process has no file descriptor left.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);

/// Cuts a connection. An end of the response stream would not do: a peer that does not read its
/// stream never learns of it.
#[derive(Clone, Debug)]
pub struct Hangup {
    cut: Arc<Cut>,
    address: SocketAddr,
}

/// Looked at with every read and write, so it is no channel.
#[derive(Debug, Default)]
struct Cut {
    is_cut: AtomicBool,
    /// Something came from the peer since this was asked last.
    was_heard: AtomicBool,
    task: AtomicWaker,
}

impl Hangup {
    pub(super) fn now(&self) {
        self.cut.is_cut.store(true, Ordering::Release);
        self.cut.task.wake();
    }

    fn check(&self) -> io::Result<()> {
        match self.cut.is_cut.load(Ordering::Acquire) {
            true => Err(io::ErrorKind::ConnectionAborted.into()),
            false => Ok(()),
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether something came from the peer since this was asked last.
    pub(super) fn was_heard(&self) -> bool {
        self.cut.was_heard.swap(false, Ordering::Relaxed)
    }
}

/// A peer's connection.
pub(super) struct Connection {
    stream: TcpStream,
    hangup: Hangup,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    pub(super) fn hangup(&self) -> Hangup {
        self.hangup.clone()
    }

    /// Reads or writes, unless it is cut. Looked at both ways: while one is due that cannot go on, HTTP/2 does
    /// not try the other. One task does both.
    fn unless_cut<T>(
        &mut self,
        context: &mut Context<'_>,
        does: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        self.hangup.check()?;
        let done = does(Pin::new(&mut self.stream), context);
        if done.is_pending() {
            self.hangup.cut.task.register(context.waker());
            self.hangup.check()?;
        }
        done
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = self.unless_cut(context, |stream, context| stream.poll_read(context, buffer));
        if read.is_ready() {
            self.hangup.cut.was_heard.store(true, Ordering::Relaxed);
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.unless_cut(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.unless_cut(context, |stream, context| stream.poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.unless_cut(context, |stream, context| stream.poll_shutdown(context))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.unless_cut(context, |stream, context| match bytes {
            // What is small is in one piece, which a plain write sends for less.
            [bytes] => stream.poll_write(context, bytes),
            _ => stream.poll_write_vectored(context, bytes),
        })
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Takes as many file descriptors as this process may: the usual default is 1,024.
pub fn raise_descriptor_limit() {
    let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return;
    };
    // Without it the pool is only smaller, and the log says when it is full.
    let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
}

/// The next connection: so many at once, and others are turned away.
pub(super) async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    limit: usize,
) -> Connection {
    loop {
        match listener.accept().await {
            Ok((stream, address)) => match places.clone().try_acquire_owned() {
                Ok(permit) => return admit(stream, address, permit),
                Err(_) => News::connections_full(address, limit).tell(),
            },
            Err(error) => {
                News::accept_failed(&error).tell();
                tokio::time::sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// Has the system end a connection whose other end has taken nothing for so long: what HTTP/2 has to say to
/// it before it would close it never gets there.
#[cfg(target_os = "linux")]
fn give_up_after(stream: &TcpStream, unread: Duration) {
    let unread = u32::try_from(unread.as_millis()).unwrap_or(u32::MAX);
    // Without it the peer keeps its place for longer.
    let _ = setsockopt(stream, sockopt::TcpUserTimeout, &unread);
}

#[cfg(not(target_os = "linux"))]
fn give_up_after(_: &TcpStream, _: Duration) {}

fn admit(stream: TcpStream, address: SocketAddr, permit: OwnedSemaphorePermit) -> Connection {
    // Only latency depends on it.
    let _ = stream.set_nodelay(true);
    give_up_after(&stream, UNREAD_WITHIN);
    Connection {
        stream,
        hangup: Hangup {
            cut: Arc::default(),
            address,
        },
        _permit: permit,
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// It acknowledges all the while that it has no room.
    #[tokio::test]
    async fn a_connection_whose_other_end_reads_nothing_ends() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let _deaf = TcpStream::connect(address).await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        give_up_after(&stream, Duration::from_millis(500));
        let writing = async { while stream.write_all(&[7; 1 << 16]).await.is_ok() {} };
        let ended = tokio::time::timeout(UNREAD_WITHIN, writing).await;
        assert!(ended.is_ok(), "it goes on waiting");
    }
}
