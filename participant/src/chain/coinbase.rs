//! Finding a coinbase of which only the id is known, without a transaction index.

use bitcoin::{BlockHash, OutPoint, Transaction, Txid};
use serde_json::json;

use super::{BlockRef, Node, NodeError};

/// How often a chain may change under a question before the answer is none.
const TRIES: usize = 3;

impl Node {
    /// The best chain's block that made an output which no block spends.
    pub fn block_of_unspent(&self, output: OutPoint) -> Result<Option<BlockRef>, NodeError> {
        // Most of those that are asked for are not there.
        if self.unspent_output(output, false)?.is_none() {
            return Ok(None);
        }
        for _ in 0..TRIES {
            let before = self.tip()?.block;
            let Some(coin) = self.unspent_output(output, false)? else {
                return Ok(None);
            };
            let above = coin.confirmations.saturating_sub(1);
            let block = self.block_at(before.height.saturating_sub(above))?;
            if self.tip()?.block == before {
                return Ok(block);
            }
        }
        Ok(None)
    }

    /// A transaction of a block.
    pub fn transaction_in(
        &self,
        txid: Txid,
        block: BlockHash,
    ) -> Result<Option<Transaction>, NodeError> {
        self.raw_transaction(&[json!(txid), json!(false), json!(block)])
    }
}
