//! Settlement: from a block of the pool in the own node's chain to its confirmed payout.
//!
//! A thread of its own with its own connection to the node. It needs neither the coordinator nor
//! any other participant: the held rounds on disk are enough.

mod book;
mod bumping;
mod failing;
mod follow;
mod pruned;
mod watched;

use std::collections::BTreeSet;
use std::io;
use std::mem::discriminant;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, UNIX_EPOCH};

use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Transaction};
use tokio::sync::mpsc::UnboundedSender;
use tutti_proto::bump::BumpPolicy;
use tutti_proto::id::RoundId;
use tutti_proto::participant::BlockClaim;
use tutti_proto::settlement::{Alarm, ChainEnd, TipView, View};

use crate::chain::{Node, NodeConfig, NodeError, Tip};
use crate::news::{DaemonEvent, News};
use crate::payouts::valid_payouts;
use crate::status::OwnNode;
use crate::store::{self, Alone, Durability, RoundName, StoreError};

pub use book::{Book, BumpedBefore, Change, DuePayout, Payout, SeenPaid, Settlement};
pub use bumping::{AutoBumper, BumpNews};
use failing::{Failing, Purpose};
pub use follow::{Follower, Step};
pub use pruned::Passed;
pub use tutti_proto::settlement::Stage;
pub use watched::{Ours, Watched, WatchedLane, WatchedRound, read_watched};

/// How soon a new block is noticed.
const POLL: Duration = Duration::from_millis(500);
/// How soon a block is noticed that somebody waits for.
const ASK: Duration = Duration::from_millis(50);
/// Confirmations of a block of ours at which the coordinator is asked for its booking. One that is older
/// when we start may be booked and forgotten.
const BOOKED_AT: std::ops::RangeInclusive<u32> = 6..=12;
const RETRY_FIRST: Duration = Duration::from_millis(500);
const RETRY_LAST: Duration = Duration::from_secs(30);
/// How long a stop waits for a call to the node; the thread holds nothing that needs an orderly end.
const STOP_WITHIN: Duration = Duration::from_millis(500);

/// What the driver learns.
#[derive(Debug)]
pub enum Report {
    /// A block that pays us, and others by so many payouts, was found: time for a new address.
    Paid {
        /// Its payouts.
        payouts: usize,
    },
    /// Rounds that are no longer on disk.
    Forgotten(Vec<RoundName>),
    /// The own node shows whether a block is in its best chain, as the coordinator's ledger says.
    Seen {
        /// Its hash, in the byte order in which it is hashed.
        block: [u8; 32],
        /// Whether it is.
        in_chain: bool,
    },
    /// A block of a held round is so deep that the coordinator should have booked it.
    OwnBlock([u8; 32]),
    /// What is wrong with the own node's view of the chain, now.
    View(Vec<Alarm>),
    /// Whether the own node answers, and where it is.
    Node(OwnNode),
    /// The disk failed.
    Failed(StoreError),
}

