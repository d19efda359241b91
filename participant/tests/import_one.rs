//! One payout alone, as a file of any form, is enough to be paid; and a file of anything else is refused
//! with what to do.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use bitcoin::consensus::encode::{serialize, serialize_hex};
use bitcoin::{Amount, Psbt};
use serde_json::{Value, json};
use support::coins::{balance, only};
use support::settling::{REWARD, Scene, is_mined_in, mempool, node_section, send, submit};
use support::{DEAD, Daemon, Home, Round, files, some_identity, some_script, txid};
use tempfile::TempDir;
use tutti_participant::store;
use tutti_proto::id::{RoundId, RoundSeq};
use tutti_regtest::node::NodeOptions;

fn scene() -> Scene {
    let others = [(some_identity(2), some_script(2), 1_000_000)];
    Scene::new(NodeOptions::default(), &others, 0, "")
}

fn file(dir: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, bytes).expect("written");
    path
}

fn import(home: &Home, path: &Path) -> Value {
    home.json(&["payouts", "import", path.to_str().expect("text")])
}

fn refusal(home: &Home, path: &Path) -> String {
    home.failure(&["payouts", "import", path.to_str().expect("text")])
}

/// A directory that only has a node.
fn second(scene: &Scene) -> Home {
    Home::new(DEAD, &node_section(&scene.node))
}

/// What `export` writes.
fn psbt(scene: &Scene, dir: &TempDir) -> Vec<u8> {
    let to = dir.path().join("export");
    scene
        .home
        .json(&["payouts", "export", to.to_str().expect("text")]);
    let name = format!("{}-{}.psbt", scene.held.height, txid(scene.payout()));
    fs::read(to.join(name)).expect("a PSBT")
}

#[test]
fn a_raw_payout_alone_is_broadcast_at_maturity_by_a_fresh_machine() {
    let scene = scene();
    let node = &scene.node;
    let dir = tempfile::tempdir().expect("a directory");
    let hex = file(&dir, "payout", serialize_hex(scene.payout()).as_bytes());
    let second = second(&scene);
    // The block is not found yet: nothing says its height.
    let imported = import(&second, &hex);
    assert_eq!(imported["payout_txid"], txid(scene.payout()));
    assert_eq!(imported["coinbase_txid"], txid(scene.coinbase()));
    for unknown in ["height", "own_sat", "fee", "found_in", "node"] {
        assert_eq!(imported[unknown], Value::Null, "{unknown}: {imported:#}");
    }
    assert_eq!(imported["verified"], false);
    let rows = second.rows(&[]);
    assert_eq!(rows[0]["state"], "unknown", "{rows:#}");
    assert_eq!(rows[0]["round"], Value::Null);
    let text = second.output(&["payouts"]).stdout;
    let text = String::from_utf8(text).expect("text");
    assert!(text.contains("unknown"), "{text}");

    // Found between the import and the watch: the block is not new when the watch starts.
    let height = submit(node, scene.coinbase());
    node.mine(50).expect("blocks");
    let mut watch = Daemon::spawn(second.command(&["watch"]));
    assert_eq!(watch.wait("pool_block_seen")["height"], height);
    // Its coinbase is known from then on, and so is its fee.
    let rows = second.rows(&["--found"]);
    assert_eq!(rows[0]["height"], height, "{rows:#}");
    assert_eq!(rows[0]["ripe_at"], height + 99);
    assert_eq!(mempool(node), []);
    node.mine(49).expect("blocks");
    let sent = watch.wait("payout_broadcast");
    assert_eq!(sent["payout_txid"], txid(scene.payout()));
    let rows = second.rows(&["--found"]);
    let feerate = scene.held.feerate.sat_per_kvb();
    assert_eq!(rows[0]["feerate_sat_per_kvb"], feerate, "{rows:#}");
    let block = node.mine(1).expect("a block")[0];
    assert!(is_mined_in(node, &block, scene.payout().compute_txid()));
    watch.wait("payout_confirmed");
}

#[test]
fn a_payout_whose_block_comes_while_it_is_watched_is_broadcast_at_maturity() {
    let scene = scene();
    let node = &scene.node;
    let dir = tempfile::tempdir().expect("a directory");
    let raw = file(&dir, "payout.bin", &serialize(scene.payout()));
    let second = second(&scene);
    import(&second, &raw);
    let mut watch = Daemon::spawn(second.command(&["watch"]));
    watch.wait("watching");
    submit(node, scene.coinbase());
    watch.wait("pool_block_seen");
    node.mine(99).expect("blocks");
    watch.wait("payout_broadcast");
    assert_eq!(mempool(node), [scene.payout().compute_txid()]);
}

