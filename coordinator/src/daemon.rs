//! A run of the coordinator, from the checks of its start to its stop.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::RngCore;
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::{JoinError, spawn_blocking};
use tutti_daemon::stop::StopSignal;
use tutti_proto::coordinator::{Coordinator, Found};
use tutti_proto::id::{RoundSeq, WindowSeq};
use tutti_proto::identity::{IdentityKey, NotASecretKey};
use tutti_proto::params::ParamsError;

use crate::chain::{CALL_TIMEOUT, Chain, ChainSettings, EarlierBlocks, Node, NodeError};
use crate::config::Config;
use crate::driver::{self, Inbox, Incoming, Outcome, Public};
use crate::feed::{Feed, FeedError};
use crate::grpc::{self, LedgerSide, Points};
use crate::identity::{self, IdentityError};
use crate::lock::{DataDirLock, LockError};
use crate::metrics;
use crate::news::News;
use crate::segments::{Archive, ArchiveSettings, Directory, Durable, Index, SegmentError};
use crate::settle::{FoundPayouts, Purse, SettleSettings};
use crate::store::{Replayed, Store, StoreError};

/// Together, and with the log's last lines, below the 2 s in which a daemon must be gone.
const STORE_WITHIN: Duration = Duration::from_millis(1_000);
const SESSIONS_WITHIN: Duration = Duration::from_millis(500);
/// How often a long replay says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(2);

