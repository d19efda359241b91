//! Hands found blocks to the node, until it has judged them.
//!
//! A block is a subsidy: it is on disk before it is queued here and removed when it is judged, so
//! that one found while the node was away survives our restart.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Instant;

use tutti_daemon::node::CallError;
use tutti_proto::coordinator::Input;

use super::fates::Notice;
use super::kept::{BlockError, KeptBlocks};
use super::{Backoff, CALL_TIMEOUT, Node, NodeConfig, NodeError, Told, Verdict};
use crate::driver::{Inbox, Stopped};
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
    /// The next wait for a node that is away.
    away: Backoff,
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
            away: Backoff::new(),
        }
    }

    /// Runs until the owner of the rounds is gone.
    pub(super) fn run(mut self, tasks: &Receiver<Task>) {
        // Before the first block: connecting is not to delay it. If it fails, the block retries.
        self.node = Node::connect(&self.config, CALL_TIMEOUT).ok();
        let mut open: Vec<Open> = Vec::new();
        loop {
            let task = match open.iter().map(|block| block.due).min() {
                None => tasks.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(due) => tasks.recv_timeout(due.saturating_duration_since(Instant::now())),
            };
            match task {
                Ok(task) => {
                    let more = tasks.try_iter();
                    open.extend(
                        std::iter::once(task)
                            .chain(more)
                            .map(|task| self.open(task)),
                    );
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            if self.judge_due(&mut open).is_err() {
                return;
            }
        }
    }

    /// Asks about each block that is due. One that the node fails at waits for a while, since others may go
    /// through; if the node is away, all wait.
    fn judge_due(&mut self, open: &mut Vec<Open>) -> Result<(), Stopped> {
        let now = Instant::now();
        let due: Vec<Open> = open.extract_if(.., |block| block.due <= now).collect();
        let mut due = due.into_iter();
        while let Some(mut block) = due.next() {
            let asked = block.block.as_ref().ok().and_then(Option::as_deref);
            let error = match self.ask(&block.hash, asked) {
                Ok(verdict) => {
                    self.away = Backoff::new();
                    self.judged(block, verdict)?;
                    continue;
                }
                Err(error) => error,
            };
            self.node = None;
            let is_away = !error.is_of_one_call();
            if block.told.is_new(&error) {
                News::block_waiting(&block.hash, &error).tell();
                block.told.note(error);
            }
            if is_away {
                let again = Instant::now() + self.away.next();
                open.extend(due.map(|other| Open {
                    due: again,
                    ..other
                }));
                // The last from now on: a block that the node hangs at holds up no other.
                open.push(Open {
                    due: again,
                    ..block
                });
                return Ok(());
            }
            block.due = Instant::now() + block.backoff.next();
            open.push(block);
        }
        Ok(())
    }

    fn open(&self, task: Task) -> Open {
        let (hash, block) = match task {
            Task::Submit { hash, block } => (hash, Ok(Some(block))),
            Task::Reopen { hash, block } => {
                // What was made again is as good as what was kept, whatever became of that.
                let kept = || self.kept.load(&hash);
                (hash, block.map_or_else(kept, |block| Ok(Some(block))))
            }
        };
        Open {
            hash,
            block,
            told: Told::default(),
            backoff: Backoff::new(),
            due: Instant::now(),
        }
    }

    fn judged(&self, open: Open, verdict: Verdict) -> Result<(), Stopped> {
        let hash = open.hash;
        let refused = match (verdict, open.block) {
            (Verdict::Accepted, _) => None,
            (Verdict::Refused(why), Ok(_)) => Some(why),
            (Verdict::Refused(_), Err(error)) => {
                // No verdict on the block: its file stays, and the next start asks again.
                News::block_damaged(&hash, &error).tell();
                return Ok(());
            }
        };
        let in_chain = refused.is_none();
        self.inbox.give(Input::BlockVerdict { hash, refused })?;
        // After a crash before the verdict is on disk, the node is asked again.
        self.kept.forget(&hash);
        let _ = self.fates.send(Notice::Judged { hash, in_chain });
        let _ = self.wake.send(());
        Ok(())
    }

    fn ask(&mut self, hash: &[u8; 32], block: Option<&[u8]>) -> Result<Verdict, NodeError> {
        let verdict = |node: &Node| match block {
            Some(block) => node.submit(hash, block),
            None => node.verdict(hash, "asked again after a restart"),
        };
        if let Some(node) = self.node.take() {
            match verdict(&node) {
                // It was restarted since, with another cookie.
                Err(NodeError::Call(CallError::Unauthorized { .. })) => {}
                said => {
                    self.node = said.is_ok().then_some(node);
                    return said;
                }
            }
        }
        let node = Node::connect(&self.config, CALL_TIMEOUT)?;
        let said = verdict(&node)?;
        self.node = Some(node);
        Ok(said)
    }
}

/// A block that the node has not judged.
struct Open {
    hash: [u8; 32],
    block: Result<Option<Vec<u8>>, BlockError>,
    /// Why it waits, as it was said.
    told: Told,
    backoff: Backoff,
    /// When the node is asked next.
    due: Instant,
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use serde_json::{Value, json};
    use tokio::sync::mpsc::error::TryRecvError;

    use super::*;
    use crate::chain::scripted::{Answer, scripted};
    use crate::driver::Incoming;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// What the node is to say of four blocks, and in which order their verdicts came.
    fn verdicts(answer: impl FnMut(&str) -> Answer + Send + 'static) -> Vec<(u8, Option<String>)> {
        let dir = tempfile::tempdir().unwrap();
        let kept = KeptBlocks::open(dir.path().join("blocks")).unwrap();
        let (mut answer, on_disk) = (answer, kept.clone());
        let config = scripted(move |method, params| match method {
            "submitblock" => {
                let block = params[0].as_str().unwrap();
                let last = u8::from_str_radix(block, 16).unwrap();
                // Until it is judged a block is on disk: a restart takes it up again.
                assert!(!matches!(on_disk.load(&[last; 32]), Ok(None)));
                answer(block)
            }
            other => panic!("{other}"),
        });
        let (inbox, mut verdicts) = Inbox::new();
        let (wake, _woken) = channel();
        let (fates, _notices) = channel();
        let (give, tasks) = channel();
        let blocks: [u8; 4] = [0xaa, 0xbb, 0xcc, 0xdd];
        for last in blocks {
            kept.keep(&[last; 32], &[last]).unwrap();
            let (hash, block) = ([last; 32], vec![last]);
            give.send(Task::Submit { hash, block }).unwrap();
        }
        let submitter = Submitter::new(config, kept.clone(), inbox, wake, fates);
        std::thread::spawn(move || submitter.run(&tasks));
        let mut judged = Vec::new();
        let deadline = Instant::now() + PATIENCE;
        while judged.len() < blocks.len() {
            match verdicts.queue.try_recv() {
                Ok(Incoming::Input(Input::BlockVerdict { hash, refused })) => {
                    judged.push((hash[0], refused));
                }
                Ok(_) => panic!("a verdict"),
                Err(TryRecvError::Empty) if Instant::now() < deadline => std::thread::yield_now(),
                Err(error) => panic!("{error}, after {judged:?}"),
            }
        }
        judged
    }

    /// Fails at block `aa` twice and more, until the three others are judged.
    fn failing_at_first(mut failure: impl FnMut() -> Answer) -> impl FnMut(&str) -> Answer {
        let (mut failures, mut others) = (0, 0);
        move |block| {
            if block == "aa" && (failures < 2 || others < 3) {
                failures += 1;
                return failure();
            }
            others += 1;
            match block {
                "bb" => Answer::Is(json!("high-hash")),
                "dd" => Answer::Fails(-22, "Block decode failed"),
                _ => Answer::Is(Value::Null),
            }
        }
    }

    fn the_first_last() -> [(u8, Option<String>); 4] {
        [
            (0xbb, Some("high-hash".to_owned())),
            (0xcc, None),
            (0xdd, Some("Block decode failed".to_owned())),
            (0xaa, None),
        ]
    }

    #[test]
    fn a_failure_of_the_node_is_no_verdict_and_holds_up_no_other_block() {
        let full = || Answer::Fails(-25, "Disk space is too low!");
        assert_eq!(verdicts(failing_at_first(full)), the_first_last());
    }

    #[test]
    fn an_answer_that_is_none_holds_up_no_other_block() {
        let nonsense = || Answer::Is(json!({"neither": "verdict nor error"}));
        assert_eq!(verdicts(failing_at_first(nonsense)), the_first_last());
    }

    #[test]
    fn a_block_does_not_wait_where_only_the_nodes_cookie_changed() {
        let mut is_first = true;
        let judged = verdicts(move |_| match std::mem::take(&mut is_first) {
            true => Answer::Refuses,
            false => Answer::Is(Value::Null),
        });
        assert_eq!(judged, [0xaa, 0xbb, 0xcc, 0xdd].map(|last| (last, None)));
    }

    #[test]
    fn a_block_that_the_node_hangs_up_on_holds_up_no_other() {
        let mut judged = verdicts(failing_at_first(|| Answer::HangsUp));
        assert_eq!(judged.pop(), Some((0xaa, None)));
        judged.sort();
        assert_eq!(judged, the_first_last()[..3]);
    }
}
