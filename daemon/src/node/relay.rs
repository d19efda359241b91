//! Handing transactions to the node, and what it says to them.

use std::collections::BTreeMap;

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Transaction, Txid, Wtxid};
use serde::Deserialize;
use serde_json::json;
use tutti_proto::settlement::BroadcastOutcome;

use super::{CallError, Connection};

/// bitcoind holds its own limit against the child alone, which pays for a payout ten times its size. What may
/// be spent is judged before.
pub const NO_FEERATE_LIMIT: u32 = 0;

impl Connection {
    /// Submits a transaction.
    pub fn broadcast(&self, transaction: &Transaction) -> Result<BroadcastOutcome, CallError> {
        match self.call::<Txid>("sendrawtransaction", &[json!(serialize_hex(transaction))]) {
            Ok(_) => Ok(BroadcastOutcome::Accepted),
            Err(error) => error.into_judgement().map(BroadcastOutcome::from_reason),
        }
    }

    /// Submits a payout, which may be in the mempool already, and its child to be judged together. `Some`: why
    /// not, in the node's words.
    pub fn submit_package(
        &self,
        payout: &Transaction,
        child: &Transaction,
    ) -> Result<Option<String>, CallError> {
        let package = [serialize_hex(payout), serialize_hex(child)];
        let args = [json!(package), json!(NO_FEERATE_LIMIT)];
        match self.call::<Package>("submitpackage", &args) {
            Ok(answer) => Ok(answer.refusal([("payout", payout), ("child", child)])),
            // A package of the wrong shape is refused as a whole, by an error.
            Err(error) => error.into_judgement().map(Some),
        }
    }
}

#[derive(Deserialize)]
struct Package {
    package_msg: String,
    #[serde(rename = "tx-results", default)]
    results: BTreeMap<Wtxid, PackageResult>,
}

#[derive(Deserialize)]
struct PackageResult {
    error: Option<String>,
}

impl Package {
    /// All that the node said against it; none if it took the package.
    fn refusal(mut self, transactions: [(&str, &Transaction); 2]) -> Option<String> {
        let errors = transactions.into_iter().filter_map(|(name, transaction)| {
            let result = self.results.remove(&transaction.compute_wtxid())?;
            Some(format!("{name}: {}", result.error?))
        });
        let errors: Vec<String> = errors.collect();
        if self.package_msg == "success" && errors.is_empty() {
            return None;
        }
        Some([vec![self.package_msg], errors].concat().join("; "))
    }
}

#[cfg(test)]
mod tests {
    use bitcoin::absolute::LockTime;
    use bitcoin::transaction::Version;
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_package_is_taken_or_each_transaction_s_fault_is_named() {
        let [payout, child] = [2, 3].map(|version| Transaction {
            version: Version(version),
            lock_time: LockTime::ZERO,
            input: vec![bitcoin::TxIn::default()],
            output: Vec::new(),
        });
        let said = |message: &str, of_payout: Value, of_child: Value| {
            let answer = json!({
                "package_msg": message,
                "tx-results": {
                    payout.compute_wtxid().to_string(): of_payout,
                    child.compute_wtxid().to_string(): of_child,
                },
                "replaced-transactions": [],
            });
            let answer: Package = serde_json::from_value(answer).unwrap();
            answer.refusal([("payout", &payout), ("child", &child)])
        };
        let taken = |transaction: &Transaction| {
            let txid = transaction.compute_txid();
            json!({"txid": txid, "vsize": 153, "fees": {"base": 0.00001234}})
        };
        assert_eq!(said("success", taken(&payout), taken(&child)), None);
        let refused = json!({"txid": child.compute_txid(), "error": "insufficient fee"});
        assert_eq!(
            said("transaction failed", taken(&payout), refused).as_deref(),
            Some("transaction failed; child: insufficient fee")
        );
    }
}
