//! The commands' answers, for programs and for persons, on a directory that no daemon uses.

mod support;

use std::fs::{self, File};
use std::process::Stdio;

use serde_json::{Value, json};
use support::{DEAD, Home, Round, parse_identity, some_identity, some_script, txid};
use tutti_participant::store::{DataLock, Store};
use tutti_proto::id::WindowSeq;
use tutti_proto::participant::Record;
use tutti_proto::work::Work;

#[test]
fn init_shows_the_words_once_and_never_overwrites_them() {
    let home = Home::new(DEAD, "");
    let output = home.output(&["init"]);
    assert!(output.status.success(), "{output:?}");
    let shown = String::from_utf8(output.stdout).expect("text");
    let seed = fs::read_to_string(home.data().join("seed.txt")).expect("the seed");
    let words: Vec<_> = seed.split_whitespace().collect();
    assert_eq!(words.len(), 24);
    let rows: Vec<_> = shown
        .lines()
        .filter(|line| line.starts_with("  "))
        .collect();
    assert_eq!(rows.join(" ").split_whitespace().collect::<Vec<_>>(), words);
    assert!(
        shown.contains("bcrt1p") && shown.contains("paper"),
        "{shown}"
    );

    let said = home.failure(&["init"]);
    assert!(said.contains("a seed is never overwritten"), "{said}");
    assert_eq!(
        fs::read_to_string(home.data().join("seed.txt")).expect("the seed"),
        seed
    );
}

#[test]
fn an_init_that_fails_changes_nothing_and_the_next_one_shows_its_words() {
    let home = Home::new(DEAD, "");
    home.init();
    let (seed, away) = (home.data().join("seed.txt"), home.data().join("away"));
    let birthday = || fs::read(home.data().join("birthday.json")).expect("a birthday");
    let before = birthday();
    fs::rename(&seed, &away).expect("moved");
    // The wallet of the seed that was moved away is still there.
    let said = home.failure(&["init"]);
    assert!(said.contains("wallet.sqlite"), "{said}");
    assert!(!seed.exists() && birthday() == before);
    fs::rename(&away, &seed).expect("moved");
    let said = home.failure(&["init"]);
    assert!(said.contains("wallet.sqlite"), "{said}");

    let home = Home::new(DEAD, "");
    let status = home.data().join("status.json");
    fs::create_dir_all(status.join("in the way")).expect("a directory");
    home.failure(&["init"]);
    fs::remove_dir_all(&status).expect("removed");
    assert!(home.init()["words"].is_string());
}

#[test]
fn an_init_whose_words_nobody_got_fails_and_says_where_they_are() {
    for json in [&[][..], &["--json"]] {
        let (reader, gone) = std::io::pipe().expect("a pipe");
        drop(reader);
        let full = File::options().write(true).open("/dev/full");
        for stdout in [Stdio::from(gone), full.expect("a device").into()] {
            let home = Home::new(DEAD, "");
            let mut command = home.command(&[&["init"], json].concat());
            let output = command.stdout(stdout).output().expect("a process");
            assert_eq!(output.status.code(), Some(1), "{output:?}");
            let said = String::from_utf8(output.stderr).expect("text");
            let seed = home.data().join("seed.txt");
            assert!(seed.exists());
            for words in ["the seed was made", seed.to_str().expect("text")] {
                assert!(said.contains(words), "{said}");
            }
        }
    }
}

/// What is said of arguments that no command takes.
fn usage(home: &Home, args: &[&str]) -> String {
    let output = home.output(args);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    String::from_utf8(output.stderr).expect("text")
}