/// Why the coordinator did not start, or stopped.
#[derive(Debug, Error)]
pub enum DaemonError {
    #[error(transparent)]
    Lock(#[from] LockError),
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(transparent)]
    Segments(#[from] SegmentError),
    #[error(transparent)]
    Feed(#[from] FeedError),
    #[error(
        "{} has an identity.key, but no store: a pool that goes on from its identity alone signs its windows a second time, which proves to everybody that it equivocates; put the rest of the data directory back as it was when the pool last ran (not an older copy), or set another data_dir for a new pool (\"A damaged store\" in SECURITY.md)",
        .0.display()
    )]
    Alone(PathBuf),
    #[error(
        "{} has the segment of window {segments}, but the store ends with window {ledger}: it is an older copy, or was begun anew, and going on from it would sign windows a second time, which proves to everybody that the pool equivocates; \"A damaged store\" in SECURITY.md says what to do",
        path.display()
    )]
    Behind {
        path: PathBuf,
        segments: WindowSeq,
        ledger: WindowSeq,
    },
    #[error("the config's pool parameters are out of range: {0}")]
    Params(#[from] ParamsError),
    #[error(
        "cannot listen on {address}: {source}; stop what uses it, or set another listen address"
    )]
    Listen {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("the identity key gives no key for fee bumps ({0}); use another data_dir")]
    Purse(#[from] NotASecretKey),
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
    #[error("the start ended too early ({0}); the log's last lines say why")]
    Start(#[from] JoinError),
    #[error("the owner of the rounds ended; the log's last lines say why")]
    OwnerGone,
    #[error("connections are not served any more; the log's last lines say why")]
    ServerGone,
}

/// A coordinator that holds its data directory and has checked its node.
struct Prepared {
    coordinator: Coordinator,
    store: Store,
    before: EarlierBlocks,
    last_round: RoundSeq,
    purse: Purse,
    public: Public,
    ledger: LedgerSide,
    _lock: DataDirLock,
}

/// Runs until SIGINT or SIGTERM.
pub async fn run(config: Config) -> Result<(), DaemonError> {
    let mut signals = StopSignal::install()?;
    // The node may be silent and the log long: a start is to end as fast as a run.
    let preparing = spawn_blocking(|| prepare(&config).map(|prepared| (config, prepared)));
    let (config, prepared) = tokio::select! {
        prepared = preparing => prepared??,
        () = signals.wait() => {
            News::stopped().tell();
            return Ok(());
        }
    };
    grpc::raise_descriptor_limit();
    let address = config.listen;
    let listener = grpc::bind(address)
        .await
        .map_err(|source| DaemonError::Listen { address, source })?;
    let monitored = match config.metrics {
        Some(address) => Some(
            grpc::bind(address)
                .await
                .map_err(|source| DaemonError::Listen { address, source })?,
        ),
        None => None,
    };
    let listening = News::listening(
        listener.local_addr()?,
        &prepared.coordinator.identity(),
        config.network,
    );
    let (inbox, incoming) = Inbox::new();
    let chain_settings = ChainSettings {
        node: config.node.clone(),
        refresh: config.settings.refresh,
        feerate_max: config.feerate_max,
        block_dir: config.data_dir.join("blocks"),
        settle: SettleSettings {
            directory: config.data_dir.join("payouts"),
            bump: config.bump,
            purse: prepared.purse,
        },
    };
    let chain = Chain::start(chain_settings, prepared.before, inbox.clone())?;
    let points = Points::start(prepared.coordinator.params().nonces_per_slot)?;
    let metrics = prepared.public.metrics.clone();
    let (owner, info) = driver::start(
        prepared.coordinator,
        prepared.store,
        chain,
        prepared.public,
        prepared.last_round,
        incoming,
    )?;
    let (stop, stopping) = watch::channel(false);
    if let Some(listener) = monitored {
        News::metrics(listener.local_addr()?).tell();
        let (info, stopping) = (info.clone(), stopping.clone());
        tokio::spawn(metrics::serve(listener, metrics, info, stopping));
    }
    let mut server = tokio::spawn(grpc::serve(
        (listener, config.connections()),
        inbox.clone(),
        info,
        prepared.ledger,
        points,
        stopping,
    ));
    listening.tell();
    let outcome = tokio::select! {
        outcome = until_stopped(&mut signals, inbox, owner) => {
            // It may be gone with a server that failed in this moment.
            let _ = stop.send(true);
            let _ = tokio::time::timeout(SESSIONS_WITHIN, server).await;
            outcome
        }
        _ = &mut server => Err(DaemonError::ServerGone),
    };
    if outcome.is_ok() {
        News::stopped().tell();
    }
    outcome
}

/// Everything that may refuse to start, before anybody is let in.
fn prepare(config: &Config) -> Result<Prepared, DaemonError> {
    let lock = DataDirLock::take(&config.data_dir)?;
    // Dropped at once: the threads have connections of their own.
    let checked = Node::connect(&config.node, CALL_TIMEOUT)?.check_template();
    // What the node has no template for yet is waited for: the payouts of found blocks are not to wait.
    if let Err(error @ NodeError::Template(_)) = checked {
        return Err(error.into());
    }
    let known = known_identity(config)?;
    let mut store = Store::open(&store_path(config), config.network)?;
    let key = match known {
        Some(key) => key,
        None if store.log_end() == 0 => identity::create(&config.data_dir)?,
        None => return Err(identity::missing(&config.data_dir).into()),
    };
    let params = config.params(key.identity());
    params.check()?;
    let Replayed {
        restored,
        last_round,
        given_up,
        repairs,
        ..
    } = replay(&store, &key)?;
    let files = files_of(config, restored.ledger().seq())?;
    given_up.iter().for_each(|why| News::given_up(why).tell());
    if !repairs.is_empty() {
        store.save(&repairs)?;
    }
    if restored.live() > 0 {
        News::restored(restored.live()).tell();
    }
    let purse = Purse::new(&key, config.network)?;
    let unsettled = restored.unsettled();
    let payouts = restored.unsettled();
    let payouts = payouts.map(|(found, _)| FoundPayouts::of(&store, found));
    let payouts: Vec<FoundPayouts> = payouts
        .filter_map(|payouts| {
            // Its participants hold them: no reason not to start.
            payouts
                .inspect_err(|why| News::given_up(why).tell())
                .ok()
                .flatten()
        })
        .collect();
    let before = EarlierBlocks {
        payouts,
        open: restored
            .open_candidates()
            .map(|found| (found.hash, restored.open_block(found)))
            .collect(),
        unsettled: unsettled
            .map(|(found, in_chain)| (found.hash, in_chain))
            .collect(),
    };
    let found = Earlier {
        unsettled: restored
            .unsettled()
            .map(|(found, in_chain)| (found.clone(), in_chain))
            .collect(),
        open: restored.open_candidates().cloned().collect(),
    };
    let mut aux = [0u8; 32];
    rand::rng().fill_bytes(&mut aux);
    let (coordinator, records) = Coordinator::new(
        key,
        params,
        config.settings,
        config.payout_script.clone(),
        restored,
        &aux,
    );
    if !records.is_empty() {
        store.save(&records)?;
    }
    let (public, ledger) = publish(&coordinator, &store, found, (config, files))?;
    Ok(Prepared {
        coordinator,
        store,
        before,
        last_round,
        purse,
        public,
        ledger,
        _lock: lock,
    })
}

fn store_path(config: &Config) -> PathBuf {
    config.data_dir.join("store")
}

/// The pool's identity, if it has one, and it has not lost what it signed.
pub fn known_identity(config: &Config) -> Result<Option<IdentityKey>, DaemonError> {
    let key = identity::read(&config.data_dir)?;
    if key.is_some() && Store::is_missing(&store_path(config))? {
        return Err(DaemonError::Alone(config.data_dir.clone()));
    }
    Ok(key)
}

/// Found blocks of before, whole.
struct Earlier {
    unsettled: Vec<(Found, bool)>,
    open: Vec<Found>,
}

/// The files of closed windows, unless they are of more windows than the ledger has.
fn files_of(config: &Config, ledger: WindowSeq) -> Result<(Directory, Index), DaemonError> {
    let path = config.data_dir.join("segments");
    let (directory, index) = Directory::open(&path)?;
    let segments = index.dealt_with;
    if segments > ledger {
        return Err(DaemonError::Behind {
            path,
            segments,
            ledger,
        });
    }
    Ok((directory, index))
}

/// Starts those who write and tell what is durable.
fn publish(
    coordinator: &Coordinator,
    store: &Store,
    found: Earlier,
    (config, (directory, index)): (&Config, (Directory, Index)),
) -> Result<(Public, LedgerSide), DaemonError> {
    let (checkpoint, _) = watch::channel(None);
    let settings = ArchiveSettings {
        directory: directory.clone(),
        index,
        params: coordinator.params().clone(),
        ledger: coordinator.ledger().clone(),
        unsettled: found.unsettled,
        open: found.open,
        keep_windows: config.keep_windows,
        checkpoint: checkpoint.clone(),
    };
    let durable = Durable {
        log_end: store.log_end(),
        shares_from: coordinator.credits_from(),
    };
    let (archive, index) = Archive::start(settings, store.reader(), durable)?;
    let (feed, watched) = Feed::start(
        coordinator,
        store.reader(),
        durable.log_end,
        (checkpoint, index.clone()),
    )?;
    let ledger = LedgerSide {
        watched,
        index,
        directory,
        limits: config.ledger_limits,
    };
    let public = Public {
        feed,
        archive,
        metrics: Arc::default(),
    };
    Ok((public, ledger))
}

fn replay(store: &Store, key: &IdentityKey) -> Result<Replayed, StoreError> {
    let mut told = Instant::now();
    store.replay(&key.identity(), |records, of| {
        if told.elapsed() >= PROGRESS_EVERY {
            News::replaying(records, of).tell();
            told = Instant::now();
        }
    })
}

async fn until_stopped(
    signals: &mut StopSignal,
    inbox: Inbox,
    mut owner: Outcome,
) -> Result<(), DaemonError> {
    let outcome = tokio::select! {
        ended = &mut owner => ended,
        () = signals.wait() => {
            let stop = async {
                // If it is gone, it says why.
                let _ = inbox.send(Incoming::Stop).await;
                owner.await
            };
            match tokio::time::timeout(STORE_WITHIN, stop).await {
                Ok(ended) => ended,
                // The disk is slow; nothing that is not on it was acknowledged.
                Err(_) => return Ok(()),
            }
        }
    };
    Ok(outcome.map_err(|_| DaemonError::OwnerGone)??)
}
