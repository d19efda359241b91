//! Every command answers programs: all of them are found by the program's own list of commands.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use bitcoin::consensus::encode::serialize_hex;
use clap::{Command, CommandFactory};
use serde_json::Value;
use support::{DEAD, Home, Round, parse_identity, some_identity, some_script};
use tempfile::TempDir;
use tutti_participant::cli::Cli;
use tutti_participant::proof;
use tutti_participant::segments::keep;
use tutti_participant::store::Store;
use tutti_proto::deadline::Millis;
use tutti_proto::equivocation::Statements;
use tutti_proto::id::WindowSeq;
use tutti_proto::identity::IdentityKey;
use tutti_proto::message::SignedHead;
use tutti_proto::participant::Record;
use tutti_proto::window::LedgerHead;
use tutti_tests::sim::{Archive, World, WorldOptions};

/// Commands that do not take `--json`, and why.
const WITHOUT: [(&str, &str); 0] = [];

/// Commands that cannot answer without a network, and where their JSON is read.
const ONLINE: [(&str, &str); 9] = [
    ("run", "a daemon: below, by its log"),
    ("watch", "a daemon: below, by its log"),
    ("bump", "asks a node: settlement.rs"),
    ("wallet balance", "asks a node: coins.rs"),
    ("wallet send", "asks a node: coins.rs"),
    ("wallet sweep", "asks a node: coins.rs"),
    ("wallet rescan", "asks a node: coins.rs"),
    ("fetch-segments", "asks whoever serves them: audit.rs"),
    ("serve-segments", "a daemon: audit.rs"),
];

/// Commands that can be given, by their words.
fn commands() -> Vec<(String, Command)> {
    fn collect(words: &str, command: &Command, into: &mut Vec<(String, Command)>) {
        if !command.is_subcommand_required_set() {
            into.push((words.to_owned(), command.clone()));
        }
        for inner in command.get_subcommands() {
            if inner.get_name() != "help" {
                let words = format!("{words} {}", inner.get_name());
                collect(words.trim_start(), inner, into);
            }
        }
    }
    let mut program = Cli::command();
    program.build(); // What is global is in each subcommand then.
    let mut all = Vec::new();
    collect("", &program, &mut all);
    all
}

#[test]
fn every_command_takes_json_or_is_named_here_with_a_reason() {
    let takes = |command: &Command| {
        let mut arguments = command.get_arguments();
        arguments.any(|argument| argument.get_long() == Some("json"))
    };
    let all = commands();
    assert!(all.len() > 15, "{}", all.len());
    let without = all.iter().filter(|(_, command)| !takes(command));
    let without: BTreeSet<&str> = without.map(|(words, _)| words.as_str()).collect();
    assert_eq!(without, WITHOUT.iter().map(|(words, _)| *words).collect());
}

/// A proof of two heads that one coordinator signed.
fn two_heads(dir: &TempDir) -> PathBuf {
    let key = IdentityKey::from_bytes(&mut [1; 32]).expect("a key");
    let head = |hash| {
        let (seq, hash) = (WindowSeq(7), [hash; 32]);
        SignedHead::sign(&key, LedgerHead { seq, hash }, &[3; 32])
    };
    let mut statements = Statements::default();
    let coordinator = key.identity();
    assert_eq!(statements.note_head(&coordinator, &head(1)), Ok(true));
    let proof = *statements
        .note_head(&coordinator, &head(2))
        .expect_err("two heads");
    proof::keep(dir.path(), &proof).expect("written")
}

/// Closed windows of a pool.
fn windows(dir: &TempDir) {
    let mut world = World::new(WorldOptions::default());
    world.connect(0);
    world.new_tip();
    world.run_until(Millis(1_000), "a round", World::all_hash_last_round);
    world.share(0);
    world.settle();
    world.new_tip();
    world.run_until(Millis(1_000), "another", World::all_hash_last_round);
    for segment in &Archive::of(&world).expect("segments").segments {
        keep(dir.path(), segment).expect("kept");
    }
}

