//! Which release an executable is, asked of the executable itself.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use thiserror::Error;

/// Oldest release that relays what Tutti broadcasts: version 3 transactions with a pay-to-anchor
/// output and package submission all became usable together in Bitcoin Core 28.
pub const OLDEST_SUPPORTED: Version = Version {
    major: 28,
    minor: 0,
    patch: 0,
};

/// `--version` answers within milliseconds; a loaded machine gets a large allowance.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(5);

/// Release number as printed by `bitcoind --version`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    pub major: u32,
    pub minor: u32,
    pub patch: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// Why an executable cannot serve as the node.
#[derive(Debug, Error)]
pub enum ProbeError {
    #[error("it cannot be started: {0}")]
    Start(#[source] io::Error),
    #[error("`--version` gave no answer within {} s", ANSWER_WITHIN.as_secs())]
    Silent,
    #[error("`--version` failed ({status}): {stderr}")]
    Failed { status: String, stderr: String },
    #[error("it is not bitcoind; `--version` answered: {answer:?}")]
    NotBitcoind { answer: String },
    #[error("it is version {found}, and Tutti needs {OLDEST_SUPPORTED} or newer")]
    TooOld { found: Version },
}

impl Version {
    /// Reads the first line of `bitcoind --version`, of Bitcoin Core or of a fork that keeps its
    /// form. The sister programs (`bitcoin-cli`, `bitcoin-tx`, ...) print the same numbers and are
    /// told apart here, so that nobody starts one of them as a node.
    pub fn parse(answer: &str) -> Option<Version> {
        let line = answer.lines().next()?;
        let (program, numbers) = line.split_once(" version v")?;
        if program.ends_with("client") || program.ends_with("utility") {
            return None;
        }
        let mut parts = numbers.split(|c: char| !c.is_ascii_digit());
        let mut part = || parts.next().and_then(|digits| digits.parse().ok());
        Some(Version {
            major: part()?,
            minor: part()?,
            patch: part().unwrap_or(0),
        })
    }
}

/// Runs `exe --version` and accepts only a bitcoind that is new enough.
pub fn probe(exe: &Path) -> Result<Version, ProbeError> {
    // Even for `--version` bitcoind reads, and writes, its data directory: never the user's, and
    // never one that another process uses at the same time.
    let data_dir = tempfile::tempdir().map_err(ProbeError::Start)?;
    let mut data_dir_option = OsString::from("-datadir=");
    data_dir_option.push(data_dir.path());
    let child = Command::new(exe)
        .arg("--version")
        .arg(data_dir_option)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(ProbeError::Start)?;
    let output = output_before_deadline(child)?;
    if !output.status.success() {
        return Err(ProbeError::Failed {
            status: output.status.to_string(),
            stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        });
    }
    let answer = String::from_utf8_lossy(&output.stdout);
    let found = Version::parse(&answer).ok_or_else(|| ProbeError::NotBitcoind {
        answer: answer.lines().next().unwrap_or_default().to_owned(),
    })?;
    if found < OLDEST_SUPPORTED {
        return Err(ProbeError::TooOld { found });
    }
    Ok(found)
}

fn output_before_deadline(mut child: Child) -> Result<Output, ProbeError> {
    let deadline = Instant::now() + ANSWER_WITHIN;
    while child.try_wait().map_err(ProbeError::Start)?.is_none() {
        if Instant::now() >= deadline {
            // It may be gone by now, which is what is wanted.
            let _ = child.kill();
            let _ = child.wait();
            return Err(ProbeError::Silent);
        }
        std::thread::sleep(POLL);
    }
    child.wait_with_output().map_err(ProbeError::Start)
}
