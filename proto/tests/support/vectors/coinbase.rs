//! coinbase.json: scriptSig, bytes and txid of a lane's coinbase.

use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::hashes::Hash;
use bitcoin::{Amount, ScriptBuf, Transaction};
use serde::{Deserialize, Serialize};
use tutti_proto::coinbase::{CoinbaseName, build, script_sig};
use tutti_proto::id::{LaneIndex, RoundSeq};
use tutti_proto::payout::output_script;

use super::super::seeded::Seeded;
use super::Vector;
use super::types::bytes;

#[derive(Serialize, Deserialize)]
pub struct File {
    cases: Vec<Case>,
}

#[derive(Serialize, Deserialize)]
struct Case {
    height: u32,
    tag: String,
    round: u64,
    lane: u16,
    output_key: String,
    values: Vec<u64>,
    witness_commitment: Option<String>,
    script_sig: String,
    transaction: String,
    txid: String,
}

impl Case {
    fn name(&self) -> CoinbaseName<'_> {
        CoinbaseName {
            height: self.height,
            tag: &self.tag,
            round: RoundSeq(self.round),
            lane: LaneIndex(self.lane),
        }
    }

    fn build(&self) -> Transaction {
        let script = output_script(&bytes(&self.output_key));
        let commitment = self.witness_commitment.as_deref().map(bytes);
        let output = |sat: &u64| (script.clone(), Amount::from_sat(*sat));
        let outputs: Vec<(ScriptBuf, Amount)> = self.values.iter().map(output).collect();
        build(self.name(), &outputs, commitment.as_ref())
    }
}

impl Vector for File {
    fn generate() -> Self {
        type Row = (u32, &'static str, u64, u16, &'static [u64], bool);
        let mut rng = Seeded::new("tutti vectors: coinbase");
        let longest = "0123456789abcdefghijklmnopqrstuv";
        let rows: [Row; 10] = [
            (1, "/tutti/", 1, 0, &[5_000_000_000], true),
            (16, "t", 2, 1, &[5_000_000_000], false),
            (17, "/tutti/", 3, 2, &[5_000_000_000], true),
            (127, "/tutti/", 255, 255, &[5_000_000_001], true),
            (128, "/tutti/", 256, 3, &[5_000_000_000], false),
            (255, "/tutti/", 65_536, 0, &[2_500_000_000], true),
            (32_767, "/tutti/", 1, 0, &[40_000, 50_000, 60_000], true),
            (32_768, "/tutti/", 1, 0, &[40_000, 50_000], false),
            (
                840_000,
                longest,
                u64::MAX,
                255,
                &[2_100_000_000_000_000],
                true,
            ),
            (8_388_608, "a b", 7, 0, &[312_500_000], true),
        ];
        let cases = rows.map(|(height, tag, round, lane, values, committed)| {
            let output_key = hex::encode(rng.bytes32());
            let mut case = Case {
                height,
                tag: tag.into(),
                round,
                lane,
                output_key,
                values: values.to_vec(),
                witness_commitment: committed.then(|| hex::encode(rng.bytes32())),
                script_sig: String::new(),
                transaction: String::new(),
                txid: String::new(),
            };
            let transaction = case.build();
            case.script_sig = script_sig(case.name()).to_hex_string();
            case.transaction = serialize_hex(&transaction);
            case.txid = hex::encode(transaction.compute_txid().to_byte_array());
            case
        });
        Self {
            cases: cases.into(),
        }
    }

    fn check(&self) {
        for case in &self.cases {
            let transaction: Transaction = deserialize_hex(&case.transaction).unwrap();
            assert_eq!(case.build(), transaction);
            let txid = transaction.compute_txid();
            assert_eq!(hex::encode(txid.to_byte_array()), case.txid);
            assert!(transaction.is_coinbase());
            let script = ScriptBuf::from_hex(&case.script_sig).unwrap();
            assert_eq!(transaction.input[0].script_sig, script);
            assert!((2..=100).contains(&script.len()));
            // BIP34 as the bitcoin crate reads it, BIP54's lock time.
            let height = bitcoin_height(&transaction);
            assert_eq!(height, i64::from(case.height));
            assert_eq!(transaction.lock_time.to_consensus_u32(), case.height - 1);
            assert!(transaction.input[0].sequence.enables_absolute_lock_time());
        }
    }
}

fn bitcoin_height(coinbase: &Transaction) -> i64 {
    let script = &coinbase.input[0].script_sig;
    let first = script.instructions_minimal().next().unwrap().unwrap();
    first.script_num().unwrap()
}
