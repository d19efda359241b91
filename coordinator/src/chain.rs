//! The node, on threads of its own: templates out of it, blocks into it, and whether it is there.
//!
//! `templates` is the only source of templates, so they arrive in the order in which the node made
//! them. `tips` holds a call open until the tip changes and wakes `templates` then; `blocks` hands
//! found blocks over and wakes it too; `fates` follows these until nothing becomes of them any more. Each has a connection of its own, because the library's
//! allows one call at a time. None of them is ever joined: they end with the process.

mod blocks;
mod error;
mod fates;
mod kept;
mod node;
mod relay;
#[cfg(test)]
pub(crate) mod scripted;
mod template;
mod templates;
mod tips;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use tutti_proto::deadline::Millis;
use tutti_proto::feerate::FeeRate;

use crate::driver::Inbox;
use crate::news::News;
use crate::settle::{FoundPayouts, SettleSettings, Settler};
pub use error::{NodeError, Told};
pub use kept::BlockError;
use kept::KeptBlocks;
pub use node::{Node, Place, Verdict};
pub use relay::PooledTransaction;
pub use template::{RawTemplate, TemplateError};
pub use tutti_daemon::node::{NodeAuth, NodeConfig};

/// Longest that any call but a wait for a tip may take; a block of 4 MB on a busy node is the worst.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(60);

/// What the threads need to know.
pub struct ChainSettings {
    /// The node.
    pub node: NodeConfig,
    /// How often the protocol asks for a better template of the same tip.
    pub refresh: Millis,
    /// Highest feerate of a payout.
    pub feerate_max: FeeRate,
    /// Where blocks are kept until the node has judged them.
    pub block_dir: PathBuf,
    /// How payouts are settled.
    pub settle: SettleSettings,
}

/// Found blocks of an earlier run.
#[derive(Default)]
pub struct EarlierBlocks {
    /// Those whose verdict is not known; made again from their rounds, as far as these live.
    pub open: Vec<([u8; 32], Option<Vec<u8>>)>,
    /// The others that are not settled, and whether the best chain had them.
    pub unsettled: BTreeMap<[u8; 32], bool>,
    /// What these pay.
    pub payouts: Vec<FoundPayouts>,
}

/// The way to the threads.
pub struct Chain {
    kept: KeptBlocks,
    blocks: mpsc::Sender<blocks::Task>,
    settler: Settler,
    fates: mpsc::Sender<fates::Notice>,
}

impl Chain {
    /// Starts the threads.
    pub fn start(
        settings: ChainSettings,
        before: EarlierBlocks,
        inbox: Inbox,
    ) -> std::io::Result<Self> {
        let kept = KeptBlocks::open(settings.block_dir)?;
        let settler = Settler::start(settings.node.clone(), settings.settle, inbox.clone())?;
        let (wake, woken) = mpsc::channel();
        let (blocks, tasks) = mpsc::channel();
        let (fates, notices) = mpsc::channel();
        for found in before.payouts {
            // The receiver is in this function.
            let _ = fates.send(pays(&found));
            settler.settle(found);
        }
        for (hash, block) in before.open {
            // The receiver is in this function.
            let _ = blocks.send(blocks::Task::Reopen { hash, block });
        }
        let submitter = blocks::Submitter::new(
            settings.node.clone(),
            kept.clone(),
            inbox.clone(),
            wake.clone(),
            fates.clone(),
        );
        let follower = fates::Follower::new(settings.node.clone(), inbox.clone(), before.unsettled);
        let watcher = tips::Watcher::new(settings.node.clone(), wake, fates.clone());
        let source = templates::Source::new(
            settings.node,
            settings.refresh,
            settings.feerate_max,
            inbox,
            woken,
        );
        spawn("blocks", move || submitter.run(&tasks))?;
        spawn("fates", move || follower.run(&notices))?;
        spawn("tips", move || watcher.run())?;
        spawn("templates", move || source.run())?;
        Ok(Self {
            kept,
            blocks,
            settler,
            fates,
        })
    }

    /// Hands a block to the node; its verdict comes back as an input. The block is on disk when this
    /// returns: while the node is away, the queue is all that knows of it otherwise.
    pub fn submit(&self, hash: [u8; 32], block: Vec<u8>) {
        if let Err(error) = self.kept.keep(&hash, &block) {
            News::block_not_kept(&error).tell();
        }
        // The thread ends with the process only.
        let _ = self.blocks.send(blocks::Task::Submit { hash, block });
    }
}

impl Chain {
    /// Sees to it that a found block's payouts get into the chain, from its maturity on.
    pub fn settle(&self, found: FoundPayouts) {
        // The thread ends with the process only.
        let _ = self.fates.send(pays(&found));
        self.settler.settle(found);
    }

    /// The credit for a bump of a found block's payout needs nobody's care any more.
    pub fn credited(&self, block: [u8; 32], shard: u16) {
        self.settler.credited(block, shard);
    }
}

fn pays(found: &FoundPayouts) -> fates::Notice {
    fates::Notice::Pays {
        hash: found.block,
        coinbase: found.coinbase.compute_txid(),
        payouts: u32::try_from(found.payouts.len()).unwrap_or(u32::MAX),
    }
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> std::io::Result<()> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(body)
        .map(drop)
}

/// Doubling waits between attempts to reach the node.
struct Backoff(Duration);

impl Backoff {
    const FIRST: Duration = Duration::from_millis(250);
    /// A node that comes back is noticed within this time.
    const LONGEST: Duration = Duration::from_secs(5);

    fn new() -> Self {
        Self(Self::FIRST)
    }

    fn next(&mut self) -> Duration {
        let wait = self.0;
        self.0 = (wait * 2).min(Self::LONGEST);
        wait
    }
}
