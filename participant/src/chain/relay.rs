//! Handing transactions to the node, and what it says to them.

use bitcoin::Transaction;
use bitcoin::consensus::encode::serialize_hex;
use serde::Deserialize;
use serde_json::{Value, json};
use tutti_daemon::node::{CallError, NO_FEERATE_LIMIT};
use tutti_proto::settlement::BroadcastOutcome;

use super::{Node, NodeError};

const NO_REASON: &str = "no reason given";

/// How bitcoind begins to refuse what pays too little alone.
const LOW_FEE: [&str; 2] = ["min relay fee not met", "mempool min fee not met"];

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
        answers.pop().ok_or_else(|| {
            let reason = "no result".to_owned();
            CallError::Malformed { method, reason }.into()
        })
    }

    /// Submits a transaction; one that is in the mempool already is announced again.
    pub fn broadcast(&self, transaction: &Transaction) -> Result<BroadcastOutcome, NodeError> {
        let known = self.mempool_entry(transaction.compute_txid())?.is_some();
        Ok(match self.connection().broadcast(transaction)? {
            BroadcastOutcome::Accepted if known => BroadcastOutcome::AlreadyInMempool,
            outcome => outcome,
        })
    }

    /// Submits a payout, which may be in the mempool already, and its child to be judged together. `Some`: why
    /// not, in the node's words.
    pub fn submit_package(
        &self,
        payout: &Transaction,
        child: &Transaction,
    ) -> Result<Option<String>, NodeError> {
        Ok(self.connection().submit_package(payout, child)?)
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
