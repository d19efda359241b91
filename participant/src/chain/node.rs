//! What is asked of the node.

use std::time::Duration;

use bitcoin::amount::serde::as_btc;
use bitcoin::{Amount, Block, BlockHash, OutPoint, ScriptBuf, Transaction, Txid};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tutti_daemon::node::{Connection, NOT_FOUND, NodeConfig, decoded};
use tutti_proto::bump::{FeeEstimate, Feerate};

use super::scan::BlockView;
use super::{BlockRef, BlockTransactions, HeaderInfo, MempoolEntry, NodeError, Tip, UnspentOutput};

/// Longest that any call may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// bitcoind's RPC_INVALID_PARAMETER: for getblockhash, a height above the tip.
const OUT_OF_RANGE: i32 = -8;

const IN_BLOCK: &str = "getblock";
pub(super) const RAW_TRANSACTION: &str = "getrawtransaction";

/// A node that was there, on the right network and new enough when it was connected to.
pub struct Node(Connection);

impl Node {
    /// Logs in and checks the node's network and version. Reads the cookie anew, so connecting
    /// again is what to do after the node was restarted.
    pub fn connect(config: &NodeConfig) -> Result<Self, NodeError> {
        Ok(Self(Connection::open(config, CALL_TIMEOUT)?))
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
            self.call_or_none("getblockheader", &[json!(hash), json!(true)])?;
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
        let args = [json!(height)];
        let hash = self.0.call_or_none("getblockhash", &args, OUT_OF_RANGE)?;
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
        Ok(decoded(IN_BLOCK, &hex)?)
    }

    fn in_block<T: DeserializeOwned>(
        &self,
        hash: BlockHash,
        verbosity: Value,
    ) -> Result<T, NodeError> {
        let answer = self.call(IN_BLOCK, &[json!(hash), verbosity]);
        answer.map_err(|error: NodeError| match error.is_block_gone() {
            true => NodeError::BlockGone {
                url: self.0.url().to_owned(),
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
            self.call_or_none("getmempoolentry", &[json!(txid)])?;
        Ok(entry.map(|entry| MempoolEntry {
            txid,
            vsize: entry.vsize,
            fee: entry.fees.base,
            children: entry.spentby,
        }))
    }

    /// A transaction of the mempool, whole; `None` where it does not have it.
    pub fn pooled_transaction(&self, txid: Txid) -> Result<Option<Transaction>, NodeError> {
        self.raw_transaction(&[json!(txid), json!(false)])
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
        Ok(self.0.estimate(blocks)?)
    }

    /// The least feerate that the mempool takes now.
    pub fn mempool_min(&self) -> Result<Feerate, NodeError> {
        Ok(self.0.mempool_min()?)
    }

    /// For what makes its own calls.
    pub(crate) fn connection(&self) -> &Connection {
        &self.0
    }

    /// A transaction as getrawtransaction gives it.
    pub(super) fn raw_transaction(&self, args: &[Value]) -> Result<Option<Transaction>, NodeError> {
        let hex: Option<String> = self.call_or_none(RAW_TRANSACTION, args)?;
        let transaction = hex.map(|hex| decoded(RAW_TRANSACTION, &hex));
        Ok(transaction.transpose()?)
    }

    pub(super) fn call<T: DeserializeOwned>(
        &self,
        method: &'static str,
        args: &[Value],
    ) -> Result<T, NodeError> {
        Ok(self.0.call(method, args)?)
    }

    /// Asks for a block or a transaction that the node may not have.
    fn call_or_none<T: DeserializeOwned>(
        &self,
        method: &'static str,
        args: &[Value],
    ) -> Result<Option<T>, NodeError> {
        Ok(self.0.call_or_none(method, args, NOT_FOUND)?)
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

#[derive(Deserialize)]
struct ChainInfo {
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