#[test]
fn of_options_one_of_which_is_needed_all_are_named() {
    let home = Home::new(DEAD, "");
    let payout = "22".repeat(32);
    let said = usage(&home, &["bump", &payout, "--dry-run"]);
    for option in ["--feerate", "--target-blocks"] {
        assert!(said.contains(option), "{said}");
    }
    let both = ["bump", &payout, "--feerate", "3", "--target-blocks", "6"];
    assert!(usage(&home, &both).contains("cannot be used with"));
    let fetch = ["fetch-segments", "--coordinator-url", DEAD, "--out", "x"];
    let said = usage(&home, &fetch);
    for option in ["--from", "--block"] {
        assert!(said.contains(option), "{said}");
    }
    // Both together are taken; what fails is the server.
    let both = [&fetch[..], &["--from", "1", "--block", &payout]].concat();
    home.failure(&both);
}

#[test]
fn a_negative_number_is_explained() {
    let home = Home::new(DEAD, "");
    let payout = "22".repeat(32);
    let to = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
    for args in [
        &["wallet", "send", to, "-5"][..],
        &["bump", &payout, "--feerate", "3", "--max-fee", "-5"],
    ] {
        let said = usage(&home, args);
        assert!(said.contains("\"-5\" is not an amount"), "{said}");
    }
    for args in [
        &["wallet", "send", to, "5", "--feerate", "-5"][..],
        &["wallet", "sweep", to, "--feerate", "-0.5"],
        &["bump", &payout, "--feerate", "-5"],
    ] {
        let said = usage(&home, args);
        assert!(said.contains("as a positive number"), "{said}");
    }
}

#[test]
fn what_selects_found_rounds_is_not_ignored() {
    let home = Home::new(DEAD, "");
    home.init();
    let to = home.data().join("backup");
    let to = to.to_str().expect("text");
    for export in [["--found", "export", to], ["export", to, "--found"]] {
        let output = home.output(&[&["payouts"], &export[..]].concat());
        assert!(output.status.success(), "{output:?}");
    }
    let said = home.failure(&["payouts", "--found", "import", to]);
    assert!(said.contains("--found"), "{said}");
    let output = home.output(&["payouts", "import", to, "--found"]);
    assert!(!output.status.success(), "{output:?}");
}

#[test]
fn a_misspelt_key_is_told_by_each_command() {
    let home = Home::new(DEAD, "data-dir = \"elsewhere\"");
    for command in [&["payouts"][..], &["wallet", "balance"], &["watch"]] {
        let said = home.failure(command);
        assert!(said.contains("unknown field `data-dir`"), "{said}");
    }
}

#[test]
fn a_machine_that_only_settles_needs_no_coordinator_and_others_are_told_of_it() {
    let home = Home::new(DEAD, "");
    home.init();
    fs::write(home.config(), "network = \"regtest\"\n").expect("written");
    assert_eq!(home.rows(&[]), json!([]));
    let said = home.failure(&["run"]);
    assert!(
        said.contains("coordinator is missing; it is the pool's address"),
        "{said}"
    );
    assert!(!said.contains("network"), "{said}");
}

#[test]
fn a_password_that_is_no_text_is_not_repeated() {
    for password in [
        "987654",
        "-987654",
        "987654.5",
        "[987654]",
        "{ a = 987654 }",
    ] {
        let node = format!(
            "node = {{ rpc_url = \"http://h:1\", rpc_user = \"u\", rpc_password = {password} }}"
        );
        let said = Home::new(DEAD, &node).failure(&["payouts"]);
        assert!(said.contains("text in quotation marks"), "{said}");
        assert!(!said.contains("987654"), "{said}");
    }
}

#[test]
fn a_server_of_files_that_is_not_there_is_told_with_cause_and_remedy() {
    let home = Home::new(DEAD, "");
    let out = home.data();
    let out = out.to_str().expect("text");
    let from = ["--coordinator-url", DEAD, "--out", out];
    let said = home.failure(&[&["fetch-segments", "--from", "1"], &from[..]].concat());
    assert!(
        said.contains("refused") && said.contains("`serve-segments`, running there?"),
        "{said}"
    );
}

