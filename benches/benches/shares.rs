//! Share intake of a real coordinator process: loopback gRPC, checked, durable, acknowledged. All
//! participants are played by this process on the same cores; see `tutti_benches::net`.
//!
//! - `shares/s`: every participant has its next share ready; so many are unanswered at any time (`unanswered`: more
//!   keep the coordinator busier, and wait longer), and any of those who may send is next. The limit, measured right after it: one thread hashes as many headers
//!   and appends the ledger's bytes of them to a file on the same disk with as many flushes. The limit with
//!   the network in it: two threads pass the same bytes, message by message, over as many plain TCP
//!   connections, and one of them hashes and appends too. Where others use the machine, the CPU time of a
//!   share says more: of the coordinator, and of this process, which is not what is measured.
//! - `load shape`: a share of each participant every 3 s; how many of those due were acknowledged. An error of
//!   any of them ends the bench.
//! - `follow`: the full check of a share by a participant that follows them; limit: its hashes alone.
//!   `audit` and `replay` are benches of their own too, on windows of a known size.
//! - `replay`: from the start of the process until it listens, on the shares of the open window.
//!
//! Options: `--json`, `--quick` (fewer participants, a few seconds), `--full` (300 s of the load shape with
//! 5,000 participants, then 10,000; takes many minutes), `--participants N` (only this case), `--unanswered N`,
//! `--flood` (without the load shape).

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use tutti_benches::net::cpu;
use tutti_benches::net::crowd::Crowd;
use tutti_benches::net::pool::{Pool, PoolOptions};
use tutti_benches::net::traffic::percentile;
use tutti_benches::past::{PastOptions, archive, hashing, past};
use tutti_benches::shares::flood::Flood;
use tutti_benches::shares::follow::follow;
use tutti_benches::shares::limit::hash_and_append;
use tutti_benches::shares::load::{Load, Loaded};
use tutti_benches::shares::network::{Traffic, send_hash_append_and_answer};
use tutti_benches::{Measure, Printer};
use tutti_proto::id::{JobId, LaneIndex, WindowSeq};
use tutti_proto::message::{Share, ShareAck, ToCoordinator, ToParticipant};
use tutti_proto::wire::ToWire;

/// P2TR payees of one payout transaction.
const PAYEES_PER_SHARD: usize = 230;
/// Unanswered shares of all participants: what 50,000 shares/s have under way in 20 ms.
const UNANSWERED: usize = 1_024;
/// With few connections the coordinator waits for its disk with so many: there are two batches of them.
const MORE_UNANSWERED: usize = 2_048;
/// The load shape's pace.
const SHARE_EVERY: Duration = Duration::from_secs(3);
/// Files that this process may open, those of its own left out: the participants' connections, and those of the
/// limit, of which it has both ends.
const FILES: usize = 19_500;
/// All participants are told to start before they do.
const START_AFTER: Duration = Duration::from_millis(500);

#[derive(Clone, Copy)]
struct Case {
    participants: usize,
    unanswered: usize,
    /// How long as many shares as possible are sent.
    flood: Duration,
    /// How long the load shape lasts, if it is run.
    shape: Option<Duration>,
}

fn main() -> Result<()> {
    let mut printer = Printer::new("shares");
    for case in cases() {
        run(case, &mut printer)?;
    }
    full_check(&mut printer)
}

/// What each participant does with the shares of all.
fn full_check(printer: &mut Printer) -> Result<()> {
    let options = PastOptions {
        miners: 100,
        lanes: 4,
        closed: 2,
        shares: 10_000,
    };
    let archive = archive(&past(options)?)?;
    let each = |time: Duration| time.as_secs_f64() * 1e6 / options.shares as f64;
    printer.measure(&Measure {
        parameters: &[("participants", u64::from(options.miners))],
        figure: "follow: a share",
        value: each(follow(&archive, options.shares)?),
        unit: "us",
        limit: Some(each(hashing(options.shares))),
    });
    Ok(())
}

