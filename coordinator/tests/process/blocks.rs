//! From a signed payout to a block in the chain, whatever is killed or away in between.

use std::time::UNIX_EPOCH;

use serde_json::Value;
use tonic::Code;
use tutti_proto::participant::{Held, Input};
use tutti_regtest::node::{Node, NodeOptions};

use crate::pool::{Miner, World};
use crate::support::WITHIN;

const BLOCK_ZERO_BITS: u8 = 14;

#[tokio::test(flavor = "multi_thread")]
async fn a_miner_gets_a_signed_payout_then_a_job_and_its_block_is_in_the_chain() {
    let mut world = World::start();
    let mut miner = Miner::join(&world.address, 2).await;
    miner.until_signed_job().await;
    let signed = miner.held.iter().find(|held| held.signers > 0);
    assert!(signed.is_some_and(|held| !held.lanes[0].payouts.is_empty()));
    let z = miner.orders[0].z;
    assert!(z < BLOCK_ZERO_BITS, "{z}");

    miner
        .input(Input::ShareFound(miner.hash(z..=BLOCK_ZERO_BITS - 1)))
        .await;
    miner
        .until("an ack", |miner| miner.acknowledged() == 1)
        .await;

    let height = world.node.height().unwrap();
    miner
        .input(Input::ShareFound(miner.hash(BLOCK_ZERO_BITS..=u8::MAX)))
        .await;
    let accepted = world.daemon.wait_event("block_accepted", WITHIN).unwrap();
    assert_eq!(accepted.number("height").unwrap(), u64::from(height) + 1);
    assert_eq!(
        world.node.tip().unwrap().to_string(),
        accepted.text("hash").unwrap()
    );
    let block = world.node.block(&world.node.tip().unwrap()).unwrap();
    let mut held = miner.held.iter();
    assert!(
        held.any(|held| held.lanes[0].coinbase == block.txdata[0]),
        "the coinbase is held before it is hashed"
    );

    // The new tip is mined at once, and the work done so far is in the ledger.
    let next = height + 2;
    miner
        .until("a round on the new tip", |miner| {
            miner.held.iter().any(|held| held.height == next)
        })
        .await;
    let info = world.info();
    assert_eq!(info["participants"], 1);
    assert_eq!(info["signers"], 2);
    assert_eq!(info["payees"], 2);
    assert_eq!(info["network"], "regtest");
    // Its own clock made the template, a moment ago.
    let now = UNIX_EPOCH.elapsed().unwrap().as_secs();
    let age = now.abs_diff(info["template_time"].as_u64().unwrap());
    assert!(age < 600, "{age} s");
}

/// Such a node answers each question for an estimate with an error.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_estimates_no_fees_is_mined_on() {
    let options = NodeOptions {
        extra_args: vec!["-blocksonly".to_owned()],
        ..NodeOptions::default()
    };
    let regtest = format!("[regtest]\nblock_zero_bits = {BLOCK_ZERO_BITS}\n");
    let mut world = World::start_on(Node::start(options).unwrap(), &regtest);
    let mut miner = Miner::join(&world.address, 2).await;
    miner.until_signed_job().await;
    let told = world.daemon.wait_event("feerate_unknown", WITHIN).unwrap();
    assert_eq!(told.number("feerate_sat_per_kvb").unwrap(), 1_000);
}