#[test]
fn the_seed_is_the_only_secret_on_disk() {
    let home = Home::new(DEAD, "");
    let made = home.init();
    assert_eq!(
        made["words"].as_str().expect("words").split(' ').count(),
        24
    );
    assert_eq!(made["identity"].as_str().expect("an identity").len(), 64);
    assert!(
        made["first_address"]
            .as_str()
            .expect("an address")
            .starts_with("bcrt1p")
    );
    for name in support::files(&home.data()) {
        let bytes = fs::read(home.data().join(&name)).unwrap_or_default();
        let holds = |secret: &str| bytes.windows(secret.len()).any(|w| w == secret.as_bytes());
        let words = made["words"].as_str().expect("words");
        assert_eq!(holds(words), name == "seed.txt", "{name}");
        assert!(!holds("tprv"), "{name}");
    }
}

#[test]
fn status_of_a_new_participant() {
    let home = Home::new(DEAD, "");
    let made = home.init();
    let mut status = home.json(&["status"]);
    assert!(status["written_at"].take().is_u64());
    assert_eq!(
        status,
        json!({
            "identity": made["identity"],
            "running": false,
            "written_at": null,
            "connected": false,
            "coordinator": null,
            "address": made["first_address"],
            "hashing_round": null,
            "kernel": null,
            "hashrate": 0,
            "shares_acknowledged": 0,
            "checked_window": null,
            "shares_checked": 0,
            "own_work": [],
            "held_rounds": 0,
            "node_alarms": [],
            "node": {"state": "unknown"},
        })
    );
    let table = String::from_utf8(home.output(&["status"]).stdout).expect("text");
    assert!(table.contains("running               no\n"), "{table}");
    assert_eq!(home.rows(&[]), json!([]));
}

#[test]
fn payouts_show_live_and_stale_rounds_and_every_payee() {
    let home = Home::new(DEAD, "");
    let me = parse_identity(home.init()["identity"].as_str().expect("an identity"));
    let payees = [
        (me, some_script(1), 1_234_567),
        (some_identity(2), some_script(2), 0),
    ];
    let round = |seq, height| {
        Round {
            seq,
            height,
            lanes: 2,
            reward: 5_000_000_000,
            payees: &payees,
        }
        .held()
    };
    // The next height's round is held as soon as this one's is.
    let (old, present, new) = (round(1, 99), round(2, 100), round(3, 101));
    let work = Record::OwnWork {
        window: WindowSeq(3),
        work: Work(u128::MAX),
    };
    Store::open(&home.data())
        .expect("a store")
        .save(&[old, present, new.clone()].map(Record::Held))
        .expect("saved");
    Store::open(&home.data())
        .expect("a store")
        .save(&[work])
        .expect("saved");

    // What a daemon that runs without a node hashes; what was before, nobody looked for.
    let _running = DataLock::take(&home.data()).expect("nothing runs");
    let rows = home.rows(&[]);
    let rows = rows.as_array().expect("an array");
    assert_eq!(rows.len(), 6, "one a lane");
    let states = |rows: &[Value]| -> Vec<String> {
        let states = rows.iter().map(|row| row["state"].as_str().expect("text"));
        states.map(str::to_owned).collect()
    };
    let expected = ["unknown", "unknown", "live", "live", "live", "live"];
    assert_eq!(states(rows), expected);
    assert_eq!(
        rows[5],
        json!({
            "coinbase_txid": txid(&new.lanes[1].coinbase),
            "payout_txids": [txid(&new.lanes[1].payouts[0])],
            "round": new.round.to_string(),
            "seq": 3,
            "height": 101,
            "window": 3,
            "lane": 1,
            "state": "live",
            "block_hash": null,
            "confirmations": null,
            "ripe_at": null,
            "ripe_about": null,
            "refused": null,
            "feerate_sat_per_kvb": 1000,
            "own_sat": 1_234_567,
            "payees": [
                {
                    "identity": me.to_string(),
                    "serial_id": 3,
                    "work": u128::MAX.to_string(),
                    "sat": 1_234_567,
                },
                {
                    "serial_id": 5,
                    "identity": some_identity(2).to_string(),
                    "work": (u128::MAX / 2).to_string(),
                    "sat": new.payees[1].sat,
                },
            ],
        })
    );
    assert_eq!(home.rows(&["--found"]), json!([]));
    let table = String::from_utf8(home.output(&["payouts"]).stdout).expect("text");
    assert!(table.contains("1 234 567 sat"), "{table}");
    assert_eq!(home.json(&["status"])["held_rounds"], 3);

    // Where the own node has scanned further, that says it exactly.
    let book = |height: u32| json!({"scanned_to": {"height": height, "hash": "11".repeat(32)}, "found": []});
    for (scanned_to, live) in [(1, 4), (99, 4), (100, 2), (101, 0)] {
        fs::write(
            home.data().join("settlements.json"),
            book(scanned_to).to_string(),
        )
        .expect("written");
        let rows = home.rows(&[]);
        let states = states(rows.as_array().expect("an array"));
        let alive = states.iter().filter(|state| *state == "live").count();
        assert_eq!(alive, live, "scanned to {scanned_to}: {states:?}");
    }
}

