//! Settlement in the coordinator: it broadcasts the payouts of found blocks at maturity and raises
//! their fees before any participant has to. The rules are the protocol's
//! (`tutti_proto::settlement`, `tutti_proto::bump`); what happened is read off the node each time.

mod bumper;
mod credits;
mod kept;
mod purse;
mod worker;

use std::path::PathBuf;
use std::sync::mpsc::{Sender, channel};

use tutti_proto::bump::BumpPolicy;

use crate::chain::NodeConfig;
use crate::driver::Inbox;
use crate::news::News;

pub use kept::FoundPayouts;
use kept::KeptPayouts;
pub use purse::Purse;

/// What the thread needs to know.
pub struct SettleSettings {
    /// Where payouts are kept until they are final.
    pub directory: PathBuf,
    /// Bumps, if they are wanted.
    pub bump: Option<BumpPolicy>,
    /// What pays for them.
    pub purse: Purse,
}

/// The way to the thread, which ends with the process.
pub struct Settler {
    tasks: Sender<Task>,
}

/// What comes to the thread.
enum Task {
    /// A block's payouts are to be settled.
    Settle(Box<FoundPayouts>),
    /// The state machine has dealt with the credit for a payout.
    Credited { block: [u8; 32], shard: u16 },
}

impl Settler {
    /// Starts the thread with what is kept on disk.
    pub fn start(
        node: NodeConfig,
        settings: SettleSettings,
        inbox: Inbox,
    ) -> std::io::Result<Self> {
        let kept = KeptPayouts::open(settings.directory)?;
        let (earlier, damaged) = kept.all()?;
        for why in damaged {
            News::payouts_damaged(&why).tell();
        }
        if settings.bump.is_some() {
            News::bump_address(settings.purse.address()).tell();
        }
        let (tasks, received) = channel();
        let SettleSettings { bump, purse, .. } = settings;
        let worker = worker::Worker::new(node, kept, bump, purse, inbox, earlier);
        std::thread::Builder::new()
            .name("settle".to_owned())
            .spawn(move || worker.run(&received))?;
        Ok(Self { tasks })
    }

    /// Sees to the payouts of a block that the node has in its chain.
    pub fn settle(&self, found: FoundPayouts) {
        // The thread ends with the process only.
        let _ = self.tasks.send(Task::Settle(Box::new(found)));
    }

    /// The credit for a payout is on disk, or there is none: it can be forgotten.
    pub fn credited(&self, block: [u8; 32], shard: u16) {
        let _ = self.tasks.send(Task::Credited { block, shard });
    }
}
