//! The main job, told as it happens: a block whose payout was signed before it was mined, paid out
//! after the coordinator is dead.

pub mod expected;
mod report;
mod story;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::{Transaction, Txid};
use serde_json::{Value, json};

use crate::binaries::Binaries;
use crate::daemon::Line;
use crate::node::{Node, NodeOptions};
use crate::place::Place;
use crate::pool::{Miner, Pool, PoolOptions, miner_name};

pub use report::Report;
use story::Story;

/// What the demo is asked for.
#[derive(Clone, Debug)]
pub struct DemoOptions {
    /// Participants.
    pub miners: usize,
    /// Keep logs and data here; `None`: a temporary directory.
    pub keep: Option<PathBuf>,
}

/// All miners together, hashes per second; the second is twice as fast as the first, and so on.
const HASHRATE: u64 = 300_000;
/// Feerate that the bump asks for, sat/vB.
const BUMP_FEERATE: u64 = 25;
/// What the child may cost, for as many payees as there are.
const BUMP_MAX_FEE: &str = "0.01btc";
/// Rounds before the block whose payout is followed.
const ROUNDS_BEFORE: u64 = 4;
/// Shares before it.
const SHARES_BEFORE: u64 = 20;
/// How long any one step may take.
const STEP: Duration = Duration::from_secs(60);

/// The block that the pool found.
struct Found {
    height: u64,
    block_hash: String,
}

/// Runs the demo; an error is a difference, or a step that did not happen.
pub fn run(options: &DemoOptions) -> Result<Report> {
    let started = Instant::now();
    let place = Place::new(options.keep.as_deref())?;
    let root = place.path();
    let mut story = Story::new(started);
    story.chapter("Getting ready");
    let exe = crate::bitcoind::locate()?;
    story.say(&format!(
        "bitcoind {} ({})",
        exe.version,
        exe.path.display()
    ));
    story.say("building the daemons, if they are not up to date");
    let binaries = Binaries::ready()?;
    let node = Node::start(NodeOptions {
        exe: Some(exe.path),
        data_dir: Some(root.join("bitcoind")),
        ..NodeOptions::default()
    })?;
    story.say(&format!("bitcoind runs in regtest, {}", node.rpc_url()));

    let settings = PoolOptions::default();
    let (sender, lines) = channel();
    let mut pool = Pool::start(root, node, binaries, &settings, Some(sender))?;
    story.chapter("Mining, every payout signed before a hash is tried on it");
    let parts = (1..=options.miners as u64).sum::<u64>().max(1);
    let mut miners = Vec::new();
    for number in 0..options.miners {
        let rate = HASHRATE * (number as u64 + 1) / parts;
        let mut miner = pool.add_miner(&miner_name(number), rate)?;
        story
            .names
            .insert(miner.identity.clone(), miner.name.clone());
        let addresses = story.addresses.entry(miner.name.clone()).or_default();
        addresses.insert(miner.first_address.clone());
        pool.run_miner(&mut miner, &[])?;
        miners.push(miner);
    }
    let found = mine_a_block(&mut story, &lines, options.miners)?;

    story.chapter("The coordinator dies");
    let mut coordinator = pool.coordinator.take().context("the coordinator runs")?;
    coordinator.kill()?;
    story.say(&format!(
        "SIGKILL to the coordinator, process {}; nobody restarts it",
        coordinator.pid()
    ));

    let settlement = settle(&mut story, &pool, &mut miners, &found)?;
    story.chapter("To the sat");
    let report = report::compare(&settlement, &miners, &settings, &story, started)?;
    report.print();
    Ok(report)
}