#[test]
fn every_command_that_needs_no_network_answers_with_json() {
    let home = Home::new(DEAD, "");
    let dir = || tempfile::tempdir().expect("a directory");
    let (proofs, segments, exported, files) = (dir(), dir(), dir(), dir());
    windows(&segments);
    let text = |path: &std::path::Path| path.to_str().expect("text").to_owned();
    let proof = text(&two_heads(&proofs));
    let (segments, exported) = (text(segments.path()), text(exported.path()));
    let payout = files.path().join("payout");

    let mut answered = BTreeSet::new();
    let mut ask = |home: &Home, words: &str, more: &[&str]| -> Value {
        let args: Vec<&str> = words.split(' ').chain(more.iter().copied()).collect();
        let mut command = home.command(&[&args[..], &["--json"]].concat());
        let output = command.stdin(Stdio::null()).output().expect("a process");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{words}: {said}");
        let value = serde_json::from_slice(&output.stdout);
        answered.insert(words.to_owned());
        value.unwrap_or_else(|error| panic!("{words}: {error}: {output:?}"))
    };
    let made = ask(&home, "init", &[]);
    let me = parse_identity(made["identity"].as_str().expect("an identity"));
    let held = Round {
        seq: 4,
        height: 100,
        lanes: 1,
        reward: 5_000_000_000,
        payees: &[
            (some_identity(2), some_script(2), 9),
            (me, some_script(3), 0),
        ],
    }
    .held();
    fs::write(&payout, serialize_hex(&held.lanes[0].payouts[0])).expect("written");
    let mut store = Store::open(&home.data()).expect("a store");
    store.save(&[Record::Held(held)]).expect("saved");
    drop(store);
    assert!(ask(&home, "status", &[]).is_object());
    let listed = ask(&home, "payouts", &[]);
    assert_eq!(listed["payouts"].as_array().map(Vec::len), Some(1));
    let written = ask(&home, "payouts export", &[&exported]);
    assert_eq!(written["payouts"], 1, "{written}");
    let second = Home::new(DEAD, "");
    assert_eq!(ask(&second, "payouts import", &[&exported])["rounds"], 1);
    let one = ask(&second, "payouts import", &[&text(&payout)]);
    assert_eq!(one["known"], true, "{one}");
    assert!(ask(&home, "wallet addresses", &[]).is_array());
    assert!(ask(&home, "wallet new-address", &[])["address"].is_string());
    assert!(ask(&home, "wallet descriptors", &[])["external"].is_string());
    assert!(ask(&home, "verify-proof", &[&proof]).is_object());
    assert_eq!(ask(&home, "audit", &[&segments])["holds"], true);

    let mut all: BTreeSet<String> = commands().into_iter().map(|(words, _)| words).collect();
    for (words, _) in ONLINE {
        assert!(all.remove(words), "{words} is no command");
    }
    assert_eq!(answered, all);
}

#[test]
fn a_command_asked_for_json_fails_in_json() {
    let home = Home::new(DEAD, "");
    let failed = home.failure(&["--json", "payouts", "export", "/dev/null/nowhere"]);
    let failed: Value = serde_json::from_str(&failed).expect("one object");
    let error = failed["error"].as_str().expect("text");
    assert!(error.contains("init"), "{error}");
    // A daemon's log has it.
    let failed = home.failure(&["run"]);
    let failed: Value = serde_json::from_str(&failed).expect("one object");
    assert_eq!(failed["event"], "failed");
    assert_eq!(failed["level"], "error");
    // Also where the log was told to leave everything out.
    let mut command = home.command(&["run"]);
    let output = command
        .env("RUST_LOG", "hyper=debug")
        .output()
        .expect("a process");
    let said = String::from_utf8(output.stderr).expect("text");
    assert!(said.contains("tutti-participant init"), "{said}");
    // Nothing is logged before its configuration is read.
    fs::write(home.config(), "lanes").expect("written");
    let failed = home.failure(&["run", "--json"]);
    let failed: Value = serde_json::from_str(&failed).expect("one object");
    assert!(failed["error"].is_string(), "{failed}");
}

#[test]
fn a_daemon_asked_for_json_logs_nothing_else() {
    let home = Home::new(DEAD, "");
    let config = fs::read_to_string(home.config()).expect("readable");
    fs::write(home.config(), config.replace("\"json\"", "\"text\"")).expect("written");
    home.init();
    let mut daemon = support::Daemon::spawn(home.command(&["run", "--json"]));
    daemon.wait("disconnected");
    let (_, _, seen) = daemon.stop();
    assert!(seen.iter().all(Value::is_object), "{seen:#?}");
}

#[test]
fn arguments_that_are_no_command_are_told_with_json() {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_tutti-participant"))
        .args(["bump", "--json"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty());
    let told: Value = serde_json::from_slice(&output.stderr).unwrap();
    let error = told["error"].as_str().unwrap();
    assert!(error.contains("were not provided"), "{error}");
}
