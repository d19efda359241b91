//! What settlement asks of the node: where a payout is, and that it be taken.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use bitcoin::amount::serde::as_btc;
use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::{Amount, Block, BlockHash, OutPoint, Script, Transaction, Txid};
use serde::Deserialize;
use serde_json::{Value, json};
use tutti_proto::bump::{Coin, FeeEstimate, Feerate};
use tutti_proto::coinbase::COINBASE_MATURITY;
use tutti_proto::settlement::{BroadcastOutcome, confirmations};

use super::{Node, NodeError};

/// bitcoind's RPC_INVALID_ADDRESS_OR_KEY: no such transaction.
const NOT_FOUND: i32 = -5;
/// bitcoind's RPC_VERIFY_ERROR, RPC_VERIFY_REJECTED and RPC_VERIFY_ALREADY_IN_UTXO_SET: a judgement
/// of the transaction, not a failure of the call.
const JUDGEMENTS: [i32; 3] = [-25, -26, -27];

/// bitcoind holds its own limit against the child alone, which pays for a payout ten times its size. What may
/// be spent is judged before.
const NO_FEERATE_LIMIT: u32 = 0;
/// bitcoind's RPC_INTERNAL_ERROR, with which a node that runs with -blocksonly says that it has no estimates.
const INTERNAL_ERROR: i32 = -32603;
const NO_ESTIMATES: &str = "Fee estimation disabled";
/// More than a child has room for.
const COINS_ASKED: usize = 32;

/// A transaction in the mempool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PooledTransaction {
    pub txid: Txid,
    /// Its virtual size.
    pub vsize: u64,
    /// Its own fee.
    pub fee: Amount,
    /// The first transaction that spends it; a version-3 one has no other.
    pub child: Option<Txid>,
}

#[derive(Deserialize)]
struct Entry {
    vsize: u64,
    fees: EntryFees,
    spentby: Vec<Txid>,
}

#[derive(Deserialize)]
struct EntryFees {
    #[serde(with = "as_btc")]
    base: Amount,
}

#[derive(Deserialize)]
struct MempoolInfo {
    #[serde(with = "as_btc")]
    mempoolminfee: Amount,
}

#[derive(Deserialize)]
struct Estimate {
    #[serde(default, with = "as_btc::opt")]
    feerate: Option<Amount>,
}

#[derive(Deserialize)]
struct Package {
    package_msg: String,
    #[serde(rename = "tx-results", default)]
    results: BTreeMap<String, PackageResult>,
}

#[derive(Deserialize)]
struct PackageResult {
    error: Option<String>,
}

#[derive(Deserialize)]
struct UnspentOutput {
    confirmations: u32,
}

#[derive(Deserialize)]
struct Unspents {
    height: u32,
    unspents: Vec<Unspent>,
}

#[derive(Deserialize)]
struct Unspent {
    txid: Txid,
    vout: u32,
    #[serde(with = "as_btc")]
    amount: Amount,
    height: u32,
    coinbase: bool,
}

impl Node {
    /// Hash of the block at a height of the best chain.
    pub fn block_hash(&self, height: u32) -> Result<BlockHash, NodeError> {
        self.call("getblockhash", &[json!(height)])
    }

