//! Follows found blocks after the node judged them: a reorganisation may take one out of the best
//! chain and put it back.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};

use bitcoin::{OutPoint, Txid};
use tutti_proto::coordinator::{Fate, Input};

use super::{Backoff, CALL_TIMEOUT, Node, NodeConfig, NodeError, Told};
use crate::driver::{Inbox, Stopped};
use crate::news::News;

/// Blocks on a block, or on the one that replaced it, after which its fate is settled: as many as its
/// payout needs to be in the chain at the earliest, and as many on that one until nothing becomes of it.
/// A payout that is not in the chain by then is waited for: what explains it is kept so long.
const SETTLED: i64 = 200;

/// What wakes the thread.
#[derive(PartialEq, Eq)]
pub(super) enum Notice {
    /// The tip changed.
    Tip,
    /// The node judged a block.
    Judged { hash: [u8; 32], in_chain: bool },
    /// So many payouts spend the first outputs of a block's coinbase.
    Pays {
        hash: [u8; 32],
        coinbase: Txid,
        payouts: u32,
    },
}

pub(super) struct Follower {
    config: NodeConfig,
    inbox: Inbox,
    blocks: BTreeMap<[u8; 32], Block>,
    /// Coinbases and how many payouts they have, of those that do not pay by themselves.
    pays: BTreeMap<[u8; 32], (Txid, u32)>,
    node: Option<Node>,
}

struct Block {
    /// Whether the best chain had it when we looked last.
    in_chain: bool,
    /// Why nothing is known of it, as it was said.
    told: Told,
}

impl Block {
    fn new(in_chain: bool) -> Self {
        Self {
            in_chain,
            told: Told::default(),
        }
    }
}

impl Follower {
    /// Follows from the start what was not settled in an earlier run.
    pub(super) fn new(config: NodeConfig, inbox: Inbox, blocks: BTreeMap<[u8; 32], bool>) -> Self {
        let blocks = blocks.into_iter();
        let blocks = blocks.map(|(hash, in_chain)| (hash, Block::new(in_chain)));
        Self {
            config,
            inbox,
            blocks: blocks.collect(),
            pays: BTreeMap::new(),
            node: None,
        }
    }

    /// Runs until the owner of the rounds is gone.
    pub(super) fn run(mut self, notices: &Receiver<Notice>) {
        let mut backoff = Backoff::new();
        let mut again = None;
        loop {
            let first = match again {
                None => notices.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(wait) => notices.recv_timeout(wait),
            };
            if first == Err(RecvTimeoutError::Disconnected) {
                return;
            }
            for notice in first.into_iter().chain(notices.try_iter()) {
                self.hear(notice);
            }
            let Ok(complete) = self.look() else { return };
            if complete {
                backoff = Backoff::new();
            }
            again = (!complete).then(|| backoff.next());
        }
    }

    fn hear(&mut self, notice: Notice) {
        match notice {
            Notice::Tip => {}
            Notice::Judged { hash, in_chain } => {
                self.blocks.insert(hash, Block::new(in_chain));
            }
            Notice::Pays {
                hash,
                coinbase,
                payouts,
            } => {
                self.pays.insert(hash, (coinbase, payouts));
            }
        }
    }

    /// Looks at every block. Says whether the node answered for each.
    fn look(&mut self) -> Result<bool, Stopped> {
        let mut fates = Vec::new();
        let answered = self.fates(&mut fates);
        for (hash, fate) in fates {
            self.note(hash, fate)?;
        }
        // Why the node is away is told by the thread that needs it for templates.
        Ok(answered.unwrap_or(false))
    }

    fn note(&mut self, hash: [u8; 32], fate: Fate) -> Result<(), Stopped> {
        match fate {
            Fate::Settled => {
                self.pays.remove(&hash);
                self.blocks.remove(&hash)
            }
            Fate::Lost => self.blocks.insert(hash, Block::new(false)),
            Fate::Back => self.blocks.insert(hash, Block::new(true)),
        };
        self.inbox.give(Input::BlockFate { hash, fate })
    }

