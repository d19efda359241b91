//! Real cores, templates of a real node, and its consensus as the judge of every block and payout:
//! shards, the next height across a halving, direct rounds, blocks on old lanes.

#![allow(clippy::unwrap_used, reason = "a test, its helpers too")]

use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::Hash;
use bitcoin::{Block, BlockHash, Network, Transaction};
use serde::Deserialize;
use serde_json::{Value, json};
use tutti_proto::coordinator::{Event, Record, RoundKind, Settings};
use tutti_proto::deadline::Millis;
use tutti_proto::feerate::FeeRate;
use tutti_proto::id::SerialId;
use tutti_proto::message::TxAddOutput;
use tutti_proto::participant::{Held, Input};
use tutti_proto::template::Template;
use tutti_proto::window::{Ledger, Tally};
use tutti_proto::work::Work;
use tutti_regtest::node::{Node, NodeOptions};
use tutti_tests::sim::{Mood, World, WorldOptions, close_window, identity_key, script};

const SECOND: Millis = Millis(1_000);
/// A newcomer's quarter of the refresh time, and a moment more.
const GATHERED: Millis = Millis(9_000);
const BLOCK_ZERO_BITS: u8 = 10;

#[derive(Deserialize)]
struct Raw {
    version: i32,
    previousblockhash: BlockHash,
    coinbasevalue: u64,
    curtime: u32,
    mintime: u32,
    bits: String,
    height: u32,
    default_witness_commitment: String,
}

/// A pool of cores on a real chain.
struct Pool {
    node: Node,
    world: World,
}

impl Pool {
    fn new(height: u32, options: WorldOptions) -> Self {
        let node = Node::start(NodeOptions::default()).unwrap();
        node.mine(height - node.height().unwrap()).unwrap();
        let options = WorldOptions {
            block_zero_bits: BLOCK_ZERO_BITS,
            ..options
        };
        Self::on(node, options)
    }

    fn on(node: Node, options: WorldOptions) -> Self {
        let world = World::new(WorldOptions {
            real_chain: true,
            ..options
        });
        Self { node, world }
    }

    /// The node's template, without transactions: the mempool is empty.
    fn give_template(&mut self) {
        let rules = json!({"rules": ["segwit", "signet"]});
        let raw: Raw = self.node.call("getblocktemplate", &[rules]).unwrap();
        let commitment = hex::decode(&raw.default_witness_commitment).unwrap();
        self.world.give_template(Template {
            height: raw.height,
            previous_block: raw.previousblockhash.to_byte_array(),
            version: raw.version,
            bits: u32::from_str_radix(&raw.bits, 16).unwrap(),
            time: raw.curtime,
            time_min: raw.mintime,
            reward: raw.coinbasevalue,
            witness_commitment: Some(commitment[6..].try_into().unwrap()),
            merkle_path: Vec::new(),
            transactions: Vec::new(),
            weight: 0,
            feerate: FeeRate::FLOOR,
        });
    }

    fn all_hash(&mut self, within: Millis) {
        self.world
            .run_until(within, "a round for all", World::all_hash_last_round);
    }

    /// A miner finds a block on what it hashes; the node takes it.
    fn find_block(&mut self, miner: usize) -> (Held, Block) {
        let held = self.world.miners[miner].hashed().unwrap().clone();
        let zero_bits = self.world.block_zero_bits();
        let found = self.world.miners[miner].hash_until(zero_bits).unwrap();
        self.world.tell_miner(miner, Input::ShareFound(found));
        self.world.settle();
        (held, self.submit())
    }

    fn submit(&mut self) -> Block {
        let block = self.world.blocks.pop().unwrap();
        let verdict: Value = self
            .node
            .call("submitblock", &[json!(hex::encode(&block))])
            .unwrap();
        assert_eq!(verdict, Value::Null, "the node refused the block");
        let block: Block = deserialize(&block).unwrap();
        assert_eq!(self.node.tip().unwrap(), block.block_hash());
        block
    }

    /// The payouts of the lane that a block was found on go into the chain, each as it is.
    fn pay_out(&self, held: &Held, block: &Block) -> Vec<Transaction> {
        let coinbase = block.txdata[0].compute_txid();
        let mut lanes = held.lanes.iter();
        let lane = lanes
            .find(|lane| lane.coinbase.compute_txid() == coinbase)
            .unwrap();
        self.node.mine(99).unwrap();
        for payout in &lane.payouts {
            let raw = json!(hex::encode(serialize(payout)));
            let _: Value = self.node.call("sendrawtransaction", &[raw]).unwrap();
        }
        let mined = self.node.mine(1).unwrap();
        let mined = self.node.block(&mined[0]).unwrap();
        for payout in &lane.payouts {
            assert!(mined.txdata.contains(payout), "a payout was not mined");
        }
        lane.payouts.clone()
    }
}

