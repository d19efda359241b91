//! One look at the node after another: what is ripe is broadcast, what blocks pass by is bumped.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use bitcoin::{Amount, OutPoint, Transaction, Txid};
use tutti_proto::bump::{BumpPolicy, Feerate, Seen};
use tutti_proto::coinbase::COINBASE_MATURITY;
use tutti_proto::settlement::{
    self, BroadcastOutcome, FINAL_CONFIRMATIONS, Progress, Sighting, Stage, Whereabouts,
};

use super::bumper::{Bumper, Coins, NotBumped};
use super::credits::{CreditStep, Terms};
use super::kept::KeptPayouts;
use super::{FoundPayouts, Purse, Task};
use crate::chain::{CALL_TIMEOUT, Node, NodeConfig, NodeError, Told};
use crate::driver::Inbox;
use crate::news::News;

/// How soon a new tip, or a mempool that dropped a payout, is noticed.
const POLL: Duration = Duration::from_millis(500);
/// Longer, while the node is away.
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
    /// The height at which it was mined; the tip at which it was first seen in the chain, if all of it is spent.
    pub(super) mined_by: Option<u32>,
    /// The tip at which the node refused it last.
    refused_at: Option<u32>,
    /// What it was seen to pay, whoever pays it.
    pub(super) seen: Option<Seen>,
    /// The tip at which it was bumped last, and what it was lifted to, if it was.
    pub(super) bumped: Option<(u32, Option<Feerate>)>,
    /// Whether a bump of it waits for a look for the pool's coins.
    wants_coins: bool,
    /// Why it was not bumped last, as it was said.
    pub(super) not_bumped: Option<NotBumped>,
    /// Ripe and not in the chain.
    is_due: bool,
    /// Once it is final.
    pub(super) credit: CreditStep,
    /// The tip at which its block was looked for last, and why the node could not say, as it was said.
    credit_tried_at: Option<u32>,
    credit_told: Told,
    /// What the node fails at, as it was said.
    told: Told,
    /// What it fails at when the payout is to be bumped.
    bump_told: Told,
}

/// A found block.
struct Block {
    height: u32,
    coinbase: Txid,
    terms: Terms,
    payouts: Vec<Payout>,
    /// What the node fails at, as it was said.
    told: Told,
}

pub(super) struct Worker {
    config: NodeConfig,
    kept: KeptPayouts,
    bump: Option<BumpPolicy>,
    purse: Purse,
    inbox: Inbox,
    blocks: BTreeMap<[u8; 32], Block>,
    node: Option<Node>,
    /// Why nothing can be looked at, as it was said.
    told: Told,
    /// Whether it was said that the node never estimates fees.
    no_estimates_told: Cell<bool>,
    coins: Coins,
}

