//! The wallet's coins on a real node: a found block's life, payments, a restore, and who shares the file.

mod support;

use std::collections::BTreeSet;
use std::process::Stdio;

use serde_json::{Value, json};
use support::coins::{
    BTC, address, balance, mined, only, parts, pays, restore, sat, script, wallet,
};
use support::settling::{Scene, mempool, node_section, send, submit};
use support::{DEAD, Daemon, Home, some_identity, some_script};
use tutti_regtest::node::{Node, NodeOptions};

fn scene() -> Scene {
    let others = [(some_identity(2), some_script(2), 10 * BTC)];
    Scene::new(NodeOptions::default(), &others, 0, "")
}

fn home_on(node: &Node) -> Home {
    Home::new(DEAD, &node_section(node))
}

#[test]
fn a_found_blocks_life_shows_in_the_balance() {
    let scene = scene();
    let (home, node) = (&scene.home, &scene.node);
    let own = scene.held.payees[1].sat;
    assert_eq!(balance(home), []);

    // No daemon runs: what was found is seen all the same.
    let height = submit(node, scene.coinbase());
    let shown = wallet(home, &["balance"]);
    assert_eq!(parts(&shown), only("maturing", own));
    assert_eq!(shown["ripe_at"], json!({ (height + 99).to_string(): own }));
    assert_eq!(shown["height"], height);
    node.mine(99).expect("blocks");
    assert_eq!(balance(home), only("maturing", own));

    send(node, scene.payout()).expect("ripe");
    assert_eq!(balance(home), only("unconfirmed_payouts", own));
    // It could be spent by a small version-3 transaction only, in its bump's place.
    let to = address(&some_script(3));
    let said = home.failure(&["wallet", "send", &to, "1000", "--feerate", "2"]);
    assert!(
        said.contains("0 sat = 0.00000000 BTC can be spent"),
        "{said}"
    );
    assert!(said.contains("unconfirmed"), "{said}");
    let said = home.failure(&["wallet", "sweep", &to, "--feerate", "2"]);
    assert!(said.contains("there is nothing to sweep"), "{said}");

    let block = node.mine(1).expect("a block")[0];
    assert_eq!(balance(home), only("confirmed", own));
    // A reorganisation makes it wait again.
    node.call::<Value>("invalidateblock", &[json!(block)])
        .expect("done");
    let said = home.failure(&["wallet", "balance"]);
    assert!(said.contains("the node took back block"), "{said}");
    node.mine_empty().expect("a block");
    assert_eq!(balance(home), only("unconfirmed_payouts", own));
    node.mine(1).expect("a block");
    assert_eq!(balance(home), only("confirmed", own));
}

#[test]
fn coins_of_a_direct_round_are_immature_for_a_hundred_blocks_to_the_block() {
    let node = Node::start(NodeOptions::default()).expect("a node");
    let home = home_on(&node);
    let made = home.init();
    node.mine_to(1, &script(&made["first_address"]))
        .expect("a block");
    let height = node.height().expect("a height");
    let reward = 50 * BTC;
    assert_eq!(balance(&home), only("immature", reward));
    node.mine(98).expect("blocks");
    let shown = wallet(&home, &["balance"]);
    assert_eq!(parts(&shown), only("immature", reward));
    assert_eq!(
        shown["ripe_at"],
        json!({ (height + 99).to_string(): reward })
    );
    let to = some_script(3);
    let said = home.failure(&["wallet", "sweep", &address(&to), "--feerate", "1"]);
    assert!(
        said.contains("5 000 000 000 sat = 50.00000000 BTC more are immature"),
        "{said}"
    );

    // The first tip at which the node takes its spending is the first at which it is offered.
    node.mine(1).expect("a block");
    assert_eq!(balance(&home), only("confirmed", reward));
    let swept = wallet(&home, &["sweep", &address(&to), "--feerate", "1"]);
    assert_eq!(swept["accepted"], true, "{swept:#}");
    node.mine(1).expect("a block");
    let transaction = mined(&node, &swept["txid"]);
    assert_eq!(pays(&transaction, &to), reward - sat(&swept, "fee"));
    assert_eq!(transaction.output.len(), 1);
    assert_eq!(balance(&home), []);
}

