//! From a found block to its bumped and confirmed payout, on a real node and without a coordinator.

mod support;

use std::sync::{Arc, Mutex};
use std::time::Instant;

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hashes::Hash;
use bitcoin::{Network, OutPoint, ScriptBuf, Transaction};
use serde_json::{Value, json};
use support::failing::between;
use support::settling::{Attacker, Scene, node_section, send, submit};
use support::{DEAD, DEADLINE, Daemon, Home, Round, some_identity, some_script, txid};
use tutti_participant::chain::{self, NodeAuth, NodeConfig};
use tutti_participant::settle::{
    Book, Change, Follower, Report, Settler, Step, Watched, WatchedRound,
};
use tutti_participant::store::{self, Store};
use tutti_proto::id::WindowSeq;
use tutti_proto::participant::{BlockClaim, Record};
use tutti_proto::payout::ANCHOR_SCRIPT;
use tutti_regtest::node::{Node, NodeOptions};

/// The found row, once it is as expected.
fn row_when(home: &Home, expected: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let rows = home.rows(&["--found"]);
        if expected(&rows[0]) {
            return rows[0].clone();
        }
        assert!(Instant::now() < deadline, "{rows:#}");
    }
}

#[test]
fn a_payout_is_broadcast_bumped_and_confirmed_without_a_coordinator() {
    let node = Node::start(NodeOptions::default()).expect("a node");
    let home = Home::new(
        DEAD,
        &format!(
            "[node]\nrpc_url = \"{}\"\ncookie_file = \"{}\"\n",
            node.rpc_url(),
            node.cookie_file().display()
        ),
    );
    let (me, address) = home.init_payee();
    let payees = [
        (some_identity(2), some_script(2), 1_000_000_000),
        (me, address.script_pubkey(), 0),
    ];
    let height = node.height().expect("a height") + 1;
    let held = Round {
        seq: 4,
        height,
        lanes: 2,
        reward: 5_000_000_000,
        payees: &payees,
    }
    .held();
    let (coinbase, payout) = (&held.lanes[1].coinbase, &held.lanes[1].payouts[0]);
    Store::open(&home.data())
        .expect("a store")
        .save(&[Record::Held(held.clone())])
        .expect("saved");

    // The block is found while the daemon looks, and matures while it does not.
    let mut daemon = Daemon::start(&home);
    daemon.wait("identity");
    assert_eq!(submit(&node, coinbase), height);
    let seen = daemon.wait("pool_block_seen");
    assert_eq!(seen["coinbase_txid"], txid(coinbase));
    assert_eq!(seen["payout_txids"], json!([txid(payout)]));
    assert_eq!(seen["height"], height);
    let fresh = daemon.wait("new_payout_address")["address"].clone();
    assert_ne!(fresh, address.to_string());
    daemon.stop();
    assert_eq!(home.json(&["status"])["address"], fresh);
    node.mine(98).expect("blocks");
    assert_eq!(node.height().expect("a height"), height + 98);

    // Tip h + 98: the node would refuse, and the daemon does not ask.
    let mut daemon = Daemon::start(&home);
    let row = row_when(&home, |row| row["confirmations"] == 99);
    assert_eq!(row["state"], "maturing");
    let hex = serialize_hex(payout);
    let verdict: Value = node
        .call("testmempoolaccept", &[json!([hex])])
        .expect("an answer");
    assert_eq!(
        verdict[0]["reject-reason"],
        "bad-txns-premature-spend-of-coinbase"
    );
    let pool = |node: &Node| -> Vec<String> { node.call("getrawmempool", &[]).expect("txids") };
    assert!(pool(&node).is_empty());

    // Tip h + 99.
    node.mine(1).expect("a block");
    let broadcast = daemon.wait("payout_broadcast");
    assert_eq!(broadcast["payout_txid"], txid(payout));
    assert_eq!(broadcast["height_tip"], height + 99);
    assert_eq!(pool(&node), [txid(payout)]);
    assert_eq!(
        row_when(&home, |row| row["state"] != "ripe")["state"],
        "broadcast"
    );
    let early = |event: &Value| event["event"] == "payout_refused";
    assert!(!daemon.seen.iter().any(early), "it never asked too early");

    bumps(&home, &node, payout);

    let block = node.mine(1).expect("a block")[0];
    let confirmed = daemon.wait("payout_confirmed");
    assert_eq!(confirmed["height"], height + 100);
    assert_eq!(
        row_when(&home, |row| row["state"] == "confirmed")["own_sat"],
        held.payees[1].sat
    );
    assert_eq!(
        node.block(&block).expect("the block").txdata.len(),
        3,
        "coinbase, payout, child"
    );

    // A reorg takes it back, the chain brings it again.
    node.call::<Value>("invalidateblock", &[json!(block)])
        .expect("done");
    daemon.wait("payout_unconfirmed");
    node.call::<Value>("reconsiderblock", &[json!(block)])
        .expect("done");
    daemon.wait("payout_confirmed");
    let (status, _, _) = daemon.stop();
    assert_eq!(status.code(), Some(0));
}

