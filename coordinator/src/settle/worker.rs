//! One look at the node after another: what is ripe is broadcast, what blocks pass by is bumped.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use bitcoin::{Amount, OutPoint, Transaction, Txid};
use tutti_proto::bump::Feerate;
use tutti_proto::coinbase::COINBASE_MATURITY;
use tutti_proto::settlement::{
    BroadcastOutcome, FINAL_CONFIRMATIONS, Progress, Sighting, Stage, Whereabouts,
};

use super::bumper::Bumper;
use super::credits::{CreditStep, Terms};
use super::kept::KeptPayouts;
use super::{AutoBump, FoundPayouts, Purse, Task};
use crate::chain::{CALL_TIMEOUT, Node, NodeConfig, NodeError};
use crate::driver::Inbox;
use crate::news::News;

/// How soon a new tip, or a mempool that dropped a payout, is noticed.
const POLL: Duration = Duration::from_millis(500);
/// Longer, while the node is away; who needs it for templates says so.
const AWAY: Duration = Duration::from_secs(2);
/// Blocks on what replaced a block, after which it does not come back.
const REPLACED_BLOCKS: u32 = 200;

/// A payout on its way.
pub(super) struct Payout {
    pub(super) transaction: Transaction,
    pub(super) txid: Txid,
    pub(super) fee: Amount,
    pub(super) vsize: u64,
    pub(super) progress: Progress,
    /// The tip at which it was first seen in the chain.
    mined_at: Option<u32>,
    /// The tip at which the node refused it last.
    refused_at: Option<u32>,
    /// The tip at which it was bumped last, and what it was lifted to, if it was.
    pub(super) bumped: Option<(u32, Option<Feerate>)>,
    /// Once it is final.
    pub(super) credit: CreditStep,
}

/// A found block.
struct Block {
    height: u32,
    coinbase: Txid,
    terms: Terms,
    payouts: Vec<Payout>,
}

pub(super) struct Worker {
    config: NodeConfig,
    kept: KeptPayouts,
    bump: Option<AutoBump>,
    purse: Purse,
    inbox: Inbox,
    blocks: BTreeMap<[u8; 32], Block>,
    node: Option<Node>,
}

impl Worker {
    pub(super) fn new(
        config: NodeConfig,
        kept: KeptPayouts,
        bump: Option<AutoBump>,
        purse: Purse,
        inbox: Inbox,
        earlier: Vec<FoundPayouts>,
    ) -> Self {
        let blocks = earlier.into_iter().map(|found| (found.block, block(found)));
        Self {
            config,
            kept,
            bump,
            purse,
            inbox,
            blocks: blocks.collect(),
            node: None,
        }
    }

