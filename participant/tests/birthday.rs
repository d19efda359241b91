//! Since when a wallet's coins are looked for, where the clock was wrong when its seed was made.

mod support;

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};
use support::coins::{balance, only, parts, script, wallet};
use support::pruned::{DAY, at, now};
use support::settling::{Scene, node_section, submit};
use support::{DEAD, Daemon, Home, Round};
use tutti_regtest::node::{Node, NodeOptions};

const YEAR: u64 = 365 * DAY;

fn born_at(home: &Home, time: u64) {
    let birthday = json!({ "time": time }).to_string();
    std::fs::write(home.data().join("birthday.json"), birthday).expect("written");
}

#[test]
fn a_clock_that_was_ahead_at_init_is_told_and_hides_no_coins() {
    let node = Node::start(NodeOptions::default()).expect("a node");
    let home = Home::new(DEAD, &node_section(&node));
    let made = home.init();
    born_at(&home, now() + YEAR);
    node.mine_to(1, &script(&made["first_address"]))
        .expect("a block");
    let paid = 5_000_000_000;
    node.mine(2).expect("blocks");
    for command in [&["balance"][..], &["addresses"], &["rescan"]] {
        let said = home.failure(&[&["wallet"], command].concat());
        assert!(said.contains("clock was ahead"), "{said}");
        assert!(said.contains("wallet rescan --from"), "{said}");
    }
    let day = tutti_participant::date::utc(now());
    let found = wallet(&home, &["rescan", "--from", &day[..10]]);
    assert_eq!(parts(&found["balance"]), only("immature", paid));
    assert_eq!(balance(&home), only("immature", paid));

    // Some hours are no matter.
    let home = Home::new(DEAD, &node_section(&node));
    let made = home.init();
    born_at(&home, now() + 14 * 3_600);
    node.mine_to(1, &script(&made["first_address"]))
        .expect("a block");
    node.mine(2).expect("blocks");
    assert_eq!(balance(&home), only("immature", paid));
    // And where the clock is behind now, the chain says so.
    at(&node, now() + YEAR + DAY);
    node.mine(12).expect("blocks");
    born_at(&home, now() + YEAR);
    assert_eq!(balance(&home), only("immature", paid));
}

#[test]
fn what_the_pool_paid_before_the_birthday_is_looked_for() {
    let options = NodeOptions {
        first_block: false,
        ..NodeOptions::default()
    };
    let node = Node::start(options).expect("a node");
    at(&node, now() - 30 * DAY);
    node.mine(20).expect("blocks");
    let home = Home::new(DEAD, &node_section(&node));
    let (me, address) = home.init_payee();
    let height = node.height().expect("a height") + 1;
    let held = Round {
        seq: 4,
        height,
        lanes: 1,
        reward: 5_000_000_000,
        payees: &[(me, address.script_pubkey(), 0)],
    }
    .held();
    Scene::hold(&home, &held);
    submit(&node, &held.lanes[0].coinbase);
    node.mine(99).expect("blocks");
    let mut daemon = Daemon::start(&home);
    daemon.wait("payout_broadcast");
    node.mine(1).expect("a block");
    daemon.wait("payout_confirmed");
    daemon.stop();
    at(&node, 0);
    node.mine(30).expect("blocks");
    let own = held.payees[0].sat;
    assert_eq!(balance(&home), only("confirmed", own));
    let rows: Value = wallet(&home, &["addresses"]);
    assert_eq!(rows[0]["received"], own);
}

#[test]
fn a_birthday_above_the_chain_is_refused_before_a_seed_is_restored_with_it() {
    let node = Node::start(NodeOptions::default()).expect("a node");
    let home = Home::new(DEAD, &node_section(&node));
    let made = home.init();
    let tip = node.height().expect("a height");
    let above = (tip + 1).to_string();
    let refused = format!("from block {above} on, and the node's chain ends at block {tip}");
    let said = home.failure(&["wallet", "rescan", "--from", &above]);
    assert!(said.contains(&refused), "{said}");
    wallet(&home, &["rescan", "--from", &tip.to_string()]);

    let words = made["words"].as_str().expect("words");
    let restore = |home: &Home, birthday: &str| {
        let mut command = home.command(&["init", "--restore", "--birthday", birthday]);
        command.stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.stdout(Stdio::null()).spawn().expect("a process");
        // It may have ended without reading them.
        let _ = child
            .stdin
            .take()
            .expect("its input")
            .write_all(words.as_bytes());
        let output = child.wait_with_output().expect("it ends");
        let said = String::from_utf8(output.stderr).expect("text");
        (output.status.success(), said)
    };
    let second = Home::new(DEAD, &node_section(&node));
    let (restored, said) = restore(&second, &above);
    assert!(!restored && said.contains(&refused), "{said}");
    assert!(!second.data().join("seed.txt").exists());
    let (restored, said) = restore(&second, &tip.to_string());
    assert!(restored, "{said}");
    // Whom no node tells otherwise may be right.
    let third = Home::new(DEAD, "");
    let (restored, said) = restore(&third, &above);
    assert!(restored, "{said}");
}