#[test]
fn a_file_that_is_damaged_while_the_daemon_runs_ends_nothing() {
    let scene = scene();
    let node = &scene.node;
    let dir = tempfile::tempdir().expect("a directory");
    let second = second(&scene);
    // Beside it a round of the block after it, which is whole.
    let next = Round {
        seq: 5,
        height: scene.held.height + 1,
        lanes: 1,
        reward: REWARD,
        payees: &[(some_identity(2), some_script(2), 0)],
    }
    .held();
    let backup = dir.path().join("backup");
    store::write_round(&backup, &next).expect("written");
    import(&second, &backup);
    import(
        &second,
        &file(&dir, "payout.bin", &serialize(scene.payout())),
    );
    let mut watch = Daemon::spawn(second.command(&["watch"]));
    watch.wait("watching");
    let alone = second.data().join("alone");
    let damaged = alone.join(&files(&alone)[0]);
    fs::write(damaged, "half").expect("written");
    submit(node, scene.coinbase());
    let said = watch.wait("round_unreadable");
    assert!(said["why"].to_string().contains("is damaged"), "{said}");
    submit(node, &next.lanes[0].coinbase);
    while watch.wait("pool_block_seen")["seq"] != 5 {}
    let (status, _, _) = watch.stop();
    assert!(status.success(), "{status}");
}

#[test]
fn every_form_says_as_much_as_it_and_the_node_know() {
    let scene = scene();
    let node = &scene.node;
    let dir = tempfile::tempdir().expect("a directory");
    let psbt = psbt(&scene, &dir);
    let text = Psbt::deserialize(&psbt).expect("a PSBT").to_string();
    let fee = scene.held.feerate.fee(scene.payout().vsize() as u64);
    // A PSBT has the coinbase: without any node its height is known and its signature checked.
    for bytes in [&psbt[..], text.as_bytes(), hex::encode(&psbt).as_bytes()] {
        let lonely = Home::new(DEAD, "");
        let path = file(&dir, "payout.psbt", bytes);
        let imported = import(&lonely, &path);
        assert_eq!(imported["height"], scene.held.height, "{imported:#}");
        assert_eq!(imported["verified"], true);
        assert_eq!(imported["fee"], fee);
        let why = imported["node"].as_str().expect("why");
        assert!(why.contains("[node]"), "{why}");
        assert_eq!(import(&lonely, &path)["known"], true);
        let row = &lonely.rows(&[])[0];
        assert_eq!(row["state"], "unknown", "{row:#}");
        assert_eq!(row["feerate_sat_per_kvb"], scene.held.feerate.sat_per_kvb());
    }

    // Of a raw transaction, the node says it, and the wallet what is ours.
    let height = submit(node, scene.coinbase());
    let raw = file(&dir, "payout", serialize_hex(scene.payout()).as_bytes());
    let second = second(&scene);
    fs::create_dir_all(second.data()).expect("a directory");
    let seed = |home: &Home| home.data().join("seed.txt");
    fs::copy(seed(&scene.home), seed(&second)).expect("copied");
    let imported = import(&second, &raw);
    assert_eq!(imported["found_in"], height, "{imported:#}");
    assert_eq!(
        (&imported["height"], &imported["verified"]),
        (&json!(height), &json!(true))
    );
    assert_eq!(imported["own_sat"], scene.held.payees[1].sat);
    assert_eq!(imported["fee"], fee);
    let row = &second.rows(&[])[0];
    assert_eq!(row["own_sat"], scene.held.payees[1].sat);

    // It goes on as an export, and back in.
    let to = dir.path().join("again");
    let exported = second.json(&["payouts", "export", to.to_str().expect("text")]);
    assert_eq!(exported["payouts"], 1, "{exported:#}");
    let third = self::second(&scene);
    let imported = import(&third, &to);
    assert_eq!(imported["rounds"], 1, "{imported:#}");

    // What is in the chain already is said.
    node.mine(99).expect("blocks");
    send(node, scene.payout()).expect("ripe");
    node.mine(1).expect("a block");
    let late = self::second(&scene);
    assert_eq!(import(&late, &raw)["confirmed_in"], height + 100);
    // The participant itself holds the round.
    assert_eq!(import(&scene.home, &raw)["known"], true);
}

