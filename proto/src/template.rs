//! A block template, as much of it as the protocol needs.

use std::sync::Arc;

use bitcoin::{Network, Transaction};

use crate::feerate::FeeRate;
use crate::plan::PlanError;
use crate::policy::subsidy;

/// Consensus limit of a block's weight.
const BLOCK_WEIGHT_LIMIT: u64 = 4_000_000;
/// Weight of what surrounds the transactions: header and the longest transaction count.
const FRAME_WEIGHT: u64 = 4 * (80 + 9);

/// What a node's getblocktemplate gives: one height, one set of transactions, one reward.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    /// Height of the block to be found.
    pub height: u32,
    /// Tip it builds on, in the byte order in which it is hashed.
    pub previous_block: [u8; 32],
    /// Header version.
    pub version: i32,
    /// Compact target.
    pub bits: u32,
    /// The node's time, seconds.
    pub time: u32,
    /// Earliest header time that the chain allows, seconds.
    pub time_min: u32,
    /// Subsidy and fees, sat.
    pub reward: u64,
    /// Hash in the witness commitment, if the template needs one.
    pub witness_commitment: Option<[u8; 32]>,
    /// Merkle path of the coinbase.
    pub merkle_path: Vec<[u8; 32]>,
    /// All transactions but the coinbase, serialised with witness. Consecutive templates share most.
    pub transactions: Vec<Arc<[u8]>>,
    /// Weight of these transactions.
    pub weight: u64,
    /// Feerate of the payouts made for it.
    pub feerate: FeeRate,
}

impl Template {
    /// The empty block after the one that this template makes: no coinbase commits to the previous
    /// block, so its payouts can be signed before that exists.
    pub fn next_height(&self, network: Network) -> Template {
        let height = self.height.saturating_add(1);
        Template {
            height,
            previous_block: [0; 32],
            reward: subsidy(network, height),
            witness_commitment: None,
            merkle_path: Vec::new(),
            transactions: Vec::new(),
            weight: 0,
            ..self.clone()
        }
    }

    /// This template's transactions under another one's header: what a next-height template becomes
    /// once its previous block is there.
    pub fn on_tip_of(&self, tip: &Template) -> Template {
        Template {
            previous_block: tip.previous_block,
            version: tip.version,
            bits: tip.bits,
            time: tip.time,
            time_min: tip.time_min,
            ..self.clone()
        }
    }

    /// Whether a block of this template has room for a coinbase.
    pub fn check_room(&self, coinbase: &Transaction) -> Result<(), PlanError> {
        let weight = FRAME_WEIGHT
            .saturating_add(coinbase.weight().to_wu())
            .saturating_add(self.weight);
        if weight > BLOCK_WEIGHT_LIMIT {
            let limit = BLOCK_WEIGHT_LIMIT;
            return Err(PlanError::BlockTooHeavy { weight, limit });
        }
        Ok(())
    }
}
