//! Seed and exported payouts are all that is needed to be paid: on a fresh machine, on a second one that
//! only watches, with any other software. And a node's view that is in doubt.

mod support;

use std::fs;
use std::path::Path;

use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::hashes::Hash;
use bitcoin::{Psbt, Transaction};
use serde_json::{Value, json};
use support::settling::{Scene, is_mined_in, mempool, node_section, send, submit};
use support::{DEAD, DEADLINE, Daemon, Home, files, some_identity, some_script, txid};
use tutti_participant::chain::{NodeAuth, NodeConfig};
use tutti_participant::settle::{Report, Settler, WatchedRound, read_book};
use tutti_proto::settlement::{Alarm, ChainEnd};
use tutti_regtest::node::NodeOptions;

fn scene() -> Scene {
    let others = [
        (some_identity(2), some_script(2), 1_000_000),
        (some_identity(3), some_script(3), 2_000_000),
    ];
    Scene::new(NodeOptions::default(), &others, 0, "")
}

fn export(scene: &Scene, to: &Path) -> Value {
    let to = to.to_str().expect("text");
    scene.home.json(&["payouts", "export", to])
}

#[test]
fn seed_and_export_on_a_fresh_machine_are_enough_to_be_paid() {
    let scene = scene();
    let node = &scene.node;
    let dir = tempfile::tempdir().expect("a directory");
    let backup = dir.path().join("backup");
    // Before the block is found: what is held then is what pays.
    assert_eq!(export(&scene, &backup)["payouts"], 1);
    let seed = fs::read_to_string(scene.home.data().join("seed.txt")).expect("the seed");

    submit(node, scene.coinbase());
    node.mine(99).expect("blocks");
    let fresh = Home::new(DEAD, &node_section(node));
    let imported = fresh.json(&["payouts", "import", backup.to_str().expect("text")]);
    assert_eq!(
        imported,
        json!({"rounds": 1, "known": 0, "restart": false, "of_another": null})
    );
    fs::copy(
        scene.home.data().join("seed.txt"),
        fresh.data().join("seed.txt"),
    )
    .expect("copied");
    assert!(!files(&backup).iter().any(|name| {
        let text = fs::read(backup.join(name)).unwrap_or_default();
        let words: Vec<&str> = seed.split_whitespace().take(3).collect();
        String::from_utf8_lossy(&text).contains(&words.join(" "))
    }));
    let mut daemon = Daemon::start(&fresh);
    daemon.wait("payout_broadcast");
    assert_eq!(mempool(node), [scene.payout().compute_txid()]);
    let rows = fresh.rows(&["--found"]);
    assert_eq!(rows[0]["own_sat"], scene.held.payees[2].sat);

    // The wallet of the seed owns the output: it pays for a bump.
    let bumped = fresh.json(&["bump", &txid(scene.payout()), "--feerate", "7"]);
    assert_eq!(bumped["accepted"], true, "{bumped}");
    let block = node.mine(1).expect("a block")[0];
    let child = bumped["child_txid"].as_str().expect("a child");
    assert!(is_mined_in(node, &block, child.parse().expect("a txid")));
    daemon.wait("payout_confirmed");
}

#[test]
fn a_second_machine_without_seed_and_coordinator_watches_and_broadcasts() {
    let scene = scene();
    let node = &scene.node;
    let dir = tempfile::tempdir().expect("a directory");
    export(&scene, dir.path());
    let second = Home::new(DEAD, "");
    let text = format!(
        "network = \"regtest\"\ndata_dir = \"miner-data\"\n{}\n[log]\nformat = \"json\"\n",
        node_section(node)
    );
    fs::write(second.config(), text).expect("written");
    let said = second.failure(&["watch"]);
    assert!(said.contains("payouts import"), "{said}");
    second.json(&["payouts", "import", dir.path().to_str().expect("text")]);
    let mut watch = Daemon::spawn(second.command(&["watch"]));
    watch.wait("watching");
    let height = submit(node, scene.coinbase());
    watch.wait("pool_block_seen");
    let found = second.rows(&["--found"]);
    assert_eq!(found[0]["own_sat"], scene.held.payees[2].sat);
    assert_eq!(found[0]["ripe_at"], height + 99);
    assert!(found[0]["ripe_about"].as_u64().is_some());
    node.mine(99).expect("blocks");
    assert_eq!(
        watch.wait("payout_broadcast")["payout_txid"],
        txid(scene.payout())
    );
    node.mine(1).expect("a block");
    watch.wait("payout_confirmed");
    let (status, _, _) = watch.stop();
    assert!(status.success());
}

#[test]
fn an_import_of_somebody_elses_payouts_changes_nothing_about_whose_the_others_are() {
    let scene = scene();
    let (mine, theirs) = (scene.me.to_string(), some_identity(5).to_string());
    let second = Home::new(DEAD, &node_section(&scene.node));
    let dir = tempfile::tempdir().expect("a directory");
    export(&scene, dir.path());
    let manifest = dir.path().join("payouts.json");
    let exported = fs::read_to_string(&manifest).expect("a manifest");
    let from = ["payouts", "import", dir.path().to_str().expect("text")];
    let import = |whose: &str| {
        fs::write(&manifest, exported.replace(&mine, whose)).expect("written");
        let text = second.output(&from).stdout;
        let text = String::from_utf8(text).expect("text");
        (text, second.json(&from)["of_another"].clone())
    };
    for _ in 0..2 {
        let (text, of_another) = import(&mine);
        assert_eq!(of_another, Value::Null);
        assert!(!text.contains("another's"), "{text}");
    }
    let (text, of_another) = import(&theirs);
    assert_eq!(of_another, theirs.as_str());
    assert!(text.contains(&format!("they are {theirs}'s")), "{text}");
    let owner = fs::read_to_string(second.data().join("owner.json")).expect("a file");
    assert_eq!(owner.trim(), json!(mine).to_string());
    // What says nothing any more is written anew.
    fs::write(second.data().join("owner.json"), "half").expect("written");
    assert_eq!(import(&theirs).1, Value::Null);
}

