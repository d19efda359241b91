//! A node that no longer has the blocks: what was found is seen by its unspent outputs, and what cannot be
//! seen is kept.

mod support;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Address, Network};
use serde_json::{Value, json};
use support::failing::between;
use support::pruned::{prune, pruned_node, reward};
use support::settling::{Attacker, mempool, node_section, send, submit};
use support::{DEAD, DEADLINE, Daemon, Home, Round, some_identity, some_script, txid};
use tempfile::TempDir;
use tutti_participant::store;
use tutti_proto::participant::Held;
use tutti_regtest::node::Node;

fn round(seq: u64, height: u32) -> Held {
    Round {
        seq,
        height,
        lanes: 1,
        reward: reward(height),
        payees: &[(some_identity(2), some_script(2), 0)],
    }
    .held()
}

fn exported(rounds: &[Held]) -> TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    for round in rounds {
        store::write_round(dir.path(), round).expect("written");
    }
    dir
}

fn import(home: &Home, from: &Path) {
    home.json(&["payouts", "import", from.to_str().expect("text")]);
}

/// A second machine with a node and nothing else.
fn machine(node: &Node) -> Home {
    Home::new(DEAD, &node_section(node))
}

fn state(home: &Home, round: &Held) -> String {
    let rows = home.rows(&[]);
    let mut rows = rows.as_array().expect("rows").iter();
    let row = rows.find(|row| row["seq"] == round.seq.0);
    let row = row.unwrap_or_else(|| panic!("round {} is gone", round.seq));
    row["state"].as_str().expect("a state").to_owned()
}

#[test]
fn a_fresh_machine_with_a_pruned_node_sees_finds_of_any_age() {
    let node = pruned_node();
    node.mine(20).expect("blocks");
    // Long ago, paid long ago, never mined, and recent.
    let old = round(1, node.height().expect("a height") + 1);
    submit(&node, &old.lanes[0].coinbase);
    let paid = round(2, node.height().expect("a height") + 1);
    submit(&node, &paid.lanes[0].coinbase);
    let stale = round(3, node.height().expect("a height") + 1);
    node.mine(110).expect("blocks");
    send(&node, &paid.lanes[0].payouts[0]).expect("ripe");
    node.mine(900).expect("blocks");
    let recent = round(4, node.height().expect("a height") + 1);
    submit(&node, &recent.lanes[0].coinbase);
    let kept = prune(&node, 700);
    assert!(kept > 200 && kept < recent.height, "{kept}");

    let backup = exported(&[old.clone(), paid.clone(), stale.clone(), recent.clone()]);
    let home = machine(&node);
    import(&home, backup.path());
    let mut watch = Daemon::spawn(home.command(&["watch"]));
    let said = watch.wait("blocks_pruned");
    assert_eq!(said["from"], old.height);
    assert_eq!(said["to"], kept - 1);
    assert_eq!(said["undecided"], 1, "{said}");
    let broadcast = watch.seen_or_wait("payout_broadcast");
    assert_eq!(broadcast["payout_txid"], txid(&old.lanes[0].payouts[0]));
    assert_eq!(mempool(&node), [old.lanes[0].payouts[0].compute_txid()]);
    let confirmed = json!(txid(&paid.lanes[0].payouts[0]));
    let mut seen = watch.seen.iter();
    assert!(seen.any(|e| e["event"] == "payout_confirmed" && e["payout_txid"] == confirmed));

    // A recent find is settled as ever, and what nobody knows of is kept at any height.
    node.mine(99).expect("blocks");
    let broadcast = watch.wait("payout_broadcast");
    assert_eq!(broadcast["payout_txid"], txid(&recent.lanes[0].payouts[0]));
    node.mine(1).expect("a block");
    let last = json!(txid(&recent.lanes[0].payouts[0]));
    while watch.wait("payout_confirmed")["payout_txid"] != last {}
    let (_, _, seen) = watch.stop();
    let told = seen.iter().filter(|e| e["event"] == "blocks_pruned");
    assert_eq!(told.count(), 1, "once");
    assert_eq!(state(&home, &old), "final");
    assert_eq!(state(&home, &paid), "final");
    assert_eq!(state(&home, &stale), "stale");
}

