//! What the daemons' logs say, put together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tutti_regtest::daemon::Line;

/// How long anything may take that is waited for.
pub const STEP: Duration = Duration::from_secs(120);

/// What takes a miner's job away, or shows that it could not take the next one.
const NO_JOB: [&str; 7] = [
    "idle",
    "disconnected",
    "plan_refused",
    "bad_commit",
    "unsigned_job",
    "bad_order",
    "out_of_order",
];

/// A new tip, as the coordinator learnt of it.
#[derive(Clone, Debug)]
pub struct Tip {
    /// The block.
    pub hash: String,
    /// Height of the next one.
    pub height: u64,
    /// When the coordinator had its template, microseconds.
    pub at: i64,
}

/// A committed round, as the coordinator tells it.
#[derive(Clone, Debug)]
pub struct Committed {
    pub seq: u64,
    pub round: String,
    pub payouts: u64,
}

/// A block of the pool that the node took.
#[derive(Clone, Debug)]
pub struct Found {
    pub hash: String,
    pub height: u64,
    pub round: String,
}

/// One miner's log.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// Jobs handed to its hasher: when, and on which block.
    pub jobs: Vec<(i64, String)>,
    /// Whether its hasher has a job now.
    pub hashing: bool,
    /// Numbers of the rounds that it says it holds.
    pub held: BTreeSet<u64>,
    /// Addresses that its wallet wants to be paid at.
    pub addresses: BTreeSet<String>,
    /// Times that it was let into the pool.
    pub joined: u32,
    /// Coinbases of the pool's blocks that its own node showed it.
    pub seen: BTreeSet<String>,
    /// Payouts that its own node showed it in a block, and the block.
    pub confirmed: BTreeMap<String, String>,
}

/// All of them.
pub struct Watch {
    lines: Receiver<Line>,
    /// Miners that nothing is done to.
    spared: BTreeSet<String>,
    pub miners: BTreeMap<String, Heard>,
    pub tips: Vec<Tip>,
    /// Height of the newest proposal.
    pub proposed: u64,
    pub committed: Vec<Committed>,
    pub found: Vec<Found>,
    /// Work that the coordinator accepted, by identity.
    pub accepted: BTreeMap<String, u128>,
    /// The same at the first proposal of each round.
    pub accepted_before: BTreeMap<u64, BTreeMap<String, u128>>,
    /// Payouts, and who was the first to broadcast them.
    pub broadcast: BTreeMap<String, String>,
    /// Attempts that failed, by reason.
    pub failed: BTreeMap<String, u64>,
    /// Sessions that the coordinator saw end, by identity.
    pub left: BTreeMap<String, u64>,
}

impl Watch {
    pub fn new(lines: Receiver<Line>, spared: BTreeSet<String>) -> Self {
        Self {
            lines,
            spared,
            miners: BTreeMap::new(),
            tips: Vec::new(),
            proposed: 0,
            committed: Vec::new(),
            found: Vec::new(),
            accepted: BTreeMap::new(),
            accepted_before: BTreeMap::new(),
            broadcast: BTreeMap::new(),
            failed: BTreeMap::new(),
            left: BTreeMap::new(),
        }
    }

    /// Listens until it holds.
    pub fn until(&mut self, what: &str, holds: impl Fn(&Watch) -> bool) -> Result<()> {
        let deadline = Instant::now() + STEP;
        while !holds(self) {
            ensure!(self.hear(deadline)?, "{what}: not within {STEP:?}");
        }
        Ok(())
    }

    /// Listens for a time.
    pub fn listen(&mut self, time: Duration) -> Result<()> {
        let deadline = Instant::now() + time;
        while self.hear(deadline)? {}
        Ok(())
    }

    /// Listens to one line; `false` if there was none in time.
    fn hear(&mut self, deadline: Instant) -> Result<bool> {
        let left = deadline.saturating_duration_since(Instant::now());
        let Ok(line) = self.lines.recv_timeout(left) else {
            return Ok(false);
        };
        match line.from.as_str() {
            "coordinator" => self.coordinator(&line)?,
            _ => self.miner(&line)?,
        }
        Ok(true)
    }

