//! Bumps, on a node: payouts of one block that blocks pass by.

use bitcoin::hashes::Hash;
use bitcoin::secp256k1::{Keypair, Message, Secp256k1};
use bitcoin::{BlockHash, Network, ScriptBuf, TxOut};
use serde_json::{Value, json};
use tutti_proto::bump::BumpPolicy;
use tutti_proto::coinbase::{self, CoinbaseName};
use tutti_proto::header::{HeaderFields, assemble_block};
use tutti_proto::id::{LaneIndex, RoundSeq};
use tutti_proto::identity::IdentityKey;
use tutti_proto::payout;
use tutti_proto::window::BlockPayouts;
use tutti_proto::work::{header_hash, meets_target};
use tutti_regtest::node::{Node as Bitcoind, NodeOptions};

use super::*;
use crate::chain::NodeAuth;
use crate::chain::scripted::{Answer, relayed, scripted};
use crate::news::caught;

pub(super) const BITS: u32 = 0x207f_ffff;
/// Sat that each payout pays to somebody.
const PAID: u64 = 1_000_000;
const FEE: u64 = 200;

/// Two payouts of the block after the tip, which pays the rest to anybody. The second pays `own`, if that is given.
fn found(node: &Bitcoind, own: Option<&ScriptBuf>) -> FoundPayouts {
    let secp = Secp256k1::new();
    let key = Keypair::from_seckey_slice(&secp, &[0x77; 32]).unwrap();
    let script = payout::output_script(&key.x_only_public_key().0.serialize());
    let height = node.height().unwrap() + 1;
    let name = CoinbaseName {
        height,
        tag: "/test/",
        round: RoundSeq(1),
        lane: LaneIndex(0),
    };
    let value = Amount::from_sat(PAID + payout::ANCHOR_SAT + FEE);
    let outputs = [(script.clone(), value), (script.clone(), value)];
    let coinbase = coinbase::build(name, &outputs, None);
    let payout = |vout: u32| {
        let paid = TxOut {
            value: Amount::from_sat(PAID),
            script_pubkey: own.filter(|_| vout == 1).unwrap_or(&script).clone(),
        };
        let spent = OutPoint::new(coinbase.compute_txid(), vout);
        let unsigned = payout::unsigned(spent, vec![paid]);
        let sighash = payout::sighash(&unsigned, &coinbase.output[vout as usize]);
        let message = Message::from_digest(sighash);
        let signature = secp.sign_schnorr_no_aux_rand(&message, &key).serialize();
        payout::signed(unsigned, &signature)
    };
    FoundPayouts {
        block: mined(node, &coinbase),
        height,
        terms: BlockPayouts {
            height,
            bits: BITS,
            bump_credit: 0,
            bump_credit_after: 1,
            coinbase: coinbase.compute_txid().to_byte_array(),
            shards: Vec::new(),
        },
        payees: Vec::new(),
        payouts: vec![payout(0), payout(1)],
        coinbase,
    }
}

/// A block of this coinbase alone; gives its hash.
pub(super) fn mined(node: &Bitcoind, coinbase: &Transaction) -> [u8; 32] {
    let rules = json!({"rules": ["segwit"]});
    let template: Value = node.call("getblocktemplate", &[rules]).unwrap();
    let mut header = HeaderFields {
        version: 0x2000_0000,
        previous_block: node.tip().unwrap().to_byte_array(),
        merkle_root: coinbase.compute_txid().to_byte_array(),
        time: u32::try_from(template["curtime"].as_u64().unwrap()).unwrap(),
        bits: BITS,
        nonce: 0,
    };
    while !meets_target(&header_hash(&header.serialize()), BITS) {
        header.nonce += 1;
    }
    let block = assemble_block(&header.serialize(), coinbase, &[]);
    let refused: Value = node
        .call("submitblock", &[json!(hex::encode(block))])
        .unwrap();
    assert_eq!(refused, Value::Null);
    node.tip().unwrap().to_byte_array()
}

