//! What a node says to a payout, in words that all supported versions share.

/// What the node says to a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BroadcastOutcome {
    Accepted,
    AlreadyInMempool,
    /// Its outputs are in the chain.
    AlreadyInChain,
    /// The coinbase it spends is not mature; to be tried again after the next block.
    PrematureCoinbaseSpend {
        reason: String,
    },
    /// In the node's words.
    Rejected {
        reason: String,
    },
}

impl BroadcastOutcome {
    /// Whether the transaction is where it should be.
    pub fn is_known_to_the_network(&self) -> bool {
        match self {
            Self::Accepted | Self::AlreadyInMempool | Self::AlreadyInChain => true,
            Self::PrematureCoinbaseSpend { .. } | Self::Rejected { .. } => false,
        }
    }

    /// bitcoind's reject reasons are a stable first word, sometimes with an explanation after it.
    pub fn from_reason(reason: String) -> Self {
        let word = reason.split([',', ':']).next().unwrap_or_default().trim();
        match word {
            "txn-already-in-mempool" | "txn-same-nonwitness-data-in-mempool" => {
                Self::AlreadyInMempool
            }
            // The first from sendrawtransaction (28 on, and before), the other from testmempoolaccept.
            "Transaction outputs already in utxo set"
            | "Transaction already in block chain"
            | "txn-already-known" => Self::AlreadyInChain,
            "bad-txns-premature-spend-of-coinbase" => Self::PrematureCoinbaseSpend { reason },
            _ => Self::Rejected { reason },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nodes_words_are_told_apart() {
        let outcome = |reason: &str| BroadcastOutcome::from_reason(reason.to_owned());
        assert!(matches!(
            outcome("bad-txns-premature-spend-of-coinbase, tried to spend coinbase at depth 98"),
            BroadcastOutcome::PrematureCoinbaseSpend { .. }
        ));
        assert!(matches!(
            outcome("bad-txns-premature-spend-of-coinbase"),
            BroadcastOutcome::PrematureCoinbaseSpend { .. }
        ));
        assert_eq!(
            outcome("Transaction outputs already in utxo set"),
            BroadcastOutcome::AlreadyInChain
        );
        assert_eq!(
            outcome("txn-already-in-mempool"),
            BroadcastOutcome::AlreadyInMempool
        );
        assert!(matches!(
            outcome("min relay fee not met, 0 < 141"),
            BroadcastOutcome::Rejected { .. }
        ));
    }
}