/// Bumped twice, by the command, while the daemon runs: the second child replaces the first.
fn bumps(home: &Home, node: &Node, payout: &Transaction) {
    let bump = |rate: &str, more: &[&str]| {
        home.json(&[&["bump", &txid(payout), "--feerate", rate], more].concat())
    };
    let dry = bump("20", &["--dry-run"]);
    assert_eq!(
        (&dry["accepted"], &dry["vsize"]),
        (&json!(false), &json!(153)),
        "{dry}"
    );
    // Less the anchor, which was nobody's.
    let cost = dry["fee"].as_u64().map(|fee| fee - 240);
    assert_eq!(
        dry["credit"].as_u64(),
        cost,
        "it spends the payout only: {dry}"
    );
    let table = home.output(&["bump", &txid(payout), "--feerate", "20", "--dry-run"]);
    let table = String::from_utf8(table.stdout).expect("text");
    for row in ["payout", "child", "together", "comes back", "credited"] {
        let line = table.lines().find(|line| line.starts_with(row));
        let line = line.unwrap_or_else(|| panic!("{row}: {table}"));
        assert!(line.contains(" sat = ") && line.contains(" BTC"), "{line}");
    }
    let first = bump("20", &[]);
    assert_eq!(
        (&first["accepted"], &first["reason"]),
        (&json!(true), &Value::Null),
        "{first}"
    );
    assert!(
        first["package_feerate_sat_per_kvb"]
            .as_u64()
            .expect("a rate")
            >= 20_000
    );
    let second = bump("40.5", &[]);
    assert_eq!(second["accepted"], true, "{second}");
    let entry: Value = node
        .call("getmempoolentry", &[second["child_txid"].clone()])
        .expect("the child is there");
    assert_eq!(entry["vsize"], second["vsize"]);
    assert_eq!(entry["ancestorcount"], 2);
    let gone = node.call::<Value>("getmempoolentry", &[first["child_txid"].clone()]);
    assert!(gone.is_err(), "the first child was replaced");
    let needless = home.failure(&["bump", &txid(payout), "--feerate", "30"]);
    assert!(needless.contains("no further bump is needed"), "{needless}");
}