    /// Whether a block has a transaction.
    pub fn has_transaction(&self, block: &BlockHash, txid: Txid) -> Result<bool, NodeError> {
        match self.call::<String>("gettxoutproof", &[json!([txid]), json!(block)]) {
            Ok(_) => Ok(true),
            Err(NodeError::Rpc {
                code: NOT_FOUND, ..
            }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A block, whole.
    pub fn block(&self, hash: &BlockHash) -> Result<Block, NodeError> {
        let hex: String = self.call("getblock", &[json!(hash), json!(0)])?;
        deserialize_hex(&hex).map_err(|error| NodeError::Malformed {
            method: "getblock",
            reason: error.to_string(),
        })
    }

    /// A transaction as the mempool has it.
    pub fn pooled(&self, txid: Txid) -> Result<Option<PooledTransaction>, NodeError> {
        match self.call::<Entry>("getmempoolentry", &[json!(txid)]) {
            Ok(entry) => Ok(Some(PooledTransaction {
                txid,
                vsize: entry.vsize,
                fee: entry.fees.base,
                child: entry.spentby.first().copied(),
            })),
            Err(NodeError::Rpc {
                code: NOT_FOUND, ..
            }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the best chain has this output and nothing in the chain spends it, nor in the mempool where
    /// that counts.
    pub fn is_unspent(&self, output: OutPoint, with_mempool: bool) -> Result<bool, NodeError> {
        let args = [json!(output.txid), json!(output.vout), json!(with_mempool)];
        let found: Option<Value> = self.call("gettxout", &args)?;
        Ok(found.is_some())
    }

    /// Blocks on an output that nothing in the chain spends, its own included; none if there is no such one.
    pub fn depth_of_unspent(&self, output: OutPoint) -> Result<Option<u32>, NodeError> {
        let args = [json!(output.txid), json!(output.vout), json!(false)];
        let found: Option<UnspentOutput> = self.call("gettxout", &args)?;
        Ok(found.map(|found| found.confirmations))
    }

    /// Submits a transaction.
    pub fn broadcast(&self, transaction: &Transaction) -> Result<BroadcastOutcome, NodeError> {
        match self.call::<Txid>("sendrawtransaction", &[json!(serialize_hex(transaction))]) {
            Ok(_) => Ok(BroadcastOutcome::Accepted),
            Err(NodeError::Rpc { code, message, .. }) if JUDGEMENTS.contains(&code) => {
                Ok(BroadcastOutcome::from_reason(message))
            }
            Err(error) => Err(error),
        }
    }

    /// Submits a parent and its child to be judged together. `Some`: why not, in the node's words.
    pub fn submit_package(
        &self,
        parent: &Transaction,
        child: &Transaction,
    ) -> Result<Option<String>, NodeError> {
        let package = [serialize_hex(parent), serialize_hex(child)];
        let args = [json!(package), json!(NO_FEERATE_LIMIT)];
        let answer: Package = match self.call("submitpackage", &args) {
            Err(NodeError::Rpc { code, message, .. }) if JUDGEMENTS.contains(&code) => {
                return Ok(Some(message));
            }
            answer => answer?,
        };
        let errors = answer.results.into_values().filter_map(|tx| tx.error);
        let errors: Vec<String> = errors.collect();
        if answer.package_msg == "success" && errors.is_empty() {
            return Ok(None);
        }
        Ok(Some([vec![answer.package_msg], errors].concat().join("; ")))
    }

    /// The least feerate that the mempool takes now.
    pub fn mempool_min(&self) -> Result<Feerate, NodeError> {
        let info: MempoolInfo = self.call("getmempoolinfo", &[])?;
        Ok(Feerate::from_sat_per_kvb(info.mempoolminfee.to_sat()))
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
        let rate = estimate.feerate.map(Amount::to_sat);
        let rate = rate.map(Feerate::from_sat_per_kvb);
        Ok(rate.map_or(FeeEstimate::TooFewSeen, FeeEstimate::Feerate))
    }

    /// The outputs that a transaction of the mempool spends; none if the mempool does not have it.
    pub fn spent_by(&self, txid: Txid) -> Result<BTreeSet<OutPoint>, NodeError> {
        let method = "getrawtransaction";
        let hex: String = match self.call(method, &[json!(txid), json!(false)]) {
            Err(NodeError::Rpc {
                code: NOT_FOUND, ..
            }) => return Ok(BTreeSet::new()),
            hex => hex?,
        };
        let transaction: Transaction =
            deserialize_hex(&hex).map_err(|error| NodeError::Malformed {
                method,
                reason: error.to_string(),
            })?;
        let inputs = transaction.input.into_iter();
        Ok(inputs.map(|input| input.previous_output).collect())
    }

    /// Those of these coins that can be spent, as many as a bump is planned with: what nothing in the mempool
    /// spends, but what `freed` has, which a replacement gives back.
    pub fn free(&self, coins: &[Coin], freed: &BTreeSet<OutPoint>) -> Result<Vec<Coin>, NodeError> {
        let mut free = Vec::new();
        for coin in coins {
            if free.len() == COINS_ASKED {
                break;
            }
            if freed.contains(&coin.outpoint) || self.is_unspent(coin.outpoint, true)? {
                free.push(coin.clone());
            }
        }
        Ok(free)
    }

    /// The coins of a script that the best chain has and that are mature, largest first. Looks through all
    /// coins there are: minutes on a large chain.
    pub fn coins_in_chain(&self, script: &Script) -> Result<Vec<Coin>, NodeError> {
        let descriptor = format!("raw({})", script.to_hex_string());
        let found: Unspents = self.call("scantxoutset", &[json!("start"), json!([descriptor])])?;
        let tip = found.height;
        let spendable = |unspent: &Unspent| {
            !unspent.coinbase || confirmations(unspent.height, tip) >= COINBASE_MATURITY
        };
        let coins = found.unspents.into_iter().filter(spendable);
        let mut coins: Vec<Coin> = coins
            .map(|unspent| Coin {
                outpoint: OutPoint::new(unspent.txid, unspent.vout),
                value: unspent.amount,
                script: script.to_owned(),
            })
            .collect();
        coins.sort_by_key(|coin| Reverse(coin.value));
        Ok(coins)
    }
}
