//! Handing transactions to the node, and what it says to them.

use std::collections::BTreeMap;

use bitcoin::amount::serde::as_btc;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Amount, Transaction, Txid, Wtxid};
use serde::Deserialize;
use serde_json::{Value, json};
use tutti_proto::settlement::BroadcastOutcome;

use super::{Node, NodeError};

/// bitcoind's RPC_VERIFY_ERROR, RPC_VERIFY_REJECTED and RPC_VERIFY_ALREADY_IN_UTXO_SET: a judgement
/// of the transaction, not a failure of the call.
const JUDGEMENTS: [i32; 3] = [-25, -26, -27];

/// bitcoind holds its own limit against the child alone, which pays for a payout ten times its size. What may
/// be spent is judged before.
const NO_FEERATE_LIMIT: u32 = 0;
const NO_REASON: &str = "no reason given";

/// How bitcoind begins to refuse what pays too little alone.
const LOW_FEE: [&str; 2] = ["min relay fee not met", "mempool min fee not met"];

/// What the node says to a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageOutcome {
    /// "success", or why not, in the node's words.
    pub message: String,
    /// In the order they were submitted.
    pub transactions: Vec<PackageTx>,
    /// Transactions that had to leave the mempool.
    pub replaced: Vec<Txid>,
}

impl PackageOutcome {
    /// Whether all transactions are in the mempool now.
    pub fn is_accepted(&self) -> bool {
        let accepted = |tx: &PackageTx| !matches!(tx.outcome, PackageTxOutcome::Rejected { .. });
        self.message == "success" && self.transactions.iter().all(accepted)
    }
}

/// One transaction of a package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageTx {
    pub txid: Txid,
    pub outcome: PackageTxOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PackageTxOutcome {
    /// In the mempool, now or before.
    Accepted { vsize: u64, fee: Amount },
    /// The mempool has the same transaction with other signatures, which is as good.
    OtherWitnessInMempool,
    /// In the node's words; also where the node did not come to judge it.
    Rejected { reason: String },
}

impl Node {
    /// Asks what the mempool would say, without submitting.
    pub fn test_accept(&self, transaction: &Transaction) -> Result<BroadcastOutcome, NodeError> {
        let answer = self.test(&[json!([serialize_hex(transaction)])])?;
        Ok(match (answer.allowed, answer.reject_reason) {
            (Some(true), _) => BroadcastOutcome::Accepted,
            (_, Some(reason)) => BroadcastOutcome::from_reason(reason),
            (_, None) => BroadcastOutcome::Rejected {
                reason: NO_REASON.to_owned(),
            },
        })
    }

    /// Asks what the mempool would have against a parent with its only child, in its words. What it refuses for
    /// the parent's low fee alone is not told: the child pays for both, and no test counts that.
    pub fn test_child(
        &self,
        parent: &Transaction,
        child: &Transaction,
    ) -> Result<Option<String>, NodeError> {
        let refusal = |transactions: &[&Transaction]| {
            let hex: Vec<String> = transactions.iter().map(|tx| serialize_hex(*tx)).collect();
            let answer = self.test(&[json!(hex), json!(NO_FEERATE_LIMIT)])?;
            let reason = answer.reject_reason.or(answer.package_error);
            let reason = reason.unwrap_or_else(|| NO_REASON.to_owned());
            Ok::<_, NodeError>((answer.allowed != Some(true)).then_some(reason))
        };
        if self.mempool_entry(parent.compute_txid())?.is_some() {
            return refusal(&[child]);
        }
        match refusal(&[parent])? {
            Some(reason) if LOW_FEE.iter().any(|low| reason.contains(low)) => Ok(None),
            Some(reason) => Ok(Some(format!("payout: {reason}"))),
            None => refusal(&[parent, child]),
        }
    }

    /// What is said of the last transaction.
    fn test(&self, args: &[Value]) -> Result<TestAccept, NodeError> {
        let method = "testmempoolaccept";
        let mut answers: Vec<TestAccept> = self.call(method, args)?;
        answers.pop().ok_or_else(|| NodeError::Malformed {
            method,
            reason: "no result".to_owned(),
        })
    }

    /// Submits a transaction; one that is in the mempool already is announced again.
    pub fn broadcast(&self, transaction: &Transaction) -> Result<BroadcastOutcome, NodeError> {
        let known = self.mempool_entry(transaction.compute_txid())?.is_some();
        match self.call::<Txid>("sendrawtransaction", &[json!(serialize_hex(transaction))]) {
            Ok(_) if known => Ok(BroadcastOutcome::AlreadyInMempool),
            Ok(_) => Ok(BroadcastOutcome::Accepted),
            Err(NodeError::Rpc { code, message, .. }) if JUDGEMENTS.contains(&code) => {
                Ok(BroadcastOutcome::from_reason(message))
            }
            Err(error) => Err(error),
        }
    }

