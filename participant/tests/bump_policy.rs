//! What the daemon bumps by itself, how far, and what it does about a node that fails.

mod support;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::{Amount, Transaction};
use serde_json::{Value, json};
use support::coins::{script, wallet};
use support::failing::between;
use support::settling::{Attacker, Scene, is_mined_in, mempool, send, submit};
use support::{DEAD, DEADLINE, Daemon, Home, some_identity, some_script, txid};
use tutti_participant::store::SETTLEMENTS;
use tutti_proto::id::Identity;
use tutti_regtest::node::{Node, NodeOptions};

type Payees = Vec<(Identity, bitcoin::ScriptBuf, u64)>;

/// Payees of whom the last gets what is left.
fn others(count: u16) -> Payees {
    let payee = |n: u16| {
        let n = 1 + (n % 100) as u8;
        (some_identity(n), some_script(n), 10_000)
    };
    (0..count).map(payee).collect()
}

fn pooled(node: &Node, txid: &Value) -> Transaction {
    let raw: String = node
        .call("getrawtransaction", std::slice::from_ref(txid))
        .expect("it is pooled");
    deserialize_hex(&raw).expect("a transaction")
}

fn named<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    events.iter().filter(|e| e["event"] == name).collect()
}

#[test]
fn of_two_shards_the_daemon_bumps_the_one_that_pays_it_and_by_hand_the_other_is_bumped_too() {
    // The own output is in the first of two payouts.
    let more = "[bump]\nafter_blocks = 1\n";
    let scene = Scene::new(NodeOptions::default(), &others(300), 1_000_000, more);
    let (home, node) = (&scene.home, &scene.node);
    let [with, without] = &scene.held.lanes[0].payouts[..] else {
        panic!("two payouts");
    };
    submit(node, scene.coinbase());
    // A coin that could pay for the other.
    let funded = script(&wallet(home, &["new-address"])["address"]);
    node.mine_to(1, &funded).expect("a block");
    let mut daemon = Daemon::start(home);
    daemon.wait("pool_block_seen");
    node.mine(98).expect("blocks");
    for _ in 0..2 {
        daemon.wait("payout_broadcast");
    }
    // Who gets more is paid by the other one, and has no blocks before us.
    node.mine_empty().expect("a block");
    let first = daemon.wait("payout_bumped");
    assert_eq!(first["because"], "1 blocks passed it by");
    // And the next time, when both were looked at before.
    node.mine_empty().expect("a block");
    let second = daemon.wait("payout_bumped");
    for bumped in [&first, &second] {
        assert_eq!(bumped["payout_txid"], txid(with), "{bumped:#}");
    }
    let child = second["child_txid"].as_str().expect("a txid");
    let mut expected = [
        with.compute_txid(),
        without.compute_txid(),
        child.parse().expect("a txid"),
    ];
    let mut all = mempool(node);
    all.sort();
    expected.sort();
    assert_eq!(all, expected);
    let by_hand = home.json(&["bump", &txid(without), "--feerate", "5"]);
    assert_eq!(by_hand["accepted"], true, "{by_hand:#}");
    let block = node.mine(1).expect("a block")[0];
    for payout in [with, without] {
        assert!(is_mined_in(node, &block, payout.compute_txid()));
    }
}

/// Counts the looks at a payout's fee, each of which asks for the mempool's minimum.
fn counted(home: &Home, node: &Node) -> Looks {
    let looks = Looks::default();
    let looked = looks.clone();
    between(home, node, move |method, _| {
        if method == "getmempoolinfo" {
            looked.0.fetch_add(1, Ordering::Relaxed);
        }
        None
    });
    looks
}

#[derive(Clone, Default)]
struct Looks(Arc<AtomicUsize>);

impl Looks {
    /// The look that is being made, and two more.
    fn wait(&self) {
        let until = self.0.load(Ordering::Relaxed) + 3;
        let deadline = Instant::now() + DEADLINE;
        while self.0.load(Ordering::Relaxed) < until {
            assert!(Instant::now() < deadline, "it does not look");
            std::thread::yield_now();
        }
    }
}

