//! Invariant 7 on real processes: the coordinator is killed fifty times under load, at moments that
//! a seed chooses, and started again; no acknowledged share is lost, none counts twice, and the next
//! payout is the split of the miners' own records.
//!
//! The miners are real participant cores in this process, which hash and send as fast as they are
//! answered; node and coordinator are processes. After each restart every miner goes on with the job
//! that it had, sends again what was under way when the coordinator died, and some shares that it knows
//! are acknowledged.
//!
//! The seed is printed, and in every error; `TUTTI_SEED` chooses it, `TUTTI_KILLS` how many.

mod audit;
mod crowd;
mod miner;
mod plan;

use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use rand::SeedableRng;
use rand::rngs::StdRng;
use tutti_coordinator::segments::Directory;
use tutti_coordinator::store::Store;
use tutti_proto::participant::Held;
use tutti_regtest::binaries::Binaries;
use tutti_regtest::node::{Node, NodeOptions};
use tutti_regtest::pool::{Pool, PoolOptions};

use audit::Audited;
use crowd::Crowd;
use miner::{CarriedOn, Miner};
use plan::plan;

const KILLS: usize = 50;
const MINERS: u8 = 4;

fn options() -> PoolOptions {
    PoolOptions {
        lanes: 2,
        // No block is found, and all work counts: the split is of every share ever credited.
        block_zero_bits: 60,
        pplns_depth: 1_000,
        // Rounds under load, and soon after a restart.
        refresh_ms: 300,
        regroup_ms: 20,
        // The smaller z, the more shares, whatever pace a life shows that lasts long.
        z_min: 1,
        z_max: 6,
        log_level: "info",
        ..PoolOptions::default()
    }
}

fn number<T: std::str::FromStr>(variable: &str) -> Result<Option<T>> {
    let Ok(text) = std::env::var(variable) else {
        return Ok(None);
    };
    let number = text.parse().ok();
    Ok(Some(
        number.with_context(|| format!("{variable} is a number"))?,
    ))
}

#[test]
fn fifty_kills_under_load_lose_no_acknowledged_share_and_count_none_twice() -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_nanos();
    let seed = number("TUTTI_SEED")?.unwrap_or(u64::from(now));
    let kills = number("TUTTI_KILLS")?.unwrap_or(KILLS);
    eprintln!("TUTTI_SEED={seed}");
    let root = tempfile::tempdir()?;
    let run = play(seed, kills, root.path());
    run.with_context(|| format!("seed {seed}; logs and data are kept in {:?}", root.keep()))
}

fn play(seed: u64, kills: usize, root: &Path) -> Result<()> {
    let mut rng = StdRng::seed_from_u64(seed);
    // The node serves a killed client's long poll to its end, each on a thread of its own.
    let node = Node::start(NodeOptions {
        extra_args: vec![format!("-rpcthreads={}", 16 + 2 * kills)],
        ..NodeOptions::default()
    })?;
    let mut pool = Pool::start(root, node, Binaries::ready()?, &options(), None)?;
    let mut crowd = Crowd::start(MINERS, seed)?;
    let began = Instant::now();
    for (number, kill) in plan(&mut rng, kills).into_iter().enumerate() {
        // The first one is not met by any miner: it only made the coordinator's identity.
        let coordinator = pool.coordinator.as_mut().context("it runs")?;
        coordinator.kill()?;
        pool.coordinator = Some(pool.spawn_coordinator()?);
        let moment = crowd.until(&mut pool, kill);
        moment.with_context(|| format!("kill {number}, {kill:?}"))?;
    }
    let coordinator = pool.coordinator.as_mut().context("it runs")?;
    coordinator.kill()?;
    pool.coordinator = Some(pool.spawn_coordinator()?);
    let (miners, last) = crowd.finish(&mut pool)?;
    let took = began.elapsed();

    let store = Store::open(&root.join("coordinator/store"), bitcoin::Network::Regtest)?;
    let files = Directory::open(&root.join("coordinator/segments"))?;
    let audited = audit::shares((&store, &files), &miners)?;
    for miner in &miners {
        let held = miner.held.iter().rev().find(|held| held.window >= last);
        let held = held.context("a round after the last share")?;
        let paid = (reward(held)?, options().operator_fee_ppm);
        audit::payout((&store, &audited), &miners, held, paid)?;
    }
    report(&audited, &miners, kills, took);
    let sum = |of: fn(&CarriedOn) -> usize| -> usize {
        miners.iter().map(|miner| of(&miner.carried_on)).sum()
    };
    let (jobs, shares) = (sum(|c| c.jobs), sum(|c| c.shares));
    let told_late = sum(|c| c.told_late);
    eprintln!(
        "{jobs} sessions went on with the job of the one before, {shares} shares found on them were \
         acknowledged; {told_late} shares of lost acknowledgements were told to count"
    );
    // Most kills come while all hash; a new template may be there before they are back.
    ensure!(
        jobs >= kills && shares >= kills && told_late > 0,
        "live rounds were not gone on with"
    );
    let load = 50 * kills;
    ensure!(
        audited.acknowledged >= load,
        "{} shares, fewer than {load}, were no load",
        audited.acknowledged
    );
    Ok(())
}

/// What a round's coinbase brings, sat.
fn reward(held: &Held) -> Result<u64> {
    let lane = held.lanes.first().context("a lane")?;
    let outputs = lane.coinbase.output.iter();
    Ok(outputs.map(|output| output.value.to_sat()).sum())
}

fn report(audited: &Audited, miners: &[Miner], kills: usize, took: Duration) {
    let sent: usize = miners.iter().map(|miner| miner.record.len()).sum();
    let again: usize = miners.iter().map(|miner| miner.sent_again).sum();
    eprintln!(
        "{kills} kills in {took:?}: {sent} shares sent, {again} sent again, {} acknowledged, {} on \
         disk but not acknowledged, of {} that were under way at a kill and stale afterwards; {} in {} \
         windows; lost 0, counted twice 0",
        audited.acknowledged,
        audited.unacknowledged,
        audited.may_be_unacknowledged,
        audited.shares.len(),
        audited.windows
    );
}
