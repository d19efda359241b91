//! A node that keeps its newest blocks only.
#![allow(dead_code, reason = "each test file uses its own part")]

use serde_json::{Value, json};
use tutti_regtest::node::{Node, NodeOptions};

pub const DAY: u64 = 86_400;

pub fn pruned_node() -> Node {
    start(true)
}

/// Its blocks may be of before today.
pub fn pruned_node_without_blocks() -> Node {
    start(false)
}

fn start(first_block: bool) -> Node {
    let options = NodeOptions {
        extra_args: vec!["-prune=1".to_owned(), "-fastprune".to_owned()],
        first_block,
        ..NodeOptions::default()
    };
    Node::start(options).expect("a node")
}

/// The first height whose block it still has then.
pub fn prune(node: &Node, below: u32) -> u32 {
    node.call::<Value>("pruneblockchain", &[json!(below)])
        .expect("pruned");
    let info: Value = node.call("getblockchaininfo", &[]).expect("info");
    u32::try_from(info["pruneheight"].as_u64().expect("a height")).expect("small")
}

/// Regtest halves it every 150 blocks.
pub fn reward(height: u32) -> u64 {
    5_000_000_000 >> (height / 150)
}

/// What is mined now has this time, if the blocks before are not later; 0 is the world's.
pub fn at(node: &Node, time: u64) {
    node.call::<Value>("setmocktime", &[json!(time)])
        .expect("set");
}

pub fn now() -> u64 {
    std::time::UNIX_EPOCH.elapsed().expect("a time").as_secs()
}