#[test]
fn of_two_payees_with_equal_parts_one_bumps_and_the_other_lets_it_be() {
    let other = Home::new(DEAD, "");
    let (identity, address) = other.init_payee();
    // A third gets more, and has two blocks before both.
    let payees = [
        vec![(identity, address.script_pubkey(), 1_000_000)],
        others(1),
    ]
    .concat();
    let more = "[bump]\nafter_blocks = 1\n";
    let scene = Scene::new(NodeOptions::default(), &payees, 1_000_000, more);
    let node = &scene.node;
    let config = fs::read(scene.home.config()).expect("a file");
    fs::write(other.config(), config).expect("written");
    Scene::hold(&other, &scene.held);
    let looks = counted(&other, node);
    scene.find_and_ripen();
    let mut daemons = [Daemon::start(&scene.home), Daemon::start(&other)];
    for daemon in &mut daemons {
        daemon.wait("payout_broadcast");
    }
    let [mut first, second] = daemons;
    for _ in 0..2 {
        node.mine_empty().expect("a block");
    }
    for _ in 0..3 {
        node.mine_empty().expect("a block");
        let bumped = first.wait("payout_bumped");
        let child = bumped["child_txid"].as_str().expect("a txid");
        looks.wait();
        // No other made more of it at this tip.
        assert!(mempool(node).contains(&child.parse().expect("a txid")));
    }
    let (_, _, seen) = second.stop();
    assert_eq!(named(&seen, "payout_bumped").len(), 0, "{seen:#?}");
    first.stop();
}

#[test]
fn what_another_raised_is_given_as_many_blocks_also_over_a_restart() {
    let more = "[bump]\nafter_blocks = 2\n";
    let scene = Scene::new(NodeOptions::default(), &others(4), 0, more);
    let (home, node) = (&scene.home, &scene.node);
    let looks = counted(home, node);
    scene.find_and_ripen();
    let mut daemon = Daemon::start(home);
    daemon.wait("payout_broadcast");
    node.mine_empty().expect("a block");
    let mut attacker = Attacker::new(node);
    let coin = attacker.coin();
    let child = attacker.child(scene.payout(), coin, 2_000, 200);
    let child = send(node, &child).expect("taken");
    looks.wait();
    daemon.stop();
    // Two blocks since it is ripe, and one since it was raised.
    node.mine_empty().expect("a block");
    let mut daemon = Daemon::start(home);
    looks.wait();
    assert!(mempool(node).contains(&child));
    node.mine_empty().expect("a block");
    let bumped = daemon.wait("payout_bumped");
    assert_eq!(bumped["because"], "2 blocks passed it by");
    assert!(!mempool(node).contains(&child));
}

/// What is remembered of the last bump.
fn remembered(scene: &Scene) -> Value {
    let book = fs::read(scene.home.data().join(SETTLEMENTS)).expect("a book");
    let book: Value = serde_json::from_slice(&book).expect("a book");
    book["found"][0]["payouts"][0]["bumped"].clone()
}

#[test]
fn what_came_to_nothing_was_no_bump_and_leaves_the_others_their_blocks() {
    let more = "[bump]\nafter_blocks = 1\ncost_max_sat = 1\n";
    let scene = Scene::new(NodeOptions::default(), &others(1), 1_000_000, more);
    let (home, node) = (&scene.home, &scene.node);
    let looks = counted(home, node);
    scene.find_and_ripen();
    let mut daemon = Daemon::start(home);
    daemon.wait("payout_broadcast");
    let ripe = node.height().expect("a height");
    let mut tried = Vec::new();
    for _ in 0..7 {
        node.mine_empty().expect("a block");
        looks.wait();
        tried.push(remembered(&scene)["tip"].as_u64());
    }
    daemon.wait("payout_not_bumped");
    daemon.stop();
    // One block, and two more that a payee who gets more has.
    let first = Some(u64::from(ripe) + 3);
    let second = Some(u64::from(ripe) + 6);
    let expected = [None, None, first, first, first, second, second];
    assert_eq!(tried, expected);
}