    /// Submits parents and their child, in this order, to be judged together. Parents may be in the
    /// mempool already.
    pub fn submit_package(
        &self,
        transactions: &[Transaction],
    ) -> Result<PackageOutcome, NodeError> {
        let hex: Vec<Value> = transactions
            .iter()
            .map(|tx| json!(serialize_hex(tx)))
            .collect();
        let answer: Result<PackageAnswer, _> =
            self.call("submitpackage", &[json!(hex), json!(NO_FEERATE_LIMIT)]);
        match answer {
            Ok(answer) => Ok(answer.into_outcome(transactions)),
            // A package of the wrong shape is refused as a whole, by an error.
            Err(NodeError::Rpc { code, message, .. }) if JUDGEMENTS.contains(&code) => {
                Ok(PackageAnswer::refused(message).into_outcome(transactions))
            }
            Err(error) => Err(error),
        }
    }
}

#[derive(Deserialize)]
struct TestAccept {
    /// Missing where the node did not come to judge it.
    allowed: Option<bool>,
    #[serde(rename = "reject-reason")]
    reject_reason: Option<String>,
    /// What is wrong with all of them together.
    #[serde(rename = "package-error")]
    package_error: Option<String>,
}

#[derive(Deserialize)]
struct PackageAnswer {
    package_msg: String,
    #[serde(rename = "tx-results", default)]
    results: BTreeMap<Wtxid, PackageTxAnswer>,
    #[serde(rename = "replaced-transactions", default)]
    replaced: Vec<Txid>,
}

#[derive(Deserialize)]
struct PackageTxAnswer {
    vsize: Option<u64>,
    fees: Option<PackageFees>,
    error: Option<String>,
    #[serde(rename = "other-wtxid")]
    other_wtxid: Option<Wtxid>,
}

#[derive(Deserialize)]
struct PackageFees {
    #[serde(with = "as_btc")]
    base: Amount,
}

impl PackageAnswer {
    fn refused(message: String) -> Self {
        Self {
            package_msg: message,
            results: BTreeMap::new(),
            replaced: Vec::new(),
        }
    }

    fn into_outcome(mut self, transactions: &[Transaction]) -> PackageOutcome {
        let transactions = transactions
            .iter()
            .map(|tx| PackageTx {
                txid: tx.compute_txid(),
                outcome: match self.results.remove(&tx.compute_wtxid()) {
                    Some(answer) => answer.into_outcome(),
                    None => PackageTxOutcome::Rejected {
                        reason: "not judged".to_owned(),
                    },
                },
            })
            .collect();
        PackageOutcome {
            message: self.package_msg,
            transactions,
            replaced: self.replaced,
        }
    }
}

impl PackageTxAnswer {
    fn into_outcome(self) -> PackageTxOutcome {
        match (self.error, self.vsize.zip(self.fees)) {
            (Some(reason), _) => PackageTxOutcome::Rejected { reason },
            (None, Some((vsize, fees))) => PackageTxOutcome::Accepted {
                vsize,
                fee: fees.base,
            },
            (None, None) if self.other_wtxid.is_some() => PackageTxOutcome::OtherWitnessInMempool,
            (None, None) => PackageTxOutcome::Rejected {
                reason: "not judged".to_owned(),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_answer_is_read() {
        let transaction = Transaction {
            version: bitcoin::transaction::Version(3),
            lock_time: bitcoin::absolute::LockTime::ZERO,
            input: vec![bitcoin::TxIn::default()],
            output: Vec::new(),
        };
        let wtxid = transaction.compute_wtxid();
        let read = |results: Value, message: &str| {
            let answer = json!({
                "package_msg": message,
                "tx-results": { wtxid.to_string(): results },
                "replaced-transactions": [],
            });
            let answer: PackageAnswer = serde_json::from_value(answer).expect("a valid answer");
            answer.into_outcome(std::slice::from_ref(&transaction))
        };
        let accepted = read(
            json!({"txid": transaction.compute_txid(), "vsize": 153, "fees": {"base": 0.00001234}}),
            "success",
        );
        assert!(accepted.is_accepted());
        assert_eq!(
            accepted.transactions[0].outcome,
            PackageTxOutcome::Accepted {
                vsize: 153,
                fee: Amount::from_sat(1_234)
            }
        );
        let rejected = read(
            json!({"txid": transaction.compute_txid(), "error": "insufficient fee"}),
            "transaction failed",
        );
        assert!(!rejected.is_accepted());
    }
}
