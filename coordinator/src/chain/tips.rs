//! Notices a new tip the moment the node has it.

use std::sync::mpsc::Sender;
use std::thread::sleep;
use std::time::Duration;

use super::fates::Notice;
use super::node::Tip;
use super::{Backoff, Node, NodeConfig, NodeError};

/// How long one call is held open. A call whose caller has died keeps one of bitcoind's few RPC
/// threads for as long, which getblocktemplate's own long poll does not bound.
const HOLD: Duration = Duration::from_secs(20);
/// Longer than the hold, so that only a node that is gone runs into it.
const TIMEOUT: Duration = Duration::from_secs(60);

pub(super) struct Watcher {
    config: NodeConfig,
    wake: Sender<()>,
    fates: Sender<Notice>,
    tip: Option<Tip>,
}

impl Watcher {
    pub(super) fn new(config: NodeConfig, wake: Sender<()>, fates: Sender<Notice>) -> Self {
        Self {
            config,
            wake,
            fates,
            tip: None,
        }
    }

    pub(super) fn run(mut self) {
        let mut backoff = Backoff::new();
        loop {
            // Why the node is away is told by the thread that needs it for templates.
            if self.watch(&mut backoff).is_err() {
                sleep(backoff.next());
            }
        }
    }

    fn watch(&mut self, backoff: &mut Backoff) -> Result<(), NodeError> {
        let node = Node::connect(&self.config, TIMEOUT)?;
        loop {
            let next = self.tip.map_or(0, |tip| tip.height.saturating_add(1));
            let tip = node.wait_for_height(next, HOLD)?;
            *backoff = Backoff::new();
            if self.tip.replace(tip) != Some(tip) {
                // The receivers end with the process only.
                let _ = self.wake.send(());
                let _ = self.fates.send(Notice::Tip);
            }
        }
    }
}
