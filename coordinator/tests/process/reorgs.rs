//! Reorganisations around found blocks, on a real node: carries, settlements and what is told end as the
//! chain that has won says it.

use std::cell::RefCell;
use std::collections::BTreeMap;

use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Txid};
use serde_json::{Value, json};
use tutti_proto::id::Identity;
use tutti_proto::participant::{FoundShare, Input, Order};
use tutti_regtest::daemon::Line;
use tutti_regtest::node::{Node, NodeOptions};

use crate::pool::{Miner, World};
use crate::support::WITHIN;

const BLOCK_ZERO_BITS: u8 = 14;
/// Blocks after which a block pays 9,536 sat and its fees: small parts are owed.
const HALVINGS: u32 = 150 * 19;
/// Whom the blocks of a rival branch pay: others than the node's usual ones, of which they would be copies.
const RIVAL: &str = "raw(52)";
/// Blocks replaced where the last one of 101 has the payout: from all but its coinbase's to
/// that one alone. In this order no branch starts on a block that is made valid again for a later one.
const DEPTHS: [u32; 6] = [100, 99, 98, 50, 2, 1];

/// A small miner's work, then a large one's; the large one stays.
async fn two_payees() -> (World, Miner) {
    let node = Node::start(NodeOptions::default()).unwrap();
    for _ in 0..HALVINGS / 475 {
        node.mine(475).unwrap();
    }
    let world = World::start_on(
        node,
        &format!("[regtest]\nblock_zero_bits = {BLOCK_ZERO_BITS}\n"),
    );
    let mut small = Miner::join(&world.address, 3).await;
    small.until("a job", |miner| !miner.orders.is_empty()).await;
    shares(&mut small, 1).await;
    drop(small);
    let mut large = Miner::join(&world.address, 2).await;
    large.until("a job", |miner| !miner.orders.is_empty()).await;
    shares(&mut large, 60).await;
    (world, large)
}

async fn shares(miner: &mut Miner, count: usize) {
    let z = miner.orders[0].z;
    let mut nonce = 0;
    for _ in 0..count {
        let found = miner.hash_from(nonce, z..=BLOCK_ZERO_BITS - 1);
        nonce = found.nonce + 1;
        miner.input(Input::ShareFound(found)).await;
    }
    let all = |miner: &Miner| miner.acknowledged() >= count;
    miner.until("acks", all).await;
}

/// The rounds on the tip: that of the next height is signed last.
async fn round(world: &World, miner: &mut Miner) {
    let (tip, ahead) = (world.node.tip().unwrap(), world.node.height().unwrap() + 2);
    let signed = |miner: &Miner| {
        let on_tip = |order: &Order| order.previous_block == tip.to_byte_array();
        let mut held = miner.held.iter();
        miner.orders.first().is_some_and(on_tip)
            && held.any(|held| held.height == ahead && held.signers > 0)
    };
    miner.until("the rounds on the tip", signed).await;
}

/// The blocks that are booked once a window closes after what the chain did: the first, or the one after
/// that where the news came late.
async fn until_booked(world: &World, miner: &mut Miner, expected: &[&str]) {
    round(world, miner).await;
    if booked(miner) != expected {
        world.node.mine(1).unwrap();
        round(world, miner).await;
    }
    assert_eq!(booked(miner), expected);
}

/// What all windows changed in the carries.
fn carries(miner: &Miner) -> BTreeMap<Identity, i64> {
    let mut carries = BTreeMap::new();
    for (who, sat) in miner.bookings.iter().flat_map(|booking| &booking.carry) {
        *carries.entry(*who).or_insert(0i64) += sat;
    }
    carries.retain(|_, sat| *sat != 0);
    carries
}

/// Which blocks are booked.
fn booked(miner: &Miner) -> Vec<String> {
    let mut booked: BTreeMap<String, i32> = BTreeMap::new();
    for booking in &miner.bookings {
        let block = BlockHash::from_byte_array(booking.block).to_string();
        let turn = if booking.undone { -1 } else { 1 };
        let times = booked.entry(block).or_default();
        *times += turn;
        assert!(
            (0..=1).contains(times),
            "booked twice, or taken back unbooked"
        );
    }
    booked.retain(|_, times| *times > 0);
    booked.into_keys().collect()
}