#[test]
fn payouts_say_up_to_which_block_somebody_looked_and_nothing_before_that() {
    let home = Home::new(DEAD, "");
    home.init();
    let round = |seq, height| {
        Round {
            seq,
            height,
            lanes: 1,
            reward: 5_000_000_000,
            payees: &[(some_identity(2), some_script(2), 0)],
        }
        .held()
    };
    let table = |more: &[&str]| {
        let output = home.output(&[&["payouts"], more].concat());
        String::from_utf8(output.stdout).expect("text")
    };
    assert!(table(&["--found"]).ends_with("no round is held\n"));
    Store::open(&home.data())
        .expect("a store")
        .save(&[round(1, 99), round(2, 1_100)].map(Record::Held))
        .expect("saved");
    let said = home.json(&["payouts"]);
    assert_eq!(
        (&said["as_of_height"], &said["running"]),
        (&Value::Null, &json!(false))
    );
    for row in said["payouts"].as_array().expect("rows") {
        assert_eq!(row["state"], "unknown", "{row:#}");
    }
    let found = table(&["--found"]);
    for words in [
        "no held round's block is known to be found; 2 rows without --found",
        "no block was looked at yet: run `tutti-participant watch`",
    ] {
        assert!(found.contains(words), "{found}");
    }
    let book = json!({"scanned_to": {"height": 1_099, "hash": "11".repeat(32)}, "found": []});
    fs::write(home.data().join("settlements.json"), book.to_string()).expect("written");
    let said = home.json(&["payouts"]);
    assert_eq!(said["as_of_height"], 1_099);
    assert_eq!(said["payouts"][0]["state"], "stale", "{said:#}");
    let shown = table(&[]);
    assert!(
        shown.contains("as of block 1 099; no daemon runs here"),
        "{shown}"
    );
    let _running = DataLock::take(&home.data()).expect("nothing runs");
    assert!(table(&[]).ends_with("as of block 1 099\n"));
    assert_eq!(home.json(&["payouts"])["running"], true);
}