/// Bumps up to what may be spent, and what is said then; a child that is lost there is made again.
fn bumped_up_to(own_sat: u64, more: &str, most: u64) {
    let more = format!("[bump]\nafter_blocks = 1\n{more}");
    let scene = Scene::new(NodeOptions::default(), &others(1), own_sat, &more);
    let node = &scene.node;
    scene.find_and_ripen();
    let mut daemon = Daemon::start(&scene.home);
    daemon.wait("payout_broadcast");
    // One payee gets more, and has two blocks before us.
    for _ in 0..3 {
        node.mine_empty().expect("a block");
    }
    // Half as much again would cost more than 300 sat.
    let bumped = daemon.wait("payout_bumped");
    assert_eq!(bumped["fee"], most, "{bumped:#}");
    node.mine_empty().expect("a block");
    let capped = daemon.wait("payout_not_bumped");
    let why = capped["why"].as_str().expect("text");
    let said = format!("above the {most} sat = ");
    assert!(why.contains(&said), "{why}");
    assert!(why.contains("bump.cost_max_sat or half of what"), "{why}");
    let child = pooled(node, &bumped["child_txid"]);
    assert_eq!(child.output.len(), 1);
    // The cap stops the next one, too: that is nothing new, and what is there is remembered.
    let mut expected = remembered(&scene);
    assert!(expected["lifted_to_sat_per_kvb"].is_u64(), "{expected}");
    node.mine_empty().expect("a block");
    expected["tip"] = node.height().expect("a height").into();
    let deadline = Instant::now() + DEADLINE;
    while remembered(&scene) != expected {
        assert!(Instant::now() < deadline, "it was not looked at");
        std::thread::yield_now();
    }
    // Somebody replaces the child, and takes the replacement back.
    let mut attacker = Attacker::new(node);
    let coin = attacker.coin();
    let child = attacker.child(scene.payout(), coin, most + 2_000, 200);
    send(node, &child).expect("it evicts the bump");
    let elsewhere = attacker.spend(2, &[coin], 20_000, 200);
    send(node, &elsewhere).expect("it evicts the child");
    let again = daemon.wait("payout_bumped");
    let because = again["because"].as_str().expect("text");
    assert!(because.contains("not in the mempool any more"), "{because}");
    assert!(again["fee"].as_u64() <= Some(most), "{again:#}");
    let (_, _, seen) = daemon.stop();
    assert_eq!(named(&seen, "payout_not_bumped").len(), 1, "{seen:#?}");
}

#[test]
fn a_bump_costs_no_more_than_half_of_what_the_payout_pays_us() {
    bumped_up_to(500, "", 250);
}

#[test]
fn a_bump_costs_no_more_than_the_highest_cost() {
    bumped_up_to(1_000_000, "cost_max_sat = 260\n", 260);
}

#[test]
fn a_restart_remembers_what_was_bumped() {
    let more = "[bump]\nafter_blocks = 3\n";
    let scene = Scene::new(NodeOptions::default(), &others(4), 0, more);
    let (home, node) = (&scene.home, &scene.node);
    scene.find_and_ripen();
    let mut daemon = Daemon::start(home);
    daemon.wait("payout_broadcast");
    for _ in 0..3 {
        node.mine_empty().expect("a block");
    }
    let first = daemon.wait("payout_bumped");
    daemon.stop();
    // Too early for another one, whatever it was before the end.
    for _ in 0..2 {
        node.mine_empty().expect("a block");
    }
    let mut daemon = Daemon::start(home);
    daemon.wait("identity");
    daemon.stop();
    node.mine_empty().expect("a block");
    let mut daemon = Daemon::start(home);
    let second = daemon.wait("payout_bumped");
    assert_eq!(second["because"], "3 blocks passed it by");
    let rate = |bumped: &Value| {
        bumped["package_feerate_sat_per_kvb"]
            .as_u64()
            .expect("a rate")
    };
    let half_more = rate(&first) + rate(&first) / 2;
    assert!(
        rate(&second).abs_diff(half_more) < 20,
        "{first:#} {second:#}"
    );
}

#[test]
fn a_node_without_fee_estimates_holds_up_nothing() {
    let options = NodeOptions {
        extra_args: vec!["-blocksonly".to_owned()],
        ..NodeOptions::default()
    };
    let more = "[bump]\nafter_blocks = 1\n";
    let scene = Scene::new(options, &others(4), 0, more);
    let node = &scene.node;
    scene.find_and_ripen();
    let mut daemon = Daemon::start(&scene.home);
    daemon.wait("payout_broadcast");
    for _ in 0..2 {
        node.mine_empty().expect("a block");
        let bumped = daemon.wait("payout_bumped");
        assert_eq!(bumped["because"], "1 blocks passed it by");
    }
    let payout = txid(scene.payout());
    let said = scene
        .home
        .failure(&["bump", &payout, "--target-blocks", "6"]);
    assert!(said.contains("-blocksonly"), "{said}");
    node.mine(1).expect("a block");
    daemon.wait("payout_confirmed");
    let (_, _, seen) = daemon.stop();
    assert_eq!(named(&seen, "no_fee_estimates").len(), 1, "{seen:#?}");
    assert_eq!(named(&seen, "node_away").len(), 0, "{seen:#?}");
}

