//! Payouts and their bumps against the policy of a real node, and against those who use it to harm.
//! Lines that begin with `seen` are the table of SPEC.md, section 23.

mod support;

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Amount, Transaction};
use serde_json::{Value, json};
use support::settling::{
    Attacker, REWARD, Scene, is_mined_in, mempool, node_section, seen, send, submit,
};
use support::{DEAD, Daemon, Home, Round, some_identity, some_script, txid};
use tutti_regtest::node::{Node, NodeOptions};

fn others(count: u8) -> Vec<(tutti_proto::id::Identity, bitcoin::ScriptBuf, u64)> {
    let payee = |n| (some_identity(n), some_script(n), 1_000_000);
    (1..=count).map(payee).collect()
}

fn min_relay(node: &Node) -> u64 {
    let info: Value = node.call("getmempoolinfo", &[]).expect("info");
    let btc = info["minrelaytxfee"].as_f64().expect("a feerate");
    Amount::from_btc(btc).expect("an amount").to_sat()
}

fn sat(value: &Value) -> u64 {
    value.as_u64().expect("sat")
}

#[test]
fn a_payout_is_refused_at_h98_and_taken_at_h99() {
    let scene = Scene::new(NodeOptions::default(), &others(4), 0, "");
    let node = &scene.node;
    submit(node, scene.coinbase());
    node.mine(98).expect("blocks");
    let refused = send(node, scene.payout()).expect_err("immature");
    assert!(
        refused.contains("bad-txns-premature-spend-of-coinbase"),
        "{refused}"
    );
    // A bump that nothing was asked before names the node's reason too.
    let early = scene.bump_unchecked("5");
    assert!(!early.accepted);
    let reason = early.reason.as_deref().expect("a reason");
    assert!(
        reason.contains("payout: bad-txns-premature-spend"),
        "{reason}"
    );
    node.mine(1).expect("a block");
    send(node, scene.payout()).expect("mature");
    seen(node, "payout at h + 98 / h + 99", "refused / taken");
    seen(node, "bump at h + 98", reason);
    seen(node, "least relay feerate, sat/kvB", min_relay(node));
}

/// 1,000 vB at the lowest feerate that the node relays: the most that a child can cost to evict, for
/// the least money.
#[test]
fn a_large_cheap_child_pins_nothing() {
    let scene = Scene::new(NodeOptions::default(), &others(4), 0, "");
    let node = &scene.node;
    scene.find_and_ripen();
    send(node, scene.payout()).expect("mature");
    let unpinned = scene.bump(&["--feerate", "2", "--dry-run"]);

    let mut attacker = Attacker::new(node);
    let coin = attacker.coin();
    let probe = attacker.child(scene.payout(), coin, 0, 1_000);
    let fee = (min_relay(node) * probe.vsize() as u64).div_ceil(1_000);
    let pin = attacker.child(scene.payout(), coin, fee, 1_000);
    assert!(pin.vsize() > 950 && pin.vsize() <= 1_000);
    let pin_txid = send(node, &pin).expect("the pin is relayed");

    let bumped = scene.bump(&["--feerate", "2"]);
    assert_eq!(bumped["accepted"], true, "{bumped}");
    assert_eq!(bumped["replaces"]["txid"], pin_txid.to_string());
    assert!(!mempool(node).contains(&pin_txid));
    let block = node.mine(1).expect("a block")[0];
    assert!(is_mined_in(node, &block, scene.payout().compute_txid()));
    let child = bumped["child_txid"].as_str().expect("a child");
    assert!(is_mined_in(node, &block, child.parse().expect("a txid")));
    seen(
        node,
        "bump to 2 sat/vB, unpinned / against a pin",
        format!(
            "{} sat / {} sat; the pin: {} vB for {fee} sat",
            unpinned["fee"],
            bumped["fee"],
            pin.vsize()
        ),
    );
}

