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
//! 10,000 payees; takes many minutes), `--signers N` and `--lanes V` (only these of the cases).

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tutti_benches::net::crowd::{Crowd, Round};
use tutti_benches::net::echo::{self, Sizes};
use tutti_benches::net::limit::{Arithmetic, arithmetic};
use tutti_benches::net::player::Kind;
use tutti_benches::net::pool::{Pool, PoolOptions};
use tutti_benches::net::traffic::{Traffic, percentile};
use tutti_benches::{Measure, Printer};

/// A participant gets one message of its quota back in 50 ms, and announces two slots for each tip.
const TIP_EVERY: Duration = Duration::from_millis(105);
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

/// One round's times.
struct Sample {
    tip: Instant,
    round: Round,
    participants: u32,
}

impl Sample {
    /// Everything, this machine's share of signing for all included.
    fn in_all(&self) -> Duration {
        self.round.jobs.duration_since(self.tip)
    }

    /// To the round that was signed ahead.
    fn tip_to_ahead(&self) -> Option<Duration> {
        Some(self.round.ahead?.duration_since(self.tip))
    }

    fn tip_to_proposal(&self) -> Duration {
        self.round.proposed.duration_since(self.tip)
    }

    fn proposals(&self) -> Duration {
        let Round {
            proposed,
            proposed_to_all,
            ..
        } = self.round;
        proposed_to_all.duration_since(proposed)
    }

    /// One participant's own part: its check, which is made once for all, and its signing.
    fn participant(&self) -> Duration {
        self.round.plan.took + self.round.signing / self.participants
    }

    fn answers_to_jobs(&self) -> Duration {
        self.round.jobs.duration_since(self.round.answered)
    }

    /// With a machine for each participant, as answers that are held back simulate.
    fn proposal_to_jobs(&self) -> Duration {
        self.proposals() + self.participant() + self.answers_to_jobs()
    }

    fn tip_to_jobs(&self) -> Duration {
        self.tip_to_proposal() + self.proposal_to_jobs()
    }
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
    let is_wanted = |case: &Case| {
        only_signers.is_none_or(|only| only == case.signers)
            && only_lanes.is_none_or(|only| only == usize::from(case.lanes))
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

struct Limits {
    node: Duration,
    echo: Duration,
    arithmetic: Arithmetic,
}

impl Limits {
    /// From the proposal on: the network, a participant, the coordinator.
    fn after_proposal(&self) -> Duration {
        let Arithmetic {
            planning,
            signing,
            combining,
        } = self.arithmetic;
        self.echo + planning + signing + combining
    }

    /// Before it: the node, and the coordinator's plan.
    fn before_proposal(&self) -> Duration {
        self.node + self.arithmetic.planning
    }
}

/// Bytes of all participants at all tips.
struct Messages {
    traffic: Traffic,
    /// Tips times participants.
    times: u64,
}

impl Messages {
    fn received(&self, kind: Kind) -> f64 {
        let bytes = self.traffic.received.get(&kind).copied().unwrap_or(0);
        bytes as f64 / self.times as f64
    }

    fn sent(&self, kind: Kind) -> f64 {
        let bytes = self.traffic.sent.get(&kind).copied().unwrap_or(0);
        bytes as f64 / self.times as f64
    }

    fn sizes(&self) -> Sizes {
        let proposal = self.received(Kind::WindowClosed) + self.received(Kind::Proposal);
        let answer = self.sent(Kind::TxComplete) + self.sent(Kind::TxSignatures);
        let commit = self.received(Kind::Commit) + self.received(Kind::Job);
        let of_one = |bytes: f64| (bytes / ROUNDS_PER_TIP as f64) as usize;
        Sizes {
            proposal: of_one(proposal),
            answer: of_one(answer),
            commit: of_one(commit),
        }
    }
}

struct Table<'a> {
    printer: &'a mut Printer,
    case: Case,
    payouts: usize,
    silent: u64,
}

impl Table<'_> {
    fn figure(&mut self, figure: &str, value: f64, unit: &'static str, limit: Option<f64>) {
        let parameters = [
            ("signers", self.case.signers as u64),
            ("silent", self.silent),
            ("lanes", u64::from(self.case.lanes)),
            ("payouts", self.payouts as u64),
            ("payees", (self.case.signers + self.case.payees) as u64),
        ];
        self.printer.measure(&Measure {
            parameters: &parameters,
            figure,
            value,
            unit,
            limit,
        });
    }

