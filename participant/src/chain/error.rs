//! What can go wrong between a participant and its node, one clear sentence each.

use std::mem::discriminant;
use std::path::PathBuf;

use bitcoin::{BlockHash, Network};
use bitcoincore_rpc::jsonrpc;
use bitcoincore_rpc::jsonrpc::simple_http;
use thiserror::Error;

/// bitcoind's RPC_IN_WARMUP.
const WARMING_UP: i32 = -28;
/// bitcoind's RPC_MISC_ERROR, which is many things; its message tells apart a block that is not there: pruned, of
/// before a snapshot that the node began with, or lost with its disk.
const MISC_ERROR: i32 = -1;
const GONE: [&str; 3] = ["pruned", "Block not available", "Block not found on disk"];

/// Why the node did not answer as it should. Never carries a password or a cookie.
#[derive(Debug, Error)]
pub enum NodeError {
    #[error("the node's URL {url:?} cannot be used ({reason}); write it as http://host:port")]
    BadUrl { url: String, reason: String },
    #[error(
        "cannot reach a node at {url} ({reason}); is bitcoind running there, with server=1 and this RPC port?"
    )]
    Unreachable { url: String, reason: String },
    #[error(
        "cannot read the cookie file {} ({reason}); it exists only while bitcoind runs, in the data directory of its network",
        path.display()
    )]
    Cookie { path: PathBuf, reason: String },
    #[error(
        "the node at {url} refused the {credentials}; they belong to another node or to an earlier run of this one"
    )]
    Unauthorized { url: String, credentials: String },
    #[error("the node at {url} does not admit this address; allow it with bitcoind's rpcallowip")]
    Forbidden { url: String },
    #[error(
        "the node at {url} is on {found}, but this participant is set to {wanted}; change one of them"
    )]
    WrongNetwork {
        url: String,
        found: String,
        wanted: Network,
    },
    #[error(
        "the node at {url} has version {found}, but {wanted} or later is needed for version-3 transactions and their anchors; upgrade Bitcoin Core"
    )]
    TooOld {
        url: String,
        found: u64,
        wanted: u64,
    },
    #[error("the node at {url} is still starting ({reason}); try again in a moment")]
    WarmingUp { url: String, reason: String },
    #[error(
        "the node at {url} does not have block {hash} (it is pruned, or lost it), in which the pool's transactions may be; fetch it with `bitcoin-cli getblockfrompeer {hash} PEER_ID`, or set [node] to a node that keeps its blocks"
    )]
    BlockGone { url: String, hash: BlockHash },
    #[error("the node answered {method} with error {code}: {message}")]
    Rpc {
        method: &'static str,
        code: i32,
        message: String,
    },
    #[error("the node's answer to {method} was not understood ({reason}); is it Bitcoin Core?")]
    Malformed {
        method: &'static str,
        reason: String,
    },
}

impl NodeError {
    /// Whether the same call may succeed later with nothing changed by the operator.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::WarmingUp { .. })
    }

    /// Whether a node that was connected to once is away or was restarted, so that connecting again
    /// is what to do. Its cookie goes with it and comes back anew.
    pub fn is_connection_lost(&self) -> bool {
        let credentials = matches!(self, Self::Cookie { .. } | Self::Unauthorized { .. });
        credentials || self.is_transient()
    }

    /// Whether the node answered, and only this call came to nothing: others may go well.
    pub fn is_of_one_call(&self) -> bool {
        matches!(
            self,
            Self::Rpc { .. } | Self::Malformed { .. } | Self::BlockGone { .. }
        )
    }

    /// Whether whoever was told of `other` knows this one.
    pub fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (
                Self::Rpc { method, code, .. },
                Self::Rpc {
                    method: others_method,
                    code: others_code,
                    ..
                },
            ) => method == others_method && code == others_code,
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
            Self::Rpc { code, message, .. } => {
                *code == MISC_ERROR && GONE.iter().any(|gone| message.contains(gone))
            }
            _ => false,
        }
    }

    /// The code of an error that bitcoind itself answered with.
    pub fn rpc_code(&self) -> Option<i32> {
        match self {
            Self::Rpc { code, .. } => Some(*code),
            _ => None,
        }
    }

    pub(super) fn from_rpc(
        url: &str,
        credentials: &str,
        method: &'static str,
        error: bitcoincore_rpc::Error,
    ) -> Self {
        let url = url.to_owned();
        let error = match error {
            bitcoincore_rpc::Error::JsonRpc(error) => error,
            other => {
                return Self::Malformed {
                    method,
                    reason: other.to_string(),
                };
            }
        };
        match error {
            jsonrpc::Error::Rpc(error) if error.code == WARMING_UP => Self::WarmingUp {
                url,
                reason: error.message,
            },
            jsonrpc::Error::Rpc(error) => Self::Rpc {
                method,
                code: error.code,
                message: error.message,
            },
            jsonrpc::Error::Transport(error) => match error.downcast_ref::<simple_http::Error>() {
                Some(simple_http::Error::HttpErrorCode(401)) => Self::Unauthorized {
                    url,
                    credentials: credentials.to_owned(),
                },
                Some(simple_http::Error::HttpErrorCode(403)) => Self::Forbidden { url },
                Some(simple_http::Error::SocketError(error)) => Self::Unreachable {
                    url,
                    reason: error.to_string(),
                },
                Some(simple_http::Error::Json(error)) if !error.is_io() && !error.is_eof() => {
                    Self::Malformed {
                        method,
                        reason: error.to_string(),
                    }
                }
                _ => Self::Unreachable {
                    url,
                    reason: error.to_string(),
                },
            },
            other => Self::Malformed {
                method,
                reason: other.to_string(),
            },
        }
    }
}
