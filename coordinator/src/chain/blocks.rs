//! Hands found blocks to the node, until it has judged them.
//!
//! A block is a subsidy: it is written to a file before it is handed over and removed when it is
//! judged, so that one found while the node was away survives our restart.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender};
use std::thread::sleep;

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use thiserror::Error;
use tutti_proto::coordinator::Input;

use super::node::{Node, NodeConfig, Verdict};
use super::{Backoff, CALL_TIMEOUT, NodeError};
use crate::driver::Inbox;
use crate::news::News;

/// What the thread is asked to do.
pub(super) enum Task {
    /// Hand over a block.
    Submit { hash: [u8; 32], block: Vec<u8> },
    /// Ask about a block of before the restart.
    Reopen([u8; 32]),
}

/// A block's file could not be written or removed.
#[derive(Debug, Error)]
#[error("cannot {doing} {}: {source}", path.display())]
pub struct BlockError {
    doing: &'static str,
    path: PathBuf,
    source: io::Error,
}

pub(super) fn prepare(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)
}

pub(super) struct Submitter {
    config: NodeConfig,
    directory: PathBuf,
    inbox: Inbox,
    wake: Sender<()>,
    node: Option<Node>,
}

impl Submitter {
    pub(super) fn new(
        config: NodeConfig,
        directory: PathBuf,
        inbox: Inbox,
        wake: Sender<()>,
    ) -> Self {
        Self {
            config,
            directory,
            inbox,
            wake,
            node: None,
        }
    }

    /// Runs until the owner of the rounds is gone.
    pub(super) fn run(mut self, tasks: &Receiver<Task>) {
        // Before the first block: connecting is not to delay it. If it fails, the block retries.
        self.node = Node::connect(&self.config, CALL_TIMEOUT).ok();
        while let Ok(task) = tasks.recv() {
            let (hash, block) = match task {
                Task::Submit { hash, block } => {
                    self.keep(&hash, &block);
                    (hash, Some(block))
                }
                Task::Reopen(hash) => (hash, fs::read(self.file(&hash)).ok()),
            };
            let verdict = self.judge(&hash, block.as_deref());
            let refused = match verdict {
                Verdict::Accepted => None,
                Verdict::Refused(why) => Some(why),
            };
            if self
                .inbox
                .give(Input::BlockVerdict { hash, refused })
                .is_err()
            {
                return;
            }
            // After a crash before the verdict is on disk, the node is asked again.
            let _ = fs::remove_file(self.file(&hash));
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

    /// Not flushed to disk: a power loss in the same second as a block is not worth its delay.
    fn keep(&self, hash: &[u8; 32], block: &[u8]) {
        let path = self.file(hash);
        if let Err(source) = fs::write(&path, block) {
            let doing = "write";
            News::block_not_kept(&BlockError {
                doing,
                path,
                source,
            })
            .tell();
        }
    }

    fn file(&self, hash: &[u8; 32]) -> PathBuf {
        let name = format!("{}.block", BlockHash::from_byte_array(*hash));
        self.directory.join(name)
    }
}