    fn time(&mut self, figure: &str, time: Duration, limit: Option<Duration>) {
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        self.figure(figure, micros(time), "us", limit.map(micros));
    }

    fn times(&mut self, samples: &[Sample], limits: &Limits) {
        let (before, after) = (limits.before_proposal(), limits.after_proposal());
        let rank = |time: fn(&Sample) -> Duration, part| percentile(samples.iter().map(time), part);
        let median = |time| rank(time, 0.5);
        let ahead = samples.iter().filter_map(Sample::tip_to_ahead);
        let ahead = percentile(ahead, 0.5);
        self.time("tip -> jobs signed ahead, median", ahead, Some(limits.node));
        let from_tip = median(Sample::tip_to_jobs);
        self.time("tip -> jobs, median", from_tip, Some(before + after));
        let worst = rank(Sample::tip_to_jobs, 0.99);
        self.time("tip -> jobs, 99th percentile", worst, None);
        let from_proposal = median(Sample::proposal_to_jobs);
        self.time("proposal -> jobs, median", from_proposal, Some(after));
        let worst = rank(Sample::proposal_to_jobs, 0.99);
        self.time("proposal -> jobs, 99th percentile", worst, None);
        let to_proposal = median(Sample::tip_to_proposal);
        self.time("  tip -> proposal", to_proposal, Some(before));
        self.time(
            "  proposal at one -> at all",
            median(Sample::proposals),
            None,
        );
        let check = median(|sample| sample.round.plan.took);
        self.time("  a participant's check", check, None);
        let signing = median(|sample| sample.participant() - sample.round.plan.took);
        self.time("  a participant's signing", signing, None);
        let rest = median(Sample::answers_to_jobs);
        self.time("  all answers -> jobs", rest, None);
    }

    fn at_once(&mut self, samples: &[Sample]) {
        let rank = |part| percentile(samples.iter().map(Sample::in_all), part);
        let (median, worst) = (rank(0.5), rank(0.99));
        self.time("all on this machine, median", median, None);
        self.time("all on this machine, 99th perc.", worst, None);
    }

    fn limits(&mut self, limits: &Limits) {
        self.time("limit: node alone", limits.node, None);
        self.time("limit: bare gRPC", limits.echo, None);
        let Arithmetic {
            planning,
            signing,
            combining,
        } = limits.arithmetic;
        self.time("limit: keys and sessions", planning, None);
        self.time("limit: a participant's signing", signing, None);
        self.time("limit: sums and verification", combining, None);
    }

    fn messages(&mut self, messages: &Messages) {
        let all = |bytes: &std::collections::BTreeMap<Kind, u64>| {
            bytes.values().sum::<u64>() as f64 / messages.times as f64
        };
        let received = all(&messages.traffic.received);
        self.figure("to a participant per tip", received, "bytes", None);
        for kind in [Kind::Proposal, Kind::WindowClosed, Kind::Commit, Kind::Job] {
            let figure = format!("  {kind:?}");
            self.figure(&figure, messages.received(kind), "bytes", None);
        }
        let sent = all(&messages.traffic.sent);
        self.figure("from a participant per tip", sent, "bytes", None);
        for kind in [Kind::TxSignatures, Kind::Slots] {
            let figure = format!("  {kind:?}");
            self.figure(&figure, messages.sent(kind), "bytes", None);
        }
    }

    /// The rounds that a silent signer cost an attempt, and the others.
    fn silent(&mut self, samples: &[Sample]) {
        let (held_up, after): (Vec<&Sample>, Vec<&Sample>) =
            samples.iter().partition(|s| s.round.plan.attempt() > 0);
        let rank = |samples: &[&Sample], part| {
            percentile(samples.iter().map(|sample| sample.in_all()), part)
        };
        self.time("tip -> jobs, the silent round", rank(&held_up, 0.5), None);
        self.time("tip -> jobs after it, median", rank(&after, 0.5), None);
        self.time("tip -> jobs after it, 99th perc.", rank(&after, 0.99), None);
        self.figure("rounds held up", held_up.len() as f64, "count", None);
    }
}
