//! Twelve miners, a coordinator and bitcoind as real processes. At moments dealt from a seed, while
//! rounds are signed and blocks come, one miner is stopped, two are killed, and the connection of a
//! fourth is cut in the middle of a message. The others always have a job, every committed round is
//! complete on their disks, and the chain pays everybody to the sat.
//!
//! The seed is printed, and in every error; `TUTTI_SEED` chooses it.

mod audit;
mod pauses;
mod script;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::json;
use tutti_regtest::binaries::Binaries;
use tutti_regtest::node::{Node, NodeOptions};
use tutti_regtest::pool::{Miner, Pool, PoolOptions, miner_name};
use tutti_regtest::proxy::Proxy;

use script::{Episode, Fault, MINERS, Moment, Script};
use watch::{STEP, Watch};

/// Of one miner, hashes per second.
const HASHRATE: u64 = 24_000;

/// All that runs.
struct Scene {
    started: Instant,
    pool: Pool,
    miners: Vec<Miner>,
    proxy: Proxy,
    script: Script,
    watch: Watch,
    spared: Vec<String>,
    /// When the node was asked for each block that we mined, microseconds.
    asked: BTreeMap<String, i64>,
}

fn options() -> PoolOptions {
    PoolOptions {
        // A block of the pool every few seconds: by our own hands come the others.
        block_zero_bits: 20,
        // All work of the test counts, whenever it was done.
        pplns_depth: 64,
        direct_payees: 39,
        share_interval_ms: 300,
        ..PoolOptions::default()
    }
}

#[test]
fn with_one_stopped_two_killed_and_one_cut_off_the_others_always_have_a_job_and_all_are_paid()
-> Result<()> {
    let seed = match std::env::var("TUTTI_SEED") {
        Ok(seed) => seed.parse().context("TUTTI_SEED is a number")?,
        Err(_) => u64::from(SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_nanos()),
    };
    let root = tempfile::tempdir()?;
    let run = play(seed, root.path());
    run.with_context(|| format!("seed {seed}; logs and data are kept in {:?}", root.keep()))
}

fn play(seed: u64, root: &Path) -> Result<()> {
    let script = Script::new(seed);
    eprintln!("TUTTI_SEED={seed}: {script:?}");
    let mut scene = Scene::open(script, root)?;
    scene.say("all hash, and have work accepted");
    let first = scene.watch.tips.len();
    let begun = scene.watch.committed.len();
    for episode in scene.script.episodes.clone() {
        scene.play(episode)?;
    }
    scene.all_work_goes_on()?;
    scene.say("all that are spared went on, and the one that was cut off is back");
    let last = scene.watch.tips.len();
    let committed = scene.committed_since(begun)?;
    let checked = audit::disks(&scene.miners, &scene.script, &committed)?;

    let found = scene.pool_finds_a_block()?;
    scene.say("the pool found a block");
    let paid = scene.payouts_are_mined(&found)?;
    scene.say("its payout is mined");
    scene.everybody_comes_back()?;
    scene.say("all twelve hash again");
    let paid_sat = audit::to_the_sat(&scene.miners, &scene.watch, &options(), &paid)?;

    let pauses = scene.print_pauses(first, last)?;
    let flood = scene.longest_pause(last)?;
    println!(
        "{}",
        json!({
            "twelve_miners": "ok",
            "seed": seed,
            "tips": last - first,
            "rounds": committed.len(),
            "attempts_failed": scene.watch.failed,
            "payouts_verified": checked,
            "blocks_paid": paid.len(),
            "paid_sat": paid_sat,
            "longest_pause_ms": pauses.last().map(millis),
            "median_pause_ms": pauses.get(pauses.len() / 2).map(millis),
            "longest_pause_in_a_flood_of_tips_ms": millis(&flood),
            "seconds": scene.started.elapsed().as_secs(),
        })
    );
    Ok(())
}

/// With one digit after the point.
fn millis(micros: &i64) -> f64 {
    (micros / 100) as f64 / 10.0
}

fn now() -> Result<i64> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(i64::try_from(now.as_micros())?)
}

