//! Rounds of a real coordinator process on a real node, over gRPC on loopback: from a new tip to
//! every participant's job. See `tutti_benches::net` for who does what.
//!
//! `signers` are participants that sign; the coordinator signs as well. Times are from the moment
//! before a block is handed to the node (`tip`) or from the first proposal at any participant
//! (`proposal`) to the last participant's job of that round. Each tip has a second round, for the
//! height after it, which is signed ahead: at the tip everyone moves to it first (`jobs signed
//! ahead`). Bytes and CPU time are of both rounds, and of a share that everyone sends.
//!
//! All participants sign on this machine, which in a pool each does on its own. So answers are held
//! back until all are made and then sent at once: a round's time is the coordinator's and the
//! network's before and after that, plus one participant's own check and signing. What comes of not
//! holding back is printed too, as `all on this machine`; rounds with a silent signer are such.
//!
//! Limits are measured in the same run: what the node alone needs (`tip` only), the same bytes over
//! bare gRPC, and the primitive operations of MuSig2.
//!
//! Options: `--json`, `--quick` (a few cases, few rounds), `--full` (up to 1,000 signers, and
//! 10,000 payees; takes many minutes), `--signers N`, `--lanes V` and `--payees P` (only these of the
//! cases; P is of those who have earned a share and left).

mod table;

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tutti_benches::Printer;
use tutti_benches::net::crowd::Crowd;
use tutti_benches::net::echo;
use tutti_benches::net::limit::arithmetic;
use tutti_benches::net::pool::{Pool, PoolOptions};
use tutti_benches::net::traffic::percentile;

use table::{Limits, Messages, Sample, Table};

/// A participant gets one message of its quota back in 50 ms, and announces two slots for each tip;
/// the coordinator decodes them 100 ms later, which no tip of the next minutes would meet.
const TIP_EVERY: Duration = Duration::from_millis(400);
/// P2TR payees of one payout transaction.
const PAYEES_PER_SHARD: usize = 230;
/// For each tip: the present height's, and the next one's ahead.
const ROUNDS_PER_TIP: u64 = 2;
/// Payees that are connected at once while they earn their share.
const PAYEES_AT_ONCE: usize = 250;
const WARM_UP: usize = 3;
const LIMIT_ROUNDS: usize = 15;

#[derive(Clone, Copy)]
struct Case {
    signers: usize,
    /// Further payees, who have earned a share and left.
    payees: usize,
    lanes: u16,
    /// Tips of the measurement.
    rounds: usize,
    /// Rounds with a signer that has fallen silent; it is backed off for the first 5 s. Without
    /// any, this machine may take its time to sign for so many.
    silent_rounds: usize,
}

fn main() -> Result<()> {
    if echo::serve_if_asked()? {
        return Ok(());
    }
    let mut printer = Printer::new("round_net");
    for case in cases() {
        run(case, &mut printer)?;
    }
    Ok(())
}

fn cases() -> Vec<Case> {
    let asked = |option: &str| std::env::args().any(|argument| argument == option);
    let (only_signers, only_lanes) = (number_of("--signers"), number_of("--lanes"));
    let only_payees = number_of("--payees");
    let is_wanted = |case: &Case| {
        only_signers.is_none_or(|only| only == case.signers)
            && only_lanes.is_none_or(|only| only == usize::from(case.lanes))
            && only_payees.is_none_or(|only| only == case.payees)
    };
    let mut cases = Vec::new();
    let mut add = |all_signers: &[usize], all_lanes: &[u16], payees, rounds, silent_rounds| {
        for &signers in all_signers {
            for &lanes in all_lanes {
                cases.push(Case {
                    signers,
                    payees,
                    lanes,
                    rounds,
                    silent_rounds,
                });
            }
        }
    };
    if asked("--quick") {
        add(&[2, 10], &[1], 0, 20, 5);
    } else {
        add(&[2, 10, 50, 100], &[1, 4], 0, 60, 30);
    }
    if asked("--full") {
        add(&[250, 1_000], &[1, 4], 0, 20, 0);
        add(&[100], &[1, 4], 10_000, 20, 0);
    }
    cases.retain(is_wanted);
    cases
}

fn number_of(option: &str) -> Option<usize> {
    let mut arguments = std::env::args().skip_while(|argument| argument != option);
    arguments.nth(1)?.parse().ok()
}

/// A pool in which rounds are made one at a time.
struct Stage {
    pool: Pool,
    crowd: Crowd,
    last_tip: Instant,
}

