//! The connection to the node and what is asked of it.

use std::path::{Path, PathBuf};

use bitcoin::amount::serde::as_btc;
use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::{Amount, Block, BlockHash, Network, OutPoint, ScriptBuf, Transaction, Txid};
use bitcoincore_rpc::{Auth, Client, RpcApi};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tutti_proto::bump::{FeeEstimate, Feerate};
use zeroize::Zeroizing;

use super::scan::BlockView;
use super::{BlockRef, BlockTransactions, HeaderInfo, MempoolEntry, NodeError, Tip, UnspentOutput};

/// Bitcoin Core 28: the first whose mempool takes version-3 transactions with a pay-to-anchor output.
pub const MIN_NODE_VERSION: u64 = 280_000;

/// bitcoind's RPC_INVALID_ADDRESS_OR_KEY: no such block or transaction.
pub(super) const NOT_FOUND: i32 = -5;
/// bitcoind's RPC_INVALID_PARAMETER: for getblockhash, a height above the tip.
const OUT_OF_RANGE: i32 = -8;
/// bitcoind's RPC_INTERNAL_ERROR, with which a node that runs with -blocksonly says that it has no estimates.
const INTERNAL_ERROR: i32 = -32603;
const NO_ESTIMATES: &str = "Fee estimation disabled";

/// Where the node is and how to log in.
#[derive(Clone)]
pub struct NodeConfig {
    /// `http://host:port`.
    pub url: String,
    pub auth: NodeAuth,
    pub network: Network,
}

/// How to log in. Not `Debug`: it may hold a password.
#[derive(Clone)]
pub enum NodeAuth {
    /// The file that bitcoind writes at every start.
    CookieFile(PathBuf),
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
    version: u64,
}

impl Node {
    /// Logs in and checks the node's network and version. Reads the cookie anew, so connecting
    /// again is what to do after the node was restarted.
    pub fn connect(config: &NodeConfig) -> Result<Self, NodeError> {
        let bad_url = |reason: String| NodeError::BadUrl {
            // What stands before an @ may be a password.
            url: config
                .url
                .rsplit_once('@')
                .map_or(config.url.as_str(), |(_, host)| host)
                .to_owned(),
            reason,
        };
        if config.url.contains('@') {
            let reason = "user and password belong in their own settings";
            return Err(bad_url(reason.to_owned()));
        }
        let (auth, credentials) = match &config.auth {
            NodeAuth::CookieFile(path) => (cookie(path)?, format!("cookie in {}", path.display())),
            NodeAuth::UserPass { user, password } => (
                Auth::UserPass(user.clone(), password.to_string()),
                format!("password of user {user:?}"),
            ),
        };
        let client = Client::new(&config.url, auth).map_err(|e| bad_url(e.to_string()))?;
        let mut node = Self {
            client,
            url: config.url.clone(),
            credentials,
            version: 0,
        };
        node.check(config.network)?;
        Ok(node)
    }

    /// As Bitcoin Core counts it: 290100 is 29.1.
    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn tip(&self) -> Result<Tip, NodeError> {
        let info: ChainInfo = self.call("getblockchaininfo", &[])?;
        Ok(Tip {
            block: BlockRef {
                height: info.blocks,
                hash: info.bestblockhash,
            },
            time: info.time,
            median_time: info.mediantime,
            headers: info.headers,
            initial_block_download: info.initialblockdownload,
        })
    }

    /// A block's header; `None` for a block this node never heard of.
    pub fn header(&self, hash: BlockHash) -> Result<Option<HeaderInfo>, NodeError> {
        let header: Option<Header> =
            self.call_or_none("getblockheader", &[json!(hash), json!(true)], NOT_FOUND)?;
        Ok(header.map(|header| HeaderInfo {
            block: BlockRef {
                height: header.height,
                hash,
            },
            previous: header.previousblockhash,
            time: header.time,
            median_time: header.mediantime,
            // bitcoind says -1 for a block that is not.
            in_best_chain: header.confirmations >= 0,
        }))
    }

    /// The best chain's block at a height; `None` above the tip.
    pub fn block_at(&self, height: u32) -> Result<Option<BlockRef>, NodeError> {
        let hash = self.call_or_none("getblockhash", &[json!(height)], OUT_OF_RANGE)?;
        Ok(hash.map(|hash| BlockRef { height, hash }))
    }

    /// The lowest height whose block the node still has.
    pub fn first_block(&self) -> Result<u32, NodeError> {
        let info: ChainInfo = self.call("getblockchaininfo", &[])?;
        Ok(info.pruneheight.unwrap_or(0))
    }

