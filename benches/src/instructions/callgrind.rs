//! Counting with valgrind.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// Instructions of one path between the beginning and the end of the functions that match.
pub fn count(program: &Path, path: &str, functions: &str) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg("--collect-atstart=no")
        .arg(format!("--toggle-collect={functions}"))
        .arg(program)
        .args(["--path", path])
        .output()
        .context("cannot start valgrind, without which nothing is counted; install it (Debian: apt-get install valgrind)")?;
    let log = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{path} failed under valgrind:\n{log}"
    );
    let collected = log.lines().find_map(|line| line.split_once("Collected :"));
    let (_, number) = collected.with_context(|| format!("callgrind says no count:\n{log}"))?;
    let count: u64 = number
        .trim()
        .parse()
        .context("callgrind's count is no number")?;
    // A function that the compiler inlined is never entered.
    ensure!(count > 0, "nothing of {path} was counted");
    Ok(count)
}

/// The compiler's version.
pub fn rustc() -> Result<String> {
    let output = Command::new("rustc").arg("--version").output();
    let output = output.context("cannot ask rustc for its version")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
