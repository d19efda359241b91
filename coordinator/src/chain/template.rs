//! getblocktemplate's answer, and what the protocol needs of it.

use std::collections::BTreeMap;
use std::fmt;
use std::num::ParseIntError;
use std::sync::Arc;

use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Txid, Wtxid};
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};
use thiserror::Error as ThisError;
use tutti_proto::feerate::FeeRate;
use tutti_proto::header::coinbase_path;
use tutti_proto::template::Template;

/// `OP_RETURN`, a push of 36 bytes, BIP141's tag.
const COMMITMENT_HEAD: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];

/// OP_TRUE: a signet's block needs no solution (BIP325) only if its challenge is this.
const OPEN_CHALLENGE: &str = "51";

/// What the node says. Other fields are not read.
#[derive(Deserialize)]
pub struct RawTemplate {
    version: i32,
    previousblockhash: BlockHash,
    transactions: Vec<RawTransaction>,
    coinbasevalue: u64,
    curtime: u32,
    mintime: u32,
    bits: String,
    height: u32,
    default_witness_commitment: Option<String>,
    signet_challenge: Option<String>,
}

#[derive(Deserialize)]
struct RawTransaction {
    #[serde(deserialize_with = "hex_bytes")]
    data: Vec<u8>,
    txid: Txid,
    hash: Wtxid,
    weight: u64,
}

/// The last template's transactions: the next one shares their bytes.
pub type KnownTransactions = BTreeMap<Wtxid, Arc<[u8]>>;

/// Why a template cannot be mined.
#[derive(Clone, Debug, PartialEq, Eq, ThisError)]
pub enum TemplateError {
    #[error("its bits {bits:?} are not a hexadecimal number")]
    Bits { bits: String, source: ParseIntError },
    #[error("its default_witness_commitment {0:?} is not a BIP141 commitment")]
    Commitment(String),
    #[error(
        "this signet's blocks must be signed by its operators (BIP325), which Tutti cannot do; use testnet4, regtest, or a signet of your own with -signetchallenge={OPEN_CHALLENGE}"
    )]
    Signed,
}

impl RawTemplate {
    /// Keeps what the protocol needs.
    pub fn into_template(
        self,
        feerate: FeeRate,
        known: &mut KnownTransactions,
    ) -> Result<Template, TemplateError> {
        if self.signet_challenge.is_some_and(|it| it != OPEN_CHALLENGE) {
            return Err(TemplateError::Signed);
        }
        let bits = u32::from_str_radix(&self.bits, 16).map_err(|source| TemplateError::Bits {
            bits: self.bits.clone(),
            source,
        })?;
        let witness_commitment = self
            .default_witness_commitment
            .map(|script| parse_commitment(&script).ok_or(TemplateError::Commitment(script)))
            .transpose()?;
        let txids: Vec<[u8; 32]> = self
            .transactions
            .iter()
            .map(|transaction| transaction.txid.to_byte_array())
            .collect();
        let weight = self.transactions.iter().map(|tx| tx.weight);
        let weight = weight.fold(0, u64::saturating_add);
        let mut shared = KnownTransactions::new();
        let bytes = |tx: RawTransaction| {
            let bytes = known.remove(&tx.hash).unwrap_or_else(|| tx.data.into());
            shared.insert(tx.hash, Arc::clone(&bytes));
            bytes
        };
        let transactions = self.transactions.into_iter().map(bytes).collect();
        *known = shared;
        Ok(Template {
            height: self.height,
            previous_block: self.previousblockhash.to_byte_array(),
            version: self.version,
            bits,
            time: self.curtime,
            time_min: self.mintime,
            reward: self.coinbasevalue,
            witness_commitment,
            merkle_path: coinbase_path(&txids),
            transactions,
            weight,
            feerate,
        })
    }
}