    fn coordinator(&mut self, line: &Line) -> Result<()> {
        let text = |field| line.text(field).map(str::to_owned);
        match line.event() {
            "template" if line.fields["new_tip"] == true => self.tips.push(Tip {
                hash: text("previous_block")?,
                height: line.number("height")?,
                at: line.micros()?,
            }),
            "proposed" => {
                self.proposed = line.number("height")?;
                let before = self.accepted.clone();
                let round = self.accepted_before.entry(line.number("seq")?);
                round.or_insert(before);
            }
            "committed" => self.committed.push(Committed {
                seq: line.number("seq")?,
                round: text("round")?,
                payouts: line.number("payouts")?,
            }),
            "attempt_failed" => *self.failed.entry(text("reason")?).or_default() += 1,
            "left" => *self.left.entry(text("identity")?).or_default() += 1,
            "share_accepted" => {
                let work = 1u128 << line.number("z")?;
                *self.accepted.entry(text("identity")?).or_default() += work;
            }
            "block_accepted" => self.found.push(Found {
                hash: text("hash")?,
                height: line.number("height")?,
                round: text("round")?,
            }),
            // The coordinator is the first to look.
            "payout_broadcast" => {
                self.broadcast.insert(text("payout_txid")?, line.from.clone());
            }
            "unplannable" | "log_left_out" => bail!("the coordinator says: {}", line.fields),
            _ => {}
        }
        Ok(())
    }

    fn miner(&mut self, line: &Line) -> Result<()> {
        let miner = self.miners.entry(line.from.clone()).or_default();
        let event = line.event();
        // The assertion of this test: from its first job on, whoever is spared has one at all times.
        let spared = self.spared.contains(&line.from) && miner.hashing;
        ensure!(
            !(spared && NO_JOB.contains(&event)),
            "{}, to which nothing was done, is without its job: {}",
            line.from,
            line.fields
        );
        match event {
            "mining" => {
                ensure!(line.number("slices")? > 0, "a job without a slice");
                let block = line.text("previous_block")?.to_owned();
                miner.jobs.push((line.micros()?, block));
                miner.hashing = true;
            }
            "idle" | "identity" => miner.hashing = false,
            "holding" => {
                miner.held.insert(line.number("seq")?);
            }
            "joined" => miner.joined += 1,
            "pool_block_seen" => {
                miner.seen.insert(line.text("coinbase_txid")?.to_owned());
            }
            "payout_confirmed" => {
                let block = line.text("block_hash")?.to_owned();
                let payout = line.text("payout_txid")?.to_owned();
                miner.confirmed.insert(payout, block);
            }
            "payout_broadcast" if line.fields["by_us"] == true => {
                let payout = line.text("payout_txid")?.to_owned();
                self.broadcast.insert(payout, line.from.clone());
            }
            "new_payout_address" => {
                miner.addresses.insert(line.text("address")?.to_owned());
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether nothing is done to this miner.
    pub fn spares(&self, name: &str) -> bool {
        self.spared.contains(name)
    }

    /// Whether all of these hash on the newest tip.
    pub fn are_on_tip<'a>(&self, names: impl IntoIterator<Item = &'a String>) -> bool {
        let Some(tip) = self.tips.last() else {
            return false;
        };
        names.into_iter().all(|name| {
            self.miners.get(name).is_some_and(|miner| {
                let newest = miner.jobs.last();
                miner.hashing && newest.is_some_and(|(_, block)| *block == tip.hash)
            })
        })
    }

    /// A miner's pause at each tip from `first` on, microseconds: from the coordinator's template of
    /// the tip to the moment when the miner's hasher is handed a job on that block or a later one.
    /// Meanwhile it hashes on a block that is no longer the tip, which pays nobody. A miner that
    /// learns of the tip before the coordinator has its template makes no pause.
    pub fn pauses(&self, name: &str, first: usize) -> Result<Vec<i64>> {
        let place: BTreeMap<&str, usize> = self
            .tips
            .iter()
            .enumerate()
            .map(|(place, tip)| (tip.hash.as_str(), place))
            .collect();
        let jobs = &self.miners.get(name).context("a known miner")?.jobs;
        let tips = self.tips.iter().enumerate().skip(first);
        tips.map(|(number, tip)| {
            let is_on = |block: &str| place.get(block).is_some_and(|place| *place >= number);
            let job = jobs.iter().find(|(_, block)| is_on(block));
            let (at, _) = job.with_context(|| format!("{name} never hashed on {}", tip.hash))?;
            Ok((at - tip.at).max(0))
        })
        .collect()
    }
}
