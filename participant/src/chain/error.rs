//! What can go wrong between a participant and its node, one clear sentence each.

use std::mem::discriminant;

use bitcoin::BlockHash;
use thiserror::Error;
use tutti_daemon::node::CallError;

/// bitcoind's RPC_MISC_ERROR, which is many things; its message tells apart a block that is not there: pruned, of
/// before a snapshot that the node began with, or lost with its disk.
const MISC_ERROR: i32 = -1;
const GONE: [&str; 3] = ["pruned", "Block not available", "Block not found on disk"];

/// Why the node did not give what it was asked for.
#[derive(Debug, Error)]
pub enum NodeError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(
        "the node at {url} does not have block {hash} (it is pruned, or lost it), in which the pool's transactions may be; fetch it with `bitcoin-cli getblockfrompeer {hash} PEER_ID`, or set [node] to a node that keeps its blocks"
    )]
    BlockGone { url: String, hash: BlockHash },
}

impl NodeError {
    /// Whether the node answered, and only this call came to nothing: others may go well.
    pub fn is_of_one_call(&self) -> bool {
        match self {
            Self::Call(error) => error.is_of_one_call(),
            Self::BlockGone { .. } => true,
        }
    }

    /// Whether the node answers as soon as it is done with its own start.
    pub fn is_warming_up(&self) -> bool {
        matches!(self, Self::Call(CallError::WarmingUp { .. }))
    }

    /// Whether whoever was told of `other` knows this one.
    pub fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Call(error), Self::Call(other)) => error.is_like(other),
            (
                Self::BlockGone { hash, .. },
                Self::BlockGone {
                    hash: others_hash, ..
                },
            ) => hash == others_hash,
            _ => discriminant(self) == discriminant(other),
        }
    }

    /// Whether the node does not have the block that it was asked for.
    pub fn is_block_gone(&self) -> bool {
        match self {
            Self::BlockGone { .. } => true,
            Self::Call(CallError::Rpc { code, message, .. }) => {
                *code == MISC_ERROR && GONE.iter().any(|gone| message.contains(gone))
            }
            Self::Call(_) => false,
        }
    }
}