#[test]
fn payments_are_mined_and_pay_what_they_say() {
    let scene = scene();
    let (home, node) = (&scene.home, &scene.node);
    let own = scene.held.payees[1].sat;
    scene.find_and_ripen();
    send(node, scene.payout()).expect("ripe");
    node.mine(1).expect("a block");
    let to = some_script(3);
    let pay = |more: &[&str]| {
        let args = ["send", &address(&to), "1.5btc", "--feerate", "3.5"];
        wallet(home, &[&args, more].concat())
    };

    let before = mempool(node);
    let dry = pay(&["--dry-run"]);
    assert_eq!(
        (&dry["accepted"], &dry["reason"], &dry["dry_run"]),
        (&json!(false), &Value::Null, &json!(true))
    );
    assert_eq!(mempool(node), before);
    assert_eq!(balance(home), only("confirmed", own));
    let change = |home: &Home| wallet(home, &["addresses", "--change"]);
    assert_eq!(change(home).as_array().expect("rows").len(), 1);

    let first = pay(&[]);
    assert_eq!(
        (sat(&first, "sat"), sat(&first, "fee")),
        (150_000_000, sat(&dry, "fee"))
    );
    let left = own - 150_000_000 - sat(&first, "fee");
    assert_eq!(sat(&first, "change"), left);
    let rate = sat(&first, "feerate_sat_per_kvb");
    assert!((3_500..3_600).contains(&rate), "{rate}");
    let entry: Value = node
        .call("getmempoolentry", &[first["txid"].clone()])
        .expect("it is there");
    assert_eq!(entry["vsize"], first["vsize"]);
    assert_eq!(balance(home), only("unconfirmed", left));
    // Own change is spent unconfirmed; the coin it came from is not spent twice.
    let second = pay(&[]);
    assert_eq!(second["accepted"], true, "{second:#}");
    assert_ne!(first["spends"], second["spends"]);
    node.mine(1).expect("a block");
    for sent in [&first, &second] {
        let transaction = mined(node, &sent["txid"]);
        assert_eq!(pays(&transaction, &to), 150_000_000);
        assert_eq!(transaction.version.0, 2);
    }
    let left = left - 150_000_000 - sat(&second, "fee");
    assert_eq!(balance(home), only("confirmed", left));
    let rows = change(home);
    let rows = rows.as_array().expect("rows").clone();
    let unspent: u64 = rows.iter().map(|row| sat(row, "unspent")).sum();
    assert_eq!((rows.len(), unspent), (3, left), "{rows:#?}");
}

#[test]
fn mistakes_are_answered_with_what_to_do() {
    let node = Node::start(NodeOptions::default()).expect("a node");
    let home = home_on(&node);
    let made = home.init();
    node.mine_to(1, &script(&made["first_address"]))
        .expect("a block");
    node.mine(100).expect("blocks");
    let to = address(&some_script(3));
    let table: &[(&[&str], &str)] = &[
        (
            &["send", &to, "329", "--feerate", "1"],
            "below 330 sat = 0.00000330 BTC; send more",
        ),
        (
            &["send", &to, "50btc", "--feerate", "1"],
            "send less, lower --feerate",
        ),
        (&["send", &to, "1000"], "give --feerate instead"),
        (
            &[
                "send",
                "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
                "1000",
                "--feerate",
                "1",
            ],
            "is not an address of regtest",
        ),
        (
            &["send", &to, "1000", "--feerate", "99999999999999"],
            "beyond all measure",
        ),
    ];
    for (args, expected) in table {
        let said = home.failure(&[&["wallet"], *args].concat());
        assert!(said.contains(expected), "{args:?}: {said}");
    }
    for (amount, expected) in [
        ("0.5", "bitcoins with their unit"),
        ("12 btcs", "is not an amount"),
    ] {
        let output = home.output(&["wallet", "send", &to, amount]);
        let said = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(2));
        assert!(said.contains(expected), "{said}");
    }
    // What the node refuses is said in its words, and nothing is spent.
    let refused = wallet(&home, &["send", &to, "1000", "--feerate", "20000"]);
    assert_eq!(refused["accepted"], false, "{refused:#}");
    assert!(refused["reason"].is_string(), "{refused:#}");
    assert_eq!(balance(&home), only("confirmed", 50 * BTC));
    let alone = Home::new(DEAD, "");
    let said = alone.failure(&["wallet", "balance"]);
    assert!(said.contains("tutti-participant init"), "{said}");
    alone.init();
    let said = alone.failure(&["wallet", "balance"]);
    assert!(said.contains("no [node] section"), "{said}");
    assert!(wallet(&alone, &["new-address"])["address"].is_string());
    let table = String::from_utf8(home.output(&["wallet", "balance"]).stdout).expect("text");
    assert!(
        table.contains("5 000 000 000 sat = 50.00000000 BTC  can be spent"),
        "{table}"
    );
}