/// The same payout with a signature of anybody's making.
fn unsigned(payout: &bitcoin::Transaction) -> bitcoin::Transaction {
    let mut payout = payout.clone();
    payout.input[0].witness = bitcoin::Witness::from_slice(&[[7; 64]]);
    payout
}

#[test]
fn a_payout_that_is_held_is_not_replaced_by_one_whose_signature_is_not_valid() {
    let scene = scene();
    let dir = tempfile::tempdir().expect("a directory");
    let bad = unsigned(scene.payout());
    let whole = file(&dir, "psbt", &psbt(&scene, &dir));
    let forged = file(&dir, "forged", serialize_hex(&bad).as_bytes());
    // Its coinbase came with it: what is held says that the other is none.
    let knowing = second(&scene);
    import(&knowing, &whole);
    let said = refusal(&knowing, &forged);
    assert!(said.contains("signature is not valid"), "{said}");
}

#[test]
fn of_two_signatures_the_valid_one_goes_out_whichever_came_first() {
    for first_is_good in [true, false] {
        let (scene, dir) = (scene(), tempfile::tempdir().expect("a directory"));
        let (node, good) = (&scene.node, scene.payout());
        let raw = file(&dir, "raw", serialize_hex(good).as_bytes());
        let forged = file(&dir, "forged", serialize_hex(&unsigned(good)).as_bytes());
        let blind = second(&scene);
        // Nobody can tell before the block is found: both are kept.
        let order = match first_is_good {
            true => [&raw, &forged],
            false => [&forged, &raw],
        };
        for path in order {
            assert_eq!(import(&blind, path)["verified"], false);
        }
        let mut watch = Daemon::spawn(blind.command(&["watch"]));
        watch.wait("watching");
        submit(node, scene.coinbase());
        watch.wait("pool_block_seen");
        node.mine(99).expect("blocks");
        watch.wait("payout_broadcast");
        assert_eq!(mempool(node), [good.compute_txid()]);
        watch.stop();
    }
}

/// Nobody is told of money that a forged file promises: not by the commands either.
#[test]
fn a_forged_payout_of_a_found_block_is_in_no_balance() {
    let scene = scene();
    let dir = tempfile::tempdir().expect("a directory");
    let own = scene.held.payees[1].sat;
    let mut forged = unsigned(scene.payout());
    forged.output[1].value += Amount::from_sat(1_000_000);
    // Nothing says yet that it is none.
    import(&scene.home, &file(&dir, "forged", &serialize(&forged)));
    submit(&scene.node, scene.coinbase());
    assert_eq!(balance(&scene.home), only("maturing", own));
    // Nor where only the node has the coinbase.
    fs::remove_dir_all(scene.home.data().join("rounds")).expect("moved away");
    assert_eq!(balance(&scene.home), []);
    import(&scene.home, &file(&dir, "raw", &serialize(scene.payout())));
    assert_eq!(balance(&scene.home), only("maturing", own));
}

/// A round that names a public coinbase, and has none of its payouts.
fn hostile(scene: &Scene) -> TempDir {
    let mut round = scene.held.clone();
    (round.seq, round.round, round.signers) = (RoundSeq(9), RoundId([9; 32]), 0);
    round.lanes[0].payouts.clear();
    let dir = tempfile::tempdir().expect("a directory");
    store::write_round(dir.path(), &round).expect("written");
    dir
}

#[test]
fn a_round_that_names_the_coinbase_hides_no_payout_of_it() {
    let (scene, dir) = (scene(), tempfile::tempdir().expect("a directory"));
    let psbt = file(&dir, "payout.psbt", &psbt(&scene, &dir));
    let (hostile, genuine) = (hostile(&scene), dir.path().join("export"));
    // Before the payout alone, after it, and before the export that has it.
    for (number, order) in [
        [psbt.as_path(), hostile.path()],
        [hostile.path(), &psbt],
        [hostile.path(), &genuine],
    ]
    .into_iter()
    .enumerate()
    {
        let home = second(&scene);
        for path in order {
            import(&home, path);
        }
        let mut watch = Daemon::spawn(home.command(&["watch"]));
        watch.wait("watching");
        if number == 0 {
            scene.find_and_ripen();
        }
        let sent = watch.wait("payout_broadcast");
        assert_eq!(sent["payout_txid"], txid(scene.payout()), "{number}");
        let rows = home.rows(&["--found"]);
        let rows = rows.as_array().expect("rows");
        let with = rows
            .iter()
            .filter(|row| row["payout_txids"][0] == txid(scene.payout()));
        assert_eq!(with.count(), 1, "{number}: {rows:#?}");
        watch.stop();
    }
    // Found and booked with the hostile round alone: what comes later is paid all the same.
    let late = second(&scene);
    import(&late, hostile.path());
    let mut watch = Daemon::spawn(late.command(&["watch"]));
    watch.wait("pool_block_seen");
    watch.stop();
    import(&late, &psbt);
    let mut watch = Daemon::spawn(late.command(&["watch"]));
    watch.wait("payout_broadcast");
    scene.node.mine(1).expect("a block");
    watch.wait("payout_confirmed");
}

