//! The start-up of a coordinator whose open window is full: its store is opened and read, every share
//! judged by its checksum and put back into the window's tree, and the state machine stands.
//!
//! Limit: reading the store's files, and hashing each share's header, leaf and one node.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use tutti_benches::past::{PastOptions, hashing, past, shares_of};
use tutti_benches::start::{fill, start};
use tutti_benches::{Measure, Printer};

const TIMES: usize = 5;

fn main() -> Result<()> {
    let mut printer = Printer::new("replay");
    for (miners, shares) in [(4, 30_000), (100, 30_000), (100, 100_000)] {
        let world = past(PastOptions {
            miners,
            lanes: 1,
            closed: 1,
            shares,
        })?;
        // What the coordinator reads again: the open window, and closed ones of rounds that live.
        let read = shares_of(&world.records).count();
        let directory = tempfile::Builder::new().prefix("tutti-bench-").tempdir()?;
        fill(directory.path(), &world.records)?;
        let params = world.coordinator.params();
        let mut times = Vec::new();
        for _ in 0..TIMES {
            let began = Instant::now();
            start(directory.path(), params, shares)?;
            times.push(began.elapsed());
        }
        times.sort_unstable();
        let took = times[TIMES / 2];
        let limit = read_files(directory.path())? + hashing(read);
        let rate = |time: Duration| read as f64 / time.as_secs_f64();
        printer.measure(&Measure {
            parameters: &[("miners", u64::from(miners)), ("shares", read as u64)],
            figure: "replay: shares/s",
            value: rate(took),
            unit: "1/s",
            limit: Some(rate(limit)),
        });
    }
    Ok(())
}

/// All files below a directory.
fn read_files(directory: &Path) -> Result<Duration> {
    let began = Instant::now();
    let mut open = vec![directory.to_owned()];
    while let Some(directory) = open.pop() {
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            match path.is_dir() {
                true => open.push(path),
                false => {
                    black_box(std::fs::read(path)?);
                }
            }
        }
    }
    Ok(began.elapsed())
}
