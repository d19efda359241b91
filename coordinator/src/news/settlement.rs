//! What becomes of found blocks' payouts.

use bitcoin::{Address, Txid};
use tracing::Level;
use tutti_proto::bump::{BumpCause, BumpPlan};
use tutti_proto::settlement::{Stage, Transition};

use super::{News, block_hash};
use crate::chain::NodeError;
use crate::store::StoreError;

impl News {
    /// A payout is further, or further back, than before.
    pub fn settlement(block: &[u8; 32], height: u32, payout: Txid, step: Transition) -> Self {
        let level = match step.to {
            Stage::Replaced => Level::WARN,
            _ => Level::INFO,
        };
        Self::new(level, "settlement")
            .with("stage", step.to.name())
            .with("from", step.from.map(Stage::name))
            .text("payout_txid", payout)
            .with("height", height)
            .text("block", block_hash(block))
    }

    /// The node took a payout.
    pub fn payout_sent(payout: Txid, tip: u32) -> Self {
        Self::new(Level::INFO, "payout_broadcast")
            .text("payout_txid", payout)
            .with("height_tip", tip)
    }

    /// The node refused one; it is tried at the next tip.
    pub fn payout_refused(payout: Txid, tip: u32, reason: &str) -> Self {
        Self::new(Level::WARN, "payout_refused")
            .text("payout_txid", payout)
            .with("height_tip", tip)
            .with("reason", reason)
    }

    /// A payout's fee was raised, or the node refused that.
    pub fn payout_bumped(
        payout: Txid,
        child: &Txid,
        plan: &BumpPlan,
        cause: BumpCause,
        refused: Option<String>,
    ) -> Self {
        let because = match cause {
            BumpCause::BelowMempoolMinimum { mempool_min } => {
                format!("the node's mempool takes nothing below {mempool_min}")
            }
            BumpCause::PassedBy { blocks, estimate } => {
                format!("{blocks} blocks passed it by, and the estimate is {estimate}")
            }
            BumpCause::PassedByUnexplained { blocks } => format!("{blocks} blocks passed it by"),
            BumpCause::ChildLost { pays } => {
                format!("its child is not in the mempool any more, and it pays {pays}")
            }
        };
        let (level, name) = match &refused {
            None => (Level::INFO, "payout_bumped"),
            Some(_) => (Level::WARN, "bump_refused"),
        };
        Self::new(level, name)
            .text("payout_txid", payout)
            .text("child_txid", child)
            .with("fee", plan.fee.to_sat())
            .with("vsize", plan.vsize)
            .with(
                "package_feerate_sat_per_kvb",
                plan.package_feerate.sat_per_kvb(),
            )
            .with("because", because)
            .with("reason", refused)
    }

    /// A payout needs a higher fee, and does not get it from the pool.
    pub fn payout_not_bumped(payout: Txid, why: &str) -> Self {
        Self::new(Level::WARN, "payout_not_bumped")
            .text("payout_txid", payout)
            .with("why", why)
    }

    /// The node never estimates fees.
    pub fn no_fee_estimates() -> Self {
        let why = "the node estimates no fees, as with -blocksonly: payouts are bumped by half as much again each time, or above what its mempool takes";
        Self::new(Level::WARN, "no_fee_estimates").with("why", why)
    }

    /// Whoever raised a payout's fee is not credited for it.
    pub fn payout_not_credited(payout: Txid, why: &str) -> Self {
        Self::new(Level::INFO, "bump_not_credited")
            .text("payout_txid", payout)
            .with("why", why)
    }

    /// The node fails at a block's payouts, or at one of them: it is asked again, and the others go on.
    pub fn payout_waiting(block: &[u8; 32], payout: Option<Txid>, why: &NodeError) -> Self {
        Self::new(Level::ERROR, "payout_waiting")
            .text("block", block_hash(block))
            .with("payout_txid", payout.map(|txid| txid.to_string()))
            .text("why", why)
    }

    /// The node is away: no payout is looked at until it is back.
    pub fn payouts_waiting(why: &NodeError) -> Self {
        Self::new(Level::WARN, "payouts_waiting").text("why", why)
    }

    /// Where the operator sends coins for bumps.
    pub fn bump_address(address: &Address) -> Self {
        Self::new(Level::INFO, "bump_address").text("address", address)
    }

    /// A block's payouts are not on this disk as they should be.
    pub fn payouts_damaged(why: &str) -> Self {
        Self::new(Level::ERROR, "payouts_damaged").with("why", why)
    }

    /// The same, in the store.
    pub fn payouts_unreadable(block: &[u8; 32], why: &StoreError) -> Self {
        Self::new(Level::ERROR, "payouts_unreadable")
            .text("block", block_hash(block))
            .text("why", why)
    }
}
