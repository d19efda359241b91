//! Many seeds of the simulator: `cargo run --release -p tutti-tests --bin soak -- --seeds 10000`.
//!
//! Progress goes to stderr, one JSON object to stdout. `--plant wrong-amount` or `--plant kept-key`
//! plants a fault that the run must report as a violation.

#![forbid(unsafe_code)]

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::json;
use tutti_tests::sim::{Outcome, Plant, Trial};

/// How often progress is told.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Runs the pool simulator over many seeds and reports broken invariants.
#[derive(Parser)]
struct Options {
    /// How many seeds.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first seed.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Threads [default: one for each core].
    #[arg(long)]
    threads: Option<usize>,
    /// Has the coordinator lie, in place of the other faults.
    #[arg(long, conflicts_with = "plant")]
    lies: bool,
    /// Plants a fault that must be found: wrong-amount or kept-key.
    #[arg(long, value_parser = plant)]
    plant: Option<Plant>,
}

fn plant(text: &str) -> Result<Plant, String> {
    Plant::parse(text).ok_or_else(|| format!("{text:?} is neither wrong-amount nor kept-key"))
}

fn main() -> ExitCode {
    let options = Options::parse();
    let cores = thread::available_parallelism().map_or(1, usize::from);
    let threads = options.threads.unwrap_or(cores).max(1);
    let (outcomes, inbox) = mpsc::channel();
    for thread in 0..threads {
        let outcomes = outcomes.clone();
        let seeds = (options.from..options.from.saturating_add(options.seeds))
            .skip(thread)
            .step_by(threads);
        thread::spawn(move || {
            for seed in seeds {
                let outcome = if options.lies {
                    Trial::run_lied_to(seed)
                } else {
                    Trial::run(seed, options.plant)
                };
                if outcomes.send((seed, outcome)).is_err() {
                    return;
                }
            }
        });
    }
    drop(outcomes);
    let total = report(&inbox, options.seeds);
    println!("{}", summary(options.seeds, &total));
    if total.violations.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Sums the outcomes, and tells what is found as it is found.
fn report(inbox: &mpsc::Receiver<(u64, Outcome)>, seeds: u64) -> Outcome {
    let mut total = Outcome::default();
    let (started, mut told) = (Instant::now(), Instant::now());
    let mut done = 0u64;
    while let Ok((seed, outcome)) = inbox.recv() {
        done += 1;
        total.steps += outcome.steps;
        total.attempts_restarted += outcome.attempts_restarted;
        total.rounds += outcome.rounds;
        total.lies += outcome.lies;
        total.worst_idle = total.worst_idle.max(outcome.worst_idle);
        for violation in outcome.violations {
            eprintln!("seed {seed}: {violation}");
            total.violations.push(violation);
        }
        if told.elapsed() >= TELL_EVERY || (done == seeds && std::io::stderr().is_terminal()) {
            told = Instant::now();
            let seconds = started.elapsed().as_secs();
            eprintln!(
                "{done} of {seeds} seeds, {} rounds, {seconds} s",
                total.rounds
            );
        }
    }
    total
}

fn summary(seeds: u64, total: &Outcome) -> serde_json::Value {
    let soak = if total.violations.is_empty() {
        "ok"
    } else {
        "violated"
    };
    json!({
        "soak": soak,
        "seeds": seeds,
        "steps": total.steps,
        "violations": total.violations.len(),
        "attempts_restarted": total.attempts_restarted,
        "rounds": total.rounds,
        "lies": total.lies,
        "worst_idle_ms": total.worst_idle.0,
    })
}