/// What each payee of a round must get is what the transactions pay to its script.
fn assert_paid(held: &Held, paying: &[Transaction], scripts: impl Fn(SerialId) -> Vec<u8>) {
    let outputs = || paying.iter().flat_map(|tx| &tx.output);
    for payee in &held.payees {
        let script = scripts(payee.serial_id);
        let paid = outputs().filter(|out| out.script_pubkey.as_bytes() == script);
        let paid: Vec<u64> = paid.map(|out| out.value.to_sat()).collect();
        assert_eq!(paid, [payee.sat], "output {}", payee.serial_id);
    }
}

fn script_of(world: &World) -> impl Fn(SerialId) -> Vec<u8> + '_ {
    |id| {
        let payee = world.coordinator.roster().payee(id).unwrap();
        payee.script.as_script().to_bytes()
    }
}

fn all_hash_a_signed_round(world: &World) -> bool {
    let last = world.coordinator.last_committed();
    last.is_some_and(|(_, signers)| signers > 1) && world.all_hash_last_round()
}

/// A past in which `payees` identities registered and worked, each a little more than the last.
fn past(payees: u16) -> Vec<Record> {
    let coordinator = identity_key(0).identity();
    let mut records = Vec::new();
    let mut tally = Tally::new();
    for number in 1..=payees {
        let key = identity_key(number);
        let serial_id = SerialId(u64::from(number) * 2 + 1);
        let output = TxAddOutput::sign(&key, &coordinator, serial_id, script(number), &[3; 32]);
        records.push(Record::OutputAdded(output));
        tally.insert(key.identity(), Work(100 + u128::from(number)));
    }
    let end = close_window(&mut Ledger::default(), tally, Vec::new());
    records.push(Record::WindowClosed(end.unwrap()));
    records
}

#[test]
fn a_thousand_payees_are_paid_to_the_sat_by_five_shards_that_five_miners_signed() {
    let mut pool = Pool::new(
        1,
        WorldOptions {
            miners: 5,
            lanes: 1,
            shards_max: 5,
            pplns_depth: 1_000,
            ..WorldOptions::default()
        },
    );
    pool.world.restore(past(1_000));
    (0..5).for_each(|miner| pool.world.connect(miner));
    pool.world.settle();
    pool.give_template();
    pool.all_hash(SECOND);
    let (held, block) = pool.find_block(3);
    assert_eq!(held.payees.len(), 1_001, "a thousand and the operator");
    assert_eq!(held.signers, 6);
    assert_eq!(
        block.txdata[0].output.len(),
        5 + 1,
        "five shards and the commitment"
    );
    let payouts = pool.pay_out(&held, &block);
    assert!(payouts.iter().all(|payout| payout.vsize() <= 10_000));
    assert_paid(&held, &payouts, script_of(&pool.world));
}

#[test]
fn payees_beyond_the_shards_that_slots_can_sign_are_owed_the_smallest_first() {
    let mut pool = Pool::new(
        1,
        WorldOptions {
            miners: 3,
            lanes: 1,
            shards_max: 1,
            operator_fee_ppm: 0,
            pplns_depth: 1_000,
            ..WorldOptions::default()
        },
    );
    pool.world.restore(past(300));
    (0..3).for_each(|miner| pool.world.connect(miner));
    pool.world.settle();
    pool.give_template();
    pool.all_hash(SECOND);
    let (held, block) = pool.find_block(0);
    let least = held.payees.iter().map(|payee| payee.work).min().unwrap();
    assert_eq!((held.payees.len(), least), (230, Work(100 + 71)));
    let payouts = pool.pay_out(&held, &block);
    assert_paid(&held, &payouts, script_of(&pool.world));
    pool.give_template();
    pool.world.settle();
    let owed = pool.world.coordinator.ledger();
    for number in 1..=300u16 {
        let carry = owed.carry(&identity_key(number).identity());
        assert_eq!(
            carry > 0,
            number <= 70,
            "payee {number} is owed {carry} sat"
        );
    }
}

#[test]
fn on_a_new_tip_all_hash_at_once_what_was_signed_ahead_across_the_halving_too() {
    let mut pool = Pool::new(148, WorldOptions::default());
    (0..4).for_each(|miner| pool.world.connect(miner));
    pool.world.settle();
    pool.give_template();
    pool.all_hash(SECOND);
    pool.world.settle();

    let tip = pool.node.mine_empty().unwrap();
    pool.give_template();
    // One way over the network, and nobody has signed anything since.
    let on_tip = |world: &World| {
        let mut orders = world.miners.iter().map(|miner| miner.orders.first());
        orders.all(|o| o.is_some_and(|o| o.previous_block == tip.to_byte_array()))
    };
    pool.world
        .run_until(Millis(10), "everyone on the new tip", on_tip);
    let (held, block) = {
        let held = pool.world.miners[2].hashed().unwrap().clone();
        let found = pool.world.miners[2].hash_until(BLOCK_ZERO_BITS).unwrap();
        pool.world.tell_miner(2, Input::ShareFound(found));
        pool.world.settle();
        (held, pool.submit())
    };
    assert_eq!(pool.node.height().unwrap(), 150);
    let coinbase = &block.txdata[0];
    assert_eq!(coinbase.output[0].value.to_sat(), 2_500_000_000, "halved");
    assert!(coinbase.input[0].witness.is_empty() && coinbase.output.len() == 1);
    let payouts = pool.pay_out(&held, &block);
    assert_paid(&held, &payouts, script_of(&pool.world));
}