#[test]
fn a_damaged_round_is_in_the_list_for_programs_and_no_list_with_one_is_a_success() {
    let home = Home::new(DEAD, "");
    home.init();
    let round = |seq| {
        Round {
            seq,
            height: 100,
            lanes: 1,
            reward: 5_000_000_000,
            payees: &[(some_identity(2), some_script(2), 0)],
        }
        .held()
    };
    Store::open(&home.data())
        .expect("a store")
        .save(&[round(1), round(2)].map(Record::Held))
        .expect("saved");
    let whole = home.json(&["payouts"]);
    assert_eq!(whole["damaged"], json!([]));
    let rounds = home.data().join("rounds");
    let damaged = rounds.join(&support::files(&rounds)[0]);
    fs::write(&damaged, "{").expect("written");

    for found in [&[][..], &["--found"]] {
        let output = home.output(&[&["payouts", "--json"], found].concat());
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let shown: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        let told = &shown["damaged"][0];
        assert_eq!(told["path"], damaged.to_str().expect("text"), "{shown:#}");
        assert!(told["reason"].as_str().expect("text").contains("EOF"));
        let rows = if found.is_empty() { 1 } else { 0 };
        assert_eq!(shown["payouts"].as_array().map(Vec::len), Some(rows));
    }
    let said = home.failure(&["payouts"]);
    assert!(said.contains(damaged.to_str().expect("text")), "{said}");
    // A copy without it is none.
    let to = home.data().join("backup");
    for more in [&[][..], &["--found"], &["--json"]] {
        let export = ["payouts", "export", to.to_str().expect("text")];
        let said = home.failure(&[&export[..], more].concat());
        assert!(said.contains("nothing was exported"), "{said}");
        assert!(said.contains(damaged.to_str().expect("text")), "{said}");
    }
    fs::remove_file(&damaged).expect("moved away");
    let written = home.json(&["payouts", "export", to.to_str().expect("text")]);
    assert_eq!(written["payouts"], 1);
}

#[test]
fn a_found_block_shows_how_far_it_is() {
    let home = Home::new(DEAD, "");
    home.init();
    let payees = [(some_identity(2), some_script(2), 0)];
    let held = Round {
        seq: 1,
        height: 100,
        lanes: 1,
        reward: 5_000_000_000,
        payees: &payees,
    }
    .held();
    Store::open(&home.data())
        .expect("a store")
        .save(&[Record::Held(held.clone())])
        .expect("saved");
    let hash = "11".repeat(32);
    let book = |tip: u32| {
        json!({
            "scanned_to": {"height": tip, "hash": hash},
            "found": [{
                "round": held.round.to_string(), "seq": 1, "lane": 0,
                "coinbase_txid": txid(&held.lanes[0].coinbase),
                "block": {"height": 100, "hash": hash}, "own_sat": 0,
                "payouts": [{
                    "txid": txid(&held.lanes[0].payouts[0]), "broadcast": null,
                    "refused": null, "confirmed": null, "final": false,
                }],
            }],
        })
    };
    for (tip, state, confirmations) in
        [(100, "found", 1), (198, "maturing", 99), (199, "ripe", 100)]
    {
        fs::write(home.data().join("settlements.json"), book(tip).to_string()).expect("written");
        let rows = home.rows(&["--found"]);
        assert_eq!(
            (
                &rows[0]["state"],
                &rows[0]["confirmations"],
                &rows[0]["block_hash"]
            ),
            (&json!(state), &json!(confirmations), &json!(hash))
        );
        let table = home.output(&["payouts", "--found"]).stdout;
        let table = String::from_utf8(table).expect("text");
        assert!(table.contains(&format!("block {hash}\n")), "{table}");
    }
}

#[test]
fn commands_that_cannot_answer_say_what_to_do() {
    let home = Home::new(DEAD, "");
    for command in ["status", "payouts"] {
        let said = home.failure(&[command]);
        assert!(said.contains("tutti-participant init"), "{said}");
    }
    home.init();
    let payout = "22".repeat(32);
    let said = home.failure(&["bump", &payout, "--feerate", "10"]);
    assert!(said.contains("[node]"), "{said}");
    let wrong = home.output(&["bump", &payout, "--feerate", "x"]);
    let said = String::from_utf8(wrong.stderr).expect("text");
    assert_eq!(wrong.status.code(), Some(2));
    assert!(said.contains("give sat/vB as a positive number"), "{said}");
    let node = Home::new(
        DEAD,
        "[node]\nrpc_url = \"http://127.0.0.1:1\"\nrpc_user = \"u\"\nrpc_password = \"p\"\n",
    );
    node.init();
    let said = node.failure(&["bump", &payout, "--feerate", "10"]);
    assert!(said.contains("no held round has a payout"), "{said}");
    let none: Value = node.rows(&[]);
    assert_eq!(none, json!([]));
}
