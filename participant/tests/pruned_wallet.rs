//! The wallet on a node that no longer has the blocks: what it has is looked at, and what it has not is told.

mod support;

use bitcoin::ScriptBuf;
use serde_json::{Value, json};
use support::coins::{address, balance, only, parts, restore, sat, script, wallet};
use support::pruned::{DAY, at, now, prune, pruned_node, pruned_node_without_blocks, reward};
use support::settling::{Scene, node_section, submit};
use support::{DEAD, Daemon, Home, Round, some_script};
use tutti_proto::id::Identity;
use tutti_proto::participant::Held;
use tutti_regtest::node::Node;

fn home_on(node: &Node) -> Home {
    Home::new(DEAD, &node_section(node))
}

fn height(node: &Node) -> u32 {
    node.height().expect("a height")
}

/// A coinbase that pays this address.
fn pay(node: &Node, to: &Value) -> (u32, u64) {
    node.mine_to(1, &script(to)).expect("a block");
    (height(node), reward(height(node)))
}

/// A round that pays this one alone, whose block is in the chain and ripe.
fn found(node: &Node, home: &Home, payee: (Identity, ScriptBuf, u64)) -> Held {
    let height = height(node) + 1;
    let held = Round {
        seq: 4,
        height,
        lanes: 1,
        reward: reward(height),
        payees: &[payee],
    }
    .held();
    Scene::hold(home, &held);
    submit(node, &held.lanes[0].coinbase);
    node.mine(99).expect("blocks");
    held
}

fn leave(node: &Node, from: u32) -> Value {
    let hash: Value = node.call("getblockhash", &[json!(from)]).expect("a hash");
    node.call::<Value>("invalidateblock", std::slice::from_ref(&hash))
        .expect("invalidated");
    hash
}

#[test]
fn a_new_wallet_on_a_node_that_was_pruned_before_sees_what_comes() {
    let node = pruned_node_without_blocks();
    at(&node, now() - 30 * DAY);
    node.mine(1_000).expect("blocks");
    let kept = prune(&node, 700);
    assert!(kept > 200, "{kept}");
    at(&node, 0);
    let home = home_on(&node);
    let made = home.init();
    assert_eq!(balance(&home), []);
    let (paid_at, sum) = pay(&node, &made["first_address"]);
    let shown = wallet(&home, &["balance"]);
    assert_eq!(parts(&shown), only("immature", sum));
    assert_eq!(shown["height"], paid_at);
    node.mine(100).expect("blocks");
    assert_eq!(balance(&home), only("confirmed", sum));
    let to = address(&some_script(3));
    let swept = wallet(&home, &["sweep", &to, "--feerate", "1"]);
    assert_eq!(swept["accepted"], true, "{swept:#}");
    node.mine(1).expect("a block");
    assert_eq!(balance(&home), []);

    // Nor does a restored one need blocks of before its birthday.
    let words = made["words"].as_str().expect("words");
    let restored = home_on(&node);
    let output = restore(&restored, words, &["--birthday", &paid_at.to_string()]);
    let said: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(said["rescan"]["from"], paid_at, "{said:#}");
    let rows = wallet(&restored, &["addresses"]);
    assert_eq!(sat(&rows[0], "received"), sum);
}

#[test]
fn a_seed_whose_first_blocks_are_gone_is_restored_and_what_cannot_be_looked_at_is_told() {
    let node = pruned_node();
    let made = home_on(&node).init();
    pay(&node, &made["first_address"]);
    node.mine(1_000).expect("blocks");
    let kept = prune(&node, 700);
    let (_, sum) = pay(&node, &made["first_address"]);
    let home = home_on(&node);
    let output = restore(&home, made["words"].as_str().expect("words"), &[]);
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stderr).expect("text");
    let missing = format!("does not have blocks 1 to {}", kept - 1);
    let way_on = format!("wallet rescan --from {kept}");
    assert!(said.contains(&missing) && said.contains(&way_on), "{said}");
    for command in [&["balance"][..], &["rescan"]] {
        let said = home.failure(&[&["wallet"], command].concat());
        assert!(said.contains(&missing) && said.contains(&way_on), "{said}");
    }
    let found = wallet(&home, &["rescan", "--from", &kept.to_string()]);
    assert_eq!(found["from"], kept);
    assert_eq!(parts(&found["balance"]), only("immature", sum));
    assert_eq!(balance(&home), only("immature", sum));
}

#[test]
fn a_wallet_that_was_away_for_longer_than_its_node_keeps_blocks_goes_on_from_those_that_are_kept() {
    let node = pruned_node();
    node.mine(20).expect("blocks");
    let home = home_on(&node);
    let made = home.init();
    let (last, before) = pay(&node, &made["first_address"]);
    assert_eq!(balance(&home), only("immature", before));
    // Unseen, and seen.
    pay(&node, &made["first_address"]);
    node.mine(1_000).expect("blocks");
    let (_, after) = pay(&node, &made["first_address"]);
    let kept = prune(&node, 700);

    let first = last + 1;
    let missing = format!("does not have blocks {first} to {}", kept - 1);
    let way_on = format!("wallet rescan --from {kept}");
    for _ in 0..2 {
        let said = home.failure(&["wallet", "balance"]);
        assert!(said.contains(&missing) && said.contains(&way_on), "{said}");
    }
    // It asks for fewer blocks than there are, and sees all that there are.
    let from = (kept + 50).to_string();
    let output = home.output(&["wallet", "rescan", "--from", &from]);
    let text = String::from_utf8(output.stdout).expect("text");
    let skipped = format!("blocks {first} to {}", kept - 1);
    assert!(output.status.success() && text.contains(&skipped), "{text}");
    assert!(text.contains("not seen"), "{text}");
    let both = vec![
        ("confirmed".to_owned(), before),
        ("immature".to_owned(), after),
    ];
    assert_eq!(balance(&home), both);
    // For programs, and what is there already stays; what was skipped is told by whoever asks for it.
    let again = wallet(&home, &["rescan", "--from", &kept.to_string()]);
    assert_eq!(
        (&again["from"], &again["skipped"]),
        (&json!(kept), &Value::Null)
    );
    assert_eq!(balance(&home), both);
    let said = home.failure(&["wallet", "rescan", "--from", &first.to_string()]);
    assert!(said.contains(&missing), "{said}");
}

