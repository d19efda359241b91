//! key_aggregation.json: from sorted slot keys and a round's name to the coinbase's output script.

use bitcoin::taproot::TapNodeHash;
use bitcoin::{TapTweakHash, XOnlyPublicKey};
use musig2::secp::Point;
use serde::{Deserialize, Serialize};
use tutti_proto::musig::{AggregateKey, SigningSlot};
use tutti_proto::payout::{leaf_hash, output_script};

use super::super::seeded::Seeded;
use super::Vector;
use super::types::{bytes, slot_key};

#[derive(Serialize, Deserialize)]
pub struct File {
    cases: Vec<Case>,
}

#[derive(Serialize, Deserialize)]
struct Case {
    slot_keys: Vec<String>,
    round: String,
    leaf_hash: String,
    internal_key: String,
    tweak: String,
    output_key: String,
    output_script: String,
}

fn tweak(internal: &[u8; 32], leaf: &[u8; 32]) -> String {
    let key = XOnlyPublicKey::from_slice(internal).unwrap();
    let root = TapNodeHash::assume_hidden(*leaf);
    hex::encode(
        TapTweakHash::from_key_and_tweak(key, Some(root))
            .to_scalar()
            .to_be_bytes(),
    )
}

impl Vector for File {
    fn generate() -> Self {
        let mut rng = Seeded::new("tutti vectors: key aggregation");
        let cases = [1, 2, 3, 5, 16, 100].map(|signers| {
            let mut keys: Vec<_> = (0..signers)
                .map(|_| SigningSlot::generate(&mut rng, 0).1.key)
                .collect();
            keys.sort();
            let round = rng.bytes32();
            let leaf = leaf_hash(&round);
            let key = AggregateKey::new(keys, &leaf).unwrap();
            Case {
                slot_keys: key
                    .signers()
                    .iter()
                    .map(|k| hex::encode(k.serialize()))
                    .collect(),
                round: hex::encode(round),
                leaf_hash: hex::encode(leaf),
                internal_key: hex::encode(key.internal()),
                tweak: tweak(&key.internal(), &leaf),
                output_key: hex::encode(key.output_key()),
                output_script: output_script(&key.output_key()).to_hex_string(),
            }
        });
        Self {
            cases: cases.into(),
        }
    }

    fn check(&self) {
        for case in &self.cases {
            let leaf = leaf_hash(&bytes(&case.round));
            assert_eq!(hex::encode(leaf), case.leaf_hash);
            let keys = case.slot_keys.iter().map(|key| slot_key(key)).collect();
            let key = AggregateKey::new(keys, &leaf).unwrap();
            assert_eq!(hex::encode(key.internal()), case.internal_key);
            assert_eq!(tweak(&key.internal(), &leaf), case.tweak);
            assert_eq!(hex::encode(key.output_key()), case.output_key);
            let script = output_script(&key.output_key());
            assert_eq!(script.to_hex_string(), case.output_script);

            let points = case
                .slot_keys
                .iter()
                .map(|key| Point::from_hex(key).unwrap());
            let other = musig2::KeyAggContext::new(points).unwrap();
            let internal: Point = other.aggregated_pubkey();
            assert_eq!(hex::encode(internal.serialize_xonly()), case.internal_key);
            let output: Point = other.with_taproot_tweak(&leaf).unwrap().aggregated_pubkey();
            assert_eq!(hex::encode(output.serialize_xonly()), case.output_key);
        }
    }
}
