//! The signed payouts of a round's lanes: outputs once for all lanes, and a signature for each payout.

use std::sync::Arc;

use bitcoin::{OutPoint, Transaction, TxOut};

use super::{signed, spending};

/// The signed payouts of all lanes of a round. None in a direct round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SignedPayouts {
    /// Outputs of each shard's payout, the anchor last.
    shards: Arc<Vec<Vec<TxOut>>>,
    /// Lane by lane, within a lane shard by shard.
    signatures: Vec<[u8; 64]>,
}

impl SignedPayouts {
    /// Payouts of so many lanes with these outputs, shard by shard, and these signatures: lane by lane, within
    /// a lane shard by shard. `None` unless every lane has one for each shard.
    pub fn new(
        lanes: usize,
        shards: Arc<Vec<Vec<TxOut>>>,
        signatures: Vec<[u8; 64]>,
    ) -> Option<Self> {
        let count = lanes.checked_mul(shards.len())?;
        (signatures.len() == count).then_some(Self { shards, signatures })
    }

    /// Outputs of each shard's payout, the anchor last.
    pub fn shards(&self) -> &[Vec<TxOut>] {
        &self.shards
    }

    /// Lane by lane, within a lane shard by shard.
    pub fn signatures(&self) -> &[[u8; 64]] {
        &self.signatures
    }

    /// The payouts of a lane, counted from 0, that has this coinbase: what any node takes at its maturity.
    pub fn of_lane(&self, lane: usize, coinbase: &Transaction) -> Vec<Transaction> {
        let mut lanes = self.signatures.chunks(self.shards.len().max(1));
        let signatures = lanes.nth(lane).unwrap_or_default();
        if signatures.is_empty() {
            return Vec::new();
        }
        let txid = coinbase.compute_txid();
        let shards = (0u32..).zip(self.shards.iter()).zip(signatures);
        let payout = |((vout, outputs), signature): ((u32, &Vec<TxOut>), &[u8; 64])| {
            let payout = spending(OutPoint { txid, vout }, outputs.clone());
            signed(payout, signature)
        };
        shards.map(payout).collect()
    }
}