#[test]
fn a_pruned_block_is_named_and_holds_up_nothing() {
    let options = NodeOptions {
        extra_args: vec!["-prune=1".to_owned(), "-fastprune".to_owned()],
        ..NodeOptions::default()
    };
    let node = Node::start(options).expect("a node");
    let home = Home::new(
        DEAD,
        &format!(
            "[node]\nrpc_url = \"{}\"\ncookie_file = \"{}\"\n",
            node.rpc_url(),
            node.cookie_file().display()
        ),
    );
    home.init();
    let height = node.height().expect("a height") + 1;
    let held = Round {
        seq: 4,
        height,
        lanes: 1,
        reward: 5_000_000_000,
        payees: &[(some_identity(2), some_script(2), 0)],
    }
    .held();
    Store::open(&home.data())
        .expect("a store")
        .save(&[Record::Held(held.clone())])
        .expect("saved");
    let mut daemon = Daemon::start(&home);
    daemon.wait("identity");
    submit(&node, &held.lanes[0].coinbase);
    daemon.wait("pool_block_seen");
    daemon.stop();

    // Away for longer than the node keeps blocks.
    node.mine(1_000).expect("blocks");
    node.call::<Value>("pruneblockchain", &[json!(700)])
        .expect("pruned");
    let mut daemon = Daemon::start(&home);
    let said = daemon.wait("blocks_pruned");
    assert_eq!(said["from"], height + 1);
    assert_eq!(said["undecided"], 0, "{said}");
    let broadcast = daemon.seen_or_wait("payout_broadcast");
    assert_eq!(broadcast["payout_txid"], txid(&held.lanes[0].payouts[0]));
    assert_eq!(broadcast["height_tip"], height + 1_000);
    node.mine(1).expect("a block");
    assert_eq!(daemon.wait("payout_confirmed")["height"], height + 1_001);
    daemon.stop();

    // Headers are never pruned: what a ledger says of a block is shown all the same.
    let (reports, mut shown) = tokio::sync::mpsc::unbounded_channel();
    let config = NodeConfig {
        url: node.rpc_url(),
        auth: NodeAuth::CookieFile(node.cookie_file()),
        network: Network::Regtest,
    };
    let settler = Settler::start(&home.data(), config, None, Vec::new(), reports).expect("started");
    let block = held_block(&node, height);
    settler.look_up(vec![BlockClaim {
        block,
        booked: true,
        window: WindowSeq(1),
    }]);
    let seen = std::iter::repeat_with(|| shown.blocking_recv().expect("a report"));
    let seen = seen
        .take(100)
        .any(|report| matches!(report, Report::Seen { block: of, in_chain: true } if of == block));
    assert!(seen, "the block is in the best chain");
    settler.stop();
}

fn held_block(node: &Node, height: u32) -> [u8; 32] {
    let hash: String = node
        .call("getblockhash", &[json!(height)])
        .expect("a block");
    let hash: bitcoin::BlockHash = hash.parse().expect("a hash");
    hash.to_byte_array()
}

#[test]
fn a_block_that_the_node_lost_holds_up_no_other() {
    for error in [
        "Block not found on disk",
        "Block not available (not fully downloaded)",
    ] {
        let others = [(some_identity(2), some_script(2), 1_000_000)];
        let scene = Scene::new(NodeOptions::default(), &others, 0, "");
        let (home, node) = (&scene.home, &scene.node);
        let lost = Arc::new(Mutex::new(Value::Null));
        let now = lost.clone();
        between(home, node, move |method, about| {
            let lost = now.lock().expect("a lock");
            (method == "getblock" && about == &*lost).then_some((-1, error))
        });
        let mut daemon = Daemon::start(home);
        daemon.wait("identity");
        submit(node, scene.coinbase());
        daemon.wait("pool_block_seen");
        daemon.stop();
        let gone = node.mine(50).expect("blocks")[20];
        *lost.lock().expect("a lock") = json!(gone);
        node.mine(49).expect("blocks");
        let mut daemon = Daemon::start(home);
        let said = daemon.wait("blocks_pruned");
        let height = scene.held.height + 21;
        assert_eq!(
            (&said["from"], &said["to"]),
            (&json!(height), &json!(height))
        );
        daemon.seen_or_wait("payout_broadcast");
        node.mine(1).expect("a block");
        daemon.wait("payout_confirmed");
        let (_, _, seen) = daemon.stop();
        assert!(
            !seen.iter().any(|e| e["event"] == "node_fails"),
            "{seen:#?}"
        );
    }
}

#[test]
fn a_node_that_goes_away_is_said_once_and_taken_up_again() {
    let mut node = Node::start(NodeOptions::default()).expect("a node");
    let home = Home::new(
        DEAD,
        &format!(
            "[node]\nrpc_url = \"{}\"\ncookie_file = \"{}\"\n",
            node.rpc_url(),
            node.cookie_file().display()
        ),
    );
    home.init();
    let mut daemon = Daemon::start(&home);
    daemon.wait("identity");
    node.stop().expect("stopped");
    let away = daemon.wait("node_away");
    assert_eq!(away["retry_ms"], 500);
    node.restart().expect("restarted");
    assert_eq!(
        daemon.wait("node_back")["tip"],
        node.height().expect("a height")
    );
    let (_, _, seen) = daemon.stop();
    let times = seen
        .iter()
        .filter(|event| event["event"] == "node_away")
        .count();
    assert_eq!(times, 1);
}

