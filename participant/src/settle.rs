//! Settlement: from a block of the pool in the own node's chain to its confirmed payout.
//!
//! A thread of its own with its own connection to the node. It needs neither the coordinator nor
//! any other participant: the held rounds on disk are enough.

mod book;
mod follow;
mod watched;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bitcoin::BlockHash;
use tokio::sync::mpsc::UnboundedSender;
use tutti_proto::id::RoundId;

use crate::chain::{Node, NodeConfig, NodeError};
use crate::news::{DaemonEvent, News};
use crate::store::{self, Durability, RoundName, StoreError};

pub use book::{Book, Change, DuePayout, Payout, Settlement, Stage};
pub use follow::{Follower, Step};
pub use watched::{Watched, WatchedLane, WatchedRound};

/// How soon a new block is noticed.
const POLL: Duration = Duration::from_millis(500);
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LAST: Duration = Duration::from_secs(30);
/// How long a stop waits for a call to the node; the thread holds nothing that needs an orderly end.
const STOP_WITHIN: Duration = Duration::from_millis(500);
/// A tip of this age comes by chance once in eighteen years (e^-12 a block).
const STALE_AGE: Duration = Duration::from_secs(2 * 3_600);

/// What the driver learns.
#[derive(Debug)]
pub enum Report {
    /// A block that pays us was found: time for a new address.
    Paid,
    /// Rounds that are no longer on disk.
    Forgotten(Vec<RoundName>),
    /// The disk failed.
    Failed(StoreError),
}

enum Command {
    Watch(WatchedRound),
    Stop,
}

/// The running thread.
pub struct Settler {
    commands: Sender<Command>,
    thread: JoinHandle<()>,
}

impl Settler {
    /// Follows the chain from where it was left, and watches `rounds`.
    pub fn start(
        directory: &Path,
        node: NodeConfig,
        rounds: Vec<WatchedRound>,
        reports: UnboundedSender<Report>,
    ) -> Result<Self, StartError> {
        let book = read_book(directory)?.unwrap_or_default();
        let (commands, inbox) = channel();
        let mut watched = Watched::default();
        rounds.into_iter().for_each(|round| watched.add(round));
        let worker = Worker {
            directory: directory.to_owned(),
            config: node,
            node: None,
            follower: Follower::new(book, watched),
            away: None,
            stale_told: None,
            forgot_at: None,
            pruned_told: None,
            reports,
        };
        let thread = std::thread::Builder::new()
            .name("settler".to_owned())
            .spawn(move || worker.run(&inbox))?;
        Ok(Self { commands, thread })
    }

    /// Looks for this round's blocks from now on, and whether one was there already.
    pub fn watch(&self, round: WatchedRound) {
        // The thread ends before this handle only after it reported why.
        let _ = self.commands.send(Command::Watch(round));
    }