#[test]
fn a_payout_that_the_node_fails_at_holds_up_no_other_and_is_told_once_and_tried_again() {
    let scene = Scene::new(NodeOptions::default(), &others(300), 1_000_000, "");
    let (home, node) = (&scene.home, &scene.node);
    let [first, second] = &scene.held.lanes[0].payouts[..] else {
        panic!("two payouts");
    };
    let raw = bitcoin::consensus::encode::serialize_hex(first);
    let broken = Arc::new(AtomicBool::new(true));
    let is_broken = broken.clone();
    between(home, node, move |method, about| {
        let fails = method == "sendrawtransaction" && *about == *raw;
        (fails && is_broken.load(Ordering::Relaxed)).then_some((-32603, "Internal bug detected"))
    });
    scene.find_and_ripen();
    let mut daemon = Daemon::start(home);
    let waiting = daemon.wait("payout_waiting");
    assert_eq!(waiting["payout_txid"], txid(first));
    let why = waiting["why"].as_str().expect("text");
    assert!(why.contains("Internal bug detected"), "{why}");
    assert_eq!(daemon.wait("payout_broadcast")["payout_txid"], txid(second));
    // Told once at the next tip too, and the other is mined meanwhile.
    node.mine(1).expect("a block");
    assert_eq!(daemon.wait("payout_confirmed")["payout_txid"], txid(second));
    broken.store(false, Ordering::Relaxed);
    assert_eq!(daemon.wait("payout_broadcast")["payout_txid"], txid(first));
    let (_, _, seen) = daemon.stop();
    assert_eq!(named(&seen, "payout_waiting").len(), 1, "{seen:#?}");
    assert_eq!(named(&seen, "node_away").len(), 0, "{seen:#?}");
}

#[test]
fn a_call_that_fails_is_told_once_and_the_connection_stays() {
    let more = "[bump]\nafter_blocks = 1\n";
    let scene = Scene::new(NodeOptions::default(), &others(4), 0, more);
    let (home, node) = (&scene.home, &scene.node);
    // What says how to bump; and then what says where the chain is.
    const METHODS: [&str; 3] = ["", "getmempoolinfo", "getblockchaininfo"];
    let broken = Arc::new(AtomicUsize::new(0));
    let now = broken.clone();
    between(home, node, move |method, _| {
        let fails = METHODS[now.load(Ordering::Relaxed)] == method;
        fails.then_some((-32603, "Internal bug detected"))
    });
    let breaks = |method| broken.store(method, Ordering::Relaxed);
    scene.find_and_ripen();
    let mut daemon = Daemon::start(home);
    daemon.wait("payout_broadcast");
    breaks(1);
    node.mine_empty().expect("a block");
    assert_eq!(
        daemon.wait("payout_waiting")["payout_txid"],
        txid(scene.payout())
    );
    breaks(2);
    daemon.wait("node_fails");
    breaks(0);
    daemon.wait("payout_bumped");
    node.mine(1).expect("a block");
    daemon.wait("payout_confirmed");
    let (_, _, seen) = daemon.stop();
    for (name, times) in [("payout_waiting", 1), ("node_fails", 1), ("node_away", 0)] {
        assert_eq!(named(&seen, name).len(), times, "{name}: {seen:#?}");
    }
}

#[test]
fn a_lost_child_that_the_node_refuses_is_tried_again_at_the_next_tip_and_not_before() {
    let more = "[bump]\nafter_blocks = 1\n";
    let scene = Scene::new(NodeOptions::default(), &others(4), 0, more);
    let (home, node) = (&scene.home, &scene.node);
    let (refuses, looks) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let (refuses_now, looked) = (refuses.clone(), looks.clone());
    between(home, node, move |method, _| {
        if method == "getmempoolinfo" {
            looked.fetch_add(1, Ordering::Relaxed);
        }
        let refused = method == "submitpackage" && refuses_now.load(Ordering::Relaxed);
        refused.then_some((-26, "made up"))
    });
    scene.find_and_ripen();
    let mut daemon = Daemon::start(home);
    daemon.wait("payout_broadcast");
    node.mine_empty().expect("a block");
    let bumped = daemon.wait("payout_bumped");
    refuses.store(true, Ordering::Relaxed);
    let mut attacker = Attacker::new(node);
    let coin = attacker.coin();
    let fee = bumped["fee"].as_u64().expect("a fee") + 2_000;
    send(node, &attacker.child(scene.payout(), coin, fee, 200)).expect("it evicts the bump");
    send(node, &attacker.spend(2, &[coin], 4 * fee, 200)).expect("it evicts the child");
    daemon.wait("bump_refused");
    let until = looks.load(Ordering::Relaxed) + 3;
    let deadline = Instant::now() + DEADLINE;
    while looks.load(Ordering::Relaxed) < until {
        assert!(Instant::now() < deadline, "it does not look");
        std::thread::yield_now();
    }
    node.mine_empty().expect("a block");
    daemon.wait("bump_refused");
    refuses.store(false, Ordering::Relaxed);
    node.mine_empty().expect("a block");
    let again = daemon.wait("payout_bumped");
    let because = again["because"].as_str().expect("text");
    assert!(because.contains("not in the mempool any more"), "{because}");
    let (_, _, seen) = daemon.stop();
    assert_eq!(named(&seen, "bump_refused").len(), 2, "{seen:#?}");
}

