//! The owner of everything: one task takes inputs, lets the core decide, and carries out what it
//! wants. It runs on the main thread, so waiting for the disk holds up nobody else.

mod act;
mod checks;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use bitcoin::{Address, Network};
use rand::Rng;
use rand::rand_core::UnwrapErr;
use rand::rngs::OsRng;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tutti_daemon::stop::StopSignal;
use tutti_proto::id::{Identity, RoundId};
use tutti_proto::message::ToParticipant;
use tutti_proto::params::PoolName;
use tutti_proto::participant::{HeldBack, Input, Participant, Record, Settings};
use tutti_proto::script::{NonStandardScript, PayoutScript};

use crate::chain::{Node, NodeError};
use crate::client::{self, Incoming, Session};
use crate::config::Config;
use crate::crash::{CrashPoint, NoSuchStep, Step};
use crate::follow::{self, Follower};
use crate::keys::{Seed, SeedError};
use crate::miner::{CpuHasher, Hasher, KernelError};
use crate::news::{DaemonEvent, News};
use crate::settle::{self, Ours, Report, Settler, StartError, WatchedRound};
use crate::status::{Board, OwnNode, Status};
use crate::store::{self, DataLock, RoundName, Store, StoreError};
use crate::wallet::{OwnedScripts, PayoutScripts, WalletError};

/// Signing slots kept announced: one for the round that is signed, the others for its next attempts.
const SLOTS_AHEAD: usize = 4;
/// How often the status file may change.
const STATUS_EVERY: Duration = Duration::from_millis(500);
/// Shares that wait for the driver; the hasher waits when there are more.
const SHARES: usize = 1_024;
/// For each payout but the first of a block, which pays some 230: so long may a new script wait.
const SCRIPT_SPREAD_MS: u64 = 10_000;
const USER_AGENT: &str = concat!("tutti-participant/", env!("CARGO_PKG_VERSION"));

