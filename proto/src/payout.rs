//! The payout of a lane: the one transaction that may spend its coinbase.

mod signed;

use bitcoin::absolute::LockTime;
use bitcoin::consensus::Encodable;
use bitcoin::hashes::{Hash, HashEngine, sha256};
use bitcoin::sighash::{Prevouts, SighashCache};
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, OutPoint, ScriptBuf, Sequence, TapSighashType, Transaction, TxIn, TxOut, Witness,
    taproot,
};

pub use signed::SignedPayouts;

/// Version 3: TRUC, BIP431.
pub const PAYOUT_VERSION: Version = Version(3);
/// Most virtual bytes of a version-3 transaction (BIP431 rule 4).
pub const PAYOUT_VSIZE_LIMIT: u64 = 10_000;
/// Value of the pay-to-anchor output: its own dust limit (BIP433), sat.
pub const ANCHOR_SAT: u64 = 240;
/// `OP_1 <0x4e73>`: pay-to-anchor, spendable by anyone (BIP433).
pub const ANCHOR_SCRIPT: [u8; 4] = [0x51, 0x02, 0x4e, 0x73];

/// BIP125: replaceable, and no relative lock time.
const SEQUENCE: Sequence = Sequence::ENABLE_RBF_NO_LOCKTIME;

/// Version, locktime, input count, one input: bytes counted fourfold.
const FIXED_BYTES: u64 = 4 + 4 + 1 + 41;
/// The anchor output: value, length, script.
const ANCHOR_BYTES: u64 = 8 + 1 + 4;
/// Segwit marker and flag, witness item count, length, 64-byte signature: bytes counted once.
const WITNESS_BYTES: u64 = 2 + 1 + 1 + 64;

/// One payout transaction's part of the payees, by count, in serial_id order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardLayout {
    /// Payees paid by this shard.
    pub payees: usize,
    /// Virtual size of the signed transaction.
    pub vsize: u64,
}

/// Virtual size of a payout with `payees` outputs of `output_bytes` bytes together, and its anchor.
pub fn vsize(payees: usize, output_bytes: u64) -> u64 {
    let count_bytes = if payees < 252 { 1 } else { 3 };
    let stripped = FIXED_BYTES + count_bytes + output_bytes + ANCHOR_BYTES;
    (4 * stripped + WITNESS_BYTES).div_ceil(4)
}

/// Fills shards in order, each as far as the size limit lets it. One shard when there are no payees.
pub fn layout(output_sizes: impl Iterator<Item = u64>) -> Vec<ShardLayout> {
    let mut shards = Vec::new();
    let (mut payees, mut bytes) = (0usize, 0u64);
    for size in output_sizes {
        if payees > 0 && vsize(payees + 1, bytes + size) > PAYOUT_VSIZE_LIMIT {
            shards.push(ShardLayout {
                payees,
                vsize: vsize(payees, bytes),
            });
            (payees, bytes) = (0, 0);
        }
        payees += 1;
        bytes += size;
    }
    shards.push(ShardLayout {
        payees,
        vsize: vsize(payees, bytes),
    });
    shards
}

/// The anchor, the last output of every payout.
pub(crate) fn anchor() -> TxOut {
    TxOut {
        value: Amount::from_sat(ANCHOR_SAT),
        script_pubkey: ScriptBuf::from_bytes(ANCHOR_SCRIPT.to_vec()),
    }
}

/// The unsigned payout that spends `coinbase` and pays `outputs`, the anchor last.
pub fn unsigned(coinbase: OutPoint, mut outputs: Vec<TxOut>) -> Transaction {
    outputs.push(anchor());
    spending(coinbase, outputs)
}

/// The unsigned payout that spends `coinbase` and has these outputs, the anchor among them.
pub(crate) fn spending(coinbase: OutPoint, outputs: Vec<TxOut>) -> Transaction {
    Transaction {
        version: PAYOUT_VERSION,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: coinbase,
            script_sig: ScriptBuf::new(),
            sequence: SEQUENCE,
            witness: Witness::new(),
        }],
        output: outputs,
    }
}

/// What the signature hashes of one shard's payouts have in common: all but the coinbase.
#[derive(Clone, Debug)]
pub struct ShardHashes {
    amounts: [u8; 32],
    scripts: [u8; 32],
    sequences: [u8; 32],
    outputs: [u8; 32],
}

impl ShardHashes {
    /// Of payouts with these outputs, which spend an output like this one.
    pub fn of(prevout: &TxOut, outputs: &[TxOut]) -> Self {
        let sequence = SEQUENCE;
        Self {
            amounts: hash_of(&[&prevout.value]),
            scripts: hash_of(&[&prevout.script_pubkey]),
            sequences: hash_of(&[&sequence]),
            outputs: hash_of(outputs.iter().collect::<Vec<_>>().as_slice()),
        }
    }