#[test]
fn a_restored_seed_finds_all_its_coins_with_their_change() {
    let node = Node::start(NodeOptions::default()).expect("a node");
    let home = home_on(&node);
    let made = home.init();
    node.mine_to(1, &script(&made["first_address"]))
        .expect("a block");
    node.mine(100).expect("blocks");
    // Farther apart than wallets usually look.
    let mut far = Value::Null;
    for _ in 0..40 {
        far = wallet(&home, &["new-address"])["address"].clone();
    }
    let far = far.as_str().expect("an address");
    let paid = wallet(&home, &["send", far, "2btc", "--feerate", "1"]);
    assert_eq!(paid["accepted"], true, "{paid:#}");
    node.mine(1).expect("a block");
    let paid = wallet(
        &home,
        &["send", &address(&some_script(3)), "3btc", "--feerate", "1"],
    );
    assert_eq!(paid["accepted"], true, "{paid:#}");
    let fees = 50 * BTC - 3 * BTC;
    let expected = wallet(&home, &["balance"]);
    assert!(sat(&expected, "total") < fees && sat(&expected, "unconfirmed") > 0);

    let words = made["words"].as_str().expect("words");
    let fresh = home_on(&node);
    let output = restore(&fresh, &format!("  {}\n", words.to_uppercase()), &[]);
    assert!(output.status.success(), "{output:?}");
    let restored: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(restored["identity"], made["identity"]);
    assert_eq!(restored["rescan"]["from"], 1);
    assert_eq!(restored["rescan"]["balance"], expected);
    let said = String::from_utf8([output.stdout, output.stderr].concat()).expect("text");
    let some: Vec<&str> = words.split(' ').take(3).collect();
    assert!(
        !said.contains(&some.join(" ")),
        "the words are not said again"
    );
    // No daemon takes an address again that was paid.
    let mut daemon = Daemon::start(&fresh);
    daemon.wait("identity");
    daemon.stop();
    let now = fresh.json(&["status"])["address"].clone();
    let known = wallet(&home, &["addresses"]);
    let mut known = known.as_array().expect("rows").iter();
    assert!(known.all(|row| row["address"] != now), "{now}");
    node.mine(1).expect("a block");
    let swept = wallet(
        &fresh,
        &["sweep", &address(&some_script(4)), "--feerate", "1"],
    );
    assert_eq!(swept["accepted"], true, "{swept:#}");
    node.mine(1).expect("a block");
    let transaction = mined(&node, &swept["txid"]);
    assert_eq!(
        pays(&transaction, &some_script(4)),
        sat(&expected, "total") - sat(&swept, "fee")
    );
    assert_eq!((balance(&fresh), balance(&home)), (vec![], vec![]));

    // Too late a birthday sees less; looking from further back mends it.
    let late = home_on(&node);
    let birthday = node.height().expect("a height").to_string();
    let output = restore(&late, words, &["--birthday", &birthday]);
    let restored: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(restored["rescan"]["blocks"], 1);
    let rows = wallet(&late, &["addresses"]);
    assert_eq!(sat(&rows[0], "received"), 0);
    let again = wallet(&late, &["rescan", "--from", "1"]);
    assert_eq!(again["blocks"], node.height().expect("a height"));
    let rows = wallet(&late, &["addresses"]);
    assert_eq!(sat(&rows[0], "received"), 50 * BTC, "{rows:#}");
}