    /// Runs until the process ends.
    pub(super) fn run(mut self, tasks: &Receiver<Task>) {
        loop {
            let wait = match self.look() {
                Ok(()) => POLL,
                Err(_) => {
                    self.node = None;
                    AWAY
                }
            };
            let deadline = Instant::now() + wait;
            loop {
                let left = deadline.saturating_duration_since(Instant::now());
                match tasks.recv_timeout(left) {
                    Ok(Task::Settle(found)) => self.take(*found),
                    Ok(Task::Credited { block, shard }) => self.credited(&block, shard),
                    Err(RecvTimeoutError::Timeout) => break,
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        }
    }

    fn take(&mut self, found: FoundPayouts) {
        if self.blocks.contains_key(&found.block) {
            return;
        }
        if let Err(error) = self.kept.keep(&found) {
            // It is settled all the same, as long as this process lives.
            News::payouts_damaged(&error.to_string()).tell();
        }
        self.blocks.insert(found.block, block(found));
    }

    /// A credit is on disk, or there is none.
    fn credited(&mut self, block: &[u8; 32], shard: u16) {
        let block = self.blocks.get_mut(block);
        let payout = block.and_then(|block| block.payouts.get_mut(usize::from(shard)));
        if let Some(payout) = payout {
            payout.credit = CreditStep::Done;
        }
    }

    fn look(&mut self) -> Result<(), NodeError> {
        if self.blocks.is_empty() {
            return Ok(());
        }
        let node = match self.node.take() {
            Some(node) => node,
            None => Node::connect(&self.config, CALL_TIMEOUT)?,
        };
        let tip = node.height()?;
        let hashes: Vec<[u8; 32]> = self.blocks.keys().copied().collect();
        for hash in hashes {
            let place = node.place(&hash)?;
            let confirmations = place.map_or(0, |place| place.confirmations.max(0));
            let confirmations = u32::try_from(confirmations).unwrap_or(u32::MAX);
            if self.look_at(&node, &hash, tip, confirmations)? {
                self.kept.forget(&hash);
                self.blocks.remove(&hash);
            }
        }
        self.node = Some(node);
        Ok(())
    }

    /// Says whether nothing becomes of the block's payouts any more.
    fn look_at(
        &mut self,
        node: &Node,
        hash: &[u8; 32],
        tip: u32,
        confirmations: u32,
    ) -> Result<bool, NodeError> {
        let Some(block) = self.blocks.get_mut(hash) else {
            return Ok(false);
        };
        let mut done = true;
        for (shard, payout) in (0u16..).zip(&mut block.payouts) {
            let spends = OutPoint::new(block.coinbase, u32::from(shard));
            let seen = sight(node, payout, spends, tip, confirmations)?;
            if let Some(transition) = payout.progress.observe(tip, seen) {
                News::settlement(hash, block.height, payout.txid, transition).tell();
            }
            let stage = payout.progress.stage();
            if stage.is_some_and(Stage::is_due) {
                let in_pool = seen.payout == Whereabouts::Mempool;
                broadcast(node, payout, tip, in_pool)?;
                if let Some(bump) = &self.bump {
                    let bumper = Bumper {
                        node,
                        config: &self.config,
                        settings: bump,
                        purse: &self.purse,
                    };
                    bumper.look_at(payout, tip)?;
                }
            }
            let is_final = stage == Some(Stage::Final);
            if is_final {
                let terms = &block.terms;
                terms.look_at(node, &self.inbox, shard, payout, tip)?;
            }
            done &= is_final && payout.credit == CreditStep::Done;
        }
        let replaced = confirmations == 0 && tip >= block.height.saturating_add(REPLACED_BLOCKS);
        Ok(done || replaced)
    }
}

fn block(found: FoundPayouts) -> Block {
    let coinbase = found.coinbase.compute_txid();
    let outputs = found.coinbase.output.iter();
    let payouts = found.payouts.into_iter().zip(outputs);
    let payouts = payouts.map(|(transaction, spent)| {
        let mut paid = transaction.output.iter().map(|output| output.value);
        let paid = paid.try_fold(Amount::ZERO, Amount::checked_add);
        Payout {
            txid: transaction.compute_txid(),
            fee: paid
                .and_then(|paid| spent.value.checked_sub(paid))
                .unwrap_or(Amount::ZERO),
            vsize: u64::try_from(transaction.vsize()).unwrap_or(u64::MAX),
            transaction,
            progress: Progress::default(),
            mined_at: None,
            refused_at: None,
            bumped: None,
            credit: CreditStep::default(),
        }
    });
    Block {
        height: found.height,
        coinbase,
        terms: Terms {
            block: found.block,
            payouts: found.terms,
            payees: found.payees,
        },
        payouts: payouts.collect(),
    }
}

/// Where the node has a payout. Only the payout can spend its coinbase, so that a spent one is mined.
fn sight(
    node: &Node,
    payout: &mut Payout,
    spends: OutPoint,
    tip: u32,
    confirmations: u32,
) -> Result<Sighting, NodeError> {
    let whereabouts = if confirmations < COINBASE_MATURITY {
        payout.mined_at = None;
        Whereabouts::Nowhere
    } else if node.pooled(payout.txid)?.is_some() {
        payout.mined_at = None;
        Whereabouts::Mempool
    } else if node.is_unspent(spends)? {
        payout.mined_at = None;
        Whereabouts::Nowhere
    } else {
        let first = *payout.mined_at.get_or_insert(tip);
        let depth = tip.saturating_sub(first).saturating_add(1);
        Whereabouts::Chain(depth.min(FINAL_CONFIRMATIONS))
    };
    Ok(Sighting {
        confirmations,
        payout: whereabouts,
    })
}

/// Whenever the mempool does not have it: a node forgets when it restarts or is full. What it refused is
/// handed to it again at the next tip.
fn broadcast(node: &Node, payout: &mut Payout, tip: u32, in_pool: bool) -> Result<(), NodeError> {
    if in_pool || payout.refused_at == Some(tip) {
        return Ok(());
    }
    match node.broadcast(&payout.transaction)? {
        BroadcastOutcome::Accepted => News::payout_sent(payout.txid, tip).tell(),
        BroadcastOutcome::AlreadyInMempool | BroadcastOutcome::AlreadyInChain => {}
        BroadcastOutcome::PrematureCoinbaseSpend { reason }
        | BroadcastOutcome::Rejected { reason } => {
            payout.refused_at = Some(tip);
            News::payout_refused(payout.txid, tip, &reason).tell();
        }
    }
    Ok(())
}
