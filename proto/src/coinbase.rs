//! The coinbase of a lane: fixed per lane, so that its txid is known before anybody hashes.

use bitcoin::absolute::LockTime;
use bitcoin::opcodes::all::OP_RETURN;
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};

use crate::id::{LaneIndex, RoundId, RoundSeq};

/// BIP54: nSequence of the coinbase must not be final, so that its nLockTime counts.
pub const COINBASE_SEQUENCE: Sequence = Sequence(0xffff_fffe);
/// Blocks before a coinbase output can be spent: block h + 100 may spend the coinbase of block h.
pub const COINBASE_MATURITY: u32 = 100;
/// First bytes of the witness commitment output: OP_RETURN, push 36, BIP141 header.
const COMMITMENT_PREFIX: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];

/// What distinguishes one lane's coinbase from any other.
#[derive(Clone, Copy, Debug)]
pub struct CoinbaseName<'a> {
    /// Block height, BIP34.
    pub height: u32,
    /// The pool's tag.
    pub tag: &'a str,
    /// Round of which this is a lane.
    pub round: RoundSeq,
    /// Lane.
    pub lane: LaneIndex,
}

/// scriptSig: BIP34 height, pool tag, round sequence number and lane (8 + 2 bytes, little-endian).
pub fn script_sig(name: CoinbaseName<'_>) -> ScriptBuf {
    let mut serial = PushBytesBuf::new();
    let mut push = |bytes: &[u8]| {
        // Ten bytes: far below the 4 GiB at which a push fails.
        let _ = serial.extend_from_slice(bytes);
    };
    push(&name.round.0.to_le_bytes());
    push(&name.lane.0.to_le_bytes());
    let tag = PushBytesBuf::try_from(name.tag.as_bytes().to_vec()).unwrap_or_default();
    Builder::new()
        .push_int(i64::from(name.height))
        .push_slice(tag)
        .push_slice(serial)
        .into_script()
}

/// The output by which a direct round's coinbase commits to its transcript: OP_RETURN, push 32.
pub fn round_script(round: &RoundId) -> ScriptBuf {
    Builder::new()
        .push_opcode(OP_RETURN)
        .push_slice(round.0)
        .into_script()
}

/// Builds the coinbase: the outputs (one of the lane key per shard, or the payees' own and the round's name), then the
/// witness commitment, if any.
pub fn build(
    name: CoinbaseName<'_>,
    outputs: &[(ScriptBuf, Amount)],
    witness_commitment: Option<&[u8; 32]>,
) -> Transaction {
    let mut output: Vec<TxOut> = outputs
        .iter()
        .map(|(script, sat)| TxOut {
            value: *sat,
            script_pubkey: script.clone(),
        })
        .collect();
    let mut witness = Witness::new();
    if let Some(commitment) = witness_commitment {
        let mut script = COMMITMENT_PREFIX.to_vec();
        script.extend_from_slice(commitment);
        output.push(TxOut {
            value: Amount::ZERO,
            script_pubkey: ScriptBuf::from_bytes(script),
        });
        // BIP141: the witness reserved value, which the commitment covers.
        witness.push([0u8; 32]);
    }
    Transaction {
        version: Version::TWO,
        lock_time: LockTime::from_consensus(name.height.saturating_sub(1)),
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: script_sig(name),
            sequence: COINBASE_SEQUENCE,
            witness,
        }],
        output,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_sig_starts_with_the_height_and_fits() {
        for (height, prefix) in [
            (1u32, "51"),
            (16, "60"),
            (17, "0111"),
            (150, "029600"),
            (900_000, "03a0bb0d"),
        ] {
            let tag = "x".repeat(crate::params::TAG_LIMIT);
            let name = CoinbaseName {
                height,
                tag: &tag,
                round: RoundSeq(u64::MAX),
                lane: LaneIndex(u16::MAX),
            };
            let script = script_sig(name);
            assert!(script.to_hex_string().starts_with(prefix), "{height}");
            assert!((2..=100).contains(&script.len()));
        }
    }
}