fn tell(node: &Node, what: &'static str, block: &str) {
    node.call::<Value>(what, &[block.into()]).unwrap();
}

/// Waits until all of these were said of their blocks, in any order: events, and stages of a payout.
fn wait_all(world: &mut World, wanted: &[(&str, &str)]) {
    let left = RefCell::new(wanted.to_vec());
    let said = |line: &Line| {
        let of = |(what, block): &(&str, &str)| match line.event() {
            "settlement" => line.fields["stage"] == *what && line.fields["block"] == *block,
            event => event == *what && line.fields["hash"] == *block,
        };
        left.borrow_mut().retain(|wanted| !of(wanted));
        left.borrow().is_empty()
    };
    let what = format!("{wanted:?}");
    world.daemon.wait_for(&what, WITHIN, said).unwrap();
}

/// Takes a block out of the best chain, for as many others on its parent as make a longer one. Says the
/// first of these.
fn replace(node: &Node, block: &str) -> String {
    let longer = node.height().unwrap() + 1;
    tell(node, "invalidateblock", block);
    let mut rivals = Vec::new();
    while node.height().unwrap() < longer {
        let block: Value = node
            .call("generateblock", &[RIVAL.into(), json!([])])
            .unwrap();
        rivals.push(block["hash"].as_str().unwrap().to_owned());
    }
    rivals.swap_remove(0)
}

fn mempool(node: &Node) -> Vec<Txid> {
    node.call("getrawmempool", &[]).unwrap()
}

/// The same coinbase in two blocks of one height: whichever the chain has is booked, once.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_blocks_at_one_height_the_best_chains_is_booked_and_settled() {
    let (mut world, mut miner) = two_payees().await;
    world.node.mine(1).unwrap();
    round(&world, &mut miner).await;
    // Both are found before either is known to be.
    let first: FoundShare = miner.hash(BLOCK_ZERO_BITS..=u8::MAX);
    let second = miner.hash_from(first.nonce + 1, BLOCK_ZERO_BITS..=u8::MAX);
    miner.input(Input::ShareFound(first)).await;
    miner.input(Input::ShareFound(second)).await;
    let accepted = world.daemon.wait_event("block_accepted", WITHIN).unwrap();
    let refused = world.daemon.wait_event("block_refused", WITHIN).unwrap();
    assert!(
        refused
            .text("why")
            .unwrap()
            .contains("not in the best chain")
    );
    let (first, second) = (
        accepted.text("hash").unwrap(),
        refused.text("hash").unwrap(),
    );
    let coinbase = |hash: &str| {
        let block: BlockHash = hash.parse().unwrap();
        world.node.block(&block).unwrap().txdata[0].compute_txid()
    };
    assert_eq!(coinbase(first), coinbase(second));
    until_booked(&world, &mut miner, &[first]).await;
    let owed = carries(&miner);
    assert!(owed.values().any(|sat| *sat > 0), "{owed:?}");

    // The rival wins, and loses again.
    for (winner, loser) in [(second, first), (first, second)] {
        replace(&world.node, loser);
        // Valid again, and shorter.
        tell(&world.node, "reconsiderblock", loser);
        wait_all(&mut world, &[("block_lost", loser), ("block_back", winner)]);
        world.node.mine(1).unwrap();
        until_booked(&world, &mut miner, &[winner]).await;
        assert_eq!(carries(&miner), owed, "it pays the same");
    }
    drop(miner);
    // What is settled is the payout of the one that is there, once.
    let height = accepted.number("height").unwrap();
    let tip = u64::from(world.node.height().unwrap());
    world
        .node
        .mine(u32::try_from(height + 99 - tip).unwrap())
        .unwrap();
    let sent = world.daemon.wait_event("payout_broadcast", WITHIN).unwrap();
    let payout: Txid = sent.text("payout_txid").unwrap().parse().unwrap();
    assert_eq!(mempool(&world.node), [payout]);
    world.node.mine(1).unwrap();
    wait_all(&mut world, &[("confirmed", first)]);
    let tip = world.node.block(&world.node.tip().unwrap()).unwrap();
    assert!(tip.txdata.iter().any(|tx| tx.compute_txid() == payout));
    world.node.mine(100).unwrap();
    let settled = [("block_settled", first), ("block_settled", second)];
    wait_all(&mut world, &settled);
}