    /// Ends the thread, or leaves it to the end of the process if a call to the node hangs.
    pub fn stop(self) {
        let _ = self.commands.send(Command::Stop);
        let deadline = Instant::now() + STOP_WITHIN;
        while !self.thread.is_finished() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Why the thread was not started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("cannot start a thread: {0}")]
    Thread(#[from] io::Error),
}

/// The settlements of a data directory.
pub fn read_book(directory: &Path) -> Result<Option<Book>, StoreError> {
    store::read_json(&directory.join(store::SETTLEMENTS))
}

struct Worker {
    directory: PathBuf,
    config: NodeConfig,
    node: Option<Node>,
    follower: Follower,
    /// The next wait, while the node is away.
    away: Option<Duration>,
    /// Height of the stale tip that was told of.
    stale_told: Option<u32>,
    forgot_at: Option<u32>,
    /// The block that the node no longer has, once that was told.
    pruned_told: Option<BlockHash>,
    reports: UnboundedSender<Report>,
}

/// Why one look at the chain failed.
enum LookError {
    Node(NodeError),
    Store(StoreError),
}

impl From<NodeError> for LookError {
    fn from(error: NodeError) -> Self {
        Self::Node(error)
    }
}

impl From<StoreError> for LookError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Worker {
    fn run(mut self, inbox: &Receiver<Command>) {
        loop {
            let wait = match self.look() {
                Ok(()) => POLL,
                Err(LookError::Node(error)) => match &error {
                    NodeError::BlockPruned { hash, .. } => self.held_up(&error, *hash),
                    _ => self.lost(&error),
                },
                Err(LookError::Store(error)) => {
                    let _ = self.reports.send(Report::Failed(error));
                    return;
                }
            };
            let deadline = Instant::now() + wait;
            loop {
                let left = deadline.saturating_duration_since(Instant::now());
                match inbox.recv_timeout(left) {
                    Ok(Command::Watch(round)) => self.follower.watch(round),
                    Err(RecvTimeoutError::Timeout) => break,
                    Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        }
    }

    /// Says so once for each block. New tips are looked at as ever: payouts ripen.
    fn held_up(&mut self, error: &NodeError, hash: BlockHash) -> Duration {
        if self.pruned_told != Some(hash) {
            self.pruned_told = Some(hash);
            let why = &error.to_string();
            News::from(DaemonEvent::BlockPruned { why }).emit();
        }
        POLL
    }

    /// Says so once, and waits longer each time.
    fn lost(&mut self, error: &NodeError) -> Duration {
        self.node = None;
        let (retry, first) = match self.away {
            None => (RETRY_FIRST, true),
            Some(last) => ((last * 2).min(RETRY_LAST), false),
        };
        self.away = Some(retry);
        if first {
            let why = &error.to_string();
            News::from(DaemonEvent::NodeAway { why, retry }).emit();
        }
        retry
    }

    fn look(&mut self) -> Result<(), LookError> {
        let node = match self.node.take() {
            Some(node) => node,
            None => Node::connect(&self.config)?,
        };
        let tip = node.tip()?;
        if self.away.take().is_some() {
            let tip = tip.block.height;
            News::from(DaemonEvent::NodeBack { tip }).emit();
        }
        self.tell_if_stale(tip.block.height, tip.time);
        let scanned = self.scan(&node);
        match &scanned {
            Err(LookError::Store(_)) => return scanned,
            Err(LookError::Node(error)) if error.is_connection_lost() => return scanned,
            // What is ripe goes out whatever holds up the scan: it is signed, and the node judges it.
            _ => {}
        }
        let broadcast = self.follower.broadcast(&node, &self.directory, tip.block);
        self.carry_out()?;
        scanned?;
        broadcast?;
        self.pruned_told = None;
        // Not after a scan that was held up: a round's block may be the one that was not seen.
        self.prune()?;
        self.node = Some(node);
        Ok(())
    }

    fn scan(&mut self, node: &Node) -> Result<(), LookError> {
        loop {
            let step = self.follower.scan(node);
            // What was booked before a failure is booked.
            self.carry_out()?;
            if step? == Step::Done {
                return Ok(());
            }
        }
    }

    /// Stores first, then tells.
    fn carry_out(&mut self) -> Result<(), StoreError> {
        if self.follower.take_changed() {
            let path = self.directory.join(store::SETTLEMENTS);
            store::write_json(&path, self.follower.book(), Durability::Durable)?;
        }
        for change in self.follower.take_changes() {
            News::from(&change).emit();
            if matches!(&change, Change::Found(settlement) if settlement.own_sat > 0) {
                let _ = self.reports.send(Report::Paid);
            }
        }
        Ok(())
    }

    fn prune(&mut self) -> Result<(), StoreError> {
        let tip = self.follower.book().tip();
        if self.forgot_at == Some(tip) {
            return Ok(());
        }
        self.forgot_at = Some(tip);
        let found: BTreeSet<RoundId> = self.follower.found_rounds();
        let rounds = self.follower.watched().rounds();
        let rounds = rounds.map(|round| (round.name, round.height));
        let forgotten: Vec<RoundName> = store::prune(&self.directory, rounds, tip, &found)?;
        if !forgotten.is_empty() {
            self.follower.forget(&forgotten);
            News::from(DaemonEvent::RoundsForgotten(&forgotten)).emit();
            let _ = self.reports.send(Report::Forgotten(forgotten));
        }
        Ok(())
    }

    fn tell_if_stale(&mut self, tip: u32, time: u32) {
        if self.config.network == bitcoin::Network::Regtest {
            return; // Its blocks come when somebody wants one.
        }
        let now = std::time::UNIX_EPOCH
            .elapsed()
            .unwrap_or_default()
            .as_secs();
        let age_s = now.saturating_sub(u64::from(time));
        if age_s > STALE_AGE.as_secs() && self.stale_told != Some(tip) {
            self.stale_told = Some(tip);
            News::from(DaemonEvent::NodeStale { tip, age_s }).emit();
        }
    }
}