/// A pool whose block has two ripe payouts, with so many coins for bumps.
struct Scene {
    node: Bitcoind,
    worker: Worker,
    /// Another coordinator with the same coins, which knows nothing of this one.
    other: Worker,
    payouts: Vec<Txid>,
    /// All that was said.
    all: Vec<Value>,
    _dirs: [tempfile::TempDir; 2],
}

pub(super) fn of(lines: &[Value], event: &str) -> Vec<Value> {
    let lines = lines.iter().filter(|line| line["event"] == event);
    lines.cloned().collect()
}

impl Scene {
    fn new(extra_args: &[&str], coins: u32, cost_max: u64) -> Self {
        Self::of(extra_args, coins, cost_max, false, |_| false)
    }

    /// The second payout pays the pool where `own` says so, and the connection ends at a call that `hangs_up` names.
    fn of(
        extra_args: &[&str],
        coins: u32,
        cost_max: u64,
        own: bool,
        hangs_up: impl Fn(&str) -> bool + Send + 'static,
    ) -> Self {
        let extra_args = extra_args.iter().map(|arg| (*arg).to_owned()).collect();
        let options = NodeOptions {
            extra_args,
            ..NodeOptions::default()
        };
        let node = Bitcoind::start(options).unwrap();
        node.mine(1).unwrap();
        let purse = || {
            let key = IdentityKey::from_bytes(&mut [3; 32]).unwrap();
            Purse::new(&key, Network::Regtest).unwrap()
        };
        let script: ScriptBuf = purse().script();
        let found = found(&node, own.then_some(&script));
        let payouts = found.payouts.iter().map(Transaction::compute_txid);
        let payouts = payouts.collect();
        node.mine_to(coins, &script).unwrap();
        node.mine(100).unwrap();
        let config = NodeConfig {
            url: node.rpc_url(),
            auth: NodeAuth::CookieFile(node.cookie_file()),
            network: Network::Regtest,
        };
        let real = crate::chain::Node::connect(&config, crate::chain::CALL_TIMEOUT).unwrap();
        let config = match own {
            false => config,
            true => scripted(move |method, params| match hangs_up(method) {
                true => Answer::HangsUp,
                false => relayed(&real, method, params),
            }),
        };
        let bump = BumpPolicy {
            after_blocks: 1,
            target_blocks: 3,
            feerate_max: Feerate::from_sat_per_kvb(500_000),
            cost_max: Amount::from_sat(cost_max),
        };
        let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let [worker, other] = dirs.each_ref().map(|dir| {
            let kept = KeptPayouts::open(dir.path().to_owned()).unwrap();
            let (config, found) = (config.clone(), vec![found.clone()]);
            let (inbox, _) = Inbox::new();
            Worker::new(config, kept, Some(bump), purse(), inbox, found)
        });
        let mut scene = Self {
            node,
            worker,
            other,
            payouts,
            all: Vec::new(),
            _dirs: dirs,
        };
        let sent = scene.look("payout_broadcast");
        assert_eq!(sent.len(), 2, "{sent:?}");
        scene
    }

    /// What one look says, of these events.
    fn look(&mut self, event: &str) -> Vec<Value> {
        let worker = &mut self.worker;
        let lines = caught(|| assert_eq!(worker.sweep(), POLL));
        let those = of(&lines, event);
        self.all.extend(lines);
        those
    }

    fn passed_by(&mut self, event: &str) -> Vec<Value> {
        self.node.mine_empty().unwrap();
        self.look(event)
    }

    /// And has the worker notice that the node was away.
    fn lose_mempool(&mut self) {
        self.node.flush().unwrap();
        self.node.kill();
        self.node.restart().unwrap();
        assert_eq!(self.mempool(), Vec::<Txid>::new());
        let worker = &mut self.worker;
        caught(|| assert_eq!(worker.sweep(), AWAY));
    }