#[test]
fn what_was_found_while_the_miner_was_away_longer_than_its_node_keeps_blocks_is_paid() {
    let node = pruned_node();
    node.mine(20).expect("blocks");
    let first = round(1, node.height().expect("a height") + 1);
    let second = round(2, first.height + 1);
    let home = machine(&node);
    import(&home, exported(&[first.clone(), second.clone()]).path());
    let mut watch = Daemon::spawn(home.command(&["watch"]));
    watch.wait("watching");
    submit(&node, &first.lanes[0].coinbase);
    watch.wait("pool_block_seen");
    watch.stop();

    // Meanwhile the second block is found, and others broadcast the first one's payout.
    submit(&node, &second.lanes[0].coinbase);
    node.mine(110).expect("blocks");
    send(&node, &first.lanes[0].payouts[0]).expect("ripe");
    node.mine(900).expect("blocks");
    prune(&node, 700);
    let mut watch = Daemon::spawn(home.command(&["watch"]));
    let broadcast = watch.wait("payout_broadcast");
    assert_eq!(broadcast["payout_txid"], txid(&second.lanes[0].payouts[0]));
    let confirmed = watch.seen_or_wait("payout_confirmed");
    assert_eq!(confirmed["payout_txid"], txid(&first.lanes[0].payouts[0]));
    node.mine(1).expect("a block");
    let confirmed = watch.wait("payout_confirmed");
    assert_eq!(confirmed["payout_txid"], txid(&second.lanes[0].payouts[0]));
    watch.stop();
}

#[test]
fn a_payout_that_was_mined_in_blocks_that_were_passed_right_before_a_crash_is_seen() {
    let node = pruned_node();
    node.mine(20).expect("blocks");
    let round = round(1, node.height().expect("a height") + 1);
    let payout = &round.lanes[0].payouts[0];
    let home = machine(&node);
    import(&home, exported(std::slice::from_ref(&round)).path());
    submit(&node, &round.lanes[0].coinbase);
    let mut watch = Daemon::spawn(home.command(&["watch"]));
    watch.wait("pool_block_seen");
    watch.stop();
    node.mine(110).expect("blocks");
    send(&node, payout).expect("ripe");
    node.mine(900).expect("blocks");
    let kept = prune(&node, 700);

    // It passed what is gone, stored that, and ended before it asked for the payout.
    let path = home.data().join(store::SETTLEMENTS);
    let book = std::fs::read(&path).expect("a book");
    let mut book: Value = serde_json::from_slice(&book).expect("a book");
    let hash: Value = node
        .call("getblockhash", &[json!(kept - 1)])
        .expect("a hash");
    assert_eq!(book["found"][0]["payouts"][0]["confirmed"], Value::Null);
    book["scanned_to"] = json!({"height": kept - 1, "hash": hash});
    std::fs::write(&path, book.to_string()).expect("written");
    let mut watch = Daemon::spawn(home.command(&["watch"]));
    let confirmed = watch.wait("payout_confirmed");
    assert_eq!(confirmed["payout_txid"], txid(payout));
    watch.stop();
    assert_eq!(state(&home, &round), "final");
}