/// Tells what happens until the node takes a block of the pool.
fn mine_a_block(story: &mut Story, lines: &Receiver<Line>, miners: usize) -> Result<Found> {
    let deadline = Instant::now() + 5 * STEP;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(line) = lines.recv_timeout(left.min(STEP)) else {
            bail!(
                "no block, and nothing new, for {} s; see the logs (--keep DIR)",
                STEP.as_secs()
            );
        };
        ensure!(
            Instant::now() < deadline,
            "no block of the pool within {} s",
            5 * STEP.as_secs()
        );
        story.hear(&line, miners)?;
        if line.from != "coordinator" || line.event() != "block_accepted" {
            continue;
        }
        // A lucky first block pays for little work and would show little: the pool goes on.
        let shares: u64 = story.shares.values().sum();
        if story.rounds < ROUNDS_BEFORE || shares < SHARES_BEFORE || story.shares.len() < miners {
            story.say("a quick one; it is paid like any other, and the pool goes on for one with more work in it");
            continue;
        }
        return Ok(Found {
            height: line.number("height")?,
            block_hash: line.text("hash")?.to_owned(),
        });
    }
}

/// What the payout went through.
pub(crate) struct Settlement {
    pub coinbase: Transaction,
    pub payout: Transaction,
    pub held: Value,
    pub signers: u64,
    pub refused_at_h98: bool,
    pub accepted_at_h99: bool,
    pub bumped: Value,
    pub node_says: Value,
}

fn settle(
    story: &mut Story,
    pool: &Pool,
    miners: &mut [Miner],
    found: &Found,
) -> Result<Settlement> {
    let node = &pool.node;
    let block = node.block(&found.block_hash.parse()?)?;
    let coinbase = block
        .txdata
        .first()
        .context("a block has a coinbase")?
        .clone();
    let coinbase_txid = coinbase.compute_txid().to_string();
    let (first, others) = miners.split_first_mut().context("there are miners")?;
    first
        .daemon()?
        .wait_for("sight of the block on its own node", STEP, |line| {
            line.event() == "pool_block_seen"
                && line.fields["coinbase_txid"] == coinbase_txid.as_str()
        })?;
    let held = held_payout(first, &coinbase_txid)?;
    let mut all = vec![on_disk(first, &coinbase_txid)?];
    for miner in others.iter() {
        all.push(on_disk(miner, &coinbase_txid)?);
    }
    let lane = all.first().context("there are miners")?.clone();
    ensure!(
        all.iter().all(|other| *other == lane),
        "the miners' disks hold different payouts for coinbase {coinbase_txid}"
    );
    let payout: Transaction = deserialize_hex(lane.payouts.first().context("a payout")?)?;
    let payout_txid = payout.compute_txid().to_string();
    story.say(&format!(
        "payout {payout_txid} is on the disks of all {} miners, signed by {} before the block was found",
        all.len(),
        lane.signers
    ));

    story.chapter("Maturity");
    let h98 = found.height + 98;
    let tip = u64::from(node.height()?);
    node.mine(u32::try_from(h98.saturating_sub(tip))?)?;
    let refused = accepts(pool, &payout)?;
    ensure!(
        refused["allowed"] == false,
        "the node takes the payout at h+98 already"
    );
    let reason = refused["reject-reason"].as_str().unwrap_or("").to_owned();
    ensure!(
        reason.contains("premature-spend-of-coinbase"),
        "refused for another reason: {reason}"
    );
    story.say(&format!(
        "tip h+98 = {h98}: the node refuses the payout ({reason})"
    ));
    node.mine(1)?;
    story.say(&format!(
        "tip h+99 = {}: now any participant may broadcast it",
        h98 + 1
    ));
    let sent = first
        .daemon()?
        .wait_for("broadcast of the payout", STEP, |line| {
            line.event() == "payout_broadcast" && line.fields["payout_txid"] == payout_txid.as_str()
        })?;
    node.call::<Value>("getmempoolentry", &[json!(payout_txid)])
        .context("the payout is in the mempool")?;
    story.say(&format!("{} broadcast it; it is in the mempool", sent.from));

    story.chapter("Fee bump by another participant");
    let bumper = others
        .iter()
        .max_by_key(|miner| own_sat(&held, &miner.identity))
        .unwrap_or(first);
    let feerate = BUMP_FEERATE.to_string();
    let bump = ["bump", &payout_txid, "--feerate", &feerate];
    let bumped = bumper.command(&[&bump[..], &["--max-fee", BUMP_MAX_FEE]].concat())?;
    ensure!(
        bumped["accepted"] == true,
        "the node refused the bump: {bumped}"
    );
    let child = bumped["child_txid"].as_str().context("a child")?.to_owned();
    let entry: Value = node.call("getmempoolentry", &[json!(payout_txid)])?;
    ensure!(
        entry["descendantcount"] == 2,
        "the payout has no child in the mempool: {entry}"
    );
    story.say(&format!(
        "{} spends the anchor: child {child}, fee {} sat",
        bumper.name, bumped["fee"]
    ));
    let hash = node.mine(1)?.pop().context("one block")?;
    let mined = node.block(&hash)?;
    for txid in [&payout_txid, &child] {
        let txid: Txid = txid.parse()?;
        ensure!(
            mined.txdata.iter().any(|tx| tx.compute_txid() == txid),
            "{txid} is not in block {hash}"
        );
    }
    let node_says: Value = node.call(
        "getrawtransaction",
        &[json!(payout_txid), json!(1), json!(hash)],
    )?;
    story.say(&format!(
        "both are in block {hash}, {} confirmation",
        node_says["confirmations"]
    ));
    let payout = mined
        .txdata
        .iter()
        .find(|tx| tx.compute_txid().to_string() == payout_txid);
    let payout = payout.context("the payout is in the block")?.clone();
    Ok(Settlement {
        coinbase,
        payout,
        held,
        signers: lane.signers,
        refused_at_h98: true,
        accepted_at_h99: true,
        bumped,
        node_says,
    })
}