impl Worker {
    pub(super) fn new(
        config: NodeConfig,
        kept: KeptPayouts,
        bump: Option<BumpPolicy>,
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
            told: Told::default(),
            no_estimates_told: Cell::new(false),
            coins: Coins::default(),
        }
    }

    /// Runs until the process ends.
    pub(super) fn run(mut self, tasks: &Receiver<Task>) {
        loop {
            let wait = self.sweep();
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

    /// One look at everything. Returns how long to wait until the next.
    fn sweep(&mut self) -> Duration {
        match self.look() {
            Ok(()) => {
                self.told.clear();
                POLL
            }
            Err(error) => {
                self.node = None;
                if self.told.is_new(&error) {
                    News::payouts_waiting(&error).tell();
                    self.told.note(error);
                }
                AWAY
            }
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
            let Some(mut block) = self.blocks.remove(&hash) else {
                continue;
            };
            let looked = self.look_at(&node, &hash, &mut block, tip);
            if matches!(looked, Ok(true)) {
                self.kept.forget(&hash);
            } else {
                self.blocks.insert(hash, block);
            }
            looked?;
        }
        self.bump(&node, tip)?;
        self.node = Some(node);
        Ok(())
    }

    /// After all were broadcast: a look for coins may take minutes.
    fn bump(&mut self, node: &Node, tip: u32) -> Result<(), NodeError> {
        let Some(policy) = &self.bump else {
            return Ok(());
        };
        let mut bumper = Bumper {
            node,
            config: &self.config,
            policy,
            purse: &self.purse,
            no_estimates_told: &self.no_estimates_told,
            coins: &mut self.coins,
            may_look: false,
        };
        for may_look in [false, true] {
            bumper.may_look = may_look;
            for (hash, block) in &mut self.blocks {
                let wanted = |payout: &&mut Payout| match may_look {
                    false => payout.is_due,
                    // One that was looked at before a connection was lost may be in a block by now.
                    true => payout.is_due && payout.wants_coins,
                };
                for payout in block.payouts.iter_mut().filter(wanted) {
                    let looked = bumper.look_at(payout, tip);
                    let txid = payout.txid;
                    let tell =
                        |error: &NodeError| News::payout_waiting(hash, Some(txid), error).tell();
                    let looked = of_one_call(looked, &mut payout.bump_told, tell)?;
                    payout.wants_coins = looked.unwrap_or(false);
                }
            }
        }
        Ok(())
    }

    /// Says whether nothing becomes of the block's payouts any more. What the node fails at is told and
    /// looked at again; the others do not wait for it.
    fn look_at(
        &self,
        node: &Node,
        hash: &[u8; 32],
        block: &mut Block,
        tip: u32,
    ) -> Result<bool, NodeError> {
        let place = node.place(hash);
        let tell = |error: &NodeError| News::payout_waiting(hash, None, error).tell();
        let Some(place) = of_one_call(place, &mut block.told, tell)? else {
            return Ok(false);
        };
        let confirmations = place.map_or(0, |place| place.confirmations.max(0));
        let confirmations = u32::try_from(confirmations).unwrap_or(u32::MAX);
        let mut done = true;
        for shard in 0..block.payouts.len() {
            let looked = self.look_at_payout(node, hash, block, shard, tip, confirmations);
            let Some(payout) = block.payouts.get_mut(shard) else {
                continue;
            };
            let txid = payout.txid;
            let tell = |error: &NodeError| News::payout_waiting(hash, Some(txid), error).tell();
            done &= of_one_call(looked, &mut payout.told, tell)?.unwrap_or(false);
        }
        let replaced = confirmations == 0 && tip >= block.height.saturating_add(REPLACED_BLOCKS);
        Ok(done || replaced)
    }

    /// Says whether nothing is left to do about a payout.
    fn look_at_payout(
        &self,
        node: &Node,
        hash: &[u8; 32],
        block: &mut Block,
        shard: usize,
        tip: u32,
        confirmations: u32,
    ) -> Result<bool, NodeError> {
        let (Some(payout), Ok(shard)) = (block.payouts.get_mut(shard), u16::try_from(shard)) else {
            return Ok(true);
        };
        let spends = OutPoint::new(block.coinbase, u32::from(shard));
        let seen = sight(node, payout, spends, tip, confirmations)?;
        if let Some(transition) = payout.progress.observe(tip, seen) {
            News::settlement(hash, block.height, payout.txid, transition).tell();
        }
        let stage = payout.progress.stage();
        payout.is_due = stage.is_some_and(Stage::is_due);
        if payout.is_due {
            let in_pool = seen.payout == Whereabouts::Mempool;
            broadcast(node, payout, tip, in_pool)?;
        }
        let is_final = stage == Some(Stage::Final);
        // A look through many blocks: what is not there yet does not come before the next tip.
        if is_final && payout.credit_tried_at != Some(tip) {
            let looked = block.terms.look_at(node, &self.inbox, shard, payout, tip);
            let txid = payout.txid;
            let tell = |error: &NodeError| News::payout_waiting(hash, Some(txid), error).tell();
            of_one_call(looked, &mut payout.credit_told, tell)?;
            payout.credit_tried_at = Some(tip);
        }
        Ok(is_final && payout.credit == CreditStep::Done)
    }
}

/// An error of one call is told once, and is nothing then; one of the connection ends the look.
fn of_one_call<T>(
    answer: Result<T, NodeError>,
    told: &mut Told,
    tell: impl Fn(&NodeError),
) -> Result<Option<T>, NodeError> {
    match answer {
        Ok(answer) => {
            told.clear();
            Ok(Some(answer))
        }
        Err(error) if error.is_of_one_call() => {
            if told.is_new(&error) {
                tell(&error);
                told.note(error);
            }
            Ok(None)
        }
        Err(error) => Err(error),
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
            mined_by: None,
            refused_at: None,
            seen: None,
            bumped: None,
            wants_coins: false,
            not_bumped: None,
            is_due: false,
            credit: CreditStep::default(),
            credit_tried_at: None,
            credit_told: Told::default(),
            told: Told::default(),
            bump_told: Told::default(),
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
        told: Told::default(),
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
        payout.mined_by = None;
        // Its child went with the block; it is bumped anew once it is ripe again.
        payout.bumped = None;
        payout.seen = None;
        Whereabouts::Nowhere
    } else if node.pooled(payout.txid)?.is_some() {
        payout.mined_by = None;
        Whereabouts::Mempool
    } else if node.is_unspent(spends, false)? {
        payout.mined_by = None;
        Whereabouts::Nowhere
    } else {
        let height = match payout.mined_by {
            Some(height) => height,
            None => mined_by(node, payout, tip)?,
        };
        payout.mined_by = Some(height);
        let depth = settlement::confirmations(height, tip);
        Whereabouts::Chain(depth.min(FINAL_CONFIRMATIONS))
    };
    Ok(Sighting {
        confirmations,
        payout: whereabouts,
    })
}

/// The height at which a payout was mined, by an output of it that nothing spends. After a restart its depth is
/// known so, and a pruning node may not keep its block for that many more blocks.
fn mined_by(node: &Node, payout: &Payout, tip: u32) -> Result<u32, NodeError> {
    for (vout, _) in (0..).zip(&payout.transaction.output) {
        let output = OutPoint::new(payout.txid, vout);
        if let Some(depth) = node.depth_of_unspent(output)? {
            return Ok(tip.saturating_add(1).saturating_sub(depth));
        }
    }
    Ok(tip)
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

#[cfg(test)]
mod bumps;
#[cfg(test)]
mod pruned;
#[cfg(test)]
mod tests;
