//! Another miner on the same core: pooler's cpuminer, which the machine's owner builds.

use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Lines of hashrate to read: it prints one soon after its start and then one every few seconds.
const LINES: usize = 3;

/// Why the peer has no figure.
#[derive(Debug)]
pub enum PeerError {
    Start(io::Error),
    /// It ended, or said no hashrate.
    Silent,
}

impl std::fmt::Display for PeerError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Start(error) => write!(f, "cannot start the peer: {error}"),
            Self::Silent => f.write_str("the peer's --benchmark prints no \"... khash/s\""),
        }
    }
}

impl std::error::Error for PeerError {}

/// Hashes per second of one thread of this `minerd`, by its own account; the best of several.
pub fn minerd(path: &Path) -> Result<f64, PeerError> {
    let child = Command::new(path)
        .args(["--benchmark", "--algo", "sha256d", "--threads", "1"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(PeerError::Start)?;
    let mut child = Running(child);
    let log = child.0.stderr.take().ok_or(PeerError::Silent)?;
    BufReader::new(log)
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| hashrate(&line))
        .take(LINES)
        .max_by(f64::total_cmp)
        .ok_or(PeerError::Silent)
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

/// `[...] thread 0: 68215600 hashes, 14408 khash/s`
fn hashrate(line: &str) -> Option<f64> {
    let (_, thread) = line.split_once("thread 0: ")?;
    let (_, rate) = thread.split_once(" hashes, ")?;
    let rate: f64 = rate.strip_suffix(" khash/s")?.parse().ok()?;
    Some(rate * 1e3)
}
