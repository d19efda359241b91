//! Hands found blocks to the node, until it has judged them.
//!
//! A block is a subsidy: it is on disk before it is queued here and removed when it is judged, so
//! that one found while the node was away survives our restart.

use std::sync::mpsc::{Receiver, Sender};
use std::thread::sleep;

use tutti_proto::coordinator::Input;

use super::fates::Notice;
use super::kept::KeptBlocks;
use super::node::{Node, NodeConfig, Verdict};
use super::{Backoff, CALL_TIMEOUT, NodeError};
use crate::driver::Inbox;
use crate::news::News;

/// What the thread is asked to do.
pub(super) enum Task {
    /// Hand over a block.
    Submit { hash: [u8; 32], block: Vec<u8> },
    /// Ask about a block of before the restart. It was kept, or is made again: we may have died in
    /// between.
    Reopen {
        hash: [u8; 32],
        block: Option<Vec<u8>>,
    },
}

pub(super) struct Submitter {
    config: NodeConfig,
    kept: KeptBlocks,
    inbox: Inbox,
    wake: Sender<()>,
    fates: Sender<Notice>,
    node: Option<Node>,
}

impl Submitter {
    pub(super) fn new(
        config: NodeConfig,
        kept: KeptBlocks,
        inbox: Inbox,
        wake: Sender<()>,
        fates: Sender<Notice>,
    ) -> Self {
        Self {
            config,
            kept,
            inbox,
            wake,
            fates,
            node: None,
        }
    }

    /// Runs until the owner of the rounds is gone.
    pub(super) fn run(mut self, tasks: &Receiver<Task>) {
        // Before the first block: connecting is not to delay it. If it fails, the block retries.
        self.node = Node::connect(&self.config, CALL_TIMEOUT).ok();
        while let Ok(task) = tasks.recv() {
            let (hash, block) = match task {
                Task::Submit { hash, block } => (hash, Ok(Some(block))),
                Task::Reopen { hash, block } => {
                    // What was made again is as good as what was kept, whatever became of that.
                    let kept = || self.kept.load(&hash);
                    (hash, block.map_or_else(kept, |block| Ok(Some(block))))
                }
            };
            let asked = block.as_ref().ok().and_then(Option::as_deref);
            let refused = match (self.judge(&hash, asked), block) {
                (Verdict::Accepted, _) => None,
                (Verdict::Refused(why), Ok(_)) => Some(why),
                (Verdict::Refused(_), Err(error)) => {
                    // No verdict on the block: its file stays, and the next start asks again.
                    News::block_damaged(&hash, &error).tell();
                    continue;
                }
            };
            let in_chain = refused.is_none();
            if self
                .inbox
                .give(Input::BlockVerdict { hash, refused })
                .is_err()
            {
                return;
            }
            // After a crash before the verdict is on disk, the node is asked again.
            self.kept.forget(&hash);
            let _ = self.fates.send(Notice::Judged { hash, in_chain });
            let _ = self.wake.send(());
        }
    }

    /// Asks until there is an answer.
    fn judge(&mut self, hash: &[u8; 32], block: Option<&[u8]>) -> Verdict {
        let mut backoff = Backoff::new();
        let mut told = false;
        loop {
            let error = match self.ask(hash, block) {
                Ok(verdict) => return verdict,
                Err(error) => error,
            };
            self.node = None;
            if !told {
                News::block_waiting(hash, &error).tell();
                told = true;
            }
            sleep(backoff.next());
        }
    }

    fn ask(&mut self, hash: &[u8; 32], block: Option<&[u8]>) -> Result<Verdict, NodeError> {
        let node = match self.node.take() {
            Some(node) => node,
            None => Node::connect(&self.config, CALL_TIMEOUT)?,
        };
        let verdict = match block {
            Some(block) => node.submit(hash, block)?,
            None => node.verdict(hash, "asked again after a restart")?,
        };
        self.node = Some(node);
        Ok(verdict)
    }
}
