//! The start-up of a coordinator whose open window is full: its store is opened and read, every share
//! judged by its checksum and put back into the window's tree, and the state machine stands.
//!
//! Limit: reading the store's files, and hashing each share's header, leaf and one node.

use std::hint::black_box;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bitcoin::Network;
use tutti_benches::past::{PastOptions, hashing, past, shares_of};
use tutti_benches::{Measure, Printer};
use tutti_coordinator::store::Store;
use tutti_proto::coordinator::{Coordinator, Record, Settings};
use tutti_tests::sim::{identity_key, script};

/// Records of one flush while the store is filled.
const BATCH: usize = 1_000;
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
            times.push(start(directory.path(), params, shares)?);
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

fn fill(directory: &Path, records: &[Record]) -> Result<()> {
    let mut store = Store::open(directory, Network::Regtest)?;
    for batch in records.chunks(BATCH) {
        store.save(batch)?;
    }
    Ok(())
}

fn start(
    directory: &Path,
    params: &tutti_proto::params::PoolParams,
    shares: usize,
) -> Result<Duration> {
    let began = Instant::now();
    let store = Store::open(directory, Network::Regtest)?;
    let replayed = store.replay(&params.coordinator, |_, _| ())?;
    ensure!(
        replayed.records >= shares as u64,
        "the shares were not read"
    );
    let (coordinator, _) = Coordinator::new(
        identity_key(0),
        params.clone(),
        Settings::default(),
        script(0),
        replayed.restored,
        &[1; 32],
    );
    black_box(coordinator.ledger().head());
    Ok(began.elapsed())
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