/// A miner takes the payout without it: what both pay together is no measure.
#[test]
fn a_child_that_pays_less_than_the_payout_does_not_keep_it_from_being_raised() {
    let more = "[bump]\nafter_blocks = 1\n";
    let scene = Scene::new(NodeOptions::default(), &others(4), 0, more);
    let node = &scene.node;
    scene.find_and_ripen();
    send(node, scene.payout()).expect("mature");
    let mut attacker = Attacker::new(node);
    let coin = attacker.coin();
    let probe = attacker.child(scene.payout(), coin, 0, 1_000);
    let fee = (min_relay(node) * probe.vsize() as u64).div_ceil(1_000);
    let cheap = attacker.child(scene.payout(), coin, fee, 1_000);
    let cheap = send(node, &cheap).expect("it is relayed");
    let mut daemon = Daemon::start(&scene.home);
    daemon.wait("payout_broadcast");
    node.mine_empty().expect("a block");
    let bumped = daemon.wait("payout_bumped");
    assert!(!mempool(node).contains(&cheap));
    // At least half as much again as the payout pays alone.
    let rate = sat(&bumped["package_feerate_sat_per_kvb"]);
    assert!(rate >= 1_500, "{bumped:#}");
}

#[test]
fn who_replaces_the_bump_in_a_cycle_pays_each_time_and_the_bump_is_mined() {
    let more = "[bump]\nafter_blocks = 1\n";
    let scene = Scene::new(NodeOptions::default(), &others(4), 0, more);
    let node = &scene.node;
    let mut daemon = Daemon::start(&scene.home);
    daemon.wait("identity");
    submit(node, scene.coinbase());
    daemon.wait("pool_block_seen");
    node.mine(99).expect("blocks");
    daemon.wait("payout_broadcast");
    // A block passes it by.
    node.mine_empty().expect("a block");
    let mut bumped = daemon.wait("payout_bumped");
    assert!(
        bumped["because"]
            .as_str()
            .expect("text")
            .contains("1 blocks passed it by")
    );

    let mut attacker = Attacker::new(node);
    let mut attack_cost = 0;
    const CYCLES: u64 = 3;
    for cycle in 0..CYCLES {
        let coin = attacker.coin();
        let fee = sat(&bumped["fee"]) + 2_000 + cycle;
        let child = attacker.child(scene.payout(), coin, fee, 200);
        send(node, &child).expect("it evicts the bump");
        // The coin goes elsewhere, and the child with it: the payout has none.
        let elsewhere = attacker.spend(2, &[coin], 4 * fee, 200);
        send(node, &elsewhere).expect("it evicts the child");
        attack_cost += 4 * fee;
        bumped = daemon.wait("payout_bumped");
        let because = bumped["because"].as_str().expect("text");
        assert!(because.contains("not in the mempool any more"), "{because}");
    }
    let block = node.mine(1).expect("a block")[0];
    let child = bumped["child_txid"].as_str().expect("a child");
    assert!(is_mined_in(node, &block, child.parse().expect("a txid")));
    assert!(is_mined_in(node, &block, scene.payout().compute_txid()));
    daemon.wait("payout_confirmed");
    seen(
        node,
        "replacement cycling, 3 times",
        format!(
            "bumper paid {} sat, attacker {attack_cost} sat",
            bumped["fee"]
        ),
    );
}

#[test]
fn a_payee_near_dust_bumps_as_far_as_its_output_goes_and_further_with_an_older_coin() {
    let scene = Scene::new(NodeOptions::default(), &others(2), 400, "");
    let node = &scene.node;
    let payout = txid(scene.payout());
    scene.find_and_ripen();
    send(node, scene.payout()).expect("mature");
    let said = scene.home.failure(&["bump", &payout, "--feerate", "10"]);
    let most = said.split("ask for at most ").nth(1).expect("advice");
    let most = most.split(' ').next().expect("a feerate");
    let bumped = scene.bump(&["--feerate", most]);
    assert_eq!(bumped["accepted"], true, "{bumped}");
    assert!(sat(&bumped["change"]) >= 330);
    seen(
        node,
        "bump by a payee with 400 sat",
        format!("up to {most} sat/vB, {} sat back", bumped["change"]),
    );

    // A payout of before that is in the chain pays for more.
    let mut daemon = Daemon::start(&scene.home);
    let fresh = daemon.wait("new_payout_address")["address"].clone();
    daemon.stop();
    let fresh: bitcoin::Address<_> = fresh.as_str().expect("text").parse().expect("valid");
    let script = fresh.assume_checked().script_pubkey();
    let rich = Round {
        seq: 5,
        height: node.height().expect("a height") + 1,
        lanes: 1,
        reward: REWARD / 2,
        payees: &[(scene.me, script, 0)],
    }
    .held();
    Scene::hold(&scene.home, &rich);
    submit(node, &rich.lanes[0].coinbase);
    // Nobody mines the poor payout meanwhile.
    for _ in 0..99 {
        node.mine_empty().expect("a block");
    }
    let earlier = serialize_hex(&rich.lanes[0].payouts[0]);
    let output = json!("raw(51024e73)");
    node.call::<Value>("generateblock", &[output, json!([earlier])])
        .expect("a block");
    assert!(mempool(node).contains(&scene.payout().compute_txid()));
    let mut daemon = Daemon::start(&scene.home);
    daemon.wait("payout_confirmed");
    daemon.stop();
    let bumped = scene.bump(&["--feerate", "10"]);
    assert_eq!(bumped["accepted"], true, "{bumped}");
    assert_eq!(bumped["spends"].as_array().expect("coins").len(), 2);
    assert_eq!(bumped["credit"], 0, "it spends another coin: {bumped}");
}

