use std::sync::mpsc::{Sender, channel};

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version;
use bitcoin::{BlockHash, Network, ScriptBuf, TxIn, TxOut};
use serde_json::{Value, json};
use tutti_proto::identity::IdentityKey;
use tutti_proto::window::BlockPayouts;

use super::*;
use crate::chain::scripted::{Answer, scripted};
use crate::news::caught;

fn transaction(spends: OutPoint, sats: &[u64]) -> Transaction {
    let output = |sat: &u64| TxOut {
        value: Amount::from_sat(*sat),
        script_pubkey: ScriptBuf::new(),
    };
    Transaction {
        version: Version(3),
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: spends,
            ..TxIn::default()
        }],
        output: sats.iter().map(output).collect(),
    }
}

/// A block with two payouts.
fn found(number: u8) -> FoundPayouts {
    let made_up = OutPoint::new(Txid::from_byte_array([number; 32]), 0);
    let coinbase = transaction(made_up, &[1_000, 1_000]);
    let txid = coinbase.compute_txid();
    let payouts = [0, 1].map(|vout| transaction(OutPoint::new(txid, vout), &[900]));
    FoundPayouts {
        block: [number; 32],
        height: 10,
        terms: BlockPayouts {
            height: 10,
            bits: 0x207f_ffff,
            bump_credit: 0,
            bump_credit_after: 0,
            coinbase: txid.to_byte_array(),
            shards: Vec::new(),
        },
        payees: Vec::new(),
        coinbase,
        payouts: payouts.into(),
    }
}

/// What the node is asked about: a block's hash, a payout's txid.
fn name(of: impl ToString) -> Value {
    json!(of.to_string())
}

/// A worker with blocks 1 and 2, whose node shows both deep enough for their payouts. `failure` may fail a
/// call; what was broadcast is sent to `sent`.
fn worker(
    mut failure: impl FnMut(&str, &Value) -> Option<Answer> + Send + 'static,
    sent: Sender<Txid>,
) -> (Worker, tempfile::TempDir) {
    let config = scripted(move |method, params| {
        let about = params.first().unwrap_or(&Value::Null);
        if let Some(failure) = failure(method, about) {
            return failure;
        }
        match method {
            "getblockcount" => Answer::Is(json!(120)),
            "getblockheader" => Answer::Is(json!({"confirmations": 111, "height": 10})),
            "getmempoolentry" => Answer::Fails(-5, "Transaction not in mempool"),
            "gettxout" => Answer::Is(json!({})),
            "sendrawtransaction" => {
                let hex = about.as_str().unwrap();
                let sent_now: Transaction =
                    bitcoin::consensus::encode::deserialize_hex(hex).unwrap();
                let txid = sent_now.compute_txid();
                sent.send(txid).unwrap();
                Answer::Is(json!(txid))
            }
            other => panic!("{other}"),
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let kept = KeptPayouts::open(dir.path().to_owned()).unwrap();
    let key = IdentityKey::from_bytes(&mut [3; 32]).unwrap();
    let purse = Purse::new(&key, Network::Regtest).unwrap();
    let (inbox, _) = Inbox::new();
    let found = vec![found(1), found(2)];
    (Worker::new(config, kept, None, purse, inbox, found), dir)
}

fn txids(number: u8) -> Vec<Txid> {
    let payouts = found(number).payouts;
    payouts.iter().map(Transaction::compute_txid).collect()
}

#[test]
fn a_payout_that_the_node_fails_at_holds_up_no_other_and_is_told_once_and_tried_again() {
    let first = txids(1)[0];
    let mut failures = 2;
    let (sender, sent) = channel();
    let failure = move |method: &str, about: &Value| {
        let fails = method == "getmempoolentry" && *about == name(first) && failures > 0;
        failures -= u32::from(fails);
        fails.then_some(Answer::Fails(-32603, "Internal bug detected"))
    };
    let (mut worker, _dir) = worker(failure, sender);
    let lines = caught(|| {
        assert_eq!(worker.sweep(), POLL);
        assert_eq!(worker.sweep(), POLL);
    });
    let others = [txids(1)[1], txids(2)[0], txids(2)[1]];
    let seen: Vec<Txid> = sent.try_iter().collect();
    assert_eq!(seen[..3], others, "{lines:?}");
    assert!(!seen.contains(&first));
    let waiting = |line: &&Value| line["event"] == "payout_waiting";
    let told: Vec<&Value> = lines.iter().filter(waiting).collect();
    assert_eq!(told.len(), 1, "{lines:?}");
    assert_eq!(told[0]["payout_txid"], name(first));
    let why = told[0]["why"].as_str().unwrap();
    assert!(why.contains("Internal bug detected"), "{why}");
    assert_eq!(worker.sweep(), POLL);
    assert!(sent.try_iter().any(|txid| txid == first));
}

#[test]
fn a_block_that_the_node_fails_at_holds_up_no_other() {
    let (sender, sent) = channel();
    let failure = move |method: &str, about: &Value| {
        let first = name(BlockHash::from_byte_array([1; 32]));
        (method == "getblockheader" && *about == first).then(|| Answer::Is(json!("nonsense")))
    };
    let (mut worker, _dir) = worker(failure, sender);
    let lines = caught(|| {
        assert_eq!(worker.sweep(), POLL);
        assert_eq!(worker.sweep(), POLL);
    });
    assert_eq!(sent.try_iter().take(2).collect::<Vec<_>>(), txids(2));
    let waiting = |line: &&Value| line["event"] == "payout_waiting";
    assert_eq!(lines.iter().filter(waiting).count(), 1, "{lines:?}");
}

#[test]
fn a_node_that_is_away_ends_the_look_and_is_told_once_until_it_is_back() {
    let (sender, sent) = channel();
    let mut calls = 0;
    let failure = move |method: &str, _: &Value| {
        calls += u32::from(method == "getblockcount");
        let is_away = matches!(calls, 1 | 2 | 4);
        (is_away && method == "getblockheader").then_some(Answer::HangsUp)
    };
    let (mut worker, _dir) = worker(failure, sender);
    let mut away = |wait: Duration| {
        let lines = caught(|| assert_eq!(worker.sweep(), wait));
        let away = |line: &&Value| line["event"] == "payouts_waiting";
        lines.iter().filter(away).count()
    };
    assert_eq!(away(AWAY), 1);
    assert_eq!(away(AWAY), 0);
    assert_eq!(sent.try_iter().count(), 0);
    assert_eq!(away(POLL), 0);
    assert_eq!(sent.try_iter().count(), 4);
    assert_eq!(away(AWAY), 1);
}