/// The hash in a commitment's scriptPubkey.
fn parse_commitment(script_hex: &str) -> Option<[u8; 32]> {
    let script = hex::decode(script_hex).ok()?;
    script.strip_prefix(&COMMITMENT_HEAD)?.try_into().ok()
}

fn hex_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    struct HexVisitor;
    impl Visitor<'_> for HexVisitor {
        type Value = Vec<u8>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("bytes in hexadecimal")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<Vec<u8>, E> {
            hex::decode(text).map_err(E::custom)
        }
    }
    deserializer.deserialize_str(HexVisitor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::consensus::encode::deserialize;
    use bitcoin::{Block, Network, constants::genesis_block};
    use serde_json::{Value, json};

    fn raw() -> Value {
        json!({
            "version": 0x2000_0000,
            "previousblockhash": genesis_block(Network::Regtest).block_hash(),
            "transactions": [],
            "coinbasevalue": 5_000_000_000u64,
            "curtime": 1_700_000_000u32,
            "mintime": 1_296_688_603u32,
            "bits": "207fffff",
            "height": 1,
            "longpollid": "not read",
            "default_witness_commitment": format!("6a24aa21a9ed{}", "11".repeat(32)),
        })
    }

    fn convert(raw: Value) -> Result<Template, TemplateError> {
        let raw: RawTemplate = serde_json::from_value(raw).unwrap();
        raw.into_template(FeeRate::FLOOR, &mut KnownTransactions::new())
    }

    #[test]
    fn hashes_come_in_the_order_in_which_they_are_hashed() {
        let template = convert(raw()).unwrap();
        let genesis = genesis_block(Network::Regtest);
        assert_eq!(
            template.previous_block,
            genesis.block_hash().to_byte_array()
        );
        assert_eq!(template.bits, 0x207f_ffff);
        assert_eq!(template.witness_commitment, Some([0x11; 32]));
        assert_eq!(template.merkle_path, Vec::<[u8; 32]>::new());
    }

    #[test]
    fn transactions_keep_their_bytes_and_place() {
        let block: Block = genesis_block(Network::Regtest);
        let bytes = bitcoin::consensus::serialize(&block.txdata[0]);
        let txid = block.txdata[0].compute_txid();
        let mut raw = raw();
        raw["transactions"] = json!([
            {"data": hex::encode(&bytes), "txid": txid, "hash": txid, "weight": 544}
        ]);
        let template = convert(raw).unwrap();
        assert_eq!(template.merkle_path, vec![txid.to_byte_array()]);
        let kept: bitcoin::Transaction = deserialize(&template.transactions[0]).unwrap();
        assert_eq!((kept, template.weight), (block.txdata[0].clone(), 544));
    }

    #[test]
    fn a_signet_whose_blocks_must_be_signed_is_refused() {
        // The public one's, a script that is false, and none at all.
        let public = concat!(
            "512103ad5e0edad18cb1f0fc0d28a3d4f1f3e445640337489abb10404f2d1e086be430",
            "210359ef5021964fe22d6f8e05b2463c9540ce96883fe3b278760f048f5189f2e6c452ae"
        );
        for challenge in [public, "00", ""] {
            let mut raw = raw();
            raw["signet_challenge"] = json!(challenge);
            assert_eq!(convert(raw).unwrap_err(), TemplateError::Signed);
        }
        let mut open = raw();
        open["signet_challenge"] = json!("51");
        assert!(convert(open).is_ok());
    }

    #[test]
    fn what_is_no_commitment_is_refused() {
        for script in ["", "6a24aa21a9ed", "51", "zz"] {
            let mut raw = raw();
            raw["default_witness_commitment"] = json!(script);
            assert_eq!(
                convert(raw).unwrap_err(),
                TemplateError::Commitment(script.to_owned())
            );
        }
        let mut without = raw();
        without
            .as_object_mut()
            .unwrap()
            .remove("default_witness_commitment");
        assert_eq!(convert(without).unwrap().witness_commitment, None);
    }
}