#[test]
fn a_full_payout_of_230_is_bumped_by_one_of_its_payees() {
    let mut payees = Vec::new();
    for n in 0..229u8 {
        payees.push((some_identity(1 + n % 100), some_script(1 + n % 100), 10_000));
    }
    let scene = Scene::new(NodeOptions::default(), &payees, 0, "");
    let node = &scene.node;
    assert_eq!(scene.payout().vsize(), 9_971);
    scene.find_and_ripen();
    send(node, scene.payout()).expect("mature");
    let bumped = scene.bump(&["--feerate", "5", "--max-fee", "50000"]);
    assert_eq!(bumped["accepted"], true, "{bumped}");
    seen(
        node,
        "230 P2TR payees, 9,971 vB, bump to 5 sat/vB",
        format!("taken, {} sat", bumped["fee"]),
    );
    // The child alone pays more than bitcoind's own limit for a transaction, 10,000 sat/vB.
    let bumped = scene.bump(&["--feerate", "200", "--max-fee", "0.03btc"]);
    assert_eq!(bumped["accepted"], true, "{bumped}");
    assert!(
        sat(&bumped["child_feerate_sat_per_kvb"]) > 10_000_000,
        "{bumped}"
    );
    let block = node.mine(1).expect("a block")[0];
    assert!(is_mined_in(node, &block, scene.payout().compute_txid()));
    seen(
        node,
        "230 P2TR payees, 9,971 vB, and then to 200 sat/vB",
        format!("taken, {} sat", bumped["fee"]),
    );
}

#[test]
fn five_shards_of_a_thousand_payees_go_out_together() {
    let payee = |n: u16| {
        let n = 1 + (n % 200) as u8;
        (some_identity(n), some_script(n), 10_000)
    };
    let payees: Vec<_> = (0..999).map(payee).collect();
    let scene = Scene::new(NodeOptions::default(), &payees, 0, "");
    let node = &scene.node;
    let payouts = &scene.held.lanes[0].payouts;
    assert_eq!(payouts.len(), 5);
    submit(node, scene.coinbase());
    let mut daemon = Daemon::start(&scene.home);
    daemon.wait("pool_block_seen");
    node.mine(99).expect("blocks");
    for _ in payouts {
        daemon.wait("payout_broadcast");
    }
    let block = node.mine(1).expect("a block")[0];
    let all = |tx: &Transaction| is_mined_in(node, &block, tx.compute_txid());
    assert!(payouts.iter().all(all));
    for _ in payouts {
        daemon.wait("payout_confirmed");
    }
    assert_eq!(
        scene.row_when(|row| row["state"] == "confirmed")["confirmations"],
        101
    );
    seen(node, "1,000 payees in 5 shards of one block", "taken");
}

/// Fills the mempool until its own minimum is above what a payout pays; gives that minimum.
fn fill(node: &Node) -> u64 {
    let mut attacker = Attacker::new(node);
    for _ in 0..60 {
        let info: Value = node.call("getmempoolinfo", &[]).expect("info");
        let min = Amount::from_btc(info["mempoolminfee"].as_f64().expect("a feerate"));
        let min = min.expect("an amount").to_sat();
        if min > 2_000 {
            return min;
        }
        let coin = attacker.coin();
        let filler = attacker.spend(2, &[coin], 2_000_000, 98_000);
        if let Err(refused) = send(node, &filler) {
            // Trimmed at once: the minimum is what it paid, and more.
            assert!(refused.contains("mempool full"), "{refused}");
        }
    }
    panic!("the mempool is not full");
}