    /// What was asked of a node with `-debug=rpc`, in this order.
    fn calls(&self) -> Vec<String> {
        let log = self.node.data_dir().join("regtest/debug.log");
        let log = std::fs::read_to_string(log).unwrap();
        let calls = log.lines().filter_map(|line| line.split_once("method="));
        let calls = calls.filter_map(|(_, call)| call.split_whitespace().next());
        calls.map(str::to_owned).collect()
    }

    fn mempool(&self) -> Vec<Txid> {
        self.node.call("getrawmempool", &[]).unwrap()
    }
}

#[test]
fn two_payouts_are_bumped_at_one_tip_each_with_a_coin_of_its_own() {
    let mut scene = Scene::new(&[], 2, 500_000);
    let mut rates = Vec::new();
    for _ in 0..3 {
        let bumped = scene.passed_by("payout_bumped");
        assert_eq!(bumped.len(), 2, "{bumped:?}");
        let mut expected = scene.payouts.clone();
        for line in &bumped {
            expected.push(line["child_txid"].as_str().unwrap().parse().unwrap());
            rates.push(line["package_feerate_sat_per_kvb"].as_u64().unwrap());
        }
        let mut pooled = scene.mempool();
        pooled.sort();
        expected.sort();
        assert_eq!(pooled, expected);
    }
    // Each time half as much again, with the coins that it has.
    assert!(rates[2] > rates[0] && rates[4] > rates[2], "{rates:?}");
}

#[test]
fn what_somebody_else_has_raised_is_raised_further_when_blocks_passed_it_by() {
    let mut scene = Scene::new(&[], 2, 500_000);
    let others = |scene: &mut Scene| {
        let lines = caught(|| assert_eq!(scene.other.sweep(), POLL));
        of(&lines, "payout_bumped").len()
    };
    assert_eq!(others(&mut scene), 0);
    for _ in 0..2 {
        assert_eq!(scene.passed_by("payout_bumped").len(), 2);
        // The same block passed them by here.
        assert_eq!(others(&mut scene), 0);
    }
    // And when it is the first to look.
    scene.node.mine_empty().unwrap();
    assert_eq!(others(&mut scene), 2);
    let bumped = scene.look("payout_bumped");
    assert_eq!(bumped, Vec::<Value>::new());
}

#[test]
fn a_payout_without_a_coin_left_for_it_is_told_of() {
    let mut scene = Scene::new(&[], 1, 500_000);
    let without = scene.passed_by("payout_not_bumped");
    assert_eq!(without.len(), 1, "{without:?}");
    let why = without[0]["why"].as_str().unwrap();
    assert!(why.contains("the pool has no coin for it"), "{why}");
    assert_eq!(scene.mempool().len(), 3);
}

#[test]
fn a_bump_is_lowered_to_what_may_be_spent_and_said_to_be_above_it_then() {
    const MOST: u64 = 300;
    let mut scene = Scene::new(&[], 2, MOST);
    let bumped = scene.passed_by("payout_bumped");
    assert_eq!(bumped.len(), 2, "{bumped:?}");
    for line in &bumped {
        assert_eq!(line["fee"], MOST, "{line}");
    }
    let capped = scene.passed_by("payout_not_bumped");
    assert_eq!(capped.len(), 2, "{capped:?}");
    for line in &capped {
        let why = line["why"].as_str().unwrap();
        assert!(
            why.contains("above the 300 sat = 0.00000300 BTC that may be spent"),
            "{why}"
        );
    }
    assert_eq!(scene.mempool().len(), 4);
    // It is the same at each block, and said once.
    assert_eq!(scene.passed_by("payout_not_bumped"), Vec::<Value>::new());
    // Whoever takes the children out, pays: at what may be spent they are made again all the same.
    scene.lose_mempool();
    let again = scene.look("payout_bumped");
    assert_eq!(again.len(), 2, "{again:?}");
    assert!(again.iter().all(|line| line["fee"] == MOST), "{again:?}");
    assert_eq!(scene.mempool().len(), 4);
}