#[test]
fn children_of_one_payout_use_up_one_address_and_refused_ones_none() {
    let scene = Scene::new(NodeOptions::default(), &others(4), 0, "");
    let (home, node) = (&scene.home, &scene.node);
    submit(node, scene.coinbase());
    let change = |bumped: &Value| {
        let child = bumped["child_txid"].clone();
        pooled(node, &child).output[0].script_pubkey.clone()
    };
    // Too early: refused.
    for feerate in ["3", "4"] {
        assert!(!scene.bump_unchecked(feerate).accepted);
    }
    node.mine(99).expect("blocks");
    send(node, scene.payout()).expect("ripe");
    let first = change(&scene.bump(&["--feerate", "5"]));
    let second = change(&scene.bump(&["--feerate", "10"]));
    assert_eq!(first, second);
    let addresses = wallet(home, &["addresses", "--change"]);
    let rows = addresses.as_array().expect("rows").iter();
    assert_eq!(
        rows.filter(|row| row["change"] == true).count(),
        1,
        "{addresses:#}"
    );
}

/// Lets the node see what feerates are mined, until it estimates; gives that in sat/kvB.
fn teach(node: &Node) -> u64 {
    let mut attacker = Attacker::new(node);
    let mut coins: Vec<_> = (0..10).map(|_| attacker.coin()).collect();
    for _ in 0..40 {
        for (outpoint, value) in &mut coins {
            let spent = attacker.spend(2, &[(*outpoint, *value)], 5_000, 200);
            send(node, &spent).expect("taken");
            (*outpoint, *value) = (
                bitcoin::OutPoint::new(spent.compute_txid(), 0),
                spent.output[0].value,
            );
        }
        node.mine(1).expect("a block");
        let estimate: Value = node
            .call("estimatesmartfee", &[json!(6)])
            .expect("an answer");
        if let Some(rate) = estimate["feerate"].as_f64() {
            return Amount::from_btc(rate).expect("a feerate").to_sat();
        }
    }
    panic!("the node has no estimate");
}

#[test]
fn by_hand_and_by_policy_a_payout_is_lifted_to_what_the_node_estimates() {
    let more = "[bump]\nafter_blocks = 2\n";
    let scene = Scene::new(NodeOptions::default(), &others(4), 0, more);
    let node = &scene.node;
    scene.find_and_ripen();
    let estimate = teach(node);
    assert!(estimate > 10_000, "{estimate}");
    send(node, scene.payout()).expect("ripe");
    let rate = |bumped: &Value| {
        let rate = bumped["package_feerate_sat_per_kvb"].as_u64();
        rate.expect("a rate")
    };
    let dry = scene.bump(&["--target-blocks", "6", "--dry-run"]);
    assert_eq!(dry["target_sat_per_kvb"], estimate, "{dry:#}");
    assert!(
        rate(&dry) >= estimate && rate(&dry) < estimate + 20,
        "{dry:#}"
    );

    let mut daemon = Daemon::start(&scene.home);
    daemon.wait("payout_broadcast");
    for _ in 0..2 {
        node.mine_empty().expect("a block");
    }
    let bumped = daemon.wait("payout_bumped");
    let because = bumped["because"].as_str().expect("text");
    assert!(
        because.starts_with("2 blocks passed it by, and the estimate is "),
        "{because}"
    );
    // Empty blocks teach nothing: the estimate is what it was.
    assert!(
        rate(&bumped) >= estimate && rate(&bumped) < estimate + 20,
        "{bumped:#}"
    );
    let by_hand = scene.bump(&["--feerate", "100", "--max-fee", "0.001btc"]);
    assert_eq!(by_hand["accepted"], true, "{by_hand:#}");
    let block = node.mine(1).expect("a block")[0];
    assert!(is_mined_in(node, &block, scene.payout().compute_txid()));
}