#[test]
fn a_mempool_that_takes_nothing_so_cheap_takes_payout_and_bump_as_one_package() {
    let options = NodeOptions {
        extra_args: vec!["-maxmempool=5".to_owned()],
        ..NodeOptions::default()
    };
    let more = "[bump]\nafter_blocks = 1\ncost_max_sat = 100000\n";
    let scene = Scene::new(options, &others(4), 0, more);
    let node = &scene.node;
    scene.find_and_ripen();
    let min = fill(node);
    let mut daemon = Daemon::start(&scene.home);
    let refused = daemon.wait("payout_refused")["reason"].clone();
    let refused = refused.as_str().expect("text");
    assert!(refused.contains("mempool min fee not met"), "{refused}");
    // A block without it: from now on the daemon raises the fee by itself.
    node.mine_empty().expect("a block");
    let bumped = daemon.wait("payout_bumped");
    let because = bumped["because"].as_str().expect("text");
    assert!(because.contains("takes nothing below"), "{because}");
    assert!(mempool(node).contains(&scene.payout().compute_txid()));
    let block = node.mine(1).expect("a block")[0];
    assert!(is_mined_in(node, &block, scene.payout().compute_txid()));
    daemon.wait("payout_confirmed");
    seen(
        node,
        "mempool's least above the payout's feerate",
        format!(
            "{min} sat/kvB: alone refused ({}), with a child of {} sat taken",
            refused.split(',').next().unwrap_or(refused),
            bumped["fee"]
        ),
    );
}

#[test]
fn a_node_that_restarts_forgets_the_payout_and_gets_it_again() {
    let options = NodeOptions {
        extra_args: vec!["-persistmempool=0".to_owned()],
        ..NodeOptions::default()
    };
    let mut scene = Scene::new(options, &others(4), 0, "");
    let mut daemon = Daemon::start(&scene.home);
    daemon.wait("identity");
    let height = submit(&scene.node, scene.coinbase());
    daemon.wait("pool_block_seen");
    scene.node.mine(99).expect("blocks");
    daemon.wait("payout_broadcast");
    scene.node.restart().expect("restarted");
    // At the same tip: not only the next block makes it look.
    let again = daemon.wait("payout_broadcast");
    assert_eq!(again["height_tip"], height + 99);
    assert_eq!(mempool(&scene.node), [scene.payout().compute_txid()]);
    seen(
        &scene.node,
        "payout after a restart without mempool.dat",
        "gone; sent again",
    );
}

#[test]
fn a_participant_that_was_away_for_300_blocks_is_paid() {
    let scene = Scene::new(NodeOptions::default(), &others(4), 0, "");
    let node = &scene.node;
    let mut daemon = Daemon::start(&scene.home);
    daemon.wait("identity");
    let height = submit(node, scene.coinbase());
    daemon.stop();
    node.mine(300).expect("blocks");
    let mut daemon = Daemon::start(&scene.home);
    let broadcast = daemon.wait("payout_broadcast");
    assert_eq!(broadcast["height_tip"], height + 300);
    let block = node.mine(1).expect("a block")[0];
    assert!(is_mined_in(node, &block, scene.payout().compute_txid()));
    daemon.wait("payout_confirmed");
    assert_eq!(
        scene.row_when(|row| row["state"] == "confirmed")["height"],
        height
    );
}

#[test]
fn the_estimate_is_asked_for_by_blocks_and_a_node_without_one_says_so() {
    let scene = Scene::new(NodeOptions::default(), &others(4), 0, "");
    scene.find_and_ripen();
    let said = scene
        .home
        .failure(&["bump", &txid(scene.payout()), "--target-blocks", "6"]);
    assert!(said.contains("give --feerate instead"), "{said}");
    let other = Home::new(DEAD, &node_section(&scene.node));
    other.init();
    Scene::hold(&other, &scene.held);
    let said = other.failure(&["bump", &txid(scene.payout()), "--feerate", "5"]);
    assert!(said.contains("nothing to pay the bump with"), "{said}");
    let table = scene
        .home
        .output(&["bump", &txid(scene.payout()), "--feerate", "5", "--dry-run"]);
    assert!(table.status.success());
    let table = String::from_utf8(table.stdout).expect("text");
    for row in ["payout", "child", "together", "comes back", "dry run"] {
        assert!(table.contains(row), "{table}");
    }
}