fn cases() -> Vec<Case> {
    let asked = |option: &str| std::env::args().any(|argument| argument == option);
    let (quick, full) = (asked("--quick"), asked("--full"));
    let seconds = Duration::from_secs;
    let case = |participants, shape: Option<u64>| Case {
        participants,
        unanswered: UNANSWERED,
        flood: seconds(if quick { 3 } else { 10 }),
        shape: shape.map(seconds),
    };
    let more = Case {
        unanswered: MORE_UNANSWERED,
        ..case(100, None)
    };
    let mut cases = match (quick, full) {
        (true, _) => vec![case(1, None), case(100, Some(6))],
        (_, false) => vec![case(1, None), case(100, None), more, case(5_000, Some(20))],
        (_, true) => vec![
            case(1, None),
            case(100, None),
            more,
            case(1_000, None),
            case(5_000, Some(300)),
            case(10_000, None),
        ],
    };
    if let Some(only) = number_of("--participants") {
        cases.retain(|case| case.participants == only);
        if cases.is_empty() {
            cases.push(case(only, Some(20)));
        }
    }
    if let Some(unanswered) = number_of("--unanswered") {
        cases.dedup_by_key(|case| case.participants);
        cases
            .iter_mut()
            .for_each(|case| case.unanswered = unanswered);
    }
    if asked("--flood") {
        cases.iter_mut().for_each(|case| case.shape = None);
    }
    cases
}

fn number_of(option: &str) -> Option<usize> {
    let mut arguments = std::env::args().skip_while(|argument| argument != option);
    arguments.nth(1)?.parse().ok()
}

fn run(case: Case, printer: &mut Printer) -> Result<()> {
    // The operator is a payee too.
    let shards = (case.participants + 1).div_ceil(PAYEES_PER_SHARD);
    let mut pool = Pool::start(PoolOptions {
        lanes: 1,
        nonces: u16::try_from(shards)?,
        signatures_ms: 30_000,
    })?;
    let mut table = Table { printer, case };
    let mut crowd = Crowd::new(pool.address())?;
    let before = pool.memory()?;
    // One signs; who is paid only costs the intake as much.
    crowd.join(1, true)?;
    crowd.join(case.participants - 1, false)?;
    let block = pool.next_block()?;
    let height = pool.height()? + 2;
    pool.submit(&block)?;
    crowd.follow(height, false)?;
    let memory = pool.memory()?.saturating_sub(before) as f64 / case.participants as f64;
    table.figure("memory per participant", memory, "kB", None);

    let (coordinator, generator) = (pool.cpu()?, cpu::own()?);
    let flood = flood(case, &mut crowd)?;
    let (coordinator, generator) = (pool.cpu()? - coordinator, cpu::own()? - generator);
    let flushes = pool.flushes(flood.acknowledged)?;
    let count = u64::try_from(flushes.len())?;
    let limit = hash_and_append(pool.directory(), flood.acknowledged, count)?;
    let value = flood.in_time as f64 / case.flood.as_secs_f64();
    let limit = flood.acknowledged as f64 / limit.as_secs_f64();
    table.figure("shares/s", value, "1/s", Some(limit));
    let traffic = Traffic {
        connections: case
            .participants
            .min(FILES.saturating_sub(case.participants) / 2),
        shares: flood.acknowledged,
        flushes: count,
        unanswered: case.unanswered,
        share_bytes: share_bytes(flood.acknowledged),
        answer_bytes: answer_bytes(flood.acknowledged),
    };
    let limit = send_hash_append_and_answer(pool.directory(), traffic)?;
    let limit = flood.acknowledged as f64 / limit.as_secs_f64();
    table.figure("shares/s, network in the limit", value, "1/s", Some(limit));
    table.latencies("acknowledged", &flood);
    for (whose, time) in [("coordinator", coordinator), ("generator", generator)] {
        let each = time.as_secs_f64() * 1e6 / flood.acknowledged as f64;
        table.figure(&format!("  {whose}'s CPU per share"), each, "us", None);
    }
    let each = flood.acknowledged as f64 / count as f64;
    table.figure("  shares of one flush", each, "count", None);
    let flush = percentile(flushes.into_iter(), 0.5);
    table.figure("  a flush, median", flush.as_secs_f64() * 1e6, "us", None);

    if let Some(lasts) = case.shape {
        let shape = shape(case, lasts, &mut crowd)?;
        let due = lasts.as_secs_f64() / SHARE_EVERY.as_secs_f64() * case.participants as f64;
        let answered = shape.acknowledged as f64;
        table.figure("load shape: acknowledged", answered, "count", Some(due));
        let rejected = shape.rejected as f64;
        table.figure("load shape: rejected", rejected, "count", None);
        table.latencies("load shape", &shape);
        pool.flushes(shape.acknowledged)?;
    }
    drop(crowd);
    let shares = pool.replayable();
    let took = pool.restart()?;
    let rate = shares as f64 / took.as_secs_f64();
    table.figure("replay: shares read", shares as f64, "count", None);
    table.figure("replay: shares/s", rate, "1/s", None);
    let each = pool.cpu()?.as_secs_f64() * 1e6 / shares as f64;
    table.figure("  CPU per share read", each, "us", None);
    Ok(())
}

