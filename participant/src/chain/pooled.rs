//! All transactions of the mempool, many with one call: a busy network's has some hundred thousand.

use bitcoin::{Transaction, Txid};
use bitcoincore_rpc::jsonrpc::{self, Response};
use serde_json::value::{RawValue, to_raw_value};
use tutti_daemon::node::{CallError, NOT_FOUND, decoded};

use super::node::RAW_TRANSACTION;
use super::{Node, NodeError};

/// Asked for at once. The largest that are relayed have 800,000 hex digits, most a thousandth of that.
const AT_ONCE: usize = 100;

impl Node {
    /// The mempool's transactions, but those that leave it meanwhile.
    pub fn pooled_transactions(&self) -> Result<Vec<Transaction>, NodeError> {
        let txids: Vec<Txid> = self.call("getrawmempool", &[])?;
        let mut transactions = Vec::with_capacity(txids.len());
        for some in txids.chunks(AT_ONCE) {
            transactions.extend(self.some_pooled(some)?);
        }
        Ok(transactions)
    }

    fn some_pooled(&self, txids: &[Txid]) -> Result<Vec<Transaction>, CallError> {
        let failed = |error: jsonrpc::Error| self.connection().error(RAW_TRANSACTION, error.into());
        let arguments = txids.iter().map(|txid| to_raw_value(&[txid]));
        let arguments: Vec<Box<RawValue>> = arguments
            .collect::<Result<_, _>>()
            .map_err(|error| failed(error.into()))?;
        let client = self.connection().client().get_jsonrpc_client();
        let requests = arguments.iter();
        let requests: Vec<_> = requests
            .map(|arguments| client.build_request(RAW_TRANSACTION, Some(arguments)))
            .collect();
        let answers = client.send_batch(&requests).map_err(failed)?;
        let transactions = answers.into_iter().map(|answer| self.pooled_in(answer));
        transactions.filter_map(Result::transpose).collect()
    }

    fn pooled_in(&self, answer: Option<Response>) -> Result<Option<Transaction>, CallError> {
        let answer = answer.ok_or_else(|| CallError::Malformed {
            method: RAW_TRANSACTION,
            reason: "an answer is missing".to_owned(),
        })?;
        let hex: String = match answer.result() {
            Err(jsonrpc::Error::Rpc(error)) if error.code == NOT_FOUND => return Ok(None),
            Err(error) => return Err(self.connection().error(RAW_TRANSACTION, error.into())),
            Ok(hex) => hex,
        };
        decoded(RAW_TRANSACTION, &hex).map(Some)
    }
}
