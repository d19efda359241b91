//! A scan that is held up: by a call that the node answers with an error, or by a node that is not as far yet. And
//! what holds nothing up: a log that nobody reads.

mod support;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Amount, OutPoint, ScriptBuf, Transaction, Txid};
use serde_json::{Value, json};
use support::failing::between;
use support::settling::{Attacker, node_section, send, submit};
use support::{DEAD, DEADLINE, Daemon, Home, Round, some_identity, txid};
use tutti_participant::store;
use tutti_proto::participant::Held;
use tutti_proto::payout::ANCHOR_SCRIPT;
use tutti_regtest::node::{Node, NodeOptions};

fn times(seen: &[Value], name: &str) -> usize {
    seen.iter().filter(|event| event["event"] == name).count()
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

/// A round for the node's next block, whose payout anyone may spend.
fn round(node: &Node, seq: u64) -> Held {
    let height = node.height().expect("a height") + 1;
    Round {
        seq,
        height,
        lanes: 1,
        // Regtest halves it every 150 blocks.
        reward: 5_000_000_000 >> (height / 150),
        payees: &[(
            some_identity(2),
            ScriptBuf::from_bytes(ANCHOR_SCRIPT.to_vec()),
            0,
        )],
    }
    .held()
}

/// A machine that watches these rounds.
fn machine(node: &Node, rounds: &[&Held]) -> Home {
    let backup = tempfile::tempdir().expect("a directory");
    for held in rounds {
        store::write_round(backup.path(), held).expect("written");
    }
    let home = Home::new(DEAD, &node_section(node));
    home.json(&["payouts", "import", backup.path().to_str().expect("text")]);
    home
}

fn outputs(payout: &Transaction) -> Vec<(OutPoint, Amount)> {
    let outputs = (0..).zip(&payout.output);
    let coins = outputs.map(|(vout, output)| {
        let outpoint = OutPoint::new(payout.compute_txid(), vout);
        (outpoint, output.value)
    });
    coins.collect()
}

#[test]
fn a_payout_that_is_spent_behind_a_block_that_the_node_fails_at_is_not_told_as_refused() {
    let node = Node::start(NodeOptions::default()).expect("a node");
    node.mine(20).expect("blocks");
    let held = round(&node, 1);
    let payout = &held.lanes[0].payouts[0];
    let home = machine(&node, &[&held]);
    submit(&node, &held.lanes[0].coinbase);
    node.mine(99).expect("blocks");
    send(&node, payout).expect("ripe");
    let block = node.mine(1).expect("a block")[0];
    let spend = Attacker::new(&node).spend(2, &outputs(payout), 1_000, 100);
    send(&node, &spend).expect("anyone may");
    node.mine(1).expect("a block");

    let broken = Arc::new(AtomicBool::new(true));
    let (looks, handed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let is_broken = broken.clone();
    let (looked, counted) = (looks.clone(), handed.clone());
    between(&home, &node, move |method, about| {
        match method {
            "getblockchaininfo" => looked.fetch_add(1, Ordering::Relaxed),
            "sendrawtransaction" => counted.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
        let fails = method == "getblock" && *about == json!(block);
        (fails && is_broken.load(Ordering::Relaxed)).then_some((-32603, "Internal bug detected"))
    });
    let mut watch = Daemon::spawn(home.command(&["watch"]));
    watch.wait("node_fails");
    // At each tip it is handed over, once.
    for tip in 1..=4 {
        wait_until("the payout is not handed over", || {
            handed.load(Ordering::Relaxed) >= tip
        });
        let then = looks.load(Ordering::Relaxed);
        wait_until("it does not look", || {
            looks.load(Ordering::Relaxed) > then + 3
        });
        assert_eq!(handed.load(Ordering::Relaxed), tip);
        node.mine(1).expect("a block");
    }
    broken.store(false, Ordering::Relaxed);
    assert_eq!(watch.wait("payout_confirmed")["payout_txid"], txid(payout));
    let (_, _, seen) = watch.stop();
    assert_eq!(times(&seen, "payout_refused"), 0, "{seen:#?}");
    assert_eq!(times(&seen, "node_fails"), 1, "{seen:#?}");
}

#[test]
fn a_payout_that_is_dropped_and_refused_behind_a_block_is_handed_over_again_once_that_is_looked_at()
{
    let node = Node::start(NodeOptions::default()).expect("a node");
    node.mine(20).expect("blocks");
    let held = round(&node, 1);
    let payout = json!(held.lanes[0].payouts[0].compute_txid());
    let home = machine(&node, &[&held]);
    submit(&node, &held.lanes[0].coinbase);
    node.mine(98).expect("blocks");
    let (broken, full) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    let refused = Arc::new(AtomicUsize::new(0));
    let (is_broken, is_full, refuses) = (broken.clone(), full.clone(), refused.clone());
    between(&home, &node, move |method, about| {
        let is_full = is_full.load(Ordering::Relaxed);
        match method {
            "getblock" if is_broken.load(Ordering::Relaxed) => {
                Some((-32603, "Internal bug detected"))
            }
            "getmempoolentry" if is_full && *about == payout => {
                Some((-5, "Transaction not in mempool"))
            }
            "sendrawtransaction" if is_full => {
                refuses.fetch_add(1, Ordering::Relaxed);
                Some((-26, "mempool full"))
            }
            _ => None,
        }
    });
    let mut watch = Daemon::spawn(home.command(&["watch"]));
    watch.wait("pool_block_seen");
    // The payout is ripe with a block that cannot be looked at, and soon dropped.
    broken.store(true, Ordering::Relaxed);
    node.mine(1).expect("a block");
    watch.wait("payout_broadcast");
    full.store(true, Ordering::Relaxed);
    wait_until("it is not handed over again", || {
        refused.load(Ordering::Relaxed) > 0
    });
    full.store(false, Ordering::Relaxed);
    broken.store(false, Ordering::Relaxed);
    watch.wait("payout_broadcast");
    let (_, _, seen) = watch.stop();
    assert_eq!(times(&seen, "payout_refused"), 0, "{seen:#?}");
}

#[test]
fn a_node_that_downloads_its_blocks_again_takes_back_no_find_and_is_not_walked_back() {
    let node = Node::start(NodeOptions::default()).expect("a node");
    node.mine(20).expect("blocks");
    let held = round(&node, 1);
    let home = machine(&node, &[&held]);
    let height = submit(&node, &held.lanes[0].coinbase);
    node.mine(30).expect("blocks");
    let mut watch = Daemon::spawn(home.command(&["watch"]));
    watch.wait("pool_block_seen");
    watch.stop();

    // It has all headers, and no block.
    let options = NodeOptions {
        first_block: false,
        ..NodeOptions::default()
    };
    let fresh = Node::start(options).expect("a node");
    let tip = node.height().expect("a height");
    let hash =
        |height: u32| -> Value { node.call("getblockhash", &[json!(height)]).expect("a hash") };
    for height in 1..=tip {
        let header: Value = node
            .call("getblockheader", &[hash(height), json!(false)])
            .expect("a header");
        fresh
            .call::<Value>("submitheader", &[header])
            .expect("taken");
    }
    let config = std::fs::read_to_string(home.config()).expect("a file");
    let config = config.replace(&node_section(&node), &node_section(&fresh));
    std::fs::write(home.config(), config).expect("written");
    let (looks, headers) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (looked, walked) = (looks.clone(), headers.clone());
    between(&home, &fresh, move |method, _| {
        match method {
            "getblockchaininfo" => looked.fetch_add(1, Ordering::Relaxed),
            "getblockheader" => walked.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
        None
    });
    let mut watch = Daemon::spawn(home.command(&["watch"]));
    wait_until("it does not look", || looks.load(Ordering::Relaxed) > 10);
    assert_eq!(headers.load(Ordering::Relaxed), 0);

    for at in 1..=tip {
        let block: Value = node
            .call("getblock", &[hash(at), json!(0)])
            .expect("a block");
        let refused: Value = fresh.call("submitblock", &[block]).expect("an answer");
        assert_eq!(refused, Value::Null);
        // The first one, which is not a day old, ends what the node calls its initial download.
        if [1, height, tip - 1].contains(&at) {
            let before = looks.load(Ordering::Relaxed);
            // More than a look has.
            let is_seen = || looks.load(Ordering::Relaxed) > before + 6;
            wait_until("it does not look", is_seen);
        }
    }
    fresh.mine(height + 99 - tip).expect("blocks");
    let broadcast = watch.wait("payout_broadcast");
    assert_eq!(broadcast["payout_txid"], txid(&held.lanes[0].payouts[0]));
    let (_, _, seen) = watch.stop();
    for name in ["pool_block_lost", "pool_block_seen"] {
        assert_eq!(times(&seen, name), 0, "{seen:#?}");
    }
}

#[test]
fn a_block_that_cannot_be_had_holds_up_no_other_height_and_its_round_is_kept() {
    let node = Node::start(NodeOptions::default()).expect("a node");
    node.mine(20).expect("blocks");
    let lower = round(&node, 1);
    submit(&node, &lower.lanes[0].coinbase);
    node.mine(10).expect("blocks");
    let higher = round(&node, 2);
    submit(&node, &higher.lanes[0].coinbase);
    // After so many blocks a round that nobody found is forgotten.
    node.mine(201).expect("blocks");
    let home = machine(&node, &[&lower, &higher]);
    let block: Value = node
        .call("getblockhash", &[json!(higher.height)])
        .expect("a hash");
    let broken = Arc::new(AtomicBool::new(true));
    let is_broken = broken.clone();
    between(&home, &node, move |method, about| {
        let fails = method == "getblock" && *about == block;
        (fails && is_broken.load(Ordering::Relaxed)).then_some((-32603, "Internal bug detected"))
    });
    let mut watch = Daemon::spawn(home.command(&["watch"]));
    assert_eq!(watch.wait("pool_block_seen")["seq"], 1);
    let broadcast = watch.wait("payout_broadcast");
    assert_eq!(broadcast["payout_txid"], txid(&lower.lanes[0].payouts[0]));
    broken.store(false, Ordering::Relaxed);
    assert_eq!(watch.wait("pool_block_seen")["seq"], 2);
    let (_, _, seen) = watch.stop();
    assert_eq!(times(&seen, "node_fails"), 1, "{seen:#?}");
}

#[test]
fn a_coinbase_at_which_the_node_fails_is_asked_for_again() {
    let node = Node::start(NodeOptions::default()).expect("a node");
    node.mine(20).expect("blocks");
    let held = round(&node, 1);
    let raw = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(raw.path(), serialize_hex(&held.lanes[0].payouts[0])).expect("written");
    let home = Home::new(DEAD, &node_section(&node));
    home.json(&["payouts", "import", raw.path().to_str().expect("text")]);
    submit(&node, &held.lanes[0].coinbase);
    let broken = Arc::new(AtomicBool::new(true));
    let is_broken = broken.clone();
    between(&home, &node, move |method, _| {
        let fails = method == "getrawtransaction" && is_broken.load(Ordering::Relaxed);
        fails.then_some((-32603, "Internal bug detected"))
    });
    let mut watch = Daemon::spawn(home.command(&["watch"]));
    watch.wait("pool_block_seen");
    watch.wait("node_fails");
    let feerate = || home.rows(&["--found"])[0]["feerate_sat_per_kvb"].clone();
    assert_eq!(feerate(), Value::Null);
    broken.store(false, Ordering::Relaxed);
    wait_until("its fee is not known", || feerate() != Value::Null);
    let (_, _, seen) = watch.stop();
    assert_eq!(times(&seen, "coinbase_unknown"), 0, "{seen:#?}");
    assert_eq!(times(&seen, "node_fails"), 1, "{seen:#?}");
}

#[test]
fn a_log_that_nobody_reads_holds_up_no_payout() {
    let node = Node::start(NodeOptions::default()).expect("a node");
    node.mine(20).expect("blocks");
    let held = round(&node, 1);
    let home = machine(&node, &[&held]);
    submit(&node, &held.lanes[0].coinbase);
    node.mine(99).expect("blocks");
    let (unread, mut full) = std::io::pipe().expect("a pipe");
    let mut watch = home.command(&["watch"]);
    watch.stderr(full.try_clone().expect("a pipe"));
    // Writes until nobody reads any more.
    let filler = std::thread::spawn(move || while full.write_all(&[b'.'; 1 << 16]).is_ok() {});
    let mut watch = watch.spawn().expect("a process");
    let payout = held.lanes[0].payouts[0].compute_txid();
    wait_until("the payout is not handed over", || {
        let ripe: Vec<Txid> = node.call("getrawmempool", &[]).expect("an answer");
        ripe.contains(&payout)
    });
    watch.kill().expect("it lives");
    watch.wait().expect("it ends");
    drop(unread);
    filler.join().expect("nobody reads");
}