#[test]
fn the_pools_coins_are_looked_for_once_at_a_tip_and_after_all_payouts_are_out() {
    let mut scene = Scene::new(&["-debug=rpc"], 2, 500_000);
    scene.lose_mempool();
    let calls = scene.calls().len();
    assert_eq!(scene.passed_by("payout_bumped").len(), 2);
    let calls = scene.calls().split_off(calls);
    let at = |method: &str| {
        let calls = calls.iter().enumerate();
        let those = calls.filter(|(_, call)| *call == method);
        those.map(|(at, _)| at).collect::<Vec<_>>()
    };
    let (scans, sent) = (at("scantxoutset"), at("sendrawtransaction"));
    assert_eq!((scans.len(), sent.len()), (1, 2), "{calls:?}");
    assert!(sent[1] < scans[0], "{calls:?}");
}

#[test]
fn coins_that_are_not_there_are_looked_for_less_and_less_often() {
    let mut scene = Scene::new(&["-debug=rpc"], 0, 500_000);
    let scans = |scene: &Scene| {
        let calls = scene.calls().into_iter();
        calls.filter(|call| call == "scantxoutset").count()
    };
    let mut seen = Vec::new();
    for _ in 0..10 {
        scene.passed_by("payout_bumped");
        seen.push(scans(&scene));
    }
    assert_eq!(seen, [1, 2, 2, 3, 3, 3, 3, 4, 4, 4], "{seen:?}");
    let told = of(&scene.all, "payout_not_bumped");
    let why = told[0]["why"].as_str().unwrap();
    assert!(why.contains("looked for again at height"), "{why}");
}

#[test]
fn a_look_for_coins_that_comes_to_nothing_holds_up_no_payout_that_needs_none() {
    let mut scene = Scene::of(&[], 0, 500_000, true, |method| method == "scantxoutset");
    for _ in 0..3 {
        scene.node.mine_empty().unwrap();
        let bumped = scene.look("payout_bumped");
        assert_eq!(bumped.len(), 1, "{bumped:?}");
        assert_eq!(
            bumped[0]["payout_txid"],
            json!(scene.payouts[1].to_string())
        );
    }
    let told = of(&scene.all, "payout_waiting");
    assert!(
        told[0]["why"].as_str().unwrap().contains("scantxoutset"),
        "{told:?}"
    );
    // At the first two of the three tips.
    assert_eq!(told.len(), 2, "{told:?}");
}

#[test]
fn a_payout_that_is_immature_again_is_bumped_anew_once_it_is_ripe() {
    let mut scene = Scene::new(&[], 2, 500_000);
    assert_eq!(scene.passed_by("payout_bumped").len(), 2);
    // Back to where its coinbase has fewer than 100 confirmations: it had 103.
    let below = scene.node.height().unwrap() - 6;
    let hash = |height: u32| -> BlockHash {
        let hash = [json!(height)];
        scene.node.call("getblockhash", &hash).unwrap()
    };
    let undone = [json!(hash(below + 1))];
    scene
        .node
        .call::<Value>("invalidateblock", &undone)
        .unwrap();
    assert_eq!(scene.mempool().len(), 0);
    scene.look("payout_broadcast");
    scene
        .node
        .call::<Value>("reconsiderblock", &undone)
        .unwrap();
    let bumped = scene.look("payout_bumped");
    assert_eq!(bumped, Vec::<Value>::new());
    assert_eq!(scene.mempool().len(), 2);
    assert_eq!(scene.passed_by("payout_bumped").len(), 2);
}

#[test]
fn a_node_that_estimates_no_fees_is_told_of_once_and_holds_up_nothing() {
    let mut scene = Scene::new(&["-blocksonly"], 2, 500_000);
    let (mut told, mut bumped) = (0, 0);
    for _ in 0..2 {
        scene.node.mine_empty().unwrap();
        scene.look("payout_bumped");
        bumped = of(&scene.all, "payout_bumped").len();
        told = of(&scene.all, "no_fee_estimates").len();
    }
    assert_eq!((told, bumped), (1, 4), "{:?}", scene.all);
}
