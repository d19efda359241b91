//! The one owner of the rounds: a thread that feeds the state machine; another stores what that asks to be
//! stored, and only then does what it asks to be done.
//!
//! Whatever comes while a batch is stored is the next one, with one flush: a flush's time is shared by all who
//! came meanwhile. While a batch of shares is stored, the next one is decided; after anything of a round the
//! owner waits until it is told, for its next step may take both cores.

mod group;
mod inbox;
mod keeper;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};
use tutti_proto::coordinator::{Coordinator, Record};
use tutti_proto::deadline::Millis;
use tutti_proto::id::RoundSeq;
use tutti_proto::params::PROTOCOL_VERSION;
use tutti_proto::wire::PoolInfo;

use crate::chain::Chain;
use crate::feed::Feed;
use crate::metrics::Metrics;
use crate::segments::Archive;
use crate::store::{Store, StoreError};
use group::Group;
pub use inbox::{Inbox, Incoming, Mailbox, Stopped};
use keeper::{Decided, Keeper, Kept, Standing, TemplateOf};

/// The owner.
struct Driver {
    coordinator: Coordinator,
    /// Of the newest template.
    template: TemplateOf,
    epoch: Instant,
    /// When a batch was handed over last.
    handed: Option<Instant>,
    /// What the keeper has.
    keeping: Option<Keeping>,
    kept: mpsc::UnboundedReceiver<Kept>,
    runtime: Handle,
}

/// A batch that the keeper has.
#[derive(Clone, Copy)]
struct Keeping {
    /// Not of shares only: whatever comes after it waits.
    urgent: bool,
}

/// Those who are told what is durable, for everybody.
pub struct Public {
    /// The open window's followers.
    pub feed: Feed,
    /// Who writes closed windows.
    pub archive: Archive,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// How the owner ends: told to stop, or the store failed. Nothing, if a thread is gone without a word.
pub type Outcome = oneshot::Receiver<Result<(), StoreError>>;

/// Gives this state its owner, and says what Pool.Info answers from. Within the runtime.
pub fn start(
    coordinator: Coordinator,
    store: Store,
    chain: Chain,
    public: Public,
    last_round: RoundSeq,
    mailbox: Mailbox,
) -> io::Result<(Outcome, watch::Receiver<PoolInfo>)> {
    let (info, watched) = watch::channel(first_info(&coordinator, last_round));
    let keeper = Keeper::new(store, chain, public, info);
    // One at a time: what is decided while one is kept is one batch.
    let (batches, to_keep) = std::sync::mpsc::sync_channel(1);
    let (tells, kept) = mpsc::unbounded_channel();
    let (ended, outcome) = oneshot::channel();
    thread::Builder::new()
        .name("store".to_owned())
        .spawn(move || {
            if let Some(end) = keeper.run(&to_keep, &tells) {
                // Nobody waits any more: the daemon is stopping without us.
                let _ = ended.send(end);
            }
        })?;
    let driver = Driver {
        coordinator,
        template: TemplateOf::default(),
        epoch: Instant::now(),
        handed: None,
        keeping: None,
        kept,
        runtime: Handle::current(),
    };
    thread::Builder::new()
        .name("rounds".to_owned())
        .spawn(move || driver.run(mailbox, &batches))?;
    Ok((outcome, watched))
}

fn first_info(coordinator: &Coordinator, last_round: RoundSeq) -> PoolInfo {
    let params = coordinator.params();
    PoolInfo {
        coordinator: coordinator.identity(),
        network: params.network,
        tag: params.tag.clone(),
        version: PROTOCOL_VERSION,
        participants: 0,
        signers: 0,
        round: last_round,
        height: 0,
        window: coordinator.ledger().seq(),
        operator_fee_ppm: params.operator_fee_ppm,
        lanes: params.lanes,
        payees: count(coordinator.roster().len()),
        template_time: 0,
        params: Some(params.clone()),
    }
}

impl Driver {
    /// Runs until it is told to stop or the keeper is gone.
    fn run(mut self, mut mailbox: Mailbox, batches: &SyncSender<Decided>) {
        loop {
            let Some(group) = self.gather(&mut mailbox) else {
                return;
            };
            let stop = group.stop;
            self.handed = Some(Instant::now());
            self.keeping = Some(Keeping {
                urgent: group.urgent,
            });
            if batches.send(self.decided(group)).is_err() {
                return;
            }
            if stop {
                // Sessions read on until they were told.
                let _ = self.kept.blocking_recv();
                return;
            }
        }
    }

    fn decided(&self, group: Group) -> Decided {
        let ledger = self.coordinator.ledger();
        let terms = group.effects.records().iter().filter_map(|record| {
            let Record::Terms(round, terms) = record else {
                return None;
            };
            let tip = &terms.header.previous_block;
            self.coordinator.terms(round, tip).cloned()
        });
        Decided {
            terms: terms.collect(),
            effects: group.effects,
            opened: group.opened,
            gone: group.gone,
            shares_from: self.coordinator.credits_from(),
            now: Standing {
                window: ledger.seq(),
                participants: count(self.coordinator.joined()),
                payees: count(self.coordinator.roster().len()),
                template: self.template,
            },
            stop: group.stop,
        }
    }

    /// Until the state machine waits no longer.
    fn until_due(&self) -> Option<Duration> {
        let due = self.coordinator.next_deadline()?;
        Some(Duration::from_millis(due.since(self.now()).0))
    }

    fn now(&self) -> Millis {
        Millis(u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
