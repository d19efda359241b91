//! Settlement by a whole pool of real processes: by the coordinator first, by any one participant alone,
//! with the coordinator gone for good.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bitcoin::Txid;
use serde_json::{Value, json};
use tutti_regtest::binaries::Binaries;
use tutti_regtest::daemon::Line;
use tutti_regtest::demo::held_files;
use tutti_regtest::node::{Node, NodeOptions};
use tutti_regtest::pool::{Miner, Pool, PoolOptions, miner_name};

const STEP: Duration = Duration::from_secs(60);
/// H/s of all miners together: a block of 2^14 hashes comes within seconds.
const HASHRATE: u64 = 20_000;

/// A pool on a node whose mempool does not survive a restart.
fn pool(root: &std::path::Path, miners: u64) -> Result<(Pool, Vec<Miner>)> {
    let options = PoolOptions {
        block_zero_bits: 16,
        ..PoolOptions::default()
    };
    let node = Node::start(NodeOptions {
        extra_args: vec!["-persistmempool=0".to_owned()],
        ..NodeOptions::default()
    })?;
    let pool = Pool::start(root, node, Binaries::ready()?, &options, None)?;
    let mut all = Vec::new();
    for number in 0..miners {
        let name = miner_name(usize::try_from(number)?);
        let mut miner = pool.add_miner(&name, HASHRATE / miners)?;
        pool.run_miner(&mut miner, &[])?;
        all.push(miner);
    }
    Ok((pool, all))
}

/// The first block that all miners signed.
fn block_of_all(pool: &mut Pool, miners: u64) -> Result<Line> {
    let coordinator = pool.coordinator.as_mut().context("it runs")?;
    coordinator.wait_for("a round of all", STEP, |line| {
        line.event() == "committed" && line.fields["signers"].as_u64() > Some(miners)
    })?;
    loop {
        let found = coordinator.wait_event("block_accepted", STEP)?;
        let block = found.text("hash")?.parse()?;
        let coinbase = pool.node.block(&block)?.txdata[0].clone();
        // A direct round has no payouts.
        if coinbase.output.len() <= 2 {
            return Ok(found);
        }
    }
}

/// The payouts of a block as a miner holds them.
fn payouts(pool: &Pool, found: &Line, miner: &Miner) -> Result<Vec<Txid>> {
    let block = pool.node.block(&found.text("hash")?.parse()?)?;
    let coinbase = block.txdata[0].compute_txid().to_string();
    let lane = held_files(miner)?.remove(&coinbase);
    let lane = lane.with_context(|| format!("{} does not hold it", miner.name))?;
    let payouts = lane.payouts.iter().map(|hex| -> Result<Txid> {
        let payout: bitcoin::Transaction = bitcoin::consensus::encode::deserialize_hex(hex)?;
        Ok(payout.compute_txid())
    });
    payouts.collect()
}

fn mempool(node: &Node) -> Result<Vec<Txid>> {
    Ok(node.call("getrawmempool", &[])?)
}

fn ripen(pool: &Pool, found: &Line) -> Result<()> {
    let ripe_at = u32::try_from(found.number("height")? + 99)?;
    let tip = pool.node.height()?;
    pool.node.mine(ripe_at.saturating_sub(tip))?;
    Ok(())
}

