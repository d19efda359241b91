use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
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
    failure: impl FnMut(&str, &Value) -> Option<Answer> + Send + 'static,
    sent: Sender<Txid>,
) -> (Worker, tempfile::TempDir) {
    worker_of(vec![found(1), found(2)], failure, sent)
}

/// The same, with these blocks.
fn worker_of(
    found: Vec<FoundPayouts>,
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

#[test]
fn a_block_that_may_come_is_asked_for_again_at_the_next_tip_before_a_credit_is_given_up() {
    /// Where the payout was mined.
    const MINED: u32 = 110;
    const FIRST_TIP: u32 = MINED + FINAL_CONFIRMATIONS;
    let mut found = found(1);
    found.terms.bump_credit = 1;
    let payee = IdentityKey::from_bytes(&mut [4; 32]).unwrap();
    found.payees = vec![vec![payee.identity()]];
    found.payouts.truncate(1);
    let coinbase = name(found.coinbase.compute_txid());
    let tip = Arc::new(AtomicU32::new(FIRST_TIP));
    let asked = Arc::new(AtomicU32::new(0));
    let (tip_now, counted) = (tip.clone(), asked.clone());
    let mut height = 0;
    let failure = move |method: &str, about: &Value| {
        let tip = tip_now.load(Ordering::Relaxed);
        Some(match method {
            "getblockcount" => Answer::Is(json!(tip)),
            "gettxout" if *about == coinbase => Answer::Is(Value::Null),
            "gettxout" => Answer::Is(json!({"confirmations": tip + 1 - MINED})),
            "getblockhash" => {
                height = u32::try_from(about.as_u64().unwrap()).unwrap();
                Answer::Is(json!(BlockHash::from_byte_array([1; 32])))
            }
            "gettxoutproof" => {
                counted.fetch_add(1, Ordering::Relaxed);
                match height - MINED {
                    0 if tip == FIRST_TIP => {
                        Answer::Fails(-1, "Block not available (not fully downloaded)")
                    }
                    1 => Answer::Fails(-1, "Block not available (pruned data)"),
                    _ => Answer::Fails(-5, "Not all transactions found"),
                }
            }
            _ => return None,
        })
    };
    let (mut worker, _dir) = worker_of(vec![found], failure, channel().0);
    let mut sweep = || {
        let lines = caught(|| assert_eq!(worker.sweep(), POLL));
        let told = |event| lines.iter().filter(|line| line["event"] == event).count();
        let told = (told("payout_waiting"), told("bump_not_credited"));
        (told, asked.swap(0, Ordering::Relaxed), worker.blocks.len())
    };
    // From its block to the tip.
    let all = FINAL_CONFIRMATIONS + 1;
    assert_eq!(sweep(), ((1, 0), all, 1));
    assert_eq!(sweep(), ((0, 0), 0, 1));
    tip.fetch_add(1, Ordering::Relaxed);
    assert_eq!(sweep(), ((0, 1), all + 1, 0));
}
