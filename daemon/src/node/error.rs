//! What can go wrong between a daemon and its node, one clear sentence each.

use std::mem::discriminant;
use std::path::PathBuf;

use bitcoin::Network;
use bitcoincore_rpc::jsonrpc;
use bitcoincore_rpc::jsonrpc::simple_http;
use thiserror::Error;

use super::MIN_NODE_VERSION;

/// bitcoind's RPC_IN_WARMUP.
const WARMING_UP: i32 = -28;
/// bitcoind's RPC_VERIFY_ERROR, RPC_VERIFY_REJECTED and RPC_VERIFY_ALREADY_IN_UTXO_SET: a judgement
/// of the transaction, not a failure of the call.
const JUDGEMENTS: [i32; 3] = [-25, -26, -27];

/// Why the node did not answer as it should. Never carries a password or a cookie.
#[derive(Debug, Error)]
pub enum CallError {
    #[error("the node's URL {url:?} cannot be used ({reason}); write it as http://host:port")]
    BadUrl { url: String, reason: String },
    #[error(
        "cannot reach a node at {url} ({reason}); start bitcoind with server=1, or correct node.rpc_url"
    )]
    Unreachable { url: String, reason: String },
    #[error(
        "cannot read the node's cookie file {} ({reason}); it exists only while bitcoind runs: start it, or correct node.cookie_file",
        path.display()
    )]
    Cookie { path: PathBuf, reason: String },
    #[error(
        "the node at {url} refused the {credentials}; they belong to another node or to an earlier run of this one: correct the [node] section"
    )]
    Unauthorized { url: String, credentials: String },
    #[error("the node at {url} does not admit this address; allow it with bitcoind's rpcallowip")]
    Forbidden { url: String },
    #[error(
        "the node at {url} is on {found}, but the config says network = \"{wanted}\"; change one of them"
    )]
    WrongNetwork {
        url: String,
        found: String,
        wanted: Network,
    },
    #[error(
        "the node at {url} has version {found}, but {MIN_NODE_VERSION} or later is needed, whose mempool takes the payouts; upgrade Bitcoin Core"
    )]
    TooOld { url: String, found: u64 },
    #[error("the node at {url} is still starting ({reason}); try again in a moment")]
    WarmingUp { url: String, reason: String },
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

impl CallError {
    /// Whether the node answered, and only this call came to nothing: others may go well.
    pub fn is_of_one_call(&self) -> bool {
        matches!(self, Self::Rpc { .. } | Self::Malformed { .. })
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
            _ => discriminant(self) == discriminant(other),
        }
    }

    /// What the node has against a transaction, in its words, where this is no failure of the call.
    pub fn into_judgement(self) -> Result<String, Self> {
        match self {
            Self::Rpc { code, message, .. } if JUDGEMENTS.contains(&code) => Ok(message),
            error => Err(error),
        }
    }

    pub(super) fn from_rpc(
        url: &str,
        credentials: &str,
        method: &'static str,
        error: bitcoincore_rpc::Error,
    ) -> Self {
        match error {
            bitcoincore_rpc::Error::JsonRpc(jsonrpc::Error::Rpc(error)) => match error.code {
                WARMING_UP => Self::WarmingUp {
                    url: url.to_owned(),
                    reason: error.message,
                },
                code => Self::Rpc {
                    method,
                    code,
                    message: error.message,
                },
            },
            bitcoincore_rpc::Error::JsonRpc(jsonrpc::Error::Transport(error)) => {
                Self::from_transport(url, credentials, method, &*error)
            }
            other => Self::Malformed {
                method,
                reason: other.to_string(),
            },
        }
    }

    fn from_transport(
        url: &str,
        credentials: &str,
        method: &'static str,
        error: &(dyn std::error::Error + Send + Sync + 'static),
    ) -> Self {
        let url = url.to_owned();
        match error.downcast_ref::<simple_http::Error>() {
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
        }
    }
}
