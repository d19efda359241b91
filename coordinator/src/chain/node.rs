//! What mining asks of the node: templates, what becomes of blocks, and when the tip changes.

use std::time::Duration;

use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Network};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tutti_daemon::node::{CallError, Connection, NOT_FOUND, NodeConfig};
use tutti_proto::feerate::FeeRate;

use super::NodeError;
use super::template::{KnownTransactions, RawTemplate};

/// bitcoind's RPC_DESERIALIZATION_ERROR: no block at all. Its other errors of submitblock are failures of
/// the node, and BIP22's verdicts are results.
const NOT_A_BLOCK: i32 = -22;
/// bitcoind's RPC_CLIENT_NOT_CONNECTED and RPC_CLIENT_IN_INITIAL_DOWNLOAD.
const NOT_READY: [i32; 2] = [-9, -10];

/// A node that was there, on the right network and new enough when it was connected to.
pub struct Node {
    pub(super) connection: Connection,
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
        Ok(Self {
            connection: Connection::open(config, timeout)?,
            network: config.network,
        })
    }

    /// The best template now.
    pub fn template(&self) -> Result<RawTemplate, NodeError> {
        let rules = match self.network {
            Network::Signet => json!({"rules": ["segwit", "signet"]}),
            _ => json!({"rules": ["segwit"]}),
        };
        match self.connection.call("getblocktemplate", &[rules]) {
            Err(CallError::Rpc { code, message, .. }) if NOT_READY.contains(&code) => {
                Err(NodeError::NotReady {
                    url: self.connection.url().to_owned(),
                    reason: message,
                })
            }
            template => Ok(template?),
        }
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
        let method = "submitblock";
        match self.connection.call(method, &[json!(hex::encode(block))]) {
            Ok(Value::Null) => Ok(Verdict::Accepted),
            // Known, or valid beside the best chain: the chain decides.
            Ok(Value::String(word)) if word == "duplicate" || word == "inconclusive" => {
                self.verdict(hash, &word)
            }
            Ok(Value::String(word)) => Ok(Verdict::Refused(word)),
            Ok(other) => Err(NodeError::Call(CallError::Malformed {
                method,
                reason: other.to_string(),
            })),
            Err(CallError::Rpc {
                code: NOT_A_BLOCK,
                message,
                ..
            }) => Ok(Verdict::Refused(message)),
            // A full disk, say: nothing that the node said of the block.
            Err(error) => Err(error.into()),
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
        self.call_or_none("getblockheader", &[json!(hash)])
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
        Ok(self.connection.call(method, params)?)
    }

    /// Asks for a block or a transaction that the node may not have.
    pub(super) fn call_or_none<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: &[Value],
    ) -> Result<Option<T>, NodeError> {
        Ok(self.connection.call_or_none(method, params, NOT_FOUND)?)
    }
}