impl Scene {
    /// Starts everything; returns once all hash and have work accepted.
    fn open(script: Script, root: &Path) -> Result<Scene> {
        let started = Instant::now();
        let (sender, lines) = channel();
        let node = Node::start(NodeOptions::default())?;
        let pool = Pool::start(root, node, Binaries::ready()?, &options(), Some(sender))?;
        let proxy = Proxy::start(&pool.address)?;
        let mut miners = Vec::new();
        let mut spared = Vec::new();
        for number in 0..MINERS {
            let mut miner = pool.add_miner(&miner_name(number), HASHRATE)?;
            if number == script.cut {
                pool.route(&miner, &proxy.address())?;
            }
            if script.spares(number) {
                spared.push(miner.name.clone());
            }
            pool.run_miner(&mut miner, &[])?;
            miners.push(miner);
        }
        let names: BTreeSet<String> = spared.iter().cloned().collect();
        let mut watch = Watch::new(lines, names);
        let all: Vec<String> = miners.iter().map(|miner| miner.name.clone()).collect();
        watch.until("all hash", |watch| watch.are_on_tip(&all))?;
        // So that whoever is struck has something to be paid for.
        watch.until("work of all", |watch| watch.accepted.len() == MINERS)?;
        let asked = BTreeMap::new();
        Ok(Scene {
            started,
            pool,
            miners,
            proxy,
            script,
            watch,
            spared,
            asked,
        })
    }

    fn say(&self, what: &str) {
        eprintln!("{:>5.1} s  {what}", self.started.elapsed().as_secs_f64());
    }

    /// One new tip, with its fault; returns once the spared hash on it, or on a later one.
    fn play(&mut self, episode: Episode) -> Result<()> {
        self.watch.listen(Duration::from_millis(episode.after))?;
        let Some((who, fault, moment)) = episode.fault else {
            return self.new_tip();
        };
        match moment {
            Moment::BeforeTip(ms) => {
                self.strike(who, fault)?;
                self.watch.listen(Duration::from_millis(ms))?;
                self.new_tip()?;
            }
            Moment::Signing(ms) => {
                let is_cut = matches!(fault, Fault::Cut { .. });
                if is_cut {
                    self.strike(who, fault)?;
                }
                let height = self.mine_tip()?;
                self.watch
                    .until("a round for the new tip", |watch| watch.proposed >= height)?;
                self.watch.listen(Duration::from_millis(ms))?;
                if !is_cut {
                    self.strike(who, fault)?;
                }
                self.spared_follow()?;
            }
            Moment::Hashing(ms) => {
                self.new_tip()?;
                self.watch.listen(Duration::from_millis(ms))?;
                self.strike(who, fault)?;
            }
        }
        if matches!(fault, Fault::Cut { .. }) {
            let cut = self.proxy.wait_cut(STEP)?;
            self.say(&format!("{}: {cut:?}", self.miners[who].name));
            ensure!(
                cut.torn.is_some_and(|torn| torn.data),
                "no message was torn: {cut:?}"
            );
        }
        Ok(())
    }

    fn strike(&mut self, who: usize, fault: Fault) -> Result<()> {
        self.say(&format!("{}: {fault:?}", self.miners[who].name));
        let miner = &mut self.miners[who];
        match fault {
            Fault::Stop => miner.daemon()?.signal(Signal::SIGSTOP),
            Fault::Kill => miner.daemon()?.kill(),
            Fault::Cut {
                direction,
                payload,
                refused,
            } => {
                self.proxy.refuse(refused);
                self.proxy.tear_data(direction, payload);
                Ok(())
            }
        }
    }

    /// Makes the node's tip a new one; gives the height of the block after it.
    fn mine_tip(&mut self) -> Result<u64> {
        let asked = now()?;
        let hash = self.pool.node.mine_empty()?;
        self.asked.insert(hash.to_string(), asked);
        let hash = hash.to_string();
        self.watch.until("the coordinator sees the tip", |watch| {
            watch.tips.iter().any(|tip| tip.hash == hash)
        })?;
        let tip = self.watch.tips.iter().find(|tip| tip.hash == hash);
        Ok(tip.context("it was seen")?.height)
    }

    fn spared_follow(&mut self) -> Result<()> {
        let spared = &self.spared;
        self.watch.until("the spared hash on the tip", |watch| {
            watch.are_on_tip(spared)
        })
    }

    fn new_tip(&mut self) -> Result<()> {
        self.mine_tip()?;
        self.spared_follow()
    }

    /// The spared have work accepted after the last fault, and the one that was cut off is back.
    fn all_work_goes_on(&mut self) -> Result<()> {
        let before = self.watch.accepted.clone();
        let spared = self.spared.iter();
        let miners = self.miners.iter();
        let ids: Vec<&String> = miners
            .filter(|miner| spared.clone().any(|name| *name == miner.name))
            .map(|miner| &miner.identity)
            .collect();
        self.watch.until("work of all that are spared", |watch| {
            ids.iter()
                .all(|id| watch.accepted.get(*id) > before.get(*id))
        })?;
        let cut = &self.miners[self.script.cut];
        self.watch
            .until("the one that was cut off is back", |watch| {
                let joined = watch.miners.get(&cut.name).map(|miner| miner.joined);
                joined >= Some(2)
                    && watch.left.contains_key(&cut.identity)
                    && watch.are_on_tip([&cut.name])
            })?;
        self.spared_follow()
    }