#[test]
fn imported_payouts_that_could_not_be_looked_up_are_not_forgotten() {
    let node = pruned_node();
    node.mine(20).expect("blocks");
    // The scan is at the tip before the import.
    let now = round(1, node.height().expect("a height") + 1);
    let found = round(2, now.height + 1);
    let stale = round(3, now.height + 2);
    let home = machine(&node);
    import(&home, exported(std::slice::from_ref(&now)).path());
    submit(&node, &now.lanes[0].coinbase);
    submit(&node, &found.lanes[0].coinbase);
    node.mine(1_000).expect("blocks");
    let mut watch = Daemon::spawn(home.command(&["watch"]));
    watch.wait("payout_broadcast");
    watch.stop();

    prune(&node, 700);
    import(&home, exported(&[found.clone(), stale.clone()]).path());
    // With the round that was never found, a payout without its round.
    let raw = tempfile::NamedTempFile::new().expect("a file");
    let alone = round(4, stale.height + 1);
    std::fs::write(raw.path(), serialize_hex(&alone.lanes[0].payouts[0])).expect("written");
    import(&home, raw.path());
    for start in 0..2 {
        // The node has the block of that height, which is another: this one is forgotten.
        let seen_not_found = round(10 + start, 750);
        import(
            &home,
            exported(std::slice::from_ref(&seen_not_found)).path(),
        );
        let mut command = home.command(&["watch"]);
        command.env("RUST_LOG", "debug");
        let mut watch = Daemon::spawn(command);
        let said = watch.wait("blocks_pruned");
        assert_eq!(said["undecided"], 1, "{said}");
        if start == 0 {
            let mut seen = watch.seen.iter();
            assert!(seen.any(|e| e["event"] == "pool_block_seen" && e["seq"] == 2));
        }
        let forgotten = watch.wait("rounds_forgotten");
        assert_eq!(forgotten["rounds"], json!([10 + start]));
        watch.stop();
        assert_eq!(state(&home, &stale), "stale");
    }
    let rows = home.rows(&[]);
    let rows = rows.as_array().expect("rows");
    assert_eq!(rows.len(), 4, "two found, one stale, one alone: {rows:#?}");
}