#[test]
fn wrong_words_restore_nothing() {
    let words = Home::new(DEAD, "").init()["words"]
        .as_str()
        .expect("words")
        .to_owned();
    let home = Home::new(DEAD, "");
    let all: Vec<&str> = words.split(' ').collect();
    let table = [
        ("abandon ".repeat(24), "do not fit their checksum"),
        (all[..23].join(" "), "has 23 words instead of 24"),
        (
            [&all[..23], &["satoshis"]].concat().join(" "),
            "word 24 of the seed is not in",
        ),
        (String::new(), "has 0 words instead of 24"),
    ];
    for (wrong, expected) in table {
        let output = restore(&home, &wrong, &[]);
        let said = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(expected), "{said}");
        assert!(!home.data().join("seed.txt").exists());
    }
    let output = restore(&home, &words, &[]);
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stderr).expect("text");
    assert!(said.contains("wallet rescan"), "{said}");
    let output = restore(&home, &words, &[]);
    let said = String::from_utf8(output.stderr).expect("text");
    assert!(said.contains("a seed is never overwritten"), "{said}");
}

#[test]
fn processes_at_once_give_out_no_address_and_spend_no_coin_twice() {
    let scene = scene();
    let (home, node) = (&scene.home, &scene.node);
    let mut daemon = Daemon::start(home);
    daemon.wait("identity");
    let at_once = |commands: &[Vec<String>]| -> Vec<Value> {
        let children: Vec<_> = commands
            .iter()
            .map(|args| {
                let args: Vec<&str> = args.iter().map(String::as_str).collect();
                let mut command = home.command(&[&["--json", "wallet"], &args[..]].concat());
                command.stdout(Stdio::piped()).stderr(Stdio::piped());
                command.spawn().expect("a process")
            })
            .collect();
        let outputs = children.into_iter().map(|child| {
            let output = child.wait_with_output().expect("it ends");
            assert!(output.status.success(), "{output:?}");
            serde_json::from_slice(&output.stdout).expect("JSON")
        });
        outputs.collect()
    };
    let new = vec!["new-address".to_owned()];
    // The daemon takes one meanwhile.
    submit(node, scene.coinbase());
    let given = at_once(&vec![new; 8]);
    let taken = daemon.wait("new_payout_address")["address"].clone();
    let given = given.iter().map(|one| one["address"].clone());
    let all: BTreeSet<String> = given.chain([taken]).map(|one| one.to_string()).collect();
    assert_eq!(all.len(), 9, "{all:?}");

    node.mine(99).expect("blocks");
    daemon.wait("payout_broadcast");
    node.mine(1).expect("a block");
    daemon.wait("payout_confirmed");
    let pay = |n: u8| -> Vec<String> {
        let to = address(&some_script(n));
        ["send", &to, "1btc", "--feerate", "2"]
            .map(str::to_owned)
            .to_vec()
    };
    let sent = at_once(&[pay(3), pay(4), pay(5)]);
    node.mine(1).expect("a block");
    for (n, one) in (3..).zip(&sent) {
        assert_eq!(one["accepted"], true, "{one:#}");
        assert_eq!(pays(&mined(node, &one["txid"]), &some_script(n)), BTC);
    }
    let fees: u64 = sent.iter().map(|one| sat(one, "fee")).sum();
    let own = scene.held.payees[1].sat;
    assert_eq!(balance(home), only("confirmed", own - 3 * BTC - fees));
    let (status, _, _) = daemon.stop();
    assert_eq!(status.code(), Some(0));
}
