//! What settlement asks of the node: where a payout is, and that it be taken.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use bitcoin::amount::serde::as_btc;
use bitcoin::{Amount, Block, BlockHash, OutPoint, Script, Transaction, Txid};
use serde::Deserialize;
use serde_json::{Value, json};
use tutti_daemon::node::decoded;
use tutti_proto::bump::{Coin, FeeEstimate, Feerate};
use tutti_proto::coinbase::COINBASE_MATURITY;
use tutti_proto::settlement::{BroadcastOutcome, confirmations};

use super::{Node, NodeError};

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
        let args = [json!([txid]), json!(block)];
        let proof: Option<String> = self.call_or_none("gettxoutproof", &args)?;
        Ok(proof.is_some())
    }

    /// A block, whole.
    pub fn block(&self, hash: &BlockHash) -> Result<Block, NodeError> {
        let method = "getblock";
        let hex: String = self.call(method, &[json!(hash), json!(0)])?;
        Ok(decoded(method, &hex)?)
    }

    /// A transaction as the mempool has it.
    pub fn pooled(&self, txid: Txid) -> Result<Option<PooledTransaction>, NodeError> {
        let entry: Option<Entry> = self.call_or_none("getmempoolentry", &[json!(txid)])?;
        Ok(entry.map(|entry| PooledTransaction {
            txid,
            vsize: entry.vsize,
            fee: entry.fees.base,
            child: entry.spentby.first().copied(),
        }))
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
        Ok(self.connection.broadcast(transaction)?)
    }

    /// Submits a payout and its child to be judged together. `Some`: why not, in the node's words.
    pub fn submit_package(
        &self,
        payout: &Transaction,
        child: &Transaction,
    ) -> Result<Option<String>, NodeError> {
        Ok(self.connection.submit_package(payout, child)?)
    }

    /// The least feerate that the mempool takes now.
    pub fn mempool_min(&self) -> Result<Feerate, NodeError> {
        Ok(self.connection.mempool_min()?)
    }

    /// The feerate that confirms within so many blocks, if the node can say.
    pub fn estimate(&self, blocks: u16) -> Result<FeeEstimate, NodeError> {
        Ok(self.connection.estimate(blocks)?)
    }

    /// The outputs that a transaction of the mempool spends; none if the mempool does not have it.
    pub fn spent_by(&self, txid: Txid) -> Result<BTreeSet<OutPoint>, NodeError> {
        let method = "getrawtransaction";
        let hex: Option<String> = self.call_or_none(method, &[json!(txid), json!(false)])?;
        let Some(hex) = hex else {
            return Ok(BTreeSet::new());
        };
        let transaction: Transaction = decoded(method, &hex)?;
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
