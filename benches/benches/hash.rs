//! SHA-256d header hashing on one core, and how fast the hasher's threads are on a new job.
//!
//! For each kernel of this CPU, MH/s beside the limit of its instructions: a hash takes at least as
//! long as its instructions would if none of them waited for another.
//!
//! | kernel            | a hash takes, at least                                                   |
//! |-------------------|--------------------------------------------------------------------------|
//! | `portable`, `avx2`, `avx512` | all instructions on vectors (words) at the rate of additions alone; its rotations and shifts at the rate of rotations alone |
//! | `sha-ni`          | `sha256rnds2` at its rate alone; these with `sha256msg1` and `msg2`, at the rate of the three alone |
//!
//! So limit = min over the two of (instructions per second alone / instructions per hash). Both factors
//! are rows of their own. The instructions per hash are counted (`Steps::of_a_hash`): 120 rounds less
//! what is constant, with 116 `maj`, 236 big and 156 small sigmas and 1,042 additions, and for each of
//! these what the CPU needs, e.g. a big sigma of AVX-512 three rotations and a `vpternlogd`.
//!
//! Peers are `bitcoin_hashes`, which hashes whole headers, and with `--peer PATH` pooler's cpuminer, of
//! which PATH is a `minerd`.
//!
//! `--rates` leaves out the changes of jobs, `--switches` all but these. A rate is that of the best of
//! many short runs, so other programs hardly change it; a change of jobs waits for the scheduler like any
//! thread, and says something only where the machine is this bench's: what others took is a row too.

#![forbid(unsafe_code)]

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use tutti_benches::hash::{Machine, Switches, bitcoin_hashes, minerd, switches};
use tutti_benches::net::cpu::Others;
use tutti_benches::{Measure, Printer};
use tutti_participant::miner::{Kernel, KernelChoice};

fn main() -> anyhow::Result<()> {
    let mut printer = Printer::new("hash");
    let asked = |name: &str| std::env::args().any(|argument| argument == name);
    let chosen = KernelChoice::Auto.kernel()?;
    if !asked("--switches") {
        let machine = Machine::measure();
        print(&mut printer, "clock", machine.hertz / 1e9, "GHz", None);
        for kernel in Kernel::available() {
            kernel_rows(&mut printer, machine, kernel);
        }
        peer_rows(&mut printer, machine, chosen)?;
    }
    if !asked("--rates") {
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get() as u32);
        for threads in [1, cores, 4 * cores] {
            let threads = NonZeroU32::new(threads).context("a machine has cores")?;
            switch_rows(&mut printer, chosen, threads)?;
        }
    }
    Ok(())
}

fn kernel_rows(printer: &mut Printer, machine: Machine, kernel: Kernel) {
    let demands = kernel.demands();
    let rates = demands.map(|demand| machine.instructions(kernel, &demand));
    for (demand, rate) in demands.iter().zip(rates) {
        let figure = format!("{kernel} needs {}", demand.instructions);
        print(printer, &figure, demand.per_hash, "/hash", None);
        let figure = format!("{kernel} does {}", demand.instructions);
        print(printer, &figure, rate / machine.hertz, "/cycle", None);
    }
    let limit =
        |(demand, rate): (&tutti_participant::miner::kernel::Demand, f64)| rate / demand.per_hash;
    let limit = demands
        .iter()
        .zip(rates)
        .map(limit)
        .fold(f64::MAX, f64::min);
    let hashes = machine.hashes(kernel);
    let figure = format!("{kernel} cycles per hash");
    let cycles = |per_second: f64| machine.hertz / per_second;
    print(
        printer,
        &figure,
        cycles(hashes),
        "cycle",
        Some(cycles(limit)),
    );
    print(
        printer,
        kernel.name(),
        hashes / 1e6,
        "MH/s",
        Some(limit / 1e6),
    );
}

/// The chosen kernel, with the peer as its limit.
fn peer_rows(printer: &mut Printer, machine: Machine, chosen: Kernel) -> anyhow::Result<()> {
    let library = bitcoin_hashes() / 1e6;
    let figure = format!("{chosen} beside bitcoin_hashes");
    print(
        printer,
        &figure,
        machine.hashes(chosen) / 1e6,
        "MH/s",
        Some(library),
    );
    let mut arguments = std::env::args()
        .skip_while(|argument| argument != "--peer")
        .skip(1);
    if let Some(path) = arguments.next().map(PathBuf::from) {
        let peer = minerd(&path)? / 1e6;
        for kernel in Kernel::available() {
            let figure = format!("{kernel} beside cpuminer");
            print(
                printer,
                &figure,
                machine.hashes(kernel) / 1e6,
                "MH/s",
                Some(peer),
            );
        }
    }
    Ok(())
}

/// The limit is the same from idleness: waking up and beginning, without leaving anything.
fn switch_rows(printer: &mut Printer, kernel: Kernel, threads: NonZeroU32) -> anyhow::Result<()> {
    let others = || Others::now([std::process::id()].into_iter());
    let before = others()?;
    let busy = switches(threads, kernel, false)?;
    let others = others()?.since(before);
    let idle = switches(threads, kernel, true)?;
    let parameters = [("threads", threads.get().into())];
    printer.measure(&Measure {
        parameters: &parameters,
        figure: "machine taken by other programs",
        value: others,
        unit: "%",
        limit: None,
    });
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    for (name, place) in [("median", 500), ("p99", 990), ("max", 1_000)] {
        let of = |switches: &Switches| micros(switches.per_mille(place));
        printer.measure(&Measure {
            parameters: &parameters,
            figure: &format!("new job in all threads, {name}"),
            value: of(&busy),
            unit: "us",
            limit: Some(of(&idle)),
        });
    }
    Ok(())
}

fn print(printer: &mut Printer, figure: &str, value: f64, unit: &'static str, limit: Option<f64>) {
    printer.measure(&Measure {
        parameters: &[("threads", 1)],
        figure,
        value,
        unit,
        limit,
    });
}