#[test]
fn exported_files_are_what_other_software_takes() {
    let scene = scene();
    let node = &scene.node;
    let dir = tempfile::tempdir().expect("a directory");
    export(&scene, dir.path());
    let name = format!("{}-{}", scene.held.height, txid(scene.payout()));
    let read = |extension: &str| fs::read(dir.path().join(format!("{name}.{extension}")));
    let hex = String::from_utf8(read("hex").expect("a file")).expect("text");
    let raw: Transaction = deserialize_hex(hex.trim()).expect("a transaction");
    assert_eq!(&raw, scene.payout());
    scene.find_and_ripen();

    let psbt = read("psbt").expect("a file");
    let parsed = Psbt::deserialize(&psbt).expect("a PSBT");
    assert_eq!(
        parsed.fee().expect("known").to_sat(),
        scene.held.feerate.fee(raw.vsize() as u64)
    );
    let finalized: Value = node
        .call("finalizepsbt", &[json!(base64(&psbt))])
        .expect("an answer");
    assert_eq!(finalized["complete"], true, "{finalized}");
    assert_eq!(finalized["hex"], hex.trim());
    send(node, &raw).expect("the node takes it");
    assert!(files(dir.path()).contains(&"README.txt".to_owned()));
}

#[test]
fn an_import_keeps_nothing_that_would_not_be_paid() {
    let scene = scene();
    let dir = tempfile::tempdir().expect("a directory");
    export(&scene, dir.path());
    let rounds = dir.path().join("rounds");
    let path = rounds.join(&files(&rounds)[0]);
    let whole = fs::read_to_string(&path).expect("a round");
    let mut round: Value = serde_json::from_str(&whole).expect("JSON");
    let payout = round["lanes"][0]["payouts"][0]
        .as_str()
        .expect("hex")
        .to_owned();
    // The last bytes are the signature's end and the lock time.
    let at = payout.len() - 20;
    let digit = if &payout[at..=at] == "0" { "1" } else { "0" };
    let forged = format!("{}{digit}{}", &payout[..at], &payout[at + 1..]);
    round["lanes"][0]["payouts"][0] = json!(forged);
    fs::write(&path, round.to_string()).expect("written");
    let fresh = Home::new(DEAD, "");
    let import = ["payouts", "import", dir.path().to_str().expect("text")];
    let said = fresh.failure(&import);
    assert!(said.contains("signature is not valid"), "{said}");
    round["lanes"][0]["payouts"][0] = json!(payout);
    round["height"] = json!(scene.held.height + 1);
    fs::write(&path, round.to_string()).expect("written");
    assert!(fresh.failure(&import).contains("not of the round's height"));
    fs::write(&path, whole).expect("written");
    assert_eq!(fresh.json(&import)["rounds"], 1);
    assert_eq!(fresh.json(&import)["known"], 1);
    let empty = tempfile::tempdir().expect("a directory");
    let import = ["payouts", "import", empty.path().to_str().expect("text")];
    assert!(fresh.failure(&import).contains("payouts export"));
}

#[test]
fn a_view_behind_the_coordinators_is_an_alarm_and_what_may_be_ripe_is_tried() {
    let scene = scene();
    let node = &scene.node;
    let config = NodeConfig {
        url: node.rpc_url(),
        auth: NodeAuth::CookieFile(node.cookie_file()),
        network: bitcoin::Network::Regtest,
    };
    let height = submit(node, scene.coinbase());
    node.mine(50).expect("blocks");
    let (sender, mut reports) = tokio::sync::mpsc::unbounded_channel();
    let rounds = vec![WatchedRound::new(&scene.held, &scene.me)];
    let settler =
        Settler::start(&scene.home.data(), config, None, rounds, sender).expect("started");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let mut view = || {
        runtime.block_on(async {
            loop {
                let report = tokio::time::timeout(DEADLINE, reports.recv()).await;
                if let Some(Report::View(alarms)) = report.expect("in time") {
                    return alarms;
                }
            }
        })
    };
    // The coordinator is 70 blocks further.
    settler.pool_tip(ChainEnd {
        height: height + 120,
        hash: [7; 32],
    });
    assert_eq!(view(), [Alarm::Behind { blocks: 70 }]);
    let tried = || {
        let book = read_book(&scene.home.data()).expect("readable")?;
        book.settlements().first()?.payouts[0].refused.clone()
    };
    let deadline = std::time::Instant::now() + DEADLINE;
    while tried().is_none() {
        assert!(std::time::Instant::now() < deadline, "it was not tried");
        std::thread::yield_now();
    }
    let refused = tried().expect("the node's words");
    assert!(refused.contains("premature-spend-of-coinbase"), "{refused}");
    // The node comes to itself.
    let tip = node.mine(70).expect("blocks");
    settler.pool_tip(ChainEnd {
        height: height + 120,
        hash: tip.last().expect("a block").to_byte_array(),
    });
    assert_eq!(view(), []);
    settler.stop();
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let three = [0, 1, 2].map(|at| u32::from(chunk.get(at).copied().unwrap_or(0)));
        let number = three[0] << 16 | three[1] << 8 | three[2];
        for place in 0..4 {
            let digit = (number >> (18 - 6 * place)) & 63;
            text.push(match place <= chunk.len() {
                true => DIGITS[digit as usize] as char,
                false => '=',
            });
        }
    }
    text
}
