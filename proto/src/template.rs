//! A block template, as much of it as the protocol needs.

use std::sync::Arc;

use crate::feerate::FeeRate;

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
    /// All transactions but the coinbase, serialised with witness.
    pub transactions: Arc<Vec<Vec<u8>>>,
    /// Feerate of the payouts made for it.
    pub feerate: FeeRate,
}
