//! Credits for bumps, on a node that no longer has all blocks.

use bitcoin::hashes::Hash;
use bitcoin::opcodes::all::OP_PUSHNUM_1;
use bitcoin::script::Builder;
use bitcoin::{Network, ScriptBuf, TxOut, Witness};
use serde_json::{Value, json};
use tutti_proto::coinbase::{self, CoinbaseName};
use tutti_proto::coordinator::Input;
use tutti_proto::id::{Identity, LaneIndex, RoundSeq};
use tutti_proto::identity::IdentityKey;
use tutti_proto::payout;
use tutti_proto::window::{BlockPayouts, Credit, payees_digest};
use tutti_regtest::node::{Node as Bitcoind, NodeOptions};

use super::bumps::{BITS, mined, of};
use super::*;
use crate::chain::NodeAuth;
use crate::driver::{Incoming, Mailbox};
use crate::news::caught;

/// Sat of each output.
const PAID: u64 = 100_000;
const FEE: u64 = 500;
/// Of a child.
const COST: u32 = 700;

/// What anybody spends.
fn script() -> ScriptBuf {
    Builder::new().push_opcode(OP_PUSHNUM_1).into_script()
}

fn output(sat: u64) -> TxOut {
    TxOut {
        value: Amount::from_sat(sat),
        script_pubkey: script().to_p2wsh(),
    }
}

fn spending(output: OutPoint, outputs: Vec<TxOut>) -> Transaction {
    let mut transaction = payout::unsigned(output, outputs);
    transaction.input[0].witness = Witness::from_slice(&[script().into_bytes()]);
    transaction
}

fn identity(number: u8) -> Identity {
    let key = IdentityKey::from_bytes(&mut [number; 32]).unwrap();
    key.identity()
}

/// The block after the tip: its first payout pays two, its second one.
fn found(node: &Bitcoind) -> FoundPayouts {
    let height = node.height().unwrap() + 1;
    let name = CoinbaseName {
        height,
        tag: "/test/",
        round: RoundSeq(1),
        lane: LaneIndex(0),
    };
    let payees = vec![vec![identity(1), identity(2)], vec![identity(3)]];
    let value = |of: &Vec<Identity>| PAID * of.len() as u64 + payout::ANCHOR_SAT + FEE;
    let outputs = payees.iter().map(|of| output(value(of)));
    let outputs = outputs.map(|output| (output.script_pubkey, output.value));
    let outputs: Vec<(ScriptBuf, Amount)> = outputs.collect();
    let coinbase = coinbase::build(name, &outputs, None);
    let txid = coinbase.compute_txid();
    let payouts = (0..).zip(&payees).map(|(shard, of)| {
        let paid = of.iter().map(|_| output(PAID)).collect();
        spending(OutPoint::new(txid, shard), paid)
    });
    FoundPayouts {
        block: mined(node, &coinbase),
        height,
        terms: BlockPayouts {
            height,
            bits: BITS,
            bump_credit: 10_000,
            bump_credit_after: 1,
            coinbase: txid.to_byte_array(),
            shards: payees.iter().map(|of| payees_digest(of)).collect(),
        },
        payouts: payouts.collect(),
        payees,
        coinbase,
    }
}

/// Spends a payout's first output and its anchor.
fn child(payout: &Transaction) -> Transaction {
    let first = OutPoint::new(payout.compute_txid(), 0);
    let mut child = spending(first, vec![output(PAID - u64::from(COST))]);
    child.output.truncate(1);
    let mut anchor = child.input[0].clone();
    anchor.previous_output.vout = u32::try_from(payout.output.len()).unwrap() - 1;
    anchor.witness = Witness::new();
    child.input.push(anchor);
    child
}

/// Up to about this height; gives the first that is left.
fn prune(node: &Bitcoind, below: u32) -> u32 {
    let below = [json!(below)];
    node.call::<Value>("pruneblockchain", &below).unwrap();
    let info: Value = node.call("getblockchaininfo", &[]).unwrap();
    u32::try_from(info["pruneheight"].as_u64().unwrap()).unwrap()
}

/// As after a restart.
fn started(node: &Bitcoind, found: &FoundPayouts) -> (Worker, Mailbox, tempfile::TempDir) {
    let config = NodeConfig {
        url: node.rpc_url(),
        auth: NodeAuth::CookieFile(node.cookie_file()),
        network: Network::Regtest,
    };
    let dir = tempfile::tempdir().unwrap();
    let kept = KeptPayouts::open(dir.path().to_owned()).unwrap();
    let key = IdentityKey::from_bytes(&mut [3; 32]).unwrap();
    let purse = Purse::new(&key, Network::Regtest).unwrap();
    let (inbox, mailbox) = Inbox::new();
    let worker = Worker::new(config, kept, None, purse, inbox, vec![found.clone()]);
    (worker, mailbox, dir)
}

/// What one look credits, each with its shard, and what it says.
fn look(worker: &mut Worker, mailbox: &mut Mailbox) -> (Vec<(u16, Identity, u32)>, Vec<Value>) {
    let lines = caught(|| assert_eq!(worker.sweep(), POLL));
    let mut credits = Vec::new();
    while let Ok(Incoming::Input(Input::Credit(credit))) = mailbox.queue.try_recv() {
        let Credit {
            shard,
            identity,
            sat,
            ..
        } = *credit;
        credits.push((shard, identity, sat));
    }
    (credits, lines)
}

#[test]
fn a_bump_is_credited_as_long_as_the_node_has_its_block() {
    let options = NodeOptions {
        extra_args: vec!["-prune=1".to_owned(), "-fastprune".to_owned()],
        ..NodeOptions::default()
    };
    let node = Bitcoind::start(options).unwrap();
    node.mine(20).unwrap();
    let found = found(&node);
    node.mine(980).unwrap();
    for payout in &found.payouts {
        for transaction in [payout, &child(payout)] {
            let hex = json!(bitcoin::consensus::encode::serialize_hex(transaction));
            node.call::<Value>("sendrawtransaction", &[hex]).unwrap();
        }
    }
    let confirmed = node.height().unwrap() + 1;
    node.mine(FINAL_CONFIRMATIONS).unwrap();
    assert!(prune(&node, 700) > found.height + COINBASE_MATURITY + 1);

    let (mut worker, mut mailbox, _dir) = started(&node, &found);
    // What nobody has spent says how deep its payout is.
    let (credits, lines) = look(&mut worker, &mut mailbox);
    assert_eq!(credits, [(0, identity(1), COST)], "{lines:#?}");
    // All of the other one is spent: it is as deep as the blocks that were seen to come.
    node.mine(FINAL_CONFIRMATIONS - 1).unwrap();
    let (credits, lines) = look(&mut worker, &mut mailbox);
    assert_eq!(credits, [(1, identity(3), COST)], "{lines:#?}");

    node.mine(900).unwrap();
    assert!(prune(&node, confirmed + 500) > confirmed);
    let (mut worker, mut mailbox, _dir) = started(&node, &found);
    let (credits, lines) = look(&mut worker, &mut mailbox);
    assert_eq!(credits, []);
    let told = of(&lines, "bump_not_credited");
    assert_eq!(told.len(), 1, "{lines:#?}");
    let why = told[0]["why"].as_str().unwrap();
    assert!(why.contains("pruned"), "{why}");
}