#[test]
fn a_payout_that_was_mined_behind_a_scan_that_is_held_up_is_asked_for_once() {
    let others = [(some_identity(2), some_script(2), 1_000_000)];
    let scene = Scene::new(NodeOptions::default(), &others, 0, "");
    let config = NodeConfig {
        url: scene.node.rpc_url(),
        auth: NodeAuth::CookieFile(scene.node.cookie_file()),
        network: Network::Regtest,
    };
    let node = chain::Node::connect(&config).expect("the node");
    let follower = |scene: &Scene| {
        let mut watched = Watched::default();
        watched.add(WatchedRound::new(&scene.held, &scene.me));
        let mut follower = Follower::new(Book::default(), watched);
        while follower.go_on(&node).expect("scanned") == Step::More {}
        follower
    };
    scene.find_and_ripen();
    let (mut ours, mut late) = (follower(&scene), follower(&scene));
    let directory = scene.home.data();
    let ask = |follower: &mut Follower| {
        follower.take_changed();
        let tip = node.tip().expect("a tip").block;
        let asked = follower.broadcast(&node, &directory, tip, tip.height);
        asked.expect("asked");
        (follower.take_changed(), follower.take_changes())
    };
    ours.take_changes();
    let (_, changes) = ask(&mut ours);
    assert!(
        matches!(changes[..], [Change::Broadcast { .. }]),
        "{changes:?}"
    );
    // Mined, and no scan looks at that block.
    scene.node.mine(1).expect("a block");
    for _ in 0..4 {
        assert_eq!(
            ask(&mut ours),
            (false, Vec::new()),
            "nothing to store or to say"
        );
    }
    // Whoever did not send it says where it is, once, and not that a mempool has it.
    late.take_changes();
    let (_, changes) = ask(&mut late);
    assert!(matches!(changes[..], [Change::Mined { .. }]), "{changes:?}");
    for _ in 0..4 {
        assert_eq!(ask(&mut late), (false, Vec::new()));
    }
}

#[test]
fn what_is_ripe_goes_out_before_the_blocks_since_an_old_find_are_looked_at() {
    let node = Node::start(NodeOptions::default()).expect("a node");
    node.mine(20).expect("blocks");
    let round = |seq| {
        let height = node.height().expect("a height") + 1;
        Round {
            seq,
            height,
            lanes: 1,
            // Regtest halves it every 150 blocks.
            reward: 5_000_000_000 >> (height / 150),
            // Whoever comes may spend it.
            payees: &[(
                some_identity(2),
                ScriptBuf::from_bytes(ANCHOR_SCRIPT.to_vec()),
                0,
            )],
        }
        .held()
    };
    // Found, paid and spent long ago: nodes do not know its payout any more.
    let old = round(1);
    let payout = &old.lanes[0].payouts[0];
    submit(&node, &old.lanes[0].coinbase);
    node.mine(99).expect("blocks");
    send(&node, payout).expect("ripe");
    node.mine(1).expect("a block");
    let coin = |vout: u32| {
        let value = payout.output[vout as usize].value;
        (OutPoint::new(payout.compute_txid(), vout), value)
    };
    let spent = Attacker::new(&node).spend(2, &[coin(0), coin(1)], 1_000, 100);
    send(&node, &spent).expect("anyone may");
    node.mine(500).expect("blocks");
    let recent = round(2);
    submit(&node, &recent.lanes[0].coinbase);
    node.mine(99).expect("blocks");

    let backup = tempfile::tempdir().expect("a directory");
    for held in [&old, &recent] {
        store::write_round(backup.path(), held).expect("written");
    }
    let home = Home::new(DEAD, &node_section(&node));
    home.json(&["payouts", "import", backup.path().to_str().expect("text")]);
    let mut watch = Daemon::spawn(home.command(&["watch"]));
    let broadcast = watch.wait("payout_broadcast");
    assert_eq!(broadcast["payout_txid"], txid(&recent.lanes[0].payouts[0]));
    let has = |seen: &[Value], name| seen.iter().any(|event| event["event"] == name);
    assert!(!has(&watch.seen, "payout_confirmed"), "{:#?}", watch.seen);
    let confirmed = watch.wait("payout_confirmed");
    assert_eq!(confirmed["payout_txid"], txid(payout));
    let (_, _, seen) = watch.stop();
    // What is refused while blocks were not looked at may be in one of them.
    assert!(!has(&seen, "payout_refused"), "{seen:#?}");
}
