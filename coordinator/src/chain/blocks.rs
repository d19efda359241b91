//! Hands found blocks to the node, until it has judged them.
//!
//! A block is a subsidy: it is on disk before it is queued here and removed when it is judged, so
//! that one found while the node was away survives our restart.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::thread::sleep;
use std::time::Instant;

use tutti_proto::coordinator::Input;

use super::fates::Notice;
use super::kept::{BlockError, KeptBlocks};
use super::node::{Node, NodeConfig, Verdict};
use super::{Backoff, CALL_TIMEOUT, NodeError};
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
        let mut open: Vec<Open> = Vec::new();
        loop {
            let task = match open.iter().map(|block| block.due).min() {
                None => tasks.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(due) => tasks.recv_timeout(due.saturating_duration_since(Instant::now())),
            };
            match task {
                Ok(task) => open.push(self.open(task)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now = Instant::now();
            let due: Vec<Open> = open.extract_if(.., |block| block.due <= now).collect();
            for mut block in due {
                match self.judge(&mut block) {
                    None => open.push(block),
                    Some(verdict) => {
                        if self.judged(block, verdict).is_err() {
                            return;
                        }
                    }
                }
            }
        }
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
            told: false,
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

    /// Asks until the node answers. None: it failed at this block, which is to wait for a while, since
    /// others may go through.
    fn judge(&mut self, open: &mut Open) -> Option<Verdict> {
        let mut away = Backoff::new();
        loop {
            let asked = open.block.as_ref().ok().and_then(Option::as_deref);
            let error = match self.ask(&open.hash, asked) {
                Ok(verdict) => return Some(verdict),
                Err(error) => error,
            };
            self.node = None;
            if !std::mem::replace(&mut open.told, true) {
                News::block_waiting(&open.hash, &error).tell();
            }
            if matches!(error, NodeError::Rpc { .. }) {
                open.due = Instant::now() + open.backoff.next();
                return None;
            }
            sleep(away.next());
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

/// A block that the node has not judged.
struct Open {
    hash: [u8; 32],
    block: Result<Option<Vec<u8>>, BlockError>,
    /// Whether it was said that it waits.
    told: bool,
    backoff: Backoff,
    /// When the node is asked next.
    due: Instant,
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::sync::mpsc::channel;

    use bitcoin::Network;
    use serde_json::{Value, json};
    use tutti_proto::coordinator::Input;
    use zeroize::Zeroizing;

    use super::*;
    use crate::chain::NodeAuth;
    use crate::driver::Incoming;

    /// A node that fails at block `aa` twice and more, until it has judged the three others. Returns its URL.
    fn failing_node() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut failures, mut others) = (0, 0);
            for stream in listener.incoming() {
                let mut stream = BufReader::new(stream.unwrap());
                while let Some(request) = request(&mut stream) {
                    let method = request["method"].as_str().unwrap().to_owned();
                    let block = request["params"][0].as_str().unwrap_or_default();
                    let fails = block == "aa" && (failures < 2 || others < 3);
                    let (result, error) = match method.as_str() {
                        "getnetworkinfo" => (json!({"version": 310_000}), Value::Null),
                        "getblockchaininfo" => (json!({"chain": "regtest"}), Value::Null),
                        "submitblock" if fails => {
                            failures += 1;
                            let error = json!({"code": -25, "message": "Disk space is too low!"});
                            (Value::Null, error)
                        }
                        "submitblock" if block == "dd" => {
                            others += 1;
                            let error = json!({"code": -22, "message": "Block decode failed"});
                            (Value::Null, error)
                        }
                        "submitblock" if block == "bb" => {
                            others += 1;
                            (json!("high-hash"), Value::Null)
                        }
                        "submitblock" => {
                            others += 1;
                            (Value::Null, Value::Null)
                        }
                        other => panic!("{other}"),
                    };
                    let id = &request["id"];
                    let body = json!({"result": result, "error": error, "id": id}).to_string();
                    let status = if error.is_null() {
                        "200 OK"
                    } else {
                        "500 Error"
                    };
                    let answer = format!(
                        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}",
                        body.len()
                    );
                    stream.get_mut().write_all(answer.as_bytes()).unwrap();
                }
            }
        });
        url
    }

    fn request(stream: &mut BufReader<std::net::TcpStream>) -> Option<Value> {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if line == "\r\n" {
                break;
            }
            let (name, value) = line.split_once(':').unwrap_or_default();
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).ok()?;
        Some(serde_json::from_slice(&body).unwrap())
    }

    #[test]
    fn a_failure_of_the_node_is_no_verdict_and_holds_up_no_other_block() {
        let dir = tempfile::tempdir().unwrap();
        let kept = KeptBlocks::open(dir.path().join("blocks")).unwrap();
        let config = NodeConfig {
            url: failing_node(),
            auth: NodeAuth::UserPass {
                user: "user".to_owned(),
                password: Zeroizing::new("password".to_owned()),
            },
            network: Network::Regtest,
        };
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
        for open in (0..4).rev() {
            let Some(Incoming::Input(Input::BlockVerdict { hash, refused })) =
                verdicts.queue.blocking_recv()
            else {
                panic!("a verdict");
            };
            judged.push((hash[0], refused));
            // Until it is judged a block is on disk: a restart takes it up again.
            let files = std::fs::read_dir(dir.path().join("blocks"))
                .unwrap()
                .count();
            assert!(files >= open, "{files} files");
        }
        assert_eq!(
            judged,
            [
                (0xbb, Some("high-hash".to_owned())),
                (0xcc, None),
                (0xdd, Some("Block decode failed".to_owned())),
                (0xaa, None),
            ]
        );
    }
}
