//! The participant's own node: what the chain says, and the way to broadcast.
//!
//! Every call blocks; the caller gives this a thread of its own, and decides when to try again. Answers are
//! parsed only as far as they are used, so that a new version of Bitcoin Core does not break what did not change.
//! The node needs no wallet and no transaction index.

mod coinbase;
mod error;
mod node;
mod pooled;
mod relay;
mod scan;

use bitcoin::{Amount, BlockHash, ScriptBuf, Txid};

use serde::{Deserialize, Serialize};

pub use error::NodeError;
pub use node::Node;
pub use scan::{BlockView, FoundTransaction, LEFT_BLOCKS_MAX, LeftChain, Scan, left_chain, scan};
pub use tutti_daemon::node::{NodeAuth, NodeConfig};
pub use tutti_proto::settlement::BroadcastOutcome;

/// A block by both of its names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BlockRef {
    pub height: u32,
    pub hash: BlockHash,
}

/// The node's best block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    pub block: BlockRef,
    /// The block's own time; compared with the clock, it shows a stale view.
    pub time: u32,
    pub median_time: u32,
    /// Height of the best header that is not known to be invalid: the blocks come after it.
    pub headers: u32,
    /// The node knows that it is still catching up.
    pub initial_block_download: bool,
}

/// What a block header says, and whether the block is in the best chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderInfo {
    pub block: BlockRef,
    /// `None` for the genesis block.
    pub previous: Option<BlockHash>,
    pub time: u32,
    pub median_time: u32,
    pub in_best_chain: bool,
}

/// A block's transactions by their ids, the coinbase first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockTransactions {
    pub block: BlockRef,
    pub previous: Option<BlockHash>,
    pub txids: Vec<Txid>,
}

/// An output that nothing spends yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnspentOutput {
    /// 0 while its transaction is in the mempool.
    pub confirmations: u32,
    pub value: Amount,
    pub script: ScriptBuf,
    pub coinbase: bool,
}

/// A transaction in the mempool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MempoolEntry {
    pub txid: Txid,
    pub vsize: u64,
    pub fee: Amount,
    /// Transactions in the mempool that spend it directly.
    pub children: Vec<Txid>,
}