enum Command {
    Watch(WatchedRound),
    PoolTip(ChainEnd),
    LookUp(Vec<BlockClaim>),
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
        bump: Option<BumpPolicy>,
        rounds: Vec<WatchedRound>,
        reports: UnboundedSender<Report>,
    ) -> Result<Self, StartError> {
        let book = read_book(directory)?.unwrap_or_default();
        let (commands, inbox) = channel();
        let mut watched = Watched::default();
        rounds.into_iter().for_each(|round| watched.add(round));
        let bumper =
            bump.map(|policy| AutoBumper::new(policy, node.network, node.clone(), directory));
        let worker = Worker {
            directory: directory.to_owned(),
            bumper,
            // Regtest's blocks come when somebody wants one.
            view: View::new(node.network != bitcoin::Network::Regtest),
            alarms: Vec::new(),
            seen: OwnNode::Unknown,
            config: node,
            node: None,
            follower: Follower::new(book, watched),
            away: None,
            forgot_at: None,
            claims: Vec::new(),
            own_told: None,
            failing: Failing::default(),
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

    /// The block that the coordinator lets its miners work on: the own node's is held against it.
    pub fn pool_tip(&self, end: ChainEnd) {
        let _ = self.commands.send(Command::PoolTip(end));
    }

    /// Tells once the own node shows each block as it is claimed to be; what was asked before is not
    /// asked any more.
    pub fn look_up(&self, claims: Vec<BlockClaim>) {
        let _ = self.commands.send(Command::LookUp(claims));
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
    view: View,
    /// What was told of the view last.
    alarms: Vec<Alarm>,
    /// What was told of the node last.
    seen: OwnNode,
    bumper: Option<AutoBumper>,
    forgot_at: Option<u32>,
    /// What the node does not show yet.
    claims: Vec<BlockClaim>,
    /// The tip at which blocks of our own were told last.
    own_told: Option<u32>,
    /// What the node answers with an error.
    failing: Failing,
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
            let looked = match self.look() {
                Err(LookError::Store(error)) => {
                    let _ = self.reports.send(Report::Failed(error));
                    return;
                }
                Err(LookError::Node(error)) => {
                    self.failing.of_one_call(Purpose::Follow, Err(error))
                }
                Ok(step) => self.failing.of_one_call(Purpose::Follow, Ok(step)),
            };
            let wait = match looked {
                // There are more blocks to look at. Whoever asks something does not wait for all of them.
                Ok(Some(Step::More)) => Duration::ZERO,
                Ok(_) => POLL,
                Err(error) => self.lost(&error),
            };
            let deadline = Instant::now() + wait;
            loop {
                let left = deadline.saturating_duration_since(Instant::now());
                let soon = if self.claims.is_empty() {
                    left
                } else {
                    left.min(ASK)
                };
                match inbox.recv_timeout(soon) {
                    Ok(Command::Watch(round)) => self.follower.watch(round),
                    Ok(Command::PoolTip(end)) => self.view.pool_tip(end),
                    Ok(Command::LookUp(claims)) => {
                        self.claims = claims;
                        self.ask_again();
                    }
                    Err(RecvTimeoutError::Timeout) if soon < left => self.ask_again(),
                    Err(RecvTimeoutError::Timeout) => break,
                    Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        }
    }

    fn ask_again(&mut self) {
        if let Some(node) = self.node.take() {
            self.ask(&node);
            self.node = Some(node);
        }
    }

    /// Asks the node about the blocks that a ledger names. What it does not show yet is asked again.
    fn ask(&mut self, node: &Node) {
        if self.claims.is_empty() {
            return;
        }
        let Ok(tip) = node.tip() else { return };
        let shown = |claim: &BlockClaim| {
            let header = node.header(BlockHash::from_byte_array(claim.block)).ok()?;
            // A rival of the node's own tip is as much work, and nobody knows yet which will stay: whoever
            // waited for that would not hash where it decides.
            let rivals = |height| claim.booked && height >= tip.block.height;
            Some(header.is_some_and(|header| header.in_best_chain || rivals(header.block.height)))
        };
        let reports = &self.reports;
        self.claims.retain(|claim| {
            // Without an answer nothing is shown.
            let seen = shown(claim).is_some_and(|in_chain| in_chain == claim.booked);
            if seen {
                let (block, in_chain) = (claim.block, claim.booked);
                let _ = reports.send(Report::Seen { block, in_chain });
            }
            !seen
        });
    }

    /// Blocks of held rounds that should be booked by now.
    fn tell_own(&mut self, tip: u32) {
        if self.own_told == Some(tip) {
            return;
        }
        self.own_told = Some(tip);
        for settlement in self.follower.book().settlements() {
            let coinbase = &settlement.coinbase_txid;
            let mut names = self.follower.watched().names_of(coinbase).peekable();
            if names.peek().is_some() && names.all(|name| store::is_alone(&name, coinbase)) {
                continue; // Nobody but a file of one payout says whose it is.
            }
            let depth = tip
                .saturating_sub(settlement.block.height)
                .saturating_add(1);
            if BOOKED_AT.contains(&depth) {
                let block = settlement.block.hash.to_byte_array();
                let _ = self.reports.send(Report::OwnBlock(block));
            }
        }
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
            self.tell_node(OwnNode::Away { since: now() });
            let why = &error.to_string();
            News::from(DaemonEvent::NodeAway { why, retry }).emit();
        }
        retry
    }

    fn tell_node(&mut self, seen: OwnNode) {
        if self.seen != seen {
            self.seen = seen;
            let _ = self.reports.send(Report::Node(seen));
        }
    }

    fn look(&mut self) -> Result<Step, LookError> {
        let node = match self.node.take() {
            Some(node) => node,
            None => Node::connect(&self.config)?,
        };
        let looked = self.look_with(&node);
        // Whatever held that up, headers are to be had: somebody waits for what they show.
        if !matches!(&looked, Err(LookError::Node(error)) if !error.is_of_one_call()) {
            self.ask(&node);
            self.node = Some(node);
        }
        looked
    }

    fn look_with(&mut self, node: &Node) -> Result<Step, LookError> {
        let tip = node.tip()?;
        if self.away.take().is_some() {
            let tip = tip.block.height;
            News::from(DaemonEvent::NodeBack { tip }).emit();
        }
        self.tell_node(OwnNode::At {
            height: tip.block.height,
        });
        let own = tip_view(&tip);
        let judged = self.judge_view(node, &own);
        self.failing.of_one_call(Purpose::JudgeView, judged)?;
        let scanned = self.scan(node);
        match &scanned {
            Err(LookError::Store(_)) => return scanned,
            Err(LookError::Node(error)) if !error.is_of_one_call() => return scanned,
            // What is ripe goes out whatever holds up the scan: it is signed, and the node judges it.
            _ => {}
        }
        let believed = self.view.highest_by_any_evidence(&own, now());
        let broadcast = self
            .follower
            .broadcast(node, &self.directory, tip.block, believed);
        self.carry_out()?;
        let step = scanned?;
        broadcast?;
        if step != Step::Done {
            return Ok(step);
        }
        self.bump(node, tip.block.height)?;
        // Not after a scan that was held up: a round's block may be the one that was not seen.
        self.prune()?;
        self.tell_own(tip.block.height);
        Ok(step)
    }

    /// Looks at some blocks. What was booked before a failure is booked.
    fn scan(&mut self, node: &Node) -> Result<Step, LookError> {
        let step = self.follower.go_on(node);
        self.carry_out()?;
        let step = step?;
        if step == Step::Done {
            if let Some(passed) = self.follower.take_passed() {
                News::from(DaemonEvent::BlocksPruned(passed)).emit();
            }
            self.complete(node)?;
        }
        Ok(step)
    }

    /// Gets the coinbases of payouts that were imported alone: they say what these cost.
    fn complete(&mut self, node: &Node) -> Result<(), LookError> {
        for (coinbase, block) in self.follower.unknown_coinbases() {
            let (found, why) = match node.transaction_in(coinbase, block.hash) {
                Err(error) if error.is_block_gone() => (None, error.to_string()),
                answer => match self
                    .failing
                    .of_one_call(Purpose::Coinbase(coinbase), answer)?
                {
                    // Asked for again at the next look.
                    None => continue,
                    Some(found) => (found, "it has no such transaction there".to_owned()),
                },
            };
            if found.is_none() {
                // Said once for each start; the payout goes out all the same.
                let (height, why) = (block.height, why.as_str());
                let event = DaemonEvent::CoinbaseUnknown {
                    coinbase,
                    height,
                    why,
                };
                News::from(event).emit();
            }
            self.follower.no_longer_unknown(&coinbase);
            let alone = match store::alone(&self.directory, coinbase) {
                Ok(alone) => alone,
                Err(error) => {
                    // Said once for each start; the other payouts go out all the same.
                    let why = &error.to_string();
                    News::from(DaemonEvent::RoundUnreadable { why }).emit();
                    continue;
                }
            };
            if let Some((alone, found)) = alone.zip(found) {
                // Of several for one output of it the one that is valid.
                let payouts = valid_payouts(&found, &alone.payouts);
                if payouts.is_empty() {
                    continue; // Whatever it is, nothing of it will be paid.
                }
                let valid = payouts.iter().map(Transaction::compute_txid).collect();
                self.follower.verified(&alone.name(), &coinbase, &valid);
                self.carry_out()?;
                let own_sat = alone.own_sat.filter(|_| payouts == alone.payouts);
                let coinbase = Some(found);
                let alone = Alone {
                    coinbase,
                    payouts,
                    own_sat,
                    ..alone
                };
                store::write_alone(&self.directory, &alone)?;
            }
        }
        Ok(())
    }

    /// Stores first, then tells.
    fn carry_out(&mut self) -> Result<(), StoreError> {
        if self.follower.take_changed() {
            let path = self.directory.join(store::SETTLEMENTS);
            store::write_json(&path, self.follower.book(), Durability::Durable)?;
        }
        for change in self.follower.take_changes() {
            News::from(&change).emit();
            if let Change::Found(settlement) = &change
                && settlement.own_sat > 0
            {
                let payouts = settlement.payouts.len();
                let _ = self.reports.send(Report::Paid { payouts });
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
        // Nobody knows whether the block of these was found: it could not be looked at.
        let rounds = rounds.filter(|round| !self.follower.is_undecided(&round.name));
        let rounds = rounds.map(|round| (round.name, round.height));
        let forgotten = store::prune(&self.directory, rounds, tip, &found)?;
        if !forgotten.is_empty() {
            self.follower.forget(&forgotten);
            News::from(DaemonEvent::RoundsForgotten(&forgotten)).emit();
            let _ = self.reports.send(Report::Forgotten(forgotten));
        }
        Ok(())
    }

    /// Holds the node's view against the clock and the coordinator's tip; says what changed.
    fn judge_view(&mut self, node: &Node, own: &TipView) -> Result<(), NodeError> {
        let at = match self.view.pool() {
            Some(pool) if pool.height <= own.end.height => node.block_at(pool.height)?,
            _ => None,
        };
        let at = at.map(|block| block.hash.to_byte_array());
        let alarms = self.view.judge(own, at, now());
        let kinds = |alarms: &[Alarm]| -> Vec<_> { alarms.iter().map(discriminant).collect() };
        let tip = own.end.height;
        for alarm in &alarms {
            if !kinds(&self.alarms).contains(&discriminant(alarm)) {
                News::from(DaemonEvent::NodeView { tip, alarm: *alarm }).emit();
            }
        }
        if kinds(&alarms) != kinds(&self.alarms) {
            if alarms.is_empty() {
                News::from(DaemonEvent::NodeViewGood { tip }).emit();
            }
            let _ = self.reports.send(Report::View(alarms.clone()));
        }
        self.alarms = alarms;
        Ok(())
    }
}

fn tip_view(tip: &Tip) -> TipView {
    TipView {
        end: ChainEnd {
            height: tip.block.height,
            hash: tip.block.hash.to_byte_array(),
        },
        time: u64::from(tip.time),
    }
}

fn now() -> u64 {
    UNIX_EPOCH.elapsed().unwrap_or_default().as_secs()
}
