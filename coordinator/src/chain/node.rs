//! A connection to the node and what is asked of it.

use std::path::PathBuf;
use std::time::Duration;

use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Network};
use bitcoincore_rpc::jsonrpc::simple_http::SimpleHttpTransport;
use bitcoincore_rpc::{Auth, Client, RpcApi, jsonrpc};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tutti_proto::feerate::FeeRate;
use zeroize::Zeroizing;

use super::NodeError;
use super::template::{KnownTransactions, RawTemplate};

/// Bitcoin Core 28: the first whose mempool takes version-3 transactions with a pay-to-anchor output.
pub const MIN_NODE_VERSION: u64 = 280_000;

/// bitcoind's RPC_INVALID_ADDRESS_OR_KEY: no such block.
const NOT_FOUND: i32 = -5;
/// bitcoind's RPC_DESERIALIZATION_ERROR: no block at all. Its other errors of submitblock are failures of
/// the node, and BIP22's verdicts are results.
const NOT_A_BLOCK: i32 = -22;

/// Where the node is and how to log in.
#[derive(Clone)]
pub struct NodeConfig {
    /// `http://host:port`.
    pub url: String,
    /// How to log in.
    pub auth: NodeAuth,
    /// The chain it must be on.
    pub network: Network,
}

impl NodeConfig {
    /// The URL without what may be a password.
    pub fn shown_url(&self) -> String {
        without_login(&self.url)
    }
}

/// How to log in. Not `Debug`: it may hold a password.
#[derive(Clone)]
pub enum NodeAuth {
    /// The file that bitcoind writes at every start.
    CookieFile(PathBuf),
    /// bitcoind's rpcauth or rpcuser.
    UserPass {
        user: String,
        password: Zeroizing<String>,
    },
}

/// A node that was there, on the right network and new enough when it was connected to.
pub struct Node {
    client: Client,
    url: String,
    credentials: String,
    network: Network,
}

/// What the node says of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is in the best chain.
    Accepted,
    /// It is not, in the node's words.
    Refused(String),
}

/// The best chain's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Tip {
    pub(super) hash: BlockHash,
    pub(super) height: u32,
}

#[derive(Deserialize)]
struct ChainInfo {
    chain: String,
}

#[derive(Deserialize)]
struct NetworkInfo {
    version: u64,
}

/// Where a block is.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct Place {
    /// Blocks on it, itself included; -1 if it is not in the best chain.
    pub confirmations: i64,
    /// Its height.
    pub height: u32,
}

impl Node {
    /// Logs in and checks network and version. Reads the cookie anew, so connecting again is what
    /// to do after the node was restarted.
    pub fn connect(config: &NodeConfig, timeout: Duration) -> Result<Self, NodeError> {
        let (credentials, user, password) = login(&config.auth)?;
        let url = config.shown_url();
        let transport = SimpleHttpTransport::builder()
            .url(&config.url)
            .map_err(|error| NodeError::BadUrl {
                url: url.clone(),
                reason: error.to_string(),
            })?
            .auth(user, Some(password))
            .timeout(timeout)
            .build();
        let node = Self {
            client: Client::from_jsonrpc(jsonrpc::Client::with_transport(transport)),
            url,
            credentials,
            network: config.network,
        };
        node.check()?;
        Ok(node)
    }

    fn check(&self) -> Result<(), NodeError> {
        let NetworkInfo { version } = self.call("getnetworkinfo", &[])?;
        if version < MIN_NODE_VERSION {
            return Err(NodeError::TooOld {
                url: self.url.clone(),
                found: version,
            });
        }
        let ChainInfo { chain } = self.call("getblockchaininfo", &[])?;
        if chain != self.network.to_core_arg() {
            return Err(NodeError::WrongNetwork {
                url: self.url.clone(),
                found: core_chain_name(chain),
                wanted: self.network,
            });
        }
        Ok(())
    }

    /// The best template now.
    pub fn template(&self) -> Result<RawTemplate, NodeError> {
        let rules = match self.network {
            Network::Signet => json!({"rules": ["segwit", "signet"]}),
            _ => json!({"rules": ["segwit"]}),
        };
        self.call("getblocktemplate", &[rules])
    }

