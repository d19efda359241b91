//! Payouts to an xpub or to one address, whose keys are elsewhere.

mod support;

use std::fs;
use std::path::Path;

use bitcoin::bip32::Xpriv;
use bitcoin::secp256k1::Secp256k1;
use bitcoin::{Psbt, Transaction, Witness};
use serde_json::{Value, json};
use support::coins::{BTC, address, balance, mined, only, pays, sat, wallet};
use support::settling::{Scene, mempool, node_section, send, submit};
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
    // Said at start, and not at each payout.
    daemon.wait("no_bumps");
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

/// What a wallet with this seed and no code of ours makes of a PSBT.
fn signed_elsewhere(psbt: &Path, keys: &Home) -> Transaction {
    let words = fs::read_to_string(keys.data().join("seed.txt")).expect("a seed");
    let seed = bip39::Mnemonic::parse(words.trim())
        .expect("words")
        .to_seed("");
    let master = Xpriv::new_master(bitcoin::Network::Regtest, &seed).expect("a key");
    let mut psbt = Psbt::deserialize(&fs::read(psbt).expect("a file")).expect("a PSBT");
    let unsigned = |input: &bitcoin::psbt::Input| {
        input.final_script_witness.is_none() && input.tap_key_sig.is_none()
    };
    assert!(psbt.inputs.iter().all(unsigned));
    psbt.sign(&master, &Secp256k1::new())
        .expect("all inputs are its own");
    for input in &mut psbt.inputs {
        let signature = input.tap_key_sig.as_ref().expect("signed");
        input.final_script_witness = Some(Witness::p2tr_key_spend(signature));
    }
    psbt.extract_tx().expect("complete")
}

#[test]
fn an_xpubs_owner_signs_elsewhere_what_is_written_here() {
    let keys = Home::new(DEAD, "");
    keys.init();
    let scene = scene(&format!("[wallet]\nxpub = \"{}\"\n", xpub(&keys)));
    let (home, node) = (&scene.home, &scene.node);
    let own = scene.held.payees[1].sat;
    scene.find_and_ripen();
    send(node, scene.payout()).expect("ripe");
    node.mine(1).expect("a block");
    assert_eq!(balance(home), only("confirmed", own));
    let dir = tempfile::tempdir().expect("a directory");
    let (file, to) = (dir.path().join("payment.psbt"), address(&some_script(3)));
    let named = file.to_str().expect("text");
    let pay = ["send", &to, "1.5btc", "--feerate", "3", "--psbt", named];
    let dry = wallet(home, &[&pay[..], &["--dry-run"]].concat());
    assert!(!file.exists(), "{dry:#}");
    let made = wallet(home, &pay);
    assert_eq!(
        (&made["psbt"], &made["accepted"]),
        (&json!(named), &json!(false))
    );
    assert_eq!(mempool(node), []);
    let payment = signed_elsewhere(&file, &keys);
    assert_eq!(made["txid"], txid(&payment));
    assert_eq!(sat(&made, "vsize"), payment.vsize() as u64);
    assert_eq!((&made["fee"], &made["vsize"]), (&dry["fee"], &dry["vsize"]));
    // A file that may be signed by now is not written over.
    let said = home.failure(&[&["wallet"], &pay[..]].concat());
    assert!(said.contains("does not exist yet"), "{said}");
    send(node, &payment).expect("the node takes it");
    node.mine(1).expect("a block");
    assert_eq!(
        pays(&mined(node, &made["txid"]), &some_script(3)),
        150_000_000
    );
    let left = own - 150_000_000 - sat(&made, "fee");
    assert_eq!(balance(home), only("confirmed", left));

    // Without a name it is written where the command runs; and it is said what to do with it.
    let mut sweep = home.command(&["wallet", "sweep", &to, "--feerate", "2"]);
    let output = sweep.current_dir(dir.path()).output().expect("a process");
    assert!(output.status.success(), "{output:?}");
    let said = String::from_utf8(output.stdout).expect("text");
    assert!(
        said.contains("sign it with the wallet that has the keys"),
        "{said}"
    );
    let name = said
        .split_whitespace()
        .find(|word| word.starts_with("payment-"));
    let name = name.expect("a file").trim_end_matches(':');
    let swept = signed_elsewhere(&dir.path().join(name), &keys);
    assert_eq!(name, format!("payment-{}.psbt", txid(&swept)));
    send(node, &swept).expect("the node takes it");
    node.mine(1).expect("a block");
    assert_eq!(balance(home), []);
}

#[test]
fn own_keys_may_sign_elsewhere_too() {
    let scene = scene("");
    let (home, node) = (&scene.home, &scene.node);
    scene.find_and_ripen();
    send(node, scene.payout()).expect("ripe");
    node.mine(1).expect("a block");
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("payment.psbt");
    let (to, named) = (address(&some_script(3)), file.to_str().expect("text"));
    let made = wallet(home, &["sweep", &to, "--feerate", "2", "--psbt", named]);
    assert_eq!(mempool(node), []);
    let payment = signed_elsewhere(&file, home);
    assert_eq!(made["txid"], txid(&payment));
    send(node, &payment).expect("the node takes it");
}

#[test]
fn a_fixed_address_is_paid_again_and_again() {
    let fixed = address(&some_script(9));
    let scene = scene(&format!("[wallet]\naddress = \"{fixed}\"\n"));
    let (home, node) = (&scene.home, &scene.node);
    assert_eq!(home.json(&["status"])["address"], fixed.as_str());
    let (own, daemon) = paid(&scene);
    let (_, _, seen) = daemon.stop();
    let told = seen.iter().filter(|event| event["event"] == "no_bumps");
    assert_eq!(told.count(), 1);
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
