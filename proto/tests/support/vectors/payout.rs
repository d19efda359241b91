//! payout.json: the unsigned payout of a shard, its txid, size and signature hash.

use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::hashes::Hash;
use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, TxOut, Txid};
use serde::{Deserialize, Serialize};
use tutti_proto::payout::{self, output_script};

use super::super::seeded::Seeded;
use super::Vector;
use super::types::bytes;

#[derive(Serialize, Deserialize)]
pub struct File {
    cases: Vec<Case>,
}

#[derive(Serialize, Deserialize)]
struct Case {
    coinbase_txid: String,
    vout: u32,
    output_key: String,
    value: u64,
    outputs: Vec<Paid>,
    transaction: String,
    txid: String,
    signed_vsize: u64,
    sighash: String,
}

#[derive(Serialize, Deserialize)]
struct Paid {
    script: String,
    sat: u64,
}

impl Case {
    fn build(&self) -> (Transaction, TxOut) {
        let txid = Txid::from_byte_array(bytes(&self.coinbase_txid));
        let outputs = self.outputs.iter().map(|paid| TxOut {
            value: Amount::from_sat(paid.sat),
            script_pubkey: ScriptBuf::from_hex(&paid.script).unwrap(),
        });
        let outpoint = OutPoint {
            txid,
            vout: self.vout,
        };
        let prevout = TxOut {
            value: Amount::from_sat(self.value),
            script_pubkey: output_script(&bytes(&self.output_key)),
        };
        (payout::unsigned(outpoint, outputs.collect()), prevout)
    }
}

fn output(rng: &mut Seeded, n: usize) -> Paid {
    let program = hex::encode(rng.bytes32());
    let short = &program[..40];
    let script = match n % 5 {
        0 => format!("5120{program}"),
        1 => format!("0014{short}"),
        2 => format!("0020{program}"),
        3 => format!("76a914{short}88ac"),
        _ => format!("a914{short}87"),
    };
    Paid {
        script,
        sat: 1_000 + n as u64,
    }
}

impl Vector for File {
    fn generate() -> Self {
        let mut rng = Seeded::new("tutti vectors: payout");
        let cases = [(0, 1), (0, 5), (1, 2), (0, 251), (2, 252)].map(|(vout, payees)| {
            let outputs: Vec<Paid> = (0..payees).map(|n| output(&mut rng, n)).collect();
            let mut case = Case {
                coinbase_txid: hex::encode(rng.bytes32()),
                vout,
                output_key: hex::encode(rng.bytes32()),
                value: 2_000_000,
                outputs,
                transaction: String::new(),
                txid: String::new(),
                signed_vsize: 0,
                sighash: String::new(),
            };
            let (transaction, prevout) = case.build();
            let bytes = case
                .outputs
                .iter()
                .map(|paid| 9 + paid.script.len() as u64 / 2);
            case.transaction = serialize_hex(&transaction);
            case.txid = hex::encode(transaction.compute_txid().to_byte_array());
            case.signed_vsize = payout::vsize(payees, bytes.sum());
            case.sighash = hex::encode(payout::sighash(&transaction, &prevout));
            case
        });
        Self {
            cases: cases.into(),
        }
    }

    fn check(&self) {
        for case in &self.cases {
            let transaction: Transaction = deserialize_hex(&case.transaction).unwrap();
            let (built, prevout) = case.build();
            assert_eq!(built, transaction);
            let txid = transaction.compute_txid().to_byte_array();
            assert_eq!(hex::encode(txid), case.txid);
            assert_eq!(hex::encode(payout::sighash(&built, &prevout)), case.sighash);
            let signed = payout::signed(transaction, &[1; 64]);
            assert_eq!(signed.vsize() as u64, case.signed_vsize);
            assert_eq!(signed.compute_txid().to_byte_array(), txid);
        }
    }
}