#[test]
fn what_a_reorganisation_took_back_while_the_wallet_was_away_is_not_shown() {
    let node = pruned_node();
    node.mine(20).expect("blocks");
    let home = home_on(&node);
    let made = home.init();
    let (first, stays) = pay(&node, &made["first_address"]);
    for _ in 0..3 {
        pay(&node, &made["first_address"]);
    }
    assert_eq!(balance(&home), only("immature", 4 * stays));

    // The other branch is shorter first.
    let gone = leave(&node, first + 1);
    let rescan = ["rescan", "--from", "1"];
    for command in [&["balance"][..], &rescan] {
        let said = home.failure(&[&["wallet"], command].concat());
        assert!(said.contains("the node took back block"), "{said}");
    }
    node.mine_empty().expect("a block");
    assert_eq!(balance(&home), only("immature", stays));
    let again = wallet(&home, &rescan);
    assert_eq!(parts(&again["balance"]), only("immature", stays));
    node.call::<Value>("reconsiderblock", &[gone])
        .expect("done");
    assert_eq!(balance(&home), only("immature", 4 * stays));

    // Nor where the blocks on both sides of the fork are gone.
    pay(&node, &made["first_address"]);
    assert_eq!(balance(&home), only("immature", 5 * stays));
    leave(&node, first + 1);
    node.mine(1_000).expect("blocks");
    let kept = prune(&node, 700);
    let said = home.failure(&["wallet", "balance"]);
    let missing = format!("does not have blocks {} to {}", first + 1, kept - 1);
    assert!(said.contains(&missing), "{said}");
    let found = wallet(&home, &["rescan", "--from", &kept.to_string()]);
    assert_eq!(parts(&found["balance"]), only("confirmed", stays));
    assert_eq!(balance(&home), only("confirmed", stays));
}

#[test]
fn a_wallet_that_was_never_asked_finds_payouts_in_blocks_that_are_gone() {
    let node = pruned_node();
    node.mine(20).expect("blocks");
    let home = home_on(&node);
    let (me, own) = home.init_payee();
    let held = found(&node, &home, (me, own.script_pubkey(), 0));
    let mut daemon = Daemon::start(&home);
    daemon.wait("payout_broadcast");
    node.mine(1).expect("a block");
    daemon.wait("payout_confirmed");
    daemon.stop();
    node.mine(500).expect("blocks");
    let kept = prune(&node, height(&node) - 300);
    let said = home.failure(&["wallet", "balance"]);
    assert!(said.contains("does not have blocks"), "{said}");
    let found = wallet(&home, &["rescan", "--from", &kept.to_string()]);
    let own = held.payees[0].sat;
    assert_eq!(parts(&found["balance"]), only("confirmed", own));
    assert_eq!(balance(&home), only("confirmed", own));
    let to = address(&some_script(3));
    let swept = wallet(&home, &["sweep", &to, "--feerate", "2"]);
    assert_eq!(swept["accepted"], true, "{swept:#}");
    node.mine(1).expect("a block");
    assert_eq!(balance(&home), []);
}

#[test]
fn what_is_known_to_have_been_paid_or_spent_in_blocks_that_are_gone_counts() {
    let node = pruned_node();
    node.mine(20).expect("blocks");
    let home = home_on(&node);
    let (me, own) = home.init_payee();
    let (_, coin) = pay(&node, &json!(own.to_string()));
    node.mine(1).expect("a block");
    let held = found(&node, &home, (me, own.script_pubkey(), 0));
    // The payout is known from the mempool, and from the book; so is a payment with its change.
    let mut daemon = Daemon::start(&home);
    daemon.wait("payout_broadcast");
    let to = address(&some_script(3));
    let sent = wallet(&home, &["send", &to, "1btc", "--feerate", "2"]);
    assert_eq!(sent["accepted"], true, "{sent:#}");
    node.mine(1).expect("a block");
    daemon.wait("payout_confirmed");
    daemon.stop();
    let change = coin - 100_000_000 - sat(&sent, "fee");
    let total = held.payees[0].sat + change;

    let away = |home: &Home| {
        node.mine(500).expect("blocks");
        let kept = prune(&node, height(&node) - 300);
        let said = home.failure(&["wallet", "balance"]);
        assert!(said.contains("does not have blocks"), "{said}");
        let found = wallet(home, &["rescan", "--from", &kept.to_string()]);
        assert!(found["skipped"].is_object(), "{found:#}");
        parts(&found["balance"])
    };
    assert_eq!(away(&home), only("confirmed", total));
    assert_eq!(balance(&home), only("confirmed", total));
    // It can be spent; and of what went elsewhere as a whole nothing comes back.
    let swept = wallet(&home, &["sweep", &to, "--feerate", "2"]);
    assert_eq!(swept["accepted"], true, "{swept:#}");
    assert_eq!(swept["spends"].as_array().map(Vec::len), Some(2));
    node.mine(1).expect("a block");
    assert_eq!(away(&home), []);
    assert_eq!(balance(&home), []);
    assert_eq!(balance(&home), []);
}
