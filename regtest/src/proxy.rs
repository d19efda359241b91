//! A TCP proxy with faults between one participant and the coordinator.
//!
//! It does nothing by itself: a test says what happens, and what happens depends on the bytes that
//! pass and on nothing else. Rules are for all of the proxy's connections, of which a participant has
//! two: its session's, and its follower's. A cut that is carried out on one of them ends all, as where
//! a line goes down. Everything runs on a thread of its own and ends when the proxy is dropped.

mod frames;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc as blocking;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Builder;
use tokio::sync::{oneshot, watch};

use frames::Frames;
pub use frames::Torn;

/// Read at once; a cut is exact whatever the size.
const CHUNK: usize = 16 << 10;

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// From the participant.
    ToCoordinator,
    /// From the coordinator.
    ToParticipant,
}

/// What happens to the bytes of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Pass,
    /// Nothing arrives; what is sent waits, as in a network that is down for a while.
    Hold,
    /// All connections end after so many more bytes.
    CutAfter(u64),
    /// All connections end after so many bytes of the next longer DATA frame's payload.
    TearData(usize),
}

/// A connection that was cut on command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The direction whose bytes were counted.
    pub direction: Direction,
    /// Bytes of this connection that arrived in it.
    pub passed: u64,
    /// The HTTP/2 frame whose rest never arrived; `None` if the cut was between two frames.
    pub torn: Option<Torn>,
}

/// A running proxy.
pub struct Proxy {
    address: SocketAddr,
    rules: Arc<Rules>,
    cuts: blocking::Receiver<Cut>,
    /// Taken on drop, which ends all tasks.
    running: Option<(oneshot::Sender<()>, JoinHandle<()>)>,
}

/// Present rules: set by the test, read by the connections, which lift a cut that was carried out.
struct Rules {
    to_coordinator: watch::Sender<Rule>,
    to_participant: watch::Sender<Rule>,
    /// New connections that are still to be refused.
    refused: watch::Sender<u32>,
    /// Cuts that were carried out: each ends all connections of its time.
    cuts: watch::Sender<u32>,
}