/// What HTTP/2 and gRPC put before a message.
const FRAMING: usize = 9 + 5;

/// Bytes of a share's message.
fn share_bytes(seq: u64) -> usize {
    let share = ToCoordinator::Share(Share {
        seq,
        job: JobId(1),
        lane: LaneIndex(0),
        version: 0x3fff_e000,
        time: u32::MAX,
        nonce: 1 << 20,
    });
    FRAMING + share.encode().len()
}

/// Bytes of what acknowledges it.
fn answer_bytes(seq: u64) -> usize {
    let ack = ToParticipant::ShareAck(ShareAck {
        window: WindowSeq(1),
        seqs: vec![seq],
    });
    FRAMING + ack.encode().len()
}

/// As many shares as go through.
fn flood(case: Case, crowd: &mut Crowd) -> Result<Loaded> {
    let all = crowd.flood(Flood {
        each: (case.unanswered / case.participants).max(1),
        all: case.unanswered,
        lasts: case.flood,
    })?;
    ensure!(all.rejected == 0, "{} shares were refused", all.rejected);
    Ok(all)
}

/// A share of each every so often, not all at once.
fn shape(case: Case, lasts: Duration, crowd: &mut Crowd) -> Result<Loaded> {
    let from = Instant::now() + START_AFTER;
    let every = u32::try_from(case.participants)?;
    let load = |number: usize| {
        let offset = SHARE_EVERY * u32::try_from(number).unwrap_or(0) / every;
        Load {
            every: SHARE_EVERY,
            from: from + offset,
            until: from + offset + lasts,
        }
    };
    Ok(sum(crowd.load(load)?))
}

fn sum(all: Vec<Loaded>) -> Loaded {
    let mut sum = Loaded::default();
    for loaded in all {
        sum.in_time += loaded.in_time;
        sum.acknowledged += loaded.acknowledged;
        sum.rejected += loaded.rejected;
        sum.latencies.extend(loaded.latencies);
    }
    sum
}

struct Table<'a> {
    printer: &'a mut Printer,
    case: Case,
}

impl Table<'_> {
    fn figure(&mut self, figure: &str, value: f64, unit: &'static str, limit: Option<f64>) {
        self.printer.measure(&Measure {
            parameters: &[
                ("participants", self.case.participants as u64),
                ("unanswered", self.case.unanswered as u64),
            ],
            figure,
            value,
            unit,
            limit,
        });
    }

    fn latencies(&mut self, what: &str, loaded: &Loaded) {
        let times = || loaded.latencies.iter();
        let times = || times().map(|us| Duration::from_micros(u64::from(*us)));
        for (name, part) in [("median", 0.5), ("99th percentile", 0.99), ("worst", 1.0)] {
            let time = percentile(times(), part).as_secs_f64() * 1e6;
            self.figure(&format!("{what}, {name}"), time, "us", None);
        }
    }
}