#[test]
fn rounds_that_nobody_found_hold_up_no_payout_however_many_are_asked_for() {
    let node = pruned_node();
    node.mine(20).expect("blocks");
    // The newest is asked for first.
    let found = round(31, node.height().expect("a height") + 1);
    submit(&node, &found.lanes[0].coinbase);
    let stale = (1..=30).map(|seq| round(seq, found.height + seq as u32));
    let mut stale: Vec<Held> = stale.collect();
    // One of them has many lanes.
    stale[29] = Round {
        seq: 30,
        height: stale[29].height,
        lanes: 60,
        reward: reward(stale[29].height),
        payees: &[(some_identity(2), some_script(2), 0)],
    }
    .held();
    node.mine(1_000).expect("blocks");
    prune(&node, 700);
    let home = machine(&node);
    import(
        &home,
        exported(&[std::slice::from_ref(&found), &stale].concat()).path(),
    );
    let asked = AtomicUsize::new(0);
    let (before, is_sent) = (Arc::new(AtomicUsize::new(0)), AtomicBool::new(false));
    let asked_before = before.clone();
    between(&home, &node, move |method, _| {
        if method == "gettxout" {
            asked.fetch_add(1, Ordering::Relaxed);
        }
        if method == "sendrawtransaction" && !is_sent.swap(true, Ordering::Relaxed) {
            asked_before.store(asked.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        None
    });
    let mut watch = Daemon::spawn(home.command(&["watch"]));
    let broadcast = watch.wait("payout_broadcast");
    assert_eq!(broadcast["payout_txid"], txid(&found.lanes[0].payouts[0]));
    let before = before.load(Ordering::Relaxed);
    assert!(before <= 120, "{before} outputs were asked for before");
    let said = watch.seen_or_wait("blocks_pruned");
    assert_eq!(said["undecided"], 30, "all of them are: {said}");
    watch.stop();
}

#[test]
fn however_many_finds_are_asked_for_the_blocks_that_are_kept_are_looked_at_twice_at_most() {
    let node = pruned_node();
    node.mine(20).expect("blocks");
    let found = (1..=25).map(|seq| {
        let found = round(seq, node.height().expect("a height") + 1);
        submit(&node, &found.lanes[0].coinbase);
        found
    });
    let found: Vec<Held> = found.collect();
    node.mine(1_000).expect("blocks");
    prune(&node, 700);
    let home = machine(&node);
    import(&home, exported(&found).path());
    let looks = Arc::new(Mutex::new(BTreeMap::<String, usize>::new()));
    let looked = looks.clone();
    between(&home, &node, move |method, about| {
        if method == "getblock" {
            let mut looked = looked.lock().expect("a lock");
            *looked.entry(about.to_string()).or_default() += 1;
        }
        None
    });
    let mut watch = Daemon::spawn(home.command(&["watch"]));
    watch.wait("blocks_pruned");
    let (_, _, seen) = watch.stop();
    let broadcast = seen.iter().filter(|e| e["event"] == "payout_broadcast");
    assert_eq!(broadcast.count(), 25);
    let looks = looks.lock().expect("a lock");
    let tip: Value = node.call("getbestblockhash", &[]).expect("a hash");
    // Beside the answers, and again for payouts of what they found.
    let looked = looks.get(&tip.to_string()).copied().unwrap_or_default();
    assert!((1..=2).contains(&looked), "{looked} times");
}

#[test]
fn a_raw_payout_whose_block_came_while_the_node_failed_and_is_pruned_since_is_paid() {
    let node = pruned_node();
    node.mine(20).expect("blocks");
    let held = round(1, node.height().expect("a height") + 1);
    let (coinbase, payout) = (&held.lanes[0].coinbase, &held.lanes[0].payouts[0]);
    let home = machine(&node);
    let raw = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(raw.path(), serialize_hex(payout)).expect("written");
    import(&home, raw.path());
    let is_broken = Arc::new(AtomicBool::new(false));
    let (asked, looks) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (broken, asks, looked) = (is_broken.clone(), asked.clone(), looks.clone());
    let unspent = json!(coinbase.compute_txid());
    between(&home, &node, move |method, about| {
        if method == "gettxout" && *about == unspent {
            asks.fetch_add(1, Ordering::Relaxed);
        }
        if method == "getblockchaininfo" {
            looked.fetch_add(1, Ordering::Relaxed);
        }
        let fails = method == "getblock" && broken.load(Ordering::Relaxed);
        fails.then_some((-32603, "Internal bug detected"))
    });
    let mut watch = Daemon::spawn(home.command(&["watch"]));
    let wait_until = |is_so: &dyn Fn() -> bool| {
        let deadline = Instant::now() + DEADLINE;
        while !is_so() {
            assert!(Instant::now() < deadline, "it does not look");
            std::thread::yield_now();
        }
    };
    // It was asked where the coinbase is, and that look ended.
    wait_until(&|| asked.load(Ordering::Relaxed) > 0);
    let before = looks.load(Ordering::Relaxed);
    wait_until(&|| looks.load(Ordering::Relaxed) > before + 3);
    is_broken.store(true, Ordering::Relaxed);
    let height = submit(&node, coinbase);
    node.mine(1_000).expect("blocks");
    prune(&node, 700);
    is_broken.store(false, Ordering::Relaxed);
    assert_eq!(watch.wait("pool_block_seen")["height"], height);
    assert_eq!(watch.wait("payout_broadcast")["payout_txid"], txid(payout));
    watch.stop();
}

#[test]
fn a_raw_payout_whose_block_is_pruned_is_paid() {
    let node = pruned_node();
    node.mine(20).expect("blocks");
    let home = Home::new(DEAD, &(node_section(&node) + "[bump]\nafter_blocks = 1\n"));
    let (me, address) = home.init_payee();
    let height = node.height().expect("a height") + 1;
    let held = Round {
        seq: 4,
        height,
        lanes: 1,
        reward: reward(height),
        payees: &[(me, address.script_pubkey(), 0)],
    }
    .held();
    let payout = &held.lanes[0].payouts[0];
    submit(&node, &held.lanes[0].coinbase);
    node.mine(1_000).expect("blocks");
    prune(&node, 700);
    let raw = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(raw.path(), serialize_hex(payout)).expect("written");
    import(&home, raw.path());
    let mut daemon = Daemon::start(&home);
    assert_eq!(daemon.wait("pool_block_seen")["height"], height);
    assert_eq!(daemon.wait("payout_broadcast")["payout_txid"], txid(payout));
    // Blocks pass it by, and it is not bumped: what it costs is not known, and that is told once.
    for _ in 0..3 {
        node.mine_empty().expect("a block");
        let tip = node.height().expect("a height");
        let deadline = Instant::now() + DEADLINE;
        while scanned_to(&home) != tip {
            assert!(Instant::now() < deadline, "it was not looked at");
            std::thread::yield_now();
        }
    }
    let (_, _, seen) = daemon.stop();
    let told: Vec<_> = seen
        .iter()
        .filter(|event| event["event"] == "coinbase_unknown")
        .collect();
    assert_eq!(told.len(), 1, "{seen:#?}");
    assert_eq!(told[0]["height"], height);
}

#[test]
fn a_payout_that_was_mined_and_spent_in_blocks_that_are_gone_is_not_bumped() {
    let node = pruned_node();
    node.mine(20).expect("blocks");
    let home = Home::new(DEAD, &(node_section(&node) + "[bump]\nafter_blocks = 1\n"));
    let (me, address) = home.init_payee();
    let height = node.height().expect("a height") + 1;
    let held = Round {
        seq: 4,
        height,
        lanes: 1,
        reward: reward(height),
        payees: &[(me, address.script_pubkey(), 0)],
    }
    .held();
    let payout = &held.lanes[0].payouts[0];
    import(&home, exported(std::slice::from_ref(&held)).path());
    submit(&node, &held.lanes[0].coinbase);
    let mut daemon = Daemon::start(&home);
    daemon.wait("pool_block_seen");
    daemon.stop();
    node.mine(110).expect("blocks");
    send(&node, payout).expect("ripe");
    node.mine(1).expect("a block");
    let to = Address::from_script(&some_script(3), Network::Regtest).expect("an address");
    home.json(&["wallet", "sweep", &to.to_string(), "--feerate", "1"]);
    let mut attacker = Attacker::new(&node);
    let child = attacker.coin();
    send(&node, &attacker.child(payout, child, 1_000, 200)).expect("anyone may");
    node.mine(900).expect("blocks");
    prune(&node, 700);

    let mut daemon = Daemon::start(&home);
    daemon.wait("payout_refused");
    for _ in 0..3 {
        node.mine_empty().expect("a block");
        let tip = node.height().expect("a height");
        let deadline = Instant::now() + DEADLINE;
        while scanned_to(&home) != tip {
            assert!(Instant::now() < deadline, "it was not looked at");
            std::thread::yield_now();
        }
    }
    let (_, _, seen) = daemon.stop();
    let told = seen.iter().filter(|event| event["event"] == "bump_refused");
    assert_eq!(told.count(), 0, "{seen:#?}");
}

fn scanned_to(home: &Home) -> u32 {
    let book = std::fs::read(home.data().join(store::SETTLEMENTS)).expect("a book");
    let book: Value = serde_json::from_slice(&book).expect("a book");
    u32::try_from(book["scanned_to"]["height"].as_u64().expect("a height")).expect("small")
}

#[test]
fn a_reorganisation_takes_back_a_recent_find_and_leaves_one_whose_block_is_gone() {
    let node = pruned_node();
    node.mine(20).expect("blocks");
    let old = round(1, node.height().expect("a height") + 1);
    submit(&node, &old.lanes[0].coinbase);
    node.mine(1_000).expect("blocks");
    let recent = round(2, node.height().expect("a height") + 1);
    submit(&node, &recent.lanes[0].coinbase);
    node.mine(5).expect("blocks");
    prune(&node, 700);
    let home = machine(&node);
    import(&home, exported(&[old.clone(), recent.clone()]).path());
    let mut watch = Daemon::spawn(home.command(&["watch"]));
    watch.wait("blocks_pruned");
    let hash: Value = node
        .call("getblockhash", &[json!(recent.height)])
        .expect("a hash");
    node.call::<Value>("invalidateblock", std::slice::from_ref(&hash))
        .expect("invalidated");
    node.mine(2).expect("blocks");
    assert_eq!(watch.wait("pool_block_lost")["height"], recent.height);
    node.call::<Value>("reconsiderblock", &[hash])
        .expect("reconsidered");
    assert_eq!(watch.wait("pool_block_seen")["height"], recent.height);
    let (_, _, seen) = watch.stop();
    let lost = seen.iter().filter(|e| e["event"] == "pool_block_lost");
    assert_eq!(lost.count(), 1);
    assert_eq!(state(&home, &old), "broadcast");
    assert_eq!(state(&home, &recent), "maturing");
}
