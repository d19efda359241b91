//! Another miner on the same core: pooler's cpuminer, which the machine's owner builds.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use crate::net::cpu::{TICK, of_process};

/// Lines of hashrate to read: one soon after its start, and then one every few seconds.
const LINES: usize = 3;

/// Hashes per second of the CPU time of one thread of this `minerd`; the best of several times. By the
/// clock it would have less where the machine has other work too.
pub fn minerd(path: &Path) -> Result<f64> {
    let child = Command::new(path)
        .args(["--benchmark", "--algo", "sha256d", "--threads", "1"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start the peer")?;
    let mut child = Running(child);
    let log = child.0.stderr.take().context("no stderr")?;
    let lines = BufReader::new(log).lines().map_while(Result::ok);
    let (mut before, mut best) = (of_process(child.0.id())?, None::<f64>);
    for hashes in lines.filter_map(|line| hashes(&line)).take(LINES) {
        let now = of_process(child.0.id())?;
        let seconds = f64::from(now - before) * TICK.as_secs_f64();
        before = now;
        let rate = hashes / seconds.max(TICK.as_secs_f64());
        best = Some(best.map_or(rate, |best| best.max(rate)));
    }
    best.context("the peer's --benchmark prints no \"thread 0: ... hashes\"")
}

/// Ended with its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `[...] thread 0: 68215600 hashes, 14408 khash/s`: hashes since the last such line.
fn hashes(line: &str) -> Option<f64> {
    let (_, thread) = line.split_once("thread 0: ")?;
    let (hashes, _) = thread.split_once(" hashes, ")?;
    hashes.parse().ok()
}