    /// What became of the blocks since we looked last. Says whether the node answered for each: one that it
    /// fails at does not hide the others.
    fn fates(&mut self, fates: &mut Vec<([u8; 32], Fate)>) -> Result<bool, NodeError> {
        if self.blocks.is_empty() {
            return Ok(true);
        }
        let node = match self.node.take() {
            Some(node) => node,
            None => Node::connect(&self.config, CALL_TIMEOUT)?,
        };
        let tip = i64::from(node.height()?);
        let mut complete = true;
        for (hash, block) in &mut self.blocks {
            let pays = self.pays.get(hash);
            match look_at(&node, hash, block.in_chain, pays, tip) {
                Ok(of_block) => {
                    block.told.clear();
                    fates.extend(of_block.into_iter().map(|fate| (*hash, fate)));
                }
                Err(error) if error.is_of_one_call() => {
                    complete = false;
                    if block.told.is_new(&error) {
                        News::fate_unknown(hash, &error).tell();
                        block.told.note(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        self.node = Some(node);
        Ok(complete)
    }
}

/// What became of a block since we looked last.
fn look_at(
    node: &Node,
    hash: &[u8; 32],
    had: bool,
    pays: Option<&(Txid, u32)>,
    tip: i64,
) -> Result<Vec<Fate>, NodeError> {
    let mut fates = Vec::new();
    let place = node.place(hash)?;
    if place.is_none() && had {
        return Ok(fates); // It had it: it is being indexed anew, or is another node.
    }
    let in_chain = place.is_some_and(|place| place.confirmations >= 1);
    if in_chain != had {
        fates.push(if in_chain { Fate::Back } else { Fate::Lost });
    }
    // What the node does not know it never took.
    let buried = place.is_none_or(|place| tip - i64::from(place.height) >= SETTLED);
    if buried && !(in_chain && has_unpaid(node, pays)?) {
        fates.push(Fate::Settled);
    }
    Ok(fates)
}

/// Whether a payout is not in the chain: nothing else can spend its coinbase.
fn has_unpaid(node: &Node, pays: Option<&(Txid, u32)>) -> Result<bool, NodeError> {
    let Some((coinbase, payouts)) = pays else {
        return Ok(false);
    };
    for shard in 0..*payouts {
        if node.is_unspent(OutPoint::new(*coinbase, shard), false)? {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use bitcoin::BlockHash;
    use bitcoin::hashes::Hash;
    use serde_json::json;

    use super::*;
    use crate::chain::scripted::{Answer, scripted};
    use crate::driver::Incoming;
    use crate::news::caught;

    #[test]
    fn a_block_is_not_settled_before_its_payouts_are_in_the_chain() {
        let coinbase = Txid::from_byte_array([9; 32]);
        let (unspent, spent) = (json!({"value": 1}), json!(null));
        // Both payouts; the second; none; and that of a block that the chain has replaced.
        let mut outputs = [
            unspent.clone(),
            spent.clone(),
            unspent,
            spent.clone(),
            spent,
        ]
        .into_iter();
        let mut confirmations = [201, 202, 203, -1].into_iter();
        let config = scripted(move |method, params| match method {
            "getblockcount" => Answer::Is(json!(300)),
            "getblockheader" => {
                let confirmations = confirmations.next().unwrap();
                Answer::Is(json!({"confirmations": confirmations, "height": 100}))
            }
            "gettxout" => {
                assert_eq!(params[0], json!(coinbase));
                assert_eq!(params[2], json!(false), "the mempool is not the chain");
                Answer::Is(outputs.next().unwrap())
            }
            other => panic!("{other}"),
        });
        let (inbox, mut told) = Inbox::new();
        let mut follower = Follower::new(config, inbox, BTreeMap::from([([1; 32], true)]));
        let pays = |hash| Notice::Pays {
            hash,
            coinbase,
            payouts: 2,
        };
        follower.hear(pays([1; 32]));
        let mut fate = || match told.queue.try_recv() {
            Ok(Incoming::Input(Input::BlockFate { hash, fate })) => Some((hash[0], fate)),
            _ => None,
        };
        for _ in 0..2 {
            assert!(matches!(follower.look(), Ok(true)));
            assert_eq!(fate(), None, "a payout is missing");
        }
        assert!(matches!(follower.look(), Ok(true)));
        assert_eq!(fate(), Some((1, Fate::Settled)));
        assert!(follower.pays.is_empty() && follower.blocks.is_empty());
        let (hash, in_chain) = ([2; 32], false);
        follower.hear(Notice::Judged { hash, in_chain });
        follower.hear(pays(hash));
        assert!(matches!(follower.look(), Ok(true)));
        assert_eq!(fate(), Some((2, Fate::Settled)), "nobody is paid by it");
    }

    #[test]
    fn a_block_that_the_node_fails_at_hides_no_others_fate_and_is_asked_again() {
        let names: Vec<String> = [1, 2]
            .map(|n| BlockHash::from_byte_array([n; 32]).to_string())
            .into();
        let mut failures = 3;
        let config = scripted(move |method, params| match method {
            "getblockcount" => Answer::Is(json!(10)),
            "getblockheader" if params[0] == json!(names[0]) && failures > 0 => {
                failures -= 1;
                Answer::Fails(-1, "Block index is damaged")
            }
            "getblockheader" => Answer::Is(json!({"confirmations": -1, "height": 9})),
            other => panic!("{other}"),
        });
        let (inbox, mut told) = Inbox::new();
        let blocks = BTreeMap::from([([1; 32], true), ([2; 32], true)]);
        let mut follower = Follower::new(config, inbox, blocks);
        let lines = caught(|| {
            assert!(matches!(follower.look(), Ok(false)));
            assert!(matches!(follower.look(), Ok(false)));
        });
        let mut fate = || match told.queue.try_recv() {
            Ok(Incoming::Input(Input::BlockFate { hash, fate })) => Some((hash[0], fate)),
            _ => None,
        };
        assert_eq!(fate(), Some((2, Fate::Lost)));
        assert_eq!(fate(), None);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert_eq!(lines[0]["event"], "fate_unknown");
        let why = lines[0]["why"].as_str().unwrap();
        assert!(why.contains("Block index is damaged"), "{why}");
        // It is asked again without a new tip.
        let (notices, notice) = channel();
        std::thread::spawn(move || follower.run(&notice));
        notices.send(Notice::Tip).unwrap();
        let Some(Incoming::Input(Input::BlockFate { hash, fate })) = told.queue.blocking_recv()
        else {
            panic!("a fate");
        };
        assert_eq!((hash[0], fate), (1, Fate::Lost));
    }
}
