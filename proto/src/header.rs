//! Block headers around a fixed coinbase, and the block that a found header completes.

use std::sync::Arc;

use bitcoin::Transaction;
use bitcoin::consensus::encode::{VarInt, serialize};
use bitcoin::hashes::{Hash, HashEngine, sha256d};

/// Merkle root from the coinbase's txid and its path, all in the byte order in which they are hashed.
pub fn merkle_root(coinbase_txid: [u8; 32], path: &[[u8; 32]]) -> [u8; 32] {
    path.iter()
        .fold(coinbase_txid, |left, right| hash_pair(&left, right))
}

/// The path from the first transaction of a block to the root, given the txids of all others.
pub fn coinbase_path(others: &[[u8; 32]]) -> Vec<[u8; 32]> {
    let mut path = Vec::new();
    // The coinbase's place on each level is the first; what stands right of it is the path.
    let mut level = others.to_vec();
    while let Some((sibling, rest)) = level.split_first() {
        path.push(*sibling);
        level = rest
            .chunks(2)
            .map(|pair| hash_pair(&pair[0], pair.last().unwrap_or(&pair[0])))
            .collect();
    }
    path
}

fn hash_pair(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let mut engine = sha256d::Hash::engine();
    engine.input(left);
    engine.input(right);
    sha256d::Hash::from_engine(engine).to_byte_array()
}

/// A header's six fields, in the byte order in which they are hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderFields {
    /// Version, with the rolled bits.
    pub version: i32,
    /// Previous block's hash.
    pub previous_block: [u8; 32],
    /// Merkle root.
    pub merkle_root: [u8; 32],
    /// Time, seconds.
    pub time: u32,
    /// Compact target.
    pub bits: u32,
    /// Nonce.
    pub nonce: u32,
}

impl HeaderFields {
    /// The 80 bytes.
    pub fn serialize(&self) -> [u8; 80] {
        let mut bytes = [0u8; 80];
        bytes[..4].copy_from_slice(&self.version.to_le_bytes());
        bytes[4..36].copy_from_slice(&self.previous_block);
        bytes[36..68].copy_from_slice(&self.merkle_root);
        bytes[68..72].copy_from_slice(&self.time.to_le_bytes());
        bytes[72..76].copy_from_slice(&self.bits.to_le_bytes());
        bytes[76..].copy_from_slice(&self.nonce.to_le_bytes());
        bytes
    }
}

/// The whole block: header, coinbase, the template's transactions as serialised.
pub fn assemble_block(
    header: &[u8; 80],
    coinbase: &Transaction,
    transactions: &[Arc<[u8]>],
) -> Vec<u8> {
    let mut block = header.to_vec();
    // A template holds far fewer than 2^64 transactions.
    block.extend(serialize(&VarInt(transactions.len() as u64 + 1)));
    block.extend(serialize(coinbase));
    transactions
        .iter()
        .for_each(|transaction| block.extend_from_slice(transaction));
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coinbase_path_leads_to_the_root_of_all_transactions() {
        for count in 1..12u8 {
            let all: Vec<[u8; 32]> = (0..count).map(|n| [n; 32]).collect();
            let hashes = all
                .iter()
                .map(|bytes| sha256d::Hash::from_byte_array(*bytes));
            let root = bitcoin::merkle_tree::calculate_root(hashes)
                .unwrap()
                .to_byte_array();
            assert_eq!(
                merkle_root(all[0], &coinbase_path(&all[1..])),
                root,
                "{count} transactions"
            );
        }
    }
}
