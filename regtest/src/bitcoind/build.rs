//! Builds bitcoind and bitcoin-cli from the pinned source.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use super::build_log::BuildLog;
use super::cache::Slot;
use super::error::LocateError;
use super::pin::{Pin, contrib, fetch_source};
use super::report::{Report, minutes_and_seconds, percent_of_line};
use super::requirements::{self, Tools, find_tools};

/// Only the node and its command line client: no wallet, no tests, nothing that would need another
/// library. What the crate leaves out of Core's tree (wallet, ZeroMQ) is off by need.
const CONFIGURATION: [&str; 13] = [
    "-DCMAKE_BUILD_TYPE=Release",
    // A sixth less time to wait than for Core's -O2; a regtest node is never short of speed.
    "-DCMAKE_CXX_FLAGS_RELEASE=-O1",
    "-DENABLE_WALLET=OFF",
    "-DENABLE_IPC=OFF",
    "-DENABLE_EXTERNAL_SIGNER=OFF",
    "-DBUILD_TESTS=OFF",
    "-DBUILD_BENCH=OFF",
    "-DBUILD_TX=OFF",
    "-DBUILD_UTIL=OFF",
    "-DBUILD_BITCOIN_BIN=OFF",
    "-DBUILD_DAEMON=ON",
    "-DBUILD_CLI=ON",
    "-DWITH_EMBEDDED_ASMAP=OFF",
];

/// Measured CPU time of the build, for the estimate shown to the person who waits.
const CPU_TIME: Duration = Duration::from_secs(10 * 60);

/// What a build may do and where it looks for programs.
pub struct Builder<'a> {
    pub path: &'a OsStr,
    pub may_install: bool,
}

impl Builder<'_> {
    /// Builds into a directory beside the cache slot, then moves the result there in one step: a
    /// slot that exists is complete. The caller holds the slot's lock.
    pub fn build(
        &self,
        pin: &Pin,
        slot: &Slot,
        report: &mut dyn Report,
    ) -> Result<(), LocateError> {
        let started = Instant::now();
        let log = BuildLog::create(slot.log_path())?;
        let tools = self.tools(pin, &log, report)?;
        report.note(&format!(
            "getting Bitcoin Core's source (crate libbitcoinkernel-sys {}) through cargo",
            pin.version
        ));
        let source = fetch_source(pin)?;
        let cores = available_parallelism().map_or(1, usize::from);
        report.note(&format!(
            "building bitcoind from source, this once: about {} on {cores} {}; log: {}",
            estimate(cores),
            if cores == 1 { "core" } else { "cores" },
            log.path().display()
        ));
        slot.remove_leftovers()?;
        let tree = slot.create_build_dir()?;
        let built =
            compile(&tools, &source, &tree, cores, &log, report).and_then(|()| slot.move_in(&tree));
        // Hundreds of megabytes, of no use to anyone; the log is elsewhere.
        let _ = std::fs::remove_dir_all(&tree);
        built?;
        report.note(&format!(
            "built bitcoind in {}: {}",
            minutes_and_seconds(started.elapsed()),
            slot.bitcoind().display()
        ));
        Ok(())
    }

    fn tools(
        &self,
        pin: &Pin,
        log: &BuildLog,
        report: &mut dyn Report,
    ) -> Result<Tools, LocateError> {
        let with_libevent = pin.needs_libevent();
        let missing = match find_tools(self.path, with_libevent) {
            Ok(tools) => return Ok(tools),
            Err(missing) => missing,
        };
        requirements::install(&missing, self.path, self.may_install, log, report)?;
        find_tools(self.path, with_libevent).map_err(|missing| LocateError::MissingRequirements {
            missing: missing.iter().map(|r| r.what).collect(),
            why_not: "it is still not found after its package was installed",
            command: None,
        })
    }
}

fn estimate(cores: usize) -> String {
    let cores = u64::try_from(cores).unwrap_or(1).max(1);
    match (CPU_TIME.as_secs() / cores).div_ceil(60) {
        1 => "1 minute".to_owned(),
        minutes => format!("{minutes} minutes"),
    }
}

fn compile(
    tools: &Tools,
    source: &Path,
    tree: &Path,
    cores: usize,
    log: &BuildLog,
    report: &mut dyn Report,
) -> Result<(), LocateError> {
    let mut configure = Command::new(&tools.cmake);
    configure
        .arg("-S")
        .arg(source)
        .arg("-B")
        .arg(tree)
        .args(["-G", tools.generator])
        .args(CONFIGURATION)
        .arg(precompiled_headers());
    run("cmake's configuration", configure, log, report)?;

    let mut compile = Command::new(&tools.cmake);
    compile
        .arg("--build")
        .arg(tree)
        .args(["--parallel", &cores.to_string()])
        .args(["--target", "bitcoind", "bitcoin-cli"]);
    run("the compilation", compile, log, report)
}

fn precompiled_headers() -> OsString {
    let mut option = OsString::from("-DCMAKE_PROJECT_BitcoinCore_INCLUDE=");
    option.push(contrib().join("precompiled.cmake"));
    option
}

/// Runs one step with all its output in the log, and its percentages shown.
fn run(
    step: &'static str,
    mut command: Command,
    log: &BuildLog,
    report: &mut dyn Report,
) -> Result<(), LocateError> {
    let failed = |status: String| LocateError::Build {
        step,
        status,
        tail: log.tail(),
        log: log.path().to_owned(),
    };
    let mut copy = log.append()?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log.append()?)
        .spawn()
        .map_err(|e| failed(e.to_string()))?;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let Ok(line) = line else { break };
            // A full disk shows up as the build's own failure.
            let _ = copy.write_all(&line).and_then(|()| copy.write_all(b"\n"));
            if let Some(percent) = percent_of_line(&String::from_utf8_lossy(&line)) {
                report.percent(percent);
            }
        }
    }
    let status = child.wait().map_err(|e| failed(e.to_string()))?;
    if status.success() {
        return Ok(());
    }
    Err(failed(status.to_string()))
}

/// Where Core's build puts its programs.
pub(super) fn built_program(tree: &Path, name: &str) -> PathBuf {
    tree.join("bin").join(name)
}
