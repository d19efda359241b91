//! A real node that hears of no blocks: the participant says so by the clock, and when it is over.

mod support;

use std::fs;

use serde_json::{Value, json};
use support::settling::node_section;
use support::{DEAD, Daemon, Home};
use tutti_regtest::node::{Node, NodeOptions};

/// Tries of a nonce in one call: several blocks' worth.
const TRIES: u64 = 50_000_000;

#[test]
fn a_node_whose_last_block_is_old_by_the_clock_is_told_until_a_block_comes() {
    // On regtest blocks come when somebody wants one, and no clock is held against them.
    let node = Node::start(NodeOptions {
        signet: true,
        first_block: false,
        ..NodeOptions::default()
    })
    .expect("a node");
    let home = Home::new(DEAD, &node_section(&node));
    let config = fs::read_to_string(home.config()).expect("readable");
    fs::write(home.config(), config.replace("\"regtest\"", "\"signet\"")).expect("written");
    home.init();
    let mut daemon = Daemon::start(&home);
    let stale = daemon.wait("node_stale");
    assert_eq!(stale["level"], "error", "{stale:#}");
    // Its only block is signet's first, of September 2020.
    let age = stale["age_s"].as_u64().expect("an age");
    assert!(age > 100_000_000, "{age}");
    let mined: Vec<String> = node
        .call(
            "generatetodescriptor",
            &[json!(1), json!("raw(51024e73)"), json!(TRIES)],
        )
        .expect("an answer");
    assert_eq!(mined.len(), 1, "a block within {TRIES} hashes");
    assert_eq!(daemon.wait("node_view_good")["tip"], 1);
    let (_, _, seen) = daemon.stop();
    let told = seen
        .iter()
        .filter(|line: &&Value| line["event"] == "node_stale");
    assert_eq!(told.count(), 1);
}
