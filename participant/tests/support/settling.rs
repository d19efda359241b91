//! A pool's block on a real node, with a payout that was signed before; and those who attack it.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::time::Instant;

use bitcoin::absolute::LockTime;
use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hashes::Hash;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, Network, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Txid, Witness,
};
use serde_json::{Value, json};
use tutti_participant::bump::{Bump, Bumped, Bumper, Target, bump};
use tutti_participant::chain::{NodeAuth, NodeConfig};
use tutti_participant::store::Store;
use tutti_proto::header::{HeaderFields, assemble_block};
use tutti_proto::id::Identity;
use tutti_proto::participant::{Held, Record};
use tutti_proto::payout::ANCHOR_SCRIPT;
use tutti_proto::work::{header_hash, meets_target};
use tutti_regtest::node::{Node, NodeOptions};

use super::{DEAD, DEADLINE, Home, Round};

const REGTEST_BITS: u32 = 0x207f_ffff;
pub const REWARD: u64 = 5_000_000_000;

/// A block of this coinbase alone, on the node's tip.
pub fn submit(node: &Node, coinbase: &Transaction) -> u32 {
    let template: Value = node
        .call("getblocktemplate", &[json!({"rules": ["segwit"]})])
        .expect("a template");
    let previous: bitcoin::BlockHash =
        serde_json::from_value(template["previousblockhash"].clone()).expect("a hash");
    let mut header = HeaderFields {
        version: 0x2000_0000,
        previous_block: *Hash::as_byte_array(&previous),
        merkle_root: *Hash::as_byte_array(&coinbase.compute_txid()),
        time: u32::try_from(template["curtime"].as_u64().expect("a time")).expect("small"),
        bits: REGTEST_BITS,
        nonce: 0,
    };
    while !meets_target(&header_hash(&header.serialize()), REGTEST_BITS) {
        header.nonce += 1;
    }
    let block = assemble_block(&header.serialize(), coinbase, &[]);
    let refused: Value = node
        .call("submitblock", &[json!(hex::encode(block))])
        .expect("an answer");
    assert_eq!(refused, Value::Null);
    node.height().expect("a height")
}

/// The `[node]` section of a configuration.
pub fn node_section(node: &Node) -> String {
    format!(
        "[node]\nrpc_url = \"{}\"\ncookie_file = \"{}\"\n",
        node.rpc_url(),
        node.cookie_file().display()
    )
}

/// A participant, its node, and a round that pays it.
pub struct Scene {
    pub node: Node,
    pub home: Home,
    pub me: Identity,
    pub held: Held,
}

impl Scene {
    /// The others get what is given, the participant `own_sat`, or the rest where that is 0. `more` are
    /// further lines of its configuration.
    pub fn new(
        options: NodeOptions,
        others: &[(Identity, ScriptBuf, u64)],
        own_sat: u64,
        more: &str,
    ) -> Self {
        let node = Node::start(options).expect("a node");
        // Coins for whoever attacks; the block after them is the pool's.
        node.mine(120).expect("blocks");
        let home = Home::new(DEAD, &(node_section(&node) + more));
        let (me, address) = home.init_payee();
        let own = (me, address.script_pubkey(), own_sat);
        let payees = match own_sat {
            0 => [others, &[own]].concat(),
            _ => [&[own], others].concat(),
        };
        let held = Round {
            seq: 4,
            height: node.height().expect("a height") + 1,
            lanes: 1,
            reward: REWARD,
            payees: &payees,
        }
        .held();
        Self::hold(&home, &held);
        Self {
            node,
            home,
            me,
            held,
        }
    }

    pub fn hold(home: &Home, held: &Held) {
        Store::open(&home.data())
            .expect("a store")
            .save(&[Record::Held(held.clone())])
            .expect("saved");
    }

    pub fn payout(&self) -> &Transaction {
        &self.held.lanes[0].payouts[0]
    }

    pub fn coinbase(&self) -> &Transaction {
        &self.held.lanes[0].coinbase
    }

    /// The block is found and ripens up to the first tip at which nodes take the payout.
    pub fn find_and_ripen(&self) -> u32 {
        let height = submit(&self.node, self.coinbase());
        self.node.mine(99).expect("blocks");
        height
    }

    pub fn bump(&self, more: &[&str]) -> Value {
        let payout = self.payout().compute_txid().to_string();
        self.home.json(&[&["bump", &payout], more].concat())
    }