#[test]
fn an_imported_payout_of_ours_is_balance_and_can_be_bumped() {
    let scene = scene();
    let dir = tempfile::tempdir().expect("a directory");
    let psbt = file(&dir, "payout.psbt", &psbt(&scene, &dir));
    let second = second(&scene);
    fs::create_dir_all(second.data()).expect("a directory");
    let seed = |home: &Home| home.data().join("seed.txt");
    fs::copy(seed(&scene.home), seed(&second)).expect("copied");
    import(&second, &psbt);
    scene.find_and_ripen();
    let balance = second.json(&["wallet", "balance"]);
    assert_eq!(balance["maturing"], scene.held.payees[1].sat, "{balance:#}");
    let bumped = second.json(&["bump", &txid(scene.payout()), "--feerate", "7"]);
    assert_eq!(bumped["accepted"], true, "{bumped:#}");
}

#[test]
fn a_file_of_anything_else_is_refused_with_what_to_do() {
    let scene = scene();
    let dir = tempfile::tempdir().expect("a directory");
    let home = Home::new(DEAD, "");
    let payout = scene.payout();
    let whole = psbt(&scene, &dir);
    let said = |name: &str, bytes: &[u8]| refusal(&home, &file(&dir, name, bytes));
    let changed = |change: &dyn Fn(&mut bitcoin::Transaction)| {
        let mut payout = payout.clone();
        change(&mut payout);
        serialize_hex(&payout).into_bytes()
    };

    for (bytes, why) in [
        (Vec::new(), "it is empty"),
        (b"deadbeef".to_vec(), "neither a raw transaction nor a PSBT"),
        (
            b"hello, world".to_vec(),
            "neither a raw transaction nor a PSBT",
        ),
        (vec![0xff; 999_999], "neither a raw transaction nor a PSBT"),
        (vec![b'0'; 1_000_001], "more than 1000000 bytes"),
        (whole[..whole.len() / 2].to_vec(), "neither a raw"),
        (
            serialize_hex(scene.coinbase()).into_bytes(),
            "not a version-3",
        ),
        (
            changed(&|tx| tx.input.push(tx.input[0].clone())),
            "one input",
        ),
        (changed(&|tx| tx.input[0].witness.clear()), "not signed"),
        (changed(&|tx| tx.input[0].witness.push([7])), "key path"),
        (changed(&|tx| tx.output.truncate(1)), "pay-to-anchor"),
        (
            changed(&|tx| tx.output = vec![tx.output.last().expect("an anchor").clone(); 1_000]),
            "more than 10000 vB",
        ),
        (
            changed(&|tx| tx.output[0].value = bitcoin::Amount::MAX),
            "more bitcoins than there are",
        ),
    ] {
        let said = said("file", &bytes);
        assert!(said.contains(why), "{why}: {said}");
        assert!(said.contains("; get") || said.contains("; name"), "{said}");
    }
    let nothing = refusal(&home, &dir.path().join("no-such-file"));
    assert!(nothing.contains("cannot read"), "{nothing}");

    // A PSBT that carries another coinbase, or whose signature is of another transaction.
    let mut other = Psbt::deserialize(&whole).expect("a PSBT");
    let coinbase = other.inputs[0].non_witness_utxo.as_mut().expect("there");
    coinbase.lock_time = bitcoin::absolute::LockTime::ZERO;
    assert!(said("other", &other.serialize()).contains("not the one that it spends"));
    let mut forged = Psbt::deserialize(&whole).expect("a PSBT");
    forged.unsigned_tx.output[0].value -= bitcoin::Amount::ONE_SAT;
    let said = said("forged", &forged.serialize());
    assert!(said.contains("signature is not valid"), "{said}");
    // Nothing of all that is held.
    assert!(
        home.failure(&["payouts"])
            .contains("there is no participant")
    );
}