    /// The ids of a block's transactions.
    pub fn transactions(&self, hash: BlockHash) -> Result<BlockTransactions, NodeError> {
        let block: BlockIds = self.in_block(hash, json!(1))?;
        Ok(BlockTransactions {
            block: BlockRef {
                height: block.height,
                hash,
            },
            previous: block.previousblockhash,
            txids: block.tx,
        })
    }

    /// A whole block.
    pub fn block(&self, hash: BlockHash) -> Result<Block, NodeError> {
        let hex: String = self.in_block(hash, json!(0))?;
        deserialize_hex(&hex).map_err(|error| NodeError::Malformed {
            method: "getblock",
            reason: error.to_string(),
        })
    }

    fn in_block<T: DeserializeOwned>(
        &self,
        hash: BlockHash,
        verbosity: Value,
    ) -> Result<T, NodeError> {
        let answer = self.call("getblock", &[json!(hash), verbosity]);
        answer.map_err(|error| match error.is_block_gone() {
            true => NodeError::BlockGone {
                url: self.url.clone(),
                hash,
            },
            false => error,
        })
    }

    /// An output that is still unspent: in the chain alone, or as the mempool leaves it.
    pub fn unspent_output(
        &self,
        output: OutPoint,
        include_mempool: bool,
    ) -> Result<Option<UnspentOutput>, NodeError> {
        let args = [
            json!(output.txid),
            json!(output.vout),
            json!(include_mempool),
        ];
        let found: Option<TxOutInfo> = self.call("gettxout", &args)?;
        Ok(found.map(|found| UnspentOutput {
            confirmations: found.confirmations,
            value: found.value,
            script: found.script_pub_key.hex,
            coinbase: found.coinbase,
        }))
    }

    /// A transaction as the mempool has it; `None` where it does not.
    pub fn mempool_entry(&self, txid: Txid) -> Result<Option<MempoolEntry>, NodeError> {
        let entry: Option<RawMempoolEntry> =
            self.call_or_none("getmempoolentry", &[json!(txid)], NOT_FOUND)?;
        Ok(entry.map(|entry| MempoolEntry {
            txid,
            vsize: entry.vsize,
            fee: entry.fees.base,
            children: entry.spentby,
        }))
    }

    /// A transaction of the mempool, whole; `None` where it does not have it.
    pub fn pooled_transaction(&self, txid: Txid) -> Result<Option<Transaction>, NodeError> {
        let method = "getrawtransaction";
        let args = [json!(txid), json!(false)];
        let hex: Option<String> = self.call_or_none(method, &args, NOT_FOUND)?;
        let transaction = hex.map(|hex| deserialize_hex(&hex)).transpose();
        transaction.map_err(|error| NodeError::Malformed {
            method,
            reason: error.to_string(),
        })
    }

    /// The one child that a version-3 transaction in the mempool may have.
    pub fn mempool_child(&self, parent: Txid) -> Result<Option<MempoolEntry>, NodeError> {
        match self
            .mempool_entry(parent)?
            .and_then(|p| p.children.first().copied())
        {
            Some(child) => self.mempool_entry(child),
            None => Ok(None),
        }
    }

    /// The feerate that confirms within so many blocks, if the node can say.
    pub fn estimate(&self, blocks: u16) -> Result<FeeEstimate, NodeError> {
        let estimate: Estimate = match self.call("estimatesmartfee", &[json!(blocks)]) {
            Err(NodeError::Rpc {
                code: INTERNAL_ERROR,
                message,
                ..
            }) if message.contains(NO_ESTIMATES) => return Ok(FeeEstimate::Disabled),
            estimate => estimate?,
        };
        let rate = estimate.feerate.map(per_kvb);
        Ok(rate.map_or(FeeEstimate::TooFewSeen, FeeEstimate::Feerate))
    }

    /// The least feerate that the mempool takes now.
    pub fn mempool_min(&self) -> Result<Feerate, NodeError> {
        let info: MempoolInfo = self.call("getmempoolinfo", &[])?;
        Ok(per_kvb(info.mempoolminfee))
    }

    /// For a library that makes its own calls; its errors go to [`Node::client_error`].
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// What went wrong in such a call.
    pub(crate) fn client_error(&self, error: bitcoincore_rpc::Error) -> NodeError {
        self.call_error("a scan's call", error)
    }

    pub(super) fn call_error(
        &self,
        method: &'static str,
        error: bitcoincore_rpc::Error,
    ) -> NodeError {
        NodeError::from_rpc(&self.url, &self.credentials, method, error)
    }