/// The chain turns to another branch and back, while the coordinator runs and across a kill.
#[tokio::test(flavor = "multi_thread")]
async fn a_found_block_is_followed_through_reorganisations_until_it_is_settled() {
    let mut world = World::start();
    let mut miner = Miner::join(&world.address, 2).await;
    miner.until_signed_job().await;
    miner
        .input(Input::ShareFound(miner.hash(BLOCK_ZERO_BITS..=u8::MAX)))
        .await;
    let accepted = world.daemon.wait_event("block_accepted", WITHIN).unwrap();
    let hash = accepted.text("hash").unwrap().to_owned();
    let height = u32::try_from(accepted.number("height").unwrap()).unwrap();
    miner
        .until("a round on our block", |miner| {
            miner.held.iter().any(|held| held.height == height + 1)
        })
        .await;

    let tell = |node: &Node, what, hash: &str| {
        node.call::<Value>(what, &[hash.into()]).unwrap();
    };
    tell(&world.node, "invalidateblock", &hash);
    let other = world.node.mine(2).unwrap();
    let lost = world.daemon.wait_event("block_lost", WITHIN).unwrap();
    assert_eq!(lost.text("hash").unwrap(), hash);
    // The window that takes the booking back passes every check of the participant.
    miner
        .until("a round on the other branch", |miner| {
            miner.held.iter().any(|held| held.height == height + 2)
        })
        .await;

    world.daemon.kill().unwrap();
    tell(&world.node, "invalidateblock", &other[0].to_string());
    tell(&world.node, "reconsiderblock", &hash);
    assert_eq!(world.node.tip().unwrap().to_string(), hash);
    world.restart();
    let back = world.daemon.wait_event("block_back", WITHIN).unwrap();
    assert_eq!(back.text("hash").unwrap(), hash);
    let mut miner = Miner::join(&world.address, 2).await;
    miner.until("a job", |miner| !miner.orders.is_empty()).await;

    world.node.mine(200).unwrap();
    // Not before its payout is in the chain.
    world.daemon.wait_event("payout_broadcast", WITHIN).unwrap();
    world.node.mine(1).unwrap();
    let settled = world.daemon.wait_event("block_settled", WITHIN).unwrap();
    assert_eq!(settled.text("hash").unwrap(), hash);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_coordinator_comes_back_with_its_ledger() {
    let mut world = World::start();
    let mut miner = Miner::join(&world.address, 2).await;
    miner.until("a job", |miner| !miner.orders.is_empty()).await;
    let z = miner.orders[0].z;
    miner
        .input(Input::ShareFound(miner.hash(z..=BLOCK_ZERO_BITS - 1)))
        .await;
    miner
        .until("an ack", |miner| miner.acknowledged() == 1)
        .await;
    let before = world.info();
    world.daemon.kill().unwrap();
    assert!(miner.wire.last_word().await.code() != Code::Ok);

    world.restart();
    let after = world.info();
    for field in ["identity", "payees"] {
        assert_eq!(before[field], after[field], "{field}");
    }
    // A round may have been proposed or committed since we looked.
    for field in ["window", "round"] {
        assert!(after[field].as_u64() >= before[field].as_u64(), "{field}");
    }
    let mut again = Miner::join(&world.address, 2).await;
    again.until("a job", |miner| !miner.orders.is_empty()).await;
    // The share that was acknowledged before the kill is what a round pays for: this one or, if it is a
    // direct one of the window before, the next.
    let me = again.core.identity();
    let pays = |held: &Held| {
        let mut payees = held.payees.iter();
        payees.any(|payee| payee.identity == me && payee.work.0 == 1 << z)
    };
    again
        .until("a round that pays for the share", |miner| {
            miner.held.iter().any(pays)
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_found_while_the_node_is_away_survives_a_kill_and_gets_into_the_chain() {
    let mut world = World::start();
    let mut miner = Miner::join(&world.address, 2).await;
    miner.until("a job", |miner| !miner.orders.is_empty()).await;
    world.node.stop().unwrap();
    let found = miner.hash(BLOCK_ZERO_BITS..=u8::MAX);
    miner.input(Input::ShareFound(found)).await;
    let waiting = world.daemon.wait_event("block_waiting", WITHIN).unwrap();
    world.daemon.kill().unwrap();

    world.node.restart().unwrap();
    world.restart();
    let accepted = world.daemon.wait_event("block_accepted", WITHIN).unwrap();
    assert_eq!(accepted.fields["hash"], waiting.fields["hash"]);
    assert_eq!(
        world.node.tip().unwrap().to_string(),
        accepted.text("hash").unwrap()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_blocks_found_while_the_node_is_away_all_survive_a_kill() {
    let mut world = World::start();
    let mut miner = Miner::join(&world.address, 2).await;
    miner.until("a job", |miner| !miner.orders.is_empty()).await;
    world.node.stop().unwrap();
    let first = miner.hash(BLOCK_ZERO_BITS..=u8::MAX);
    let second = miner.hash_from(first.nonce + 1, BLOCK_ZERO_BITS..=u8::MAX);
    for found in [first, second] {
        miner.input(Input::ShareFound(found)).await;
    }
    miner
        .until("both acks", |miner| miner.acknowledged() == 2)
        .await;
    world.daemon.kill().unwrap();
    let kept = world.kept_blocks();
    assert_eq!(
        kept.len(),
        2,
        "only the first has reached the node's thread"
    );

    // One of them is cut short, the other gone: as if we had died before they were written. Both are
    // made again from their round, which is live.
    let whole = std::fs::read(&kept[0]).unwrap();
    std::fs::write(&kept[0], &whole[..whole.len() / 2]).unwrap();
    std::fs::remove_file(&kept[1]).unwrap();
    world.node.restart().unwrap();
    world.restart();
    let mut judged = std::collections::BTreeSet::new();
    while judged.len() < 2 {
        let line = world.daemon.wait_for("a verdict", WITHIN, |line| {
            ["block_accepted", "block_refused"].contains(&line.event())
        });
        let hash = line.unwrap().text("hash").unwrap().to_owned();
        assert!(
            kept.iter()
                .any(|path| path.ends_with(format!("{hash}.block")))
        );
        judged.insert(hash);
    }
    let tip = world.node.tip().unwrap().to_string();
    assert!(
        kept.iter()
            .any(|path| path.ends_with(format!("{tip}.block")))
    );
}