#[test]
fn where_nobody_signs_the_coinbase_pays_directly_and_what_it_cannot_pay_is_owed() {
    let mut pool = Pool::new(
        1,
        WorldOptions {
            miners: 6,
            settings: Settings {
                z_min: 3,
                z_max: 3,
                ..Settings::default()
            },
            ..WorldOptions::default()
        },
    );
    for miner in 0..6 {
        pool.world.connect(miner);
        pool.world.miners[miner].mood = Mood::SilentSigner;
    }
    pool.world.settle();
    pool.give_template();
    let direct = |world: &World| world.miners.iter().all(|miner| !miner.orders.is_empty());
    pool.world.run_until(Millis(600), "a direct round", direct);
    let (held, block) = pool.find_block(1);
    assert_eq!(held.signers, 0);
    assert_eq!(held.payees.len(), 4, "direct_payees is 4");
    assert_paid(&held, &block.txdata[..1], script_of(&pool.world));
    let paid: u64 = held.payees.iter().map(|payee| payee.sat).sum();
    assert_eq!(paid, 5_000_000_000, "the whole reward");

    // Once it is booked, those who got no output are owed by those who got more than their part.
    for miner in 0..6 {
        pool.world.miners[miner].mood = Mood::Honest;
    }
    pool.give_template();
    pool.world
        .run_until(GATHERED, "a signed round", all_hash_a_signed_round);
    let ledger = pool.world.coordinator.ledger();
    let carries: Vec<i64> = ledger.carries().values().copied().collect();
    assert_eq!(carries.iter().sum::<i64>(), 0, "{carries:?}");
    assert_eq!(carries.iter().filter(|sat| **sat > 0).count(), 3);
}

#[test]
fn a_miner_that_refuses_direct_rounds_waits_for_a_signed_one() {
    let mut options = WorldOptions::default();
    options.policy.refuse_direct = true;
    let mut pool = Pool::new(1, options);
    for miner in 0..4 {
        pool.world.connect(miner);
        pool.world.miners[miner].mood = Mood::SilentSigner;
    }
    pool.world.settle();
    pool.give_template();
    let told = |world: &World| {
        world
            .events
            .iter()
            .any(|e| matches!(e, Event::Direct { .. }))
    };
    pool.world.run_until(SECOND, "a direct round", told);
    pool.world.settle();
    for miner in &mut pool.world.miners {
        assert!(miner.orders.is_empty() && miner.held.is_empty());
        miner.mood = Mood::Honest;
    }
    pool.node.mine_empty().unwrap();
    pool.give_template();
    pool.world
        .run_until(GATHERED, "a signed round", all_hash_a_signed_round);
}

#[test]
fn a_block_on_any_lane_that_was_committed_at_its_height_pays_by_that_lanes_payout() {
    let mut pool = Pool::new(1, WorldOptions::default());
    (0..4).for_each(|miner| pool.world.connect(miner));
    pool.world.settle();
    pool.give_template();
    pool.all_hash(SECOND);
    let held = pool.world.miners[0].hashed().unwrap().clone();
    let late = pool.world.miners[0].hash_until(BLOCK_ZERO_BITS).unwrap();
    for _ in 0..4 {
        let before = pool.world.miners[0].orders[0].job;
        pool.world
            .run_until(Millis(40_000), "a refreshed round", |world| {
                world.miners[0].orders[0].job != before && world.all_hash_last_round()
            });
        pool.world.settle();
    }
    pool.world.tell_miner(0, Input::ShareFound(late));
    pool.world.settle();
    let block = pool.submit();
    let payouts = pool.pay_out(&held, &block);
    assert_paid(&held, &payouts, script_of(&pool.world));
}

#[test]
fn on_a_signet_of_ones_own_a_block_is_taken_and_no_next_height_is_signed() {
    let node = Node::start(NodeOptions {
        signet: true,
        first_block: false,
        ..NodeOptions::default()
    });
    let mut pool = Pool::on(
        node.unwrap(),
        WorldOptions {
            chain: Network::Signet,
            // A bit more than signet's first target asks.
            block_zero_bits: 23,
            ..WorldOptions::default()
        },
    );
    (0..4).for_each(|miner| pool.world.connect(miner));
    pool.give_template();
    pool.world
        .run_until(SECOND, "a signed round", all_hash_a_signed_round);
    pool.world.settle();
    // A block of it has no witness commitment, so the node would refuse it.
    let ahead = pool.world.events.iter().any(|event| {
        let kind = RoundKind::NextHeight;
        matches!(event, Event::Committed { kind: of, .. } if *of == kind)
    });
    assert!(!ahead, "a block that no signet takes was signed");
    let (held, _) = pool.find_block(0);
    assert!(held.signers > 1, "{} signers", held.signers);
}