    pub(super) fn call<T: DeserializeOwned>(
        &self,
        method: &'static str,
        args: &[Value],
    ) -> Result<T, NodeError> {
        self.client
            .call(method, args)
            .map_err(|error| self.call_error(method, error))
    }

    pub(super) fn call_or_none<T: DeserializeOwned>(
        &self,
        method: &'static str,
        args: &[Value],
        none_code: i32,
    ) -> Result<Option<T>, NodeError> {
        match self.call(method, args) {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if error.rpc_code() == Some(none_code) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn check(&mut self, wanted: Network) -> Result<(), NodeError> {
        let info: ChainInfo = self.call("getblockchaininfo", &[])?;
        if info.chain != wanted.to_core_arg() {
            return Err(NodeError::WrongNetwork {
                url: self.url.clone(),
                found: Network::from_core_arg(&info.chain)
                    .map_or(info.chain, |network| network.to_string()),
                wanted,
            });
        }
        let info: NetworkInfo = self.call("getnetworkinfo", &[])?;
        if info.version < MIN_NODE_VERSION {
            return Err(NodeError::TooOld {
                url: self.url.clone(),
                found: info.version,
                wanted: MIN_NODE_VERSION,
            });
        }
        self.version = info.version;
        Ok(())
    }
}

impl BlockView for Node {
    type Error = NodeError;

    fn is_gone(error: &NodeError) -> bool {
        matches!(error, NodeError::BlockGone { .. })
    }

    fn tip(&self) -> Result<BlockRef, NodeError> {
        Node::tip(self).map(|tip| tip.block)
    }

    fn header(&self, hash: BlockHash) -> Result<Option<HeaderInfo>, NodeError> {
        Node::header(self, hash)
    }

    fn block_at(&self, height: u32) -> Result<Option<BlockRef>, NodeError> {
        Node::block_at(self, height)
    }

    fn transactions(&self, hash: BlockHash) -> Result<BlockTransactions, NodeError> {
        Node::transactions(self, hash)
    }
}

fn cookie(path: &Path) -> Result<Auth, NodeError> {
    let failed = |reason: String| NodeError::Cookie {
        path: path.to_owned(),
        reason,
    };
    let line = Zeroizing::new(std::fs::read_to_string(path).map_err(|e| failed(e.to_string()))?);
    let (user, password) = line
        .trim_end()
        .split_once(':')
        .ok_or_else(|| failed("it is not of the form user:password".to_owned()))?;
    Ok(Auth::UserPass(user.to_owned(), password.to_owned()))
}

#[derive(Deserialize)]
struct ChainInfo {
    chain: String,
    blocks: u32,
    /// Without it a node is waited for in its initial download and no longer.
    #[serde(default)]
    headers: u32,
    bestblockhash: BlockHash,
    time: u32,
    mediantime: u32,
    initialblockdownload: bool,
    /// Only a pruned node's.
    #[serde(default)]
    pruneheight: Option<u32>,
}

#[derive(Deserialize)]
struct NetworkInfo {
    version: u64,
}

#[derive(Deserialize)]
struct Estimate {
    #[serde(default, with = "as_btc::opt")]
    feerate: Option<Amount>,
}

#[derive(Deserialize)]
struct MempoolInfo {
    #[serde(with = "as_btc")]
    mempoolminfee: Amount,
}

/// Bitcoin Core gives feerates in BTC per 1,000 vB.
fn per_kvb(rate: Amount) -> Feerate {
    Feerate::from_sat_per_kvb(rate.to_sat())
}

#[derive(Deserialize)]
struct Header {
    height: u32,
    confirmations: i64,
    time: u32,
    mediantime: u32,
    previousblockhash: Option<BlockHash>,
}

#[derive(Deserialize)]
struct BlockIds {
    height: u32,
    previousblockhash: Option<BlockHash>,
    tx: Vec<Txid>,
}

#[derive(Deserialize)]
struct TxOutInfo {
    confirmations: u32,
    #[serde(with = "as_btc")]
    value: Amount,
    #[serde(rename = "scriptPubKey")]
    script_pub_key: ScriptInfo,
    coinbase: bool,
}

#[derive(Deserialize)]
struct ScriptInfo {
    hex: ScriptBuf,
}

#[derive(Deserialize)]
struct RawMempoolEntry {
    vsize: u64,
    fees: MempoolFees,
    spentby: Vec<Txid>,
}

#[derive(Deserialize)]
struct MempoolFees {
    #[serde(with = "as_btc")]
    base: Amount,
}
