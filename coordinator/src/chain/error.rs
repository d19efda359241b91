//! What can go wrong between the coordinator and its node, one clear sentence each.

use std::mem::discriminant;
use std::path::PathBuf;

use bitcoin::Network;
use bitcoincore_rpc::jsonrpc;
use bitcoincore_rpc::jsonrpc::simple_http;
use thiserror::Error;

use super::node::MIN_NODE_VERSION;
use super::template::TemplateError;

/// bitcoind's RPC_IN_WARMUP.
const WARMING_UP: i32 = -28;
/// bitcoind's RPC_CLIENT_NOT_CONNECTED and RPC_CLIENT_IN_INITIAL_DOWNLOAD.
const NOT_READY: [i32; 2] = [-9, -10];

/// bitcoind's RPC_MISC_ERROR, which is many things; its message tells apart a block that is pruned. One that is not
/// downloaded yet, or not found on disk, may come.
const MISC_ERROR: i32 = -1;
const PRUNED: &str = "pruned";

/// Why the node did not answer as it should. Never carries a password or a cookie.
#[derive(Debug, Error)]
pub enum NodeError {
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
    #[error(
        "the node at {url} gives no templates yet ({reason}); it does once it has peers and the whole chain: `bitcoin-cli getblockchaininfo` says how far it is, and `run` waits for it"
    )]
    NotReady { url: String, reason: String },
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
    #[error(
        "the look for the pool's own coins among all coins (scantxoutset) came to nothing: {0}; it is made again some blocks later, payouts whose own output pays are bumped meanwhile, and payees bump the others"
    )]
    Coins(#[source] Box<NodeError>),
    #[error("the node's template cannot be used: {0}")]
    Template(#[from] TemplateError),
}

impl NodeError {
    /// Whether the node answered, and only this call came to nothing: others may go well.
    pub fn is_of_one_call(&self) -> bool {
        matches!(
            self,
            Self::Rpc { .. } | Self::Malformed { .. } | Self::Coins(_)
        )
    }

    /// Whether the node deleted the block that it was asked for, which it does not get again by itself.
    pub fn is_pruned(&self) -> bool {
        matches!(self, Self::Rpc { code: MISC_ERROR, message, .. } if message.contains(PRUNED))
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

    pub(super) fn from_rpc(
        url: &str,
        credentials: &str,
        method: &'static str,
        error: bitcoincore_rpc::Error,
    ) -> Self {
        match error {
            bitcoincore_rpc::Error::JsonRpc(jsonrpc::Error::Rpc(error)) => {
                Self::from_code(url, method, error)
            }
            bitcoincore_rpc::Error::JsonRpc(jsonrpc::Error::Transport(error)) => {
                Self::from_transport(url, credentials, method, &*error)
            }
            other => Self::Malformed {
                method,
                reason: other.to_string(),
            },
        }
    }

    fn from_code(url: &str, method: &'static str, error: jsonrpc::error::RpcError) -> Self {
        let (url, reason) = (url.to_owned(), error.message);
        match error.code {
            WARMING_UP => Self::WarmingUp { url, reason },
            code if NOT_READY.contains(&code) => Self::NotReady { url, reason },
            code => Self::Rpc {
                method,
                code,
                message: reason,
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

/// What was said of failures that go on: the same one is said once.
#[derive(Debug, Default)]
pub struct Told(Option<NodeError>);

impl Told {
    /// Whether this is to be said.
    pub fn is_new(&self, error: &NodeError) -> bool {
        !self.0.as_ref().is_some_and(|told| told.is_like(error))
    }

    /// It was.
    pub fn note(&mut self, error: NodeError) {
        self.0 = Some(error);
    }

    /// It went well: the next failure is news.
    pub fn clear(&mut self) {
        self.0 = None;
    }
}