impl Stage {
    fn set_up(case: Case) -> Result<Stage> {
        // All signers are payees, and so is the operator.
        let payees = case.signers + case.payees + 1;
        let shards = u16::try_from(payees.div_ceil(PAYEES_PER_SHARD))?;
        let pool = Pool::start(PoolOptions {
            lanes: case.lanes,
            nonces: case.lanes * shards,
            signatures_ms: if case.silent_rounds > 0 {
                2_000
            } else {
                30_000
            },
        })?;
        let mut crowd = Crowd::new(pool.address())?;
        crowd.join(case.signers, true)?;
        let last_tip = Instant::now();
        let mut stage = Stage {
            pool,
            crowd,
            last_tip,
        };
        // In the first round all get a job, and earn a share of it.
        stage.round(false)?;
        let mut left = case.payees;
        while left > 0 {
            let now = left.min(PAYEES_AT_ONCE);
            stage.crowd.join(now, false)?;
            stage.round(false)?;
            stage.crowd.leave(case.signers);
            left -= now;
        }
        for _ in 0..WARM_UP {
            stage.round(false)?;
        }
        let plan = stage.round(false)?.round.plan;
        ensure!(
            plan.signers() == case.signers + 1,
            "{} signers and the coordinator were to sign, {} did",
            case.signers,
            plan.signers()
        );
        ensure!(
            plan.payees() >= case.signers + case.payees,
            "{} payees were to be paid, {} are",
            case.signers + case.payees,
            plan.payees()
        );
        Ok(stage)
    }

    /// A new tip, its round, and what comes after it: everyone has a share of it acknowledged,
    /// before which its slots are noted too.
    fn round(&mut self, hold: bool) -> Result<Sample> {
        self.crowd.prepare()?;
        std::thread::sleep(TIP_EVERY.saturating_sub(self.last_tip.elapsed()));
        let block = self.pool.next_block()?;
        let height = self.pool.height()? + 2;
        let tip = self.pool.submit(&block)?;
        self.last_tip = tip;
        let round = self.crowd.follow(height, hold)?;
        self.crowd.share(0)?;
        let participants = u32::try_from(self.crowd.len())?;
        Ok(Sample {
            tip,
            round,
            participants,
        })
    }

    fn rounds(&mut self, count: usize, hold: bool) -> Result<Vec<Sample>> {
        (0..count).map(|_| self.round(hold)).collect()
    }
}

fn run(case: Case, printer: &mut Printer) -> Result<()> {
    let mut stage = Stage::set_up(case)?;
    let traffic = stage.crowd.traffic()?;
    let (cpu, others) = (stage.pool.cpu()?, stage.pool.others()?);
    let samples = stage.rounds(case.rounds, true)?;
    let cpu = stage.pool.cpu()?.saturating_sub(cpu);
    let others = stage.pool.others()?.since(others);
    let traffic = stage.crowd.traffic()?.since(&traffic);
    let messages = Messages {
        traffic,
        times: (case.rounds * case.signers) as u64,
    };
    let at_once = stage.rounds(case.rounds / 2, false)?;
    let memory = stage.pool.peak_memory()?;

    if case.silent_rounds > 0 {
        stage.crowd.be_silent(case.signers - 1, true)?;
    }
    let with_silent = stage.rounds(case.silent_rounds, false)?;

    let Stage {
        mut pool, crowd, ..
    } = stage;
    drop(crowd);
    pool.stop_coordinator()?;
    let node: Result<Vec<Duration>> = (0..LIMIT_ROUNDS).map(|_| pool.node_alone()).collect();
    let payouts = samples.first().map_or(0, |s| s.round.plan.payouts());
    let limits = Limits {
        node: percentile(node?.into_iter(), 0.5),
        echo: echo::round_trip(case.signers, messages.sizes(), LIMIT_ROUNDS)?,
        arithmetic: arithmetic(case.signers + 1, payouts)?,
    };
    let mut table = Table {
        printer,
        case,
        payouts,
        silent: 0,
    };
    table.times(&samples, &limits);
    table.limits(&limits);
    table.at_once(&at_once);
    table.messages(&messages);
    let per_round = cpu.as_secs_f64() * 1e6 / case.rounds as f64;
    table.figure("coordinator's CPU per tip", per_round, "us", None);
    table.figure("coordinator's peak memory", memory as f64, "kB", None);
    table.figure("CPU taken by other programs", others, "%", None);
    if case.silent_rounds > 0 {
        table.silent = 1;
        table.silent(&with_silent);
    }
    Ok(())
}