    /// A bump as the policy makes one: what the chain says against it is left to the node.
    pub fn bump_unchecked(&self, feerate: &str) -> Bumped {
        let node = NodeConfig {
            url: self.node.rpc_url(),
            auth: NodeAuth::CookieFile(self.node.cookie_file()),
            network: Network::Regtest,
        };
        let bumper = Bumper {
            data_dir: &self.home.data(),
            network: Network::Regtest,
            node: &node,
        };
        let request = Bump {
            payout: self.payout().compute_txid(),
            target: Target::Feerate(feerate.parse().expect("a feerate")),
            limits: None,
            dry_run: false,
        };
        bump(bumper, request).expect("planned")
    }

    /// The found row, once it is as expected.
    pub fn row_when(&self, expected: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let rows = self.home.rows(&["--found"]);
            if expected(&rows[0]) {
                return rows[0].clone();
            }
            assert!(Instant::now() < deadline, "{rows:#}");
        }
    }
}

pub fn mempool(node: &Node) -> Vec<Txid> {
    node.call("getrawmempool", &[]).expect("txids")
}

pub fn send(node: &Node, transaction: &Transaction) -> Result<Txid, String> {
    node.call(
        "sendrawtransaction",
        &[json!(serialize_hex(transaction)), json!(0)],
    )
    .map_err(|error| error.to_string())
}

/// Whether this block of the chain has the transaction.
pub fn is_mined_in(node: &Node, block: &bitcoin::BlockHash, txid: Txid) -> bool {
    let block = node.block(block).expect("a block");
    block.txdata.iter().any(|tx| tx.compute_txid() == txid)
}

/// Whoever is not of the pool, with coins that need no key.
pub struct Attacker<'a> {
    node: &'a Node,
    next: u32,
}

impl<'a> Attacker<'a> {
    pub fn new(node: &'a Node) -> Self {
        Self { node, next: 1 }
    }

    /// A mature coin of a block that the node mined.
    pub fn coin(&mut self) -> (OutPoint, Amount) {
        let hash = self
            .node
            .call("getblockhash", &[json!(self.next)])
            .expect("a hash");
        self.next += 1;
        let block = self.node.block(&hash).expect("a block");
        let coinbase = &block.txdata[0];
        (
            OutPoint::new(coinbase.compute_txid(), 0),
            coinbase.output[0].value,
        )
    }

    /// Spends coins that need no key for this fee, padded to a size.
    pub fn spend(
        &self,
        version: i32,
        inputs: &[(OutPoint, Amount)],
        fee: u64,
        vsize: usize,
    ) -> Transaction {
        let total: Amount = inputs.iter().map(|(_, value)| *value).sum();
        let padding = || ScriptBuf::from_bytes([&[0x51, 0x20][..], &[2; 32]].concat());
        let mut transaction = Transaction {
            version: Version(version),
            lock_time: LockTime::ZERO,
            input: inputs
                .iter()
                .map(|(previous_output, _)| TxIn {
                    previous_output: *previous_output,
                    script_sig: ScriptBuf::new(),
                    sequence: Sequence::ENABLE_RBF_NO_LOCKTIME,
                    witness: Witness::new(),
                })
                .collect(),
            output: vec![TxOut {
                value: Amount::ZERO,
                script_pubkey: ScriptBuf::from_bytes(ANCHOR_SCRIPT.to_vec()),
            }],
        };
        while transaction.vsize() + 43 <= vsize {
            transaction.output.push(TxOut {
                value: Amount::from_sat(330),
                script_pubkey: padding(),
            });
        }
        let padded: Amount = transaction.output.iter().map(|output| output.value).sum();
        transaction.output[0].value = total - padded - Amount::from_sat(fee);
        transaction
    }

    /// A child of the payout's anchor, paid for by a coin.
    pub fn child(
        &self,
        payout: &Transaction,
        coin: (OutPoint, Amount),
        fee: u64,
        vsize: usize,
    ) -> Transaction {
        let vout = payout.output.len() as u32 - 1;
        let anchor = OutPoint::new(payout.compute_txid(), vout);
        let value = payout.output[vout as usize].value;
        self.spend(3, &[(anchor, value), coin], fee, vsize)
    }
}

/// A line of what a test saw on the node at hand, for the table in SPEC.md.
pub fn seen(node: &Node, what: &str, how: impl std::fmt::Display) {
    let info: Value = node.call("getnetworkinfo", &[]).expect("info");
    println!(
        "seen | {} | {what} | {how}",
        info["subversion"].as_str().expect("text")
    );
}