/// What a miner lists of the found payout with this coinbase.
fn held_payout(miner: &Miner, coinbase_txid: &str) -> Result<Value> {
    let all = miner.command(&["payouts", "--found"])?;
    let mut rows = all["payouts"].as_array().into_iter().flatten();
    let held = rows.find(|held| held["coinbase_txid"] == coinbase_txid);
    let held = held.with_context(|| format!("{} does not list the found payout", miner.name))?;
    Ok(held.clone())
}

/// A lane as a miner's disk has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneOnDisk {
    /// Signers of its round, the coordinator included.
    pub signers: u64,
    /// The complete payouts, raw hex.
    pub payouts: Vec<String>,
}

fn on_disk(miner: &Miner, coinbase_txid: &str) -> Result<LaneOnDisk> {
    let found = held_files(miner)?.remove(coinbase_txid);
    found.with_context(|| {
        format!(
            "{} has no payout of coinbase {coinbase_txid} on its disk",
            miner.name
        )
    })
}

/// All lanes in a miner's `rounds` directory, by coinbase txid.
pub fn held_files(miner: &Miner) -> Result<BTreeMap<String, LaneOnDisk>> {
    let mut found = BTreeMap::new();
    let directory = miner.data_dir().join("rounds");
    let unreadable = || format!("cannot read {}", directory.display());
    for entry in std::fs::read_dir(&directory).with_context(unreadable)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let round: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
        let signers = round["signers"].as_u64().context("a round has signers")?;
        for lane in round["lanes"].as_array().into_iter().flatten() {
            let coinbase: Transaction =
                deserialize_hex(lane["coinbase"].as_str().context("a coinbase")?)?;
            let payouts = serde_json::from_value(lane["payouts"].clone())?;
            let lane = LaneOnDisk { signers, payouts };
            found.insert(coinbase.compute_txid().to_string(), lane);
        }
    }
    Ok(found)
}

fn own_sat(held: &Value, identity: &str) -> u64 {
    let payees = held["payees"].as_array().into_iter().flatten();
    payees
        .filter(|payee| payee["identity"] == identity)
        .filter_map(|payee| payee["sat"].as_u64())
        .sum()
}

fn accepts(pool: &Pool, transaction: &Transaction) -> Result<Value> {
    let raw = bitcoin::consensus::encode::serialize_hex(transaction);
    let results: Value = pool.node.call("testmempoolaccept", &[json!([raw])])?;
    Ok(results[0].clone())
}
