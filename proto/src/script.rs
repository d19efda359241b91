//! The scripts a payout may pay: standard output types, each with its own dust limit.

use bitcoin::{Script, ScriptBuf};

/// A scriptPubkey of a standard type (P2PKH, P2SH, P2WPKH, P2WSH, P2TR).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PayoutScript(ScriptBuf);

/// The scriptPubkey is of a type that nodes do not relay, or that nobody in particular can spend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("scriptPubkey of {len} bytes is not P2PKH, P2SH, P2WPKH, P2WSH or P2TR")]
pub struct NonStandardScript {
    /// Length of the refused script, bytes.
    pub len: usize,
}

impl PayoutScript {
    /// Accepts a standard single-owner output type and nothing else.
    pub fn parse(script: ScriptBuf) -> Result<Self, NonStandardScript> {
        let standard = script.is_p2pkh()
            || script.is_p2sh()
            || script.is_p2wpkh()
            || script.is_p2wsh()
            || script.is_p2tr();
        if standard {
            Ok(Self(script))
        } else {
            Err(NonStandardScript { len: script.len() })
        }
    }

    /// Smallest value in sat that relays in an output of this type (Core's 3 sat/vB dust feerate).
    pub fn dust_limit(&self) -> u64 {
        self.0.minimal_non_dust().to_sat()
    }

    /// Bytes of the output that pays this script: value, length, script.
    pub fn output_size(&self) -> u64 {
        // A standard script is at most 34 bytes, so its length takes one byte.
        8 + 1 + self.0.len() as u64
    }

    /// The script itself.
    pub fn as_script(&self) -> &Script {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::hashes::Hash;
    use bitcoin::{PubkeyHash, ScriptHash, WPubkeyHash, WScriptHash};

    #[test]
    fn dust_limits_are_cores() {
        let cases = [
            (ScriptBuf::new_p2pkh(&PubkeyHash::all_zeros()), 546),
            (ScriptBuf::new_p2sh(&ScriptHash::all_zeros()), 540),
            (ScriptBuf::new_p2wpkh(&WPubkeyHash::all_zeros()), 294),
            (ScriptBuf::new_p2wsh(&WScriptHash::all_zeros()), 330),
            (
                ScriptBuf::from_hex(&format!("5120{}", "11".repeat(32))).unwrap(),
                330,
            ),
        ];
        for (script, dust) in cases {
            assert_eq!(PayoutScript::parse(script).unwrap().dust_limit(), dust);
        }
    }

    #[test]
    fn anchors_and_data_and_unknown_witness_versions_are_refused() {
        for hex in ["51024e73", "6a0101", "", "5220".to_string().as_str()] {
            assert!(
                PayoutScript::parse(ScriptBuf::from_hex(hex).unwrap()).is_err(),
                "{hex}"
            );
        }
        let v2 = format!("5220{}", "11".repeat(32));
        assert!(PayoutScript::parse(ScriptBuf::from_hex(&v2).unwrap()).is_err());
    }
}