#[test]
fn each_one_of_five_participants_alone_pays_all_with_the_coordinator_gone_from_the_find_on()
-> Result<()> {
    let root = tempfile::tempdir()?;
    let (mut pool, mut miners) = pool(root.path(), 5)?;
    let found = block_of_all(&mut pool, 5)?;
    // Gone for good at the moment of the find, and so are all miners' processes.
    pool.coordinator.take().context("it runs")?.kill()?;
    for miner in &mut miners {
        miner.daemon.take().context("it runs")?.kill()?;
    }
    let payouts = payouts(&pool, &found, &miners[0])?;
    ripen(&pool, &found)?;
    ensure!(mempool(&pool.node)?.is_empty());
    let last = miners.len() - 1;
    for (number, miner) in miners.iter_mut().enumerate() {
        pool.run_miner(miner, &[])?;
        let daemon = miner.daemon()?;
        for _ in &payouts {
            let sent = daemon.wait_for("its broadcast", STEP, |line| {
                line.event() == "payout_broadcast"
                    && payouts
                        .iter()
                        .any(|txid| line.fields["payout_txid"] == txid.to_string())
            })?;
            ensure!(sent.fields["by_us"] == true, "{}: {:?}", miner.name, sent);
        }
        let pooled = mempool(&pool.node)?;
        ensure!(
            payouts.iter().all(|txid| pooled.contains(txid)),
            "{}",
            miner.name
        );
        if number < last {
            miner.daemon.take().context("it runs")?.kill()?;
            pool.node.restart()?;
            ensure!(mempool(&pool.node)?.is_empty(), "the node forgot");
        }
    }
    let block = pool.node.mine(1)?[0];
    let mined = pool.node.block(&block)?;
    let mined: Vec<Txid> = mined.txdata.iter().map(|tx| tx.compute_txid()).collect();
    ensure!(payouts.iter().all(|txid| mined.contains(txid)));
    // What each one gets is what the block's payees say, seen by each one's own files.
    for miner in &miners {
        let rows = miner.command(&["payouts", "--found"])?;
        let payees = rows[0]["payees"].as_array().context("payees")?.iter();
        let own = payees.filter(|payee| payee["identity"] == miner.identity.as_str());
        let own: u64 = own.filter_map(|payee| payee["sat"].as_u64()).sum();
        ensure!(rows[0]["own_sat"].as_u64() == Some(own), "{rows}");
    }
    Ok(())
}

#[test]
fn the_coordinator_alone_broadcasts_restores_bumps_and_sees_the_payout_confirmed() -> Result<()> {
    let root = tempfile::tempdir()?;
    let (mut pool, mut miners) = pool(root.path(), 3)?;
    let found = block_of_all(&mut pool, 3)?;
    let payouts = payouts(&pool, &found, &miners[0])?;
    for miner in &mut miners {
        miner.daemon.take().context("it runs")?.kill()?;
    }
    // A restart forgets neither the block nor its payouts.
    pool.coordinator.take().context("it runs")?.kill()?;
    let mut coordinator = pool.spawn_coordinator()?;
    let address = coordinator.wait_event("bump_address", STEP)?;
    let address: bitcoin::Address<_> = address.text("address")?.parse()?;
    let script = address.assume_checked().script_pubkey();
    let txid = payouts[0].to_string();
    let of_it = |line: &Line| line.fields["payout_txid"] == txid.as_str();
    // The coin for its bumps ripens with the payout.
    pool.node.mine_to(1, &script)?;
    ripen(&pool, &found)?;
    coordinator.wait_for("its broadcast", STEP, |line| {
        line.event() == "payout_broadcast" && of_it(line)
    })?;
    ensure!(mempool(&pool.node)?.contains(&payouts[0]));
    pool.node.restart()?;
    coordinator.wait_for("its second broadcast", STEP, |line| {
        line.event() == "payout_broadcast" && of_it(line)
    })?;
    // Blocks pass it by until the coin is spendable.
    for _ in 0..4 {
        pool.node.mine_empty()?;
    }
    let bumped = coordinator.wait_for("its bump", STEP, |line| {
        line.event() == "payout_bumped" && of_it(line)
    })?;
    ensure!(
        bumped.text("because")?.contains("blocks passed it by"),
        "{bumped:?}"
    );
    let child: Txid = bumped.text("child_txid")?.parse()?;
    ensure!(mempool(&pool.node)?.contains(&child));
    let block = pool.node.mine(1)?[0];
    let mined = pool.node.block(&block)?;
    ensure!(mined.txdata.iter().any(|tx| tx.compute_txid() == child));
    coordinator.wait_for("the confirmation", STEP, |line| {
        line.event() == "settlement" && of_it(line) && line.fields["stage"] == "confirmed"
    })?;
    // A reorganisation takes it back, and the chain has it again.
    pool.node
        .call::<Value>("invalidateblock", &[json!(block)])?;
    coordinator.wait_for("the step back", STEP, |line| {
        line.event() == "settlement" && of_it(line) && line.fields["from"] == "confirmed"
    })?;
    pool.node
        .call::<Value>("reconsiderblock", &[json!(block)])?;
    coordinator.wait_for("the confirmation again", STEP, |line| {
        line.event() == "settlement" && of_it(line) && line.fields["stage"] == "confirmed"
    })?;
    // And then nothing is left to be done.
    pool.node.mine(99)?;
    coordinator.wait_for("the end", STEP, |line| {
        line.event() == "settlement" && of_it(line) && line.fields["stage"] == "final"
    })?;
    Ok(())
}