    /// Whether it gives templates, and such as can be mined.
    pub fn check_template(&self) -> Result<(), NodeError> {
        let known = &mut KnownTransactions::new();
        self.template()?.into_template(FeeRate::FLOOR, known)?;
        Ok(())
    }

    /// The tip once it has at least this height, or after `within`.
    pub(super) fn wait_for_height(&self, height: u32, within: Duration) -> Result<Tip, NodeError> {
        let milliseconds = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        self.call("waitforblockheight", &[json!(height), json!(milliseconds)])
    }

    /// Hands over a block.
    pub fn submit(&self, hash: &[u8; 32], block: &[u8]) -> Result<Verdict, NodeError> {
        let answer: Result<Value, NodeError> =
            self.call("submitblock", &[json!(hex::encode(block))]);
        match answer {
            Ok(Value::Null) => Ok(Verdict::Accepted),
            // Known, or valid beside the best chain: the chain decides.
            Ok(Value::String(word)) if word == "duplicate" || word == "inconclusive" => {
                self.verdict(hash, &word)
            }
            Ok(Value::String(word)) => Ok(Verdict::Refused(word)),
            Ok(other) => Err(NodeError::Malformed {
                method: "submitblock",
                reason: other.to_string(),
            }),
            Err(NodeError::Rpc {
                code: NOT_A_BLOCK,
                message,
                ..
            }) => Ok(Verdict::Refused(message)),
            // A full disk, say: nothing that the node said of the block.
            Err(error) => Err(error),
        }
    }

    /// What became of a block that was handed over before.
    pub fn verdict(&self, hash: &[u8; 32], otherwise: &str) -> Result<Verdict, NodeError> {
        Ok(match self.place(hash)? {
            Some(place) if place.confirmations >= 1 => Verdict::Accepted,
            Some(_) => Verdict::Refused(format!("{otherwise}: not in the best chain")),
            None => Verdict::Refused(format!("{otherwise}: the node does not know it")),
        })
    }

    /// Where a block is, if the node knows it.
    pub fn place(&self, hash: &[u8; 32]) -> Result<Option<Place>, NodeError> {
        let hash = BlockHash::from_byte_array(*hash);
        match self.call("getblockheader", &[json!(hash)]) {
            Ok(place) => Ok(Some(place)),
            Err(NodeError::Rpc {
                code: NOT_FOUND, ..
            }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Height of the best chain.
    pub fn height(&self) -> Result<u32, NodeError> {
        self.call("getblockcount", &[])
    }

    pub(super) fn call<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: &[Value],
    ) -> Result<T, NodeError> {
        self.client
            .call(method, params)
            .map_err(|error| NodeError::from_rpc(&self.url, &self.credentials, method, error))
    }
}

/// What to call the credentials, and the credentials.
fn login(auth: &NodeAuth) -> Result<(String, String, String), NodeError> {
    match auth {
        NodeAuth::UserPass { user, password } => Ok((
            format!("password of user {user:?}"),
            user.clone(),
            password.to_string(),
        )),
        NodeAuth::CookieFile(path) => {
            let cookie = |reason: String| NodeError::Cookie {
                path: path.clone(),
                reason,
            };
            let (user, password) = Auth::CookieFile(path.clone())
                .get_user_pass()
                .map_err(|error| cookie(reason_only(&error)))?;
            match (user, password) {
                (Some(user), Some(password)) => {
                    Ok((format!("cookie from {}", path.display()), user, password))
                }
                _ => Err(cookie("it holds no cookie".to_owned())),
            }
        }
    }
}

fn reason_only(error: &bitcoincore_rpc::Error) -> String {
    match error {
        bitcoincore_rpc::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

/// What stands before an @ may be a password.
fn without_login(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        _ => url.to_owned(),
    }
}

/// Core's name of a chain in our words, as far as we have one.
fn core_chain_name(chain: String) -> String {
    Network::from_core_arg(&chain).map_or(chain, |network| network.to_string())
}