/// Why the daemon did not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Seed(#[from] SeedError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Wallet(#[from] WalletError),
    #[error(transparent)]
    Script(#[from] NonStandardScript),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Crash(#[from] NoSuchStep),
    #[error(transparent)]
    Settler(#[from] StartError),
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error("cannot {0}: {1}")]
    System(&'static str, std::io::Error),
}

/// All that a running participant has.
struct Driver {
    core: Participant,
    rng: UnwrapErr<OsRng>,
    store: Store,
    scripts: PayoutScripts,
    network: Network,
    hasher: CpuHasher,
    settler: Option<Settler>,
    /// Checks the coordinator's ledger.
    follower: Option<Follower>,
    follow: FollowSettings,
    /// Which round waits for that check, and until when it may.
    patience: Option<(RoundId, Instant)>,
    /// Which shares wait for our rate, and until when.
    held_back: Option<(HeldBack, Instant)>,
    /// When a new script replaces the one that a block has paid.
    script_at: Option<Instant>,
    session: Option<Session>,
    board: Board,
    /// Held rounds.
    rounds: BTreeSet<RoundName>,
    me: Identity,
    address: String,
    /// The coordinator was left for good; what it owes is still settled.
    left: bool,
    crash: CrashPoint,
}

/// How the coordinator's ledger is checked.
struct FollowSettings {
    mode: follow::Mode,
    start: follow::Start,
    keep: Option<follow::Keep>,
    reports: mpsc::Sender<(PoolName, follow::Report)>,
}

/// What comes from outside, beside signals.
struct Sources {
    incoming: mpsc::Receiver<Incoming>,
    shares: mpsc::Receiver<crate::miner::FoundShare>,
    reports: UnboundedReceiver<Report>,
    checks: mpsc::Receiver<(PoolName, follow::Report)>,
}

/// Runs until a signal or a failure. Startup failures come before the first line of the log.
pub fn run(config: Config) -> Result<(), RunError> {
    let seed = Seed::load(&config.data_dir.join(store::SEED))?;
    let _lock = DataLock::take(&config.data_dir)?;
    let crash = CrashPoint::new(
        config.network,
        std::env::var(crate::crash::VARIABLE).ok().as_deref(),
    )?;
    if let Some(node) = &config.node {
        match Node::connect(node) {
            Err(error) if !error.is_warming_up() => return Err(error.into()),
            // It will answer in a moment; the settler waits for it.
            _ => {}
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| RunError::System("start the runtime", error))?;
    let result = runtime.block_on(async {
        let stop = StopSignal::install().map_err(|e| RunError::System("wait for signals", e))?;
        let (driver, sources) = Driver::start(config, &seed, crash)?;
        drop(seed);
        driver.drive(sources, stop).await
    });
    // Nothing that still runs has anything to finish.
    runtime.shutdown_timeout(Duration::from_millis(200));
    if result.is_ok() {
        News::from(DaemonEvent::Stopped).emit();
    }
    result
}

impl Driver {
    fn start(config: Config, seed: &Seed, crash: CrashPoint) -> Result<(Self, Sources), RunError> {
        let kernel = config.hasher.kernel.kernel()?;
        let directory = &config.data_dir;
        let store = Store::open(directory)?;
        let key = seed.identity(config.network);
        let me = key.identity();
        let scripts = PayoutScripts::new(&config.pay_to, directory, seed, config.network);
        store::own(directory, &me.to_string())?;
        let before = Status::last(directory)?.map(|status| status.address);
        let script = PayoutScript::parse(scripts.current(before.as_deref())?)?;
        let mut status = Status::new(me.to_string(), address(config.network, &script));
        status.own_work = store.own_work().entries();
        status.kernel = Some(kernel.name().to_owned());
        News::from(DaemonEvent::Identity(&me)).emit();
        let threads = config.hasher.threads.get();
        News::from(DaemonEvent::Hasher { kernel, threads }).emit();

        let settings = Settings {
            network: config.network,
            coordinator: config.coordinator_identity,
            policy: config.policy,
            script,
            hashrate: config.suggested_hashrate,
            user_agent: USER_AGENT.to_owned(),
            slots_ahead: SLOTS_AHEAD,
            follows: config.check == follow::Mode::Full,
            asks_node: config.node.is_some(),
        };
        let (found, shares) = mpsc::channel(SHARES);
        let hasher = CpuHasher::start(config.hasher, kernel, found)
            .map_err(|error| RunError::System("start the hashing threads", error))?;
        let watched = watched(directory, &me, &scripts.owned()?)?;
        let rounds: BTreeSet<_> = watched.iter().map(|round| round.name).collect();
        status.held_rounds = rounds.len();
        let (reporter, reports) = mpsc::unbounded_channel();
        let settler = match config.node {
            Some(node) => {
                let bump = config.bump.filter(|_| config.pay_to.is_own());
                if config.bump.is_some() && bump.is_none() {
                    News::from(DaemonEvent::NoBumps).emit();
                }
                Some(Settler::start(directory, node, bump, watched, reporter)?)
            }
            None => {
                News::from(DaemonEvent::NoNode).emit();
                status.node = OwnNode::None;
                None
            }
        };
        let (check_reports, checks) = follow::reports();
        let follow = FollowSettings {
            mode: config.check,
            start: follow::Start {
                file: directory.join(follow::CHECKED),
                spacing: follow::SPACING,
                signers_min: config.policy.signers_min,
            },
            keep: (config.keep_windows > 0).then(|| follow::Keep {
                directory: directory.join(store::SEGMENTS),
                windows: config.keep_windows,
            }),
            reports: check_reports,
        };
        let sources = Sources {
            incoming: client::start(config.coordinator.clone()),
            shares,
            reports,
            checks,
        };
        let driver = Self {
            core: Participant::new(key, settings, store.memory()?),
            rng: UnwrapErr(OsRng),
            store,
            scripts,
            network: config.network,
            hasher,
            settler,
            follower: None,
            follow,
            patience: None,
            held_back: None,
            script_at: None,
            session: None,
            board: Board::new(directory, status),
            rounds,
            me,
            address: config.coordinator,
            left: false,
            crash,
        };
        Ok((driver, sources))
    }

    async fn drive(mut self, mut from: Sources, mut stop: StopSignal) -> Result<(), RunError> {
        let mut status = tokio::time::interval(STATUS_EVERY);
        let result = loop {
            let done = tokio::select! {
                () = stop.wait() => break Ok(()),
                Some(incoming) = from.incoming.recv() => self.incoming(incoming),
                Some(found) = from.shares.recv() => self.input(Input::ShareFound(found.into())),
                Some(report) = from.reports.recv() => self.reported(report),
                Some((pool, report)) = from.checks.recv() => self.checked(&pool, report),
                () = until(self.patience.map(|(_, until)| until)) => self.input(Input::CheckIsLate),
                () = until(self.held_back.map(|(_, until)| until)) => self.input(Input::RateIsBack),
                () = until(self.script_at) => self.take_new_script(),
                _ = status.tick() => self.write_status(),
            };
            if let Err(error) = done {
                break Err(error.into());
            }
            if self.left {
                from.incoming.close();
            }
        };
        self.hasher.set_jobs(Vec::new());
        self.session = None;
        self.board.stop()?;
        if let Some(settler) = self.settler.take() {
            settler.stop();
        }
        result
    }

    fn incoming(&mut self, incoming: Incoming) -> Result<(), StoreError> {
        match incoming {
            Incoming::Connected(session) => {
                let address = &self.address;
                News::from(DaemonEvent::Connected { address }).emit();
                self.session = Some(session);
                self.input(Input::Connected)
            }
            Incoming::Received(message) => {
                match &*message {
                    ToParticipant::Proposal(proposal) => {
                        if let Some(follower) = &mut self.follower {
                            follower.proposed(proposal.plan.inputs.bits);
                        }
                        self.crash.reached(Step::ProposalReceived);
                    }
                    ToParticipant::Commit(_) => self.crash.reached(Step::CommitReceived),
                    ToParticipant::WindowClosed(closed) => {
                        let record = self.core.record_of(closed);
                        if let Some((follower, record)) = self.follower.as_mut().zip(record) {
                            follower.closed(&record);
                        }
                    }
                    _ => {}
                }
                self.input(Input::Received(*message))
            }
            Incoming::Disconnected { why, retry } => {
                let why = &why;
                News::from(DaemonEvent::Disconnected { why, retry }).emit();
                self.end_session();
                self.input(Input::Disconnected)
            }
        }
    }

    fn reported(&mut self, report: Report) -> Result<(), StoreError> {
        match report {
            Report::Failed(error) => Err(error),
            Report::Forgotten(names) => {
                names.iter().for_each(|name| {
                    self.rounds.remove(name);
                });
                self.board.now.held_rounds = self.rounds.len();
                Ok(())
            }
            Report::View(alarms) => {
                self.board.now.node_alarms = alarms.iter().map(|a| a.name().to_owned()).collect();
                Ok(())
            }
            Report::Node(seen) => {
                self.board.now.node = seen;
                Ok(())
            }
            Report::Seen { block, in_chain } => self.input(Input::BlockSeen { block, in_chain }),
            Report::OwnBlock(block) => self.input(Input::OwnBlock(block)),
            Report::Paid { payouts } => {
                let spread = script_spread(payouts);
                let wait = Duration::from_millis(self.rng.random_range(0..=spread));
                self.script_at.get_or_insert_with(|| Instant::now() + wait);
                Ok(())
            }
        }
    }

    fn take_new_script(&mut self) -> Result<(), StoreError> {
        self.script_at = None;
        match self.new_script() {
            Some(script) => self.input(Input::PayoutScript(script)),
            None => Ok(()),
        }
    }

    /// A fresh address after a block that pays the last one; none where there is only one.
    fn new_script(&mut self) -> Option<PayoutScript> {
        let script = match self.scripts.next() {
            Ok(script) => PayoutScript::parse(script?).ok()?,
            Err(error) => {
                // The old address is as good, only less private.
                let why = &error.to_string();
                News::from(DaemonEvent::NoNewAddress { why }).emit();
                return None;
            }
        };
        self.board.now.address = address(self.network, &script);
        let address = &self.board.now.address;
        News::from(DaemonEvent::NewPayoutAddress { address }).emit();
        Some(script)
    }

    /// Lets the core decide, makes durable what must be, and only then acts.
    fn input(&mut self, input: Input) -> Result<(), StoreError> {
        let effects = self.core.handle(&mut self.rng, input);
        let mut held = Vec::new();
        let actions = effects.save(|records| {
            let new = records.iter().filter_map(|record| match record {
                Record::Held(round) => Some(WatchedRound::new(round, &self.me)),
                Record::OwnWork { .. } | Record::Head { .. } | Record::Equivocation(_) => None,
            });
            held.extend(new);
            if !held.is_empty() {
                self.crash.reached(Step::BeforeStore);
            }
            self.store.save(records)
        })?;
        if !held.is_empty() {
            self.crash.reached(Step::AfterStore);
            self.holding(held);
        }
        actions.into_iter().for_each(|action| self.act(action));
        let waits = self.core.waits_for_check();
        if waits != self.patience.map(|(round, _)| round) {
            self.patience = waits.map(|round| (round, Instant::now() + follow::PATIENCE));
        }
        let held_back = self.core.held_back();
        if held_back != self.held_back.map(|(held, _)| held) {
            let until = |held: HeldBack| Instant::now() + Duration::from_millis(held.after.0);
            self.held_back = held_back.map(|held| (held, until(held)));
        }
        Ok(())
    }

    /// Watches for the blocks of new rounds. Without an own node nobody does, and all are kept.
    fn holding(&mut self, held: Vec<WatchedRound>) {
        for round in held {
            self.rounds.insert(round.name);
            if let Some(settler) = &self.settler {
                settler.watch(round);
            }
        }
        self.board.now.held_rounds = self.rounds.len();
    }

    fn write_status(&mut self) -> Result<(), StoreError> {
        self.board.measure(self.hasher.hashes(), Instant::now());
        self.board.now.own_work = self.store.own_work().entries();
        self.board.write()
    }
}

/// Longest wait for a new script, ms. Everyone paid takes one, and each is told to all: where they are thousands
/// not in the moment of the new tip.
fn script_spread(payouts: usize) -> u64 {
    let others = u64::try_from(payouts.saturating_sub(1)).unwrap_or(u64::MAX);
    SCRIPT_SPREAD_MS.saturating_mul(others)
}

/// Waits until then; for ever if it is never.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}

/// The held rounds on disk. One that cannot be read is told of and does not stop the others.
fn watched(
    directory: &Path,
    me: &Identity,
    owned: &OwnedScripts,
) -> Result<Vec<WatchedRound>, StoreError> {
    let ours = Ours::Pays {
        me: &me.to_string(),
        is_mine: &|script| owned.is_mine(script),
    };
    let (watched, damaged) = settle::read_watched(directory, &ours)?;
    for error in damaged {
        let why = &error.to_string();
        News::from(DaemonEvent::RoundUnreadable { why }).emit();
    }
    Ok(watched)
}

fn address(network: Network, script: &PayoutScript) -> String {
    let address = Address::from_script(script.as_script(), network);
    address.map_or_else(
        |_| script.as_script().to_hex_string(),
        |address| address.to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_script_waits_only_where_others_are_many() {
        assert_eq!([0, 1, 2, 22].map(script_spread), [0, 0, 10_000, 210_000]);
    }
}