/// The last blocks are replaced by a longer empty branch, and that by them again.
#[tokio::test(flavor = "multi_thread")]
async fn every_depth_of_reorganisation_takes_a_payout_back_to_what_the_chain_has() {
    let mut world = World::start_with(&format!("[regtest]\nblock_zero_bits = {BLOCK_ZERO_BITS}\n"));
    let mut miner = Miner::join(&world.address, 2).await;
    miner.until("a job", |miner| !miner.orders.is_empty()).await;
    // The first round pays directly: nobody has worked yet.
    world.node.mine(1).unwrap();
    round(&world, &mut miner).await;
    let found = miner.hash(BLOCK_ZERO_BITS..=u8::MAX);
    miner.input(Input::ShareFound(found)).await;
    let accepted = world.daemon.wait_event("block_accepted", WITHIN).unwrap();
    let block = accepted.text("hash").unwrap();
    until_booked(&world, &mut miner, &[block]).await;
    let bookings = std::mem::take(&mut miner.bookings);
    drop(miner);
    let height = u32::try_from(accepted.number("height").unwrap()).unwrap();
    let ripe = height + 99 - world.node.height().unwrap();
    world.node.mine(ripe).unwrap();
    wait_all(&mut world, &[("broadcast", block)]);
    let pooled = mempool(&world.node);
    assert_eq!(pooled.len(), 1);
    world.node.mine(1).unwrap();
    wait_all(&mut world, &[("confirmed", block)]);
    let tip = world.node.tip().unwrap();

    let mut rivals = Vec::new();
    for depth in DEPTHS {
        let first = block_at(&world.node, height + 101 - depth);
        let rival = replace(&world.node, &first);
        // Its coinbase is mature on that branch too, and it is handed to the node again.
        wait_all(&mut world, &[("broadcast", block)]);
        assert_eq!(mempool(&world.node), pooled, "depth {depth}");
        tell(&world.node, "invalidateblock", &rival);
        rivals.push(rival);
        tell(&world.node, "reconsiderblock", &first);
        assert_eq!(world.node.tip().unwrap(), tip);
        wait_all(&mut world, &[("confirmed", block)]);
        assert_eq!(mempool(&world.node), []);
    }

    // The 101st is its own block: what it left owed is taken back, and comes back with it.
    let mut miner = Miner::join(&world.address, 2).await;
    miner.until("a job", |miner| !miner.orders.is_empty()).await;
    miner.bookings = bookings;
    let rival = replace(&world.node, block);
    wait_all(&mut world, &[("replaced", block), ("block_lost", block)]);
    assert_eq!(mempool(&world.node), []);
    world.node.mine(1).unwrap();
    until_booked(&world, &mut miner, &[]).await;
    assert_eq!(carries(&miner), BTreeMap::new());
    let longer = world.node.height().unwrap() + 1;
    tell(&world.node, "invalidateblock", &rival);
    tell(&world.node, "reconsiderblock", block);
    // What is above it is valid again with it.
    for rival in &rivals {
        tell(&world.node, "invalidateblock", rival);
    }
    assert_eq!(world.node.tip().unwrap(), tip);
    world.node.mine(longer - (height + 100)).unwrap();
    wait_all(&mut world, &[("confirmed", block), ("block_back", block)]);
    world.node.mine(1).unwrap();
    until_booked(&world, &mut miner, &[block]).await;
    drop(miner);
    // And then nothing becomes of it any more.
    world.node.mine(100).unwrap();
    wait_all(&mut world, &[("final", block), ("block_settled", block)]);
}

fn block_at(node: &Node, height: u32) -> String {
    node.call("getblockhash", &[height.into()]).unwrap()
}