    /// BIP341 key-path signature hash (SIGHASH_DEFAULT) of the payout that spends this output.
    pub fn sighash(&self, coinbase: &OutPoint) -> [u8; 32] {
        let mut engine = bitcoin::TapSighash::engine();
        // Epoch and hash type.
        engine.input(&[0, 0]);
        engine.input(&PAYOUT_VERSION.0.to_le_bytes());
        engine.input(&LockTime::ZERO.to_consensus_u32().to_le_bytes());
        engine.input(&hash_of(&[coinbase]));
        engine.input(&self.amounts);
        engine.input(&self.scripts);
        engine.input(&self.sequences);
        engine.input(&self.outputs);
        // Key path without annex; the first input.
        engine.input(&[0, 0, 0, 0, 0]);
        bitcoin::TapSighash::from_engine(engine).to_byte_array()
    }
}

fn hash_of<T: Encodable>(parts: &[&T]) -> [u8; 32] {
    let mut engine = sha256::Hash::engine();
    for part in parts {
        part.consensus_encode(&mut engine)
            .expect("a hash engine takes everything");
    }
    sha256::Hash::from_engine(engine).to_byte_array()
}

/// BIP341 key-path signature hash (SIGHASH_DEFAULT) of a payout that spends `prevout`.
pub fn sighash(payout: &Transaction, prevout: &TxOut) -> [u8; 32] {
    SighashCache::new(payout)
        .taproot_key_spend_signature_hash(0, &Prevouts::All(&[prevout]), TapSighashType::Default)
        .expect("a payout has exactly one input and one prevout")
        .to_byte_array()
}

/// The payout with its signature: what any node takes at maturity.
pub fn signed(mut payout: Transaction, signature: &[u8; 64]) -> Transaction {
    // A SIGHASH_DEFAULT signature is the 64 bytes alone.
    if let Some(input) = payout.input.first_mut() {
        input.witness = Witness::from_slice(&[signature]);
    }
    payout
}

/// The output key script of a lane: P2TR of the already tweaked key.
pub fn output_script(tweaked: &[u8; 32]) -> ScriptBuf {
    let mut bytes = Vec::with_capacity(34);
    bytes.extend_from_slice(&[0x51, 0x20]);
    bytes.extend_from_slice(tweaked);
    ScriptBuf::from_bytes(bytes)
}

/// Hash of the one, unspendable, leaf: `OP_RETURN <transcript hash>`, leaf version 0xc0.
pub fn leaf_hash(round: &[u8; 32]) -> [u8; 32] {
    let mut script = Vec::with_capacity(34);
    script.extend_from_slice(&[0x6a, 0x20]);
    script.extend_from_slice(round);
    let script = ScriptBuf::from_bytes(script);
    bitcoin::TapLeafHash::from_script(&script, taproot::LeafVersion::TapScript).to_byte_array()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p2tr(byte: u8) -> TxOut {
        TxOut {
            value: Amount::from_sat(1_000),
            script_pubkey: output_script(&[byte; 32]),
        }
    }

    #[test]
    fn the_size_formula_is_the_size_of_the_signed_transaction() {
        for payees in [0usize, 1, 2, 229, 230, 250, 251, 252, 253, 300] {
            let tx = unsigned(
                OutPoint::null(),
                (0..payees).map(|i| p2tr(i as u8)).collect(),
            );
            let tx = signed(tx, &[7; 64]);
            assert_eq!(
                tx.vsize() as u64,
                vsize(payees, 43 * payees as u64),
                "{payees} payees"
            );
        }
    }

    #[test]
    fn shards_hash_as_their_transactions_do() {
        for payees in [0u8, 1, 2, 230] {
            let prevout = p2tr(payees.wrapping_add(1));
            let outputs: Vec<TxOut> = (0..payees).map(p2tr).chain([anchor()]).collect();
            let hashes = ShardHashes::of(&prevout, &outputs);
            for (txid, vout) in [([0; 32], 0), ([0xff; 32], u32::MAX), ([payees; 32], 1)] {
                let txid = bitcoin::Txid::from_byte_array(txid);
                let coinbase = OutPoint { txid, vout };
                let tx = spending(coinbase, outputs.clone());
                assert_eq!(hashes.sighash(&coinbase), sighash(&tx, &prevout));
            }
        }
    }

    #[test]
    fn two_hundred_and_thirty_p2tr_payees_fill_one_shard() {
        assert_eq!(vsize(230, 43 * 230), 9_971);
        assert_eq!(layout((0..230).map(|_| 43)).len(), 1);
        let two = layout((0..231).map(|_| 43));
        assert_eq!(two.iter().map(|s| s.payees).collect::<Vec<_>>(), [230, 1]);
    }
}