    /// Rounds committed since, all of which the spared say they hold.
    fn committed_since(&mut self, begun: usize) -> Result<Vec<watch::Committed>> {
        let committed = self.watch.committed[begun..].to_vec();
        ensure!(!committed.is_empty(), "no round was committed");
        let spared = &self.spared;
        self.watch
            .until("the spared hold every committed round", |watch| {
                spared.iter().all(|name| {
                    let held = watch.miners.get(name).map(|miner| &miner.held);
                    held.is_some_and(|held| committed.iter().all(|it| held.contains(&it.seq)))
                })
            })?;
        Ok(committed)
    }

    /// The next block of the pool, and all that it found before.
    fn pool_finds_a_block(&mut self) -> Result<Vec<watch::Found>> {
        let before = self.watch.found.len();
        self.watch
            .until("a block of the pool", |watch| watch.found.len() > before)?;
        Ok(self.watch.found.clone())
    }

    /// Matures the blocks; somebody broadcasts their payouts, and they are mined.
    fn payouts_are_mined(&mut self, found: &[watch::Found]) -> Result<Vec<audit::Paid>> {
        let node = &self.pool.node;
        let last = found.iter().map(|found| found.height).max();
        let ripe = last.context("a block was found")? + 99;
        let missing = ripe.saturating_sub(u64::from(node.height()?));
        node.mine(u32::try_from(missing)?)?;
        let spares = |miner: &&Miner| self.watch.spares(&miner.name);
        let witness = self.miners.iter().find(spares);
        let witness = witness.context("somebody is spared")?;
        let mut all = Vec::new();
        for found in found {
            let block = node.block(&found.hash.parse()?)?;
            let coinbase = block.txdata.first().context("a coinbase")?.clone();
            let txid = coinbase.compute_txid().to_string();
            self.watch.until("sight of the pool's block", |watch| {
                let heard = watch.miners.get(&witness.name);
                heard.is_some_and(|heard| heard.seen.contains(&txid))
            })?;
            let held = audit::held(witness, &txid)?;
            let payout = held["payout_txids"][0].as_str().map(str::to_owned);
            all.push((found.round.clone(), coinbase, payout, held));
        }
        self.watch.until("broadcast of all payouts", |watch| {
            let mut payouts = all.iter().filter_map(|(_, _, payout, _)| payout.as_ref());
            payouts.all(|payout| watch.broadcast.contains_key(payout))
        })?;
        node.mine(1)?;
        let mut paid = Vec::new();
        for (round, coinbase, txid, held) in all {
            let Some(txid) = txid else {
                let payout = coinbase.clone();
                paid.push(audit::Paid {
                    round,
                    coinbase,
                    held,
                    payout,
                });
                continue;
            };
            let block = |watch: &Watch| {
                let heard = watch.miners.get(&witness.name)?;
                heard.confirmed.get(&txid).cloned()
            };
            self.watch
                .until("the payout in a block", |watch| block(watch).is_some())?;
            let block = block(&self.watch).context("it was heard of")?;
            let mut mined = node.block(&block.parse()?)?.txdata.into_iter();
            let payout = mined.find(|tx| tx.compute_txid().to_string() == txid);
            paid.push(audit::Paid {
                round,
                coinbase,
                held,
                payout: payout.context("the payout is in the block")?,
            });
        }
        Ok(paid)
    }

    /// The stopped one goes on, the killed ones are started again; all hash.
    fn everybody_comes_back(&mut self) -> Result<()> {
        let stopped = self.script.stopped;
        self.miners[stopped].daemon()?.signal(Signal::SIGCONT)?;
        for killed in self.script.killed {
            self.pool.run_miner(&mut self.miners[killed], &[])?;
        }
        let all: Vec<String> = self.miners.iter().map(|miner| miner.name.clone()).collect();
        for what in ["all twelve hash", "all twelve follow the next tip"] {
            self.watch.until(what, |watch| watch.are_on_tip(&all))?;
            self.mine_tip()?;
        }
        self.watch
            .until("all twelve hash at the end", |watch| watch.are_on_tip(&all))
    }
}
