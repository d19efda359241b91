//! Payouts to an xpub or to one address, whose keys are elsewhere.

mod support;

use serde_json::Value;
use support::coins::{BTC, address, balance, mined, only, pays, sat, wallet};
use support::settling::{Scene, node_section, send, submit};
use support::{DEAD, Daemon, Home, some_identity, some_script, txid};
use tutti_regtest::node::NodeOptions;

/// The account's public key with its origin, as a descriptor shows it.
fn xpub(home: &Home) -> String {
    let shown = wallet(home, &["descriptors"]);
    let external = shown["external"].as_str().expect("text");
    let internal = shown["internal"].as_str().expect("text");
    assert!(!external.contains("prv") && !internal.contains("prv"));
    let key = external.strip_prefix("tr(").expect("taproot");
    let (key, rest) = key.split_once("/0/*)#").expect("a branch and a checksum");
    assert_eq!(rest.len(), 8);
    assert!(internal.starts_with(&format!("tr({key}/1/*)#")));
    key.to_owned()
}

/// A participant that the payouts of `more` go to.
fn scene(more: &str) -> Scene {
    let others = [(some_identity(2), some_script(2), 10 * BTC)];
    Scene::new(NodeOptions::default(), &others, 0, more)
}

/// Found, matured, broadcast by the daemon, confirmed: the balance is shown at each of them.
fn paid(scene: &Scene) -> (u64, Daemon) {
    let (home, node) = (&scene.home, &scene.node);
    let own = scene.held.payees[1].sat;
    let mut daemon = Daemon::start(home);
    daemon.wait("identity");
    submit(node, scene.coinbase());
    assert_eq!(balance(home), only("maturing", own));
    daemon.wait("pool_block_seen");
    node.mine(99).expect("blocks");
    daemon.wait("payout_broadcast");
    assert_eq!(balance(home), only("unconfirmed_payouts", own));
    let payout = scene.payout().compute_txid().to_string();
    let said = home.failure(&["bump", &payout, "--feerate", "20"]);
    assert!(said.contains("keys that are not here"), "{said}");
    assert!(said.contains("the other payees bump it"), "{said}");
    (own, daemon)
}

#[test]
fn an_xpub_is_paid_on_fresh_addresses_that_its_owner_spends() {
    // The keys are a wallet on another machine.
    let keys = Home::new(DEAD, "");
    keys.init();
    let account = xpub(&keys);
    let scene = scene(&format!("[wallet]\nxpub = \"{account}\"\n"));
    let (home, node) = (&scene.home, &scene.node);
    assert_eq!(xpub(home), account);
    let (own, daemon) = paid(&scene);
    daemon.stop();
    let fresh = home.json(&["status"])["address"].clone();
    node.mine(1).expect("a block");
    assert_eq!(balance(home), only("confirmed", own));
    let rows = wallet(home, &["addresses"]);
    assert_eq!(
        (sat(&rows[0], "received"), &rows[1]["address"]),
        (own, &fresh)
    );
    let to = address(&some_script(3));
    for args in [&["send", &to, "1000"][..], &["sweep", &to]] {
        let said = home.failure(&[&["wallet"], args].concat());
        assert!(said.contains("an xpub and no keys"), "{said}");
    }

    // The owner's: found by a scan of its own, since its birthday is its own.
    let config = std::fs::read_to_string(keys.config()).expect("a configuration");
    std::fs::write(keys.config(), config + &node_section(node)).expect("written");
    let found = wallet(&keys, &["rescan", "--from", "0"]);
    assert_eq!(sat(&found["balance"], "confirmed"), own, "{found:#}");
    let swept = wallet(&keys, &["sweep", &to, "--feerate", "1"]);
    node.mine(1).expect("a block");
    let transaction = mined(node, &swept["txid"]);
    assert_eq!(
        pays(&transaction, &some_script(3)),
        own - sat(&swept, "fee")
    );
    assert_eq!(balance(home), []);
}

#[test]
fn a_fixed_address_is_paid_again_and_again() {
    let fixed = address(&some_script(9));
    let scene = scene(&format!("[wallet]\naddress = \"{fixed}\"\n"));
    let (home, node) = (&scene.home, &scene.node);
    assert_eq!(home.json(&["status"])["address"], fixed.as_str());
    let (own, daemon) = paid(&scene);
    let (_, _, seen) = daemon.stop();
    let renewed = |event: &Value| event["event"] == "new_payout_address";
    assert!(!seen.iter().any(renewed), "there is no other");
    assert_eq!(home.json(&["status"])["address"], fixed.as_str());
    node.mine(1).expect("a block");
    assert_eq!(balance(home), only("confirmed", own));
    assert_eq!(
        pays(&mined(node, &txid(scene.payout()).into()), &some_script(9)),
        own
    );
    for args in [
        &["new-address"][..],
        &["addresses"],
        &["descriptors"],
        &["rescan"],
        &["sweep", &fixed],
    ] {
        let said = home.failure(&[&["wallet"], args].concat());
        assert!(
            said.contains(&fixed) && said.contains("wallet balance"),
            "{said}"
        );
    }
}

#[test]
fn own_coins_are_there_again_when_payouts_come_back_to_own_keys() {
    let scene = scene("");
    let (home, node) = (&scene.home, &scene.node);
    let own = scene.held.payees[1].sat;
    scene.find_and_ripen();
    send(node, scene.payout()).expect("ripe");
    node.mine(1).expect("a block");
    assert_eq!(balance(home), only("confirmed", own));
    let keys = Home::new(DEAD, "");
    keys.init();
    let config = std::fs::read_to_string(home.config()).expect("a configuration");
    let elsewhere = format!("{config}[wallet]\nxpub = \"{}\"\n", xpub(&keys));
    std::fs::write(home.config(), elsewhere).expect("written");
    assert_eq!(balance(home), []);
    std::fs::write(home.config(), config).expect("written");
    assert_eq!(balance(home), only("confirmed", own));
}