impl Proxy {
    /// A proxy to `target`, on a port of its own.
    pub fn start(target: &str) -> Result<Proxy> {
        let target: SocketAddr = target.parse().context("the proxy's target is an address")?;
        let runtime = Builder::new_current_thread()
            .enable_io()
            .build()
            .context("cannot start the proxy's runtime")?;
        let listener = runtime
            .block_on(TcpListener::bind("127.0.0.1:0"))
            .context("cannot bind the proxy's port")?;
        let address = listener.local_addr()?;
        let rules = Arc::new(Rules {
            to_coordinator: watch::Sender::new(Rule::Pass),
            to_participant: watch::Sender::new(Rule::Pass),
            refused: watch::Sender::new(0),
            cuts: watch::Sender::new(0),
        });
        let (reports, cuts) = blocking::channel();
        let (stop, stopped) = oneshot::channel();
        let serve = serve(listener, target, Arc::clone(&rules), reports);
        let thread = thread::Builder::new()
            .name("proxy".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = serve => {}
                        // The sender is dropped.
                        _ = stopped => {}
                    }
                });
                // With the runtime go the connections' tasks and their sockets.
            })
            .context("cannot start the proxy's thread")?;
        Ok(Proxy {
            address,
            rules,
            cuts,
            running: Some((stop, thread)),
        })
    }

    /// Where the participant connects.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Passes everything through again, and refuses no connection.
    pub fn pass(&self) {
        self.rules.to_coordinator.send_replace(Rule::Pass);
        self.rules.to_participant.send_replace(Rule::Pass);
        self.rules.refused.send_replace(0);
    }

    /// Lets nothing arrive in this direction until [`Proxy::pass`]; what is sent meanwhile comes then.
    pub fn black_hole(&self, direction: Direction) {
        self.rules.of(direction).send_replace(Rule::Hold);
    }

    /// Cuts all connections after exactly `bytes` more bytes in this direction; once.
    pub fn cut_after(&self, direction: Direction, bytes: u64) {
        self.rules.of(direction).send_replace(Rule::CutAfter(bytes));
    }

    /// Cuts all connections, one of them in the middle of a message: after exactly `bytes` of the payload of the
    /// next HTTP/2 DATA frame that is longer; once.
    pub fn tear_data(&self, direction: Direction, bytes: usize) {
        self.rules.of(direction).send_replace(Rule::TearData(bytes));
    }

    /// Refuses the next `connections` new connections: they end before a byte is read.
    pub fn refuse(&self, connections: u32) {
        self.rules.refused.send_replace(connections);
    }

    /// Waits for the next cut to be carried out.
    pub fn wait_cut(&self, within: Duration) -> Result<Cut> {
        self.cuts
            .recv_timeout(within)
            .with_context(|| format!("the proxy has cut nothing within {within:?}"))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.running.take() {
            drop(stop);
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

impl Rules {
    fn of(&self, direction: Direction) -> &watch::Sender<Rule> {
        match direction {
            Direction::ToCoordinator => &self.to_coordinator,
            Direction::ToParticipant => &self.to_participant,
        }
    }

    /// Counts bytes that arrived under this rule; says whether they were the last of a `CutAfter`. A
    /// newer rule is left as it is.
    fn count(&self, direction: Direction, rule: Rule, bytes: usize) -> bool {
        let Rule::CutAfter(left) = rule else {
            return false;
        };
        let left = left.saturating_sub(bytes as u64);
        self.of(direction).send_if_modified(|now| {
            if *now == rule {
                *now = Rule::CutAfter(left);
            }
            false
        });
        left == 0
    }

    /// Ends all other connections; the next ones are not cut again.
    fn carried_out(&self, direction: Direction) {
        self.cuts.send_modify(|cuts| *cuts = cuts.saturating_add(1));
        self.of(direction).send_if_modified(|now| {
            let is_cut = matches!(now, Rule::CutAfter(_) | Rule::TearData(_));
            if is_cut {
                *now = Rule::Pass;
            }
            is_cut
        });
    }

    /// Takes one connection from those that are to be refused.
    fn refuses(&self) -> bool {
        self.refused.send_if_modified(|left| {
            let any = *left > 0;
            *left = left.saturating_sub(1);
            any
        })
    }
}

async fn serve(
    listener: TcpListener,
    target: SocketAddr,
    rules: Arc<Rules>,
    reports: blocking::Sender<Cut>,
) {
    // Only a process out of file descriptors cannot accept, and then the test has failed already.
    while let Ok((participant, _)) = listener.accept().await {
        if rules.refuses() {
            continue; // Dropped: closed.
        }
        let (rules, reports) = (Arc::clone(&rules), reports.clone());
        tokio::spawn(async move {
            // How it ended, both sides see for themselves.
            let _ = connect(participant, target, &rules, &reports).await;
        });
    }
}

/// One connection; the end of either side, or a cut, is the end of both.
async fn connect(
    participant: TcpStream,
    target: SocketAddr,
    rules: &Rules,
    reports: &blocking::Sender<Cut>,
) -> io::Result<()> {
    let mut cuts = rules.cuts.subscribe();
    let coordinator = TcpStream::connect(target).await?;
    participant.set_nodelay(true)?;
    coordinator.set_nodelay(true)?;
    let (from_participant, to_participant) = participant.into_split();
    let (from_coordinator, to_coordinator) = coordinator.into_split();
    let up = pump(
        from_participant,
        to_coordinator,
        Direction::ToCoordinator,
        rules,
    );
    let down = pump(
        from_coordinator,
        to_participant,
        Direction::ToParticipant,
        rules,
    );
    // Whichever ends drops the other, and with it both sockets.
    let ended = tokio::select! {
        biased;
        // First, so that a pump that carried one out says so.
        ended = up => ended,
        ended = down => ended,
        // Its sender is borrowed here and cannot be gone.
        _ = cuts.changed() => return Ok(()),
    };
    if let Some(cut) = ended? {
        // Nobody waits for it if the test is over.
        let _ = reports.send(cut);
    }
    Ok(())
}

/// Moves the bytes of one direction until either side or a rule ends it; the cut, if it was one.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    direction: Direction,
    rules: &Rules,
) -> io::Result<Option<Cut>> {
    let mut watched = rules.of(direction).subscribe();
    let mut frames = Frames::new(direction == Direction::ToCoordinator);
    let mut buffer = vec![0u8; CHUNK];
    let mut passed = 0u64;
    loop {
        let rule = *watched.borrow_and_update();
        let room = match rule {
            Rule::Pass | Rule::Hold | Rule::TearData(_) => CHUNK,
            Rule::CutAfter(left) => usize::try_from(left).unwrap_or(CHUNK).min(CHUNK),
        };
        let mut cut = room == 0;
        if !cut {
            let read = tokio::select! {
                biased;
                // Its sender is borrowed here and cannot be gone.
                _ = watched.changed() => continue,
                read = from.read(&mut buffer[..room]), if rule != Rule::Hold => read?,
            };
            if read == 0 {
                return Ok(None);
            }
            let tear = match rule {
                Rule::TearData(payload) => frames.follow(&buffer[..read], Some(payload)),
                _ => frames.follow(&buffer[..read], None),
            };
            let arrives = tear.unwrap_or(read);
            to.write_all(&buffer[..arrives]).await?;
            passed = passed.saturating_add(arrives as u64);
            cut = tear.is_some() || rules.count(direction, rule, arrives);
        }
        if cut {
            // The orderly end of TCP: exactly these bytes are read on the other side before it.
            to.shutdown().await?;
            rules.carried_out(direction);
            return Ok(Some(Cut {
                direction,
                passed,
                torn: frames.torn(),
            }));
        }
    }
}

#[cfg(test)]
mod tests;
