//! Payouts to be bumped, and the wallet that does it.

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, Network, OutPoint, Script, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness,
};
use tutti_participant::bump::{BumpRequest, Feerate, OwnOutput};
use tutti_participant::keys::Seed;
use tutti_participant::wallet::Wallet;

pub const ANCHOR_SAT: u64 = 240;
pub const P2TR_DUST: u64 = 330;

pub fn p2tr(byte: u8) -> ScriptBuf {
    let mut bytes = vec![0x51, 0x20];
    bytes.extend([byte; 32]);
    ScriptBuf::from_bytes(bytes)
}

pub fn pay(sat: u64, script: &Script) -> TxOut {
    TxOut {
        value: Amount::from_sat(sat),
        script_pubkey: script.to_owned(),
    }
}

/// A signed payout: `others` payees, then the own output, then the anchor.
pub fn payout(others: usize, own_sat: u64, own: &Script) -> Transaction {
    let mut output: Vec<_> = (0..others).map(|i| pay(1_000, &p2tr(i as u8))).collect();
    output.push(pay(own_sat, own));
    output.push(pay(
        ANCHOR_SAT,
        Script::from_bytes(&[0x51, 0x02, 0x4e, 0x73]),
    ));
    Transaction {
        version: Version(3),
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::new(Txid::hash(b"coinbase"), 0),
            script_sig: ScriptBuf::new(),
            sequence: Sequence(0xffff_fffd),
            witness: Witness::from_slice(&[[1_u8; 64]]),
        }],
        output,
    }
}

/// 1 sat/vB for the parent, 10 sat/vB for the package.
pub fn request<'a>(parent: &'a Transaction, own: &Script) -> BumpRequest<'a> {
    let vout = parent.output.len() as u32 - 2;
    BumpRequest {
        parent,
        parent_fee: Amount::from_sat(parent.vsize() as u64),
        anchor_vout: vout + 1,
        own: Some(OwnOutput {
            vout,
            value: parent.output[vout as usize].value,
            script: own.to_owned(),
        }),
        coins: Vec::new(),
        target: Feerate::from_sat_per_kvb(10_000),
        feerate_max: None,
        cost_max: None,
        change_script: p2tr(0xcc),
        replaces: None,
    }
}

pub fn wallet(directory: &tempfile::TempDir) -> Wallet {
    Wallet::open(
        directory.path(),
        &Seed::from_entropy(&mut [8; 32]),
        Network::Regtest,
    )
    .expect("a wallet")
}
