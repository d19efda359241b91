//! Follows found blocks after the node judged them: a reorganisation may take one out of the best
//! chain and put it back.

use std::collections::BTreeMap;
use std::sync::mpsc::Receiver;
use std::thread::sleep;

use tutti_proto::coordinator::{Fate, Input};

use super::node::{Node, NodeConfig};
use super::{Backoff, CALL_TIMEOUT, NodeError};
use crate::driver::{Inbox, Stopped};

/// Blocks on a block, or on the one that replaced it, after which its fate is settled: as many as its
/// payout needs to be in the chain at the earliest, and as many on that one until nothing becomes of it.
const SETTLED: i64 = 200;

/// What wakes the thread.
pub(super) enum Notice {
    /// The tip changed.
    Tip,
    /// The node judged a block.
    Judged { hash: [u8; 32], in_chain: bool },
}

pub(super) struct Follower {
    config: NodeConfig,
    inbox: Inbox,
    /// Whether the best chain had each block when we looked last.
    blocks: BTreeMap<[u8; 32], bool>,
    node: Option<Node>,
}

impl Follower {
    /// Follows from the start what was not settled in an earlier run.
    pub(super) fn new(config: NodeConfig, inbox: Inbox, blocks: BTreeMap<[u8; 32], bool>) -> Self {
        Self {
            config,
            inbox,
            blocks,
            node: None,
        }
    }

    /// Runs until the owner of the rounds is gone.
    pub(super) fn run(mut self, notices: &Receiver<Notice>) {
        while let Ok(first) = notices.recv() {
            for notice in std::iter::once(first).chain(notices.try_iter()) {
                if let Notice::Judged { hash, in_chain } = notice {
                    self.blocks.insert(hash, in_chain);
                }
            }
            if self.look().is_err() {
                return;
            }
        }
    }

    /// Looks at every block, until the node has answered.
    fn look(&mut self) -> Result<(), Stopped> {
        let mut backoff = Backoff::new();
        loop {
            // Why the node is away is told by the thread that needs it for templates.
            match self.fates() {
                Err(_) => {
                    self.node = None;
                    sleep(backoff.next());
                }
                Ok(fates) => {
                    for (hash, fate) in fates {
                        self.note(hash, fate)?;
                    }
                    return Ok(());
                }
            }
        }
    }

    fn note(&mut self, hash: [u8; 32], fate: Fate) -> Result<(), Stopped> {
        match fate {
            Fate::Settled => self.blocks.remove(&hash),
            Fate::Lost => self.blocks.insert(hash, false),
            Fate::Back => self.blocks.insert(hash, true),
        };
        self.inbox.give(Input::BlockFate { hash, fate })
    }

    /// What became of the blocks since we looked last.
    fn fates(&mut self) -> Result<Vec<([u8; 32], Fate)>, NodeError> {
        if self.blocks.is_empty() {
            return Ok(Vec::new());
        }
        let node = match self.node.take() {
            Some(node) => node,
            None => Node::connect(&self.config, CALL_TIMEOUT)?,
        };
        let tip = i64::from(node.height()?);
        let mut fates = Vec::new();
        for (hash, was_in_chain) in &self.blocks {
            let place = node.place(hash)?;
            if place.is_none() && *was_in_chain {
                continue; // It had it: it is being indexed anew, or is another node.
            }
            let in_chain = place.is_some_and(|place| place.confirmations >= 1);
            if in_chain != *was_in_chain {
                let fate = if in_chain { Fate::Back } else { Fate::Lost };
                fates.push((*hash, fate));
            }
            // What the node does not know it never took.
            let buried = place.is_none_or(|place| tip - i64::from(place.height) >= SETTLED);
            if buried {
                fates.push((*hash, Fate::Settled));
            }
        }
        self.node = Some(node);
        Ok(fates)
    }
}
