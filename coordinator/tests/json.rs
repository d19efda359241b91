//! Every command answers programs: all of them are found by the program's own list of commands.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use clap::CommandFactory;
use serde_json::Value;
use tutti_coordinator::cli::Cli;
use tutti_regtest::node::{Node, NodeOptions};

/// Commands that do not take `--json`, and why.
const WITHOUT: [(&str, &str); 0] = [];

/// Commands whose JSON is read by other tests.
const ELSEWHERE: [(&str, &str); 3] = [
    (
        "run",
        "a daemon, whose answer is its log: process/startup.rs",
    ),
    ("info", "asks a running pool: process/pool.rs"),
    (
        "miners",
        "reads what a pool has written: process/segments.rs",
    ),
];

fn commands() -> Vec<clap::Command> {
    let mut program = Cli::command();
    program.build(); // What is global is in each subcommand then.
    let all = program.get_subcommands();
    all.filter(|command| command.get_name() != "help")
        .cloned()
        .collect()
}

#[test]
fn every_command_takes_json_or_is_named_here_with_a_reason() {
    let takes = |command: &clap::Command| {
        let mut arguments = command.get_arguments();
        arguments.any(|argument| argument.get_long() == Some("json"))
    };
    let all = commands();
    assert!(all.len() >= 3);
    let without = all.iter().filter(|command| !takes(command));
    let without: BTreeSet<&str> = without.map(clap::Command::get_name).collect();
    assert_eq!(without, WITHOUT.iter().map(|(words, _)| *words).collect());
}

#[test]
fn every_command_that_needs_no_pool_answers_with_json() {
    let node = Node::start(NodeOptions::default()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("coordinator.toml");
    let text = format!(
        "network = \"regtest\"\npayout_address = \"{}\"\nlisten = \"127.0.0.1:0\"\n[node]\nrpc_url = \"{}\"\ncookie_file = \"{}\"\n",
        tutti_regtest::pool::operator_address(),
        node.rpc_url(),
        node.cookie_file().display()
    );
    fs::write(&config, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_tutti-coordinator"))
        .args(["check", "--json", "--config"])
        .arg(&config)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let checked: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(checked["node"], node.rpc_url());
    assert_eq!(checked["network"], "regtest");
    assert_eq!(checked["identity"], Value::Null);

    let all = commands();
    let mut all: BTreeSet<&str> = all.iter().map(clap::Command::get_name).collect();
    for (words, _) in ELSEWHERE {
        assert!(all.remove(words), "{words} is no command");
    }
    assert_eq!(all, BTreeSet::from(["check"]));
}

#[test]
fn arguments_that_are_no_command_are_told_with_json() {
    let output = Command::new(env!("CARGO_BIN_EXE_tutti-coordinator"))
        .args(["check", "--json"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(output.stdout.is_empty());
    let told: Value = serde_json::from_slice(&output.stderr).unwrap();
    let error = told["error"].as_str().unwrap();
    assert!(error.contains("were not provided"), "{error}");
}
