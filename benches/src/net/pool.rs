//! A real node and a real coordinator, each a process, and blocks that come when the bench wants.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bitcoincore_rpc::{Client, RpcApi};
use serde_json::{Value, json};
use tempfile::TempDir;
use tutti_regtest::binaries::BIN_DIR_VARIABLE;
use tutti_regtest::daemon::Daemon;
use tutti_regtest::node::{ANYONE_CAN_SPEND_HEX, Node, NodeOptions};
use tutti_regtest::pool::operator_address;

use super::cpu::{self, Others};

const START_WITHIN: Duration = Duration::from_secs(30);
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// What is usual, and each flush of shares.
const LOG: &str = "warn,tutti_coordinator=info,tutti_coordinator::store=debug";

/// How a coordinator is set up.
#[derive(Clone, Copy, Debug)]
pub struct PoolOptions {
    /// Lanes of a template.
    pub lanes: u16,
    /// Nonces of a slot: lanes times shards.
    pub nonces: u16,
    /// How long signers have, ms.
    pub signatures_ms: u64,
}

/// A block that the node made and does not have yet.
pub struct Block(String);

/// The processes. Dropping it kills them.
pub struct Pool {
    coordinator: Daemon,
    binary: PathBuf,
    config: PathBuf,
    log: PathBuf,
    address: String,
    rpc: Client,
    node: Node,
    files: TempDir,
    /// Shares in the open window.
    replayable: u64,
}

impl Pool {
    /// Starts a node and a coordinator on it.
    pub fn start(options: PoolOptions) -> Result<Pool> {
        let node = Node::start(NodeOptions::default())?;
        let directory = tempfile::Builder::new().prefix("tutti-bench-").tempdir()?;
        let config = directory.path().join("coordinator.toml");
        fs::write(&config, config_text(&node, options))?;
        let log = directory.path().join("coordinator.log");
        let binary = coordinator()?;
        let (mut coordinator, address) = spawn(&binary, &config, &log)?;
        // It must have the present tip: the next one is to start the first round.
        coordinator.wait_event("template", START_WITHIN)?;
        Ok(Pool {
            coordinator,
            binary,
            config,
            log,
            address,
            rpc: node.rpc()?,
            node,
            files: directory,
            replayable: 0,
        })
    }

    /// Where participants connect, `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Height of the tip.
    pub fn height(&self) -> Result<u32> {
        Ok(self.node.height()?)
    }

    /// Makes the next block and keeps it from the node.
    pub fn next_block(&self) -> Result<Block> {
        let descriptor = format!("raw({ANYONE_CAN_SPEND_HEX})");
        let arguments = [json!(descriptor), json!([]), json!(false)];
        let block: Value = self.rpc.call("generateblock", &arguments)?;
        let hex = block["hex"].as_str().context("generateblock gives hex")?;
        Ok(Block(hex.to_owned()))
    }

    /// Hands a block to the node; gives the moment before.
    pub fn submit(&self, block: &Block) -> Result<Instant> {
        let submitted = Instant::now();
        let refused: Value = self.rpc.call("submitblock", &[json!(block.0)])?;
        ensure!(refused.is_null(), "the node refused a block: {refused}");
        Ok(submitted)
    }

    /// What the node alone needs: from a block's submission to a template on it, fetched by one who
    /// waits for the tip as the coordinator does.
    pub fn node_alone(&self) -> Result<Duration> {
        let block = self.next_block()?;
        let (height, rpc) = (self.height()? + 1, self.node.rpc()?);
        let waiter = std::thread::spawn(move || -> Result<Instant> {
            let arguments = [json!(height), json!(60_000)];
            let _tip: Value = rpc.call("waitforblockheight", &arguments)?;
            let rules = json!({"rules": ["segwit"]});
            let _template: Value = rpc.call("getblocktemplate", &[rules])?;
            Ok(Instant::now())
        });
        // The call must be there before the block; nothing tells when it is.
        std::thread::sleep(Duration::from_millis(20));
        let submitted = self.submit(&block)?;
        let fetched = waiter.join().ok().context("the waiter panicked")??;
        Ok(fetched.saturating_duration_since(submitted))
    }

    /// CPU time that the coordinator has used, all threads, user and system. Linux counts in ticks
    /// of 10 ms: to be divided by many rounds.
    pub fn cpu(&self) -> Result<Duration> {
        Ok(cpu::TICK * cpu::of_process(self.coordinator.pid())?)
    }

    /// What the machine has done for programs that are not of this bench.
    pub fn others(&self) -> Result<Others> {
        let ours = [
            Some(process::id()),
            Some(self.coordinator.pid()),
            self.node.pid(),
        ];
        Others::now(ours.into_iter().flatten())
    }

    /// Peak resident memory of the coordinator, kB.
    pub fn peak_memory(&self) -> Result<u64> {
        self.status("VmHWM:")
    }

    /// Resident memory of the coordinator, kB.
    pub fn memory(&self) -> Result<u64> {
        self.status("VmRSS:")
    }

    fn status(&self, name: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.coordinator.pid()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let text = line.with_context(|| format!("no {name} in status"))?;
        let number = text.split_whitespace().next().context("an empty line")?;
        Ok(number.parse()?)
    }

    /// Where the coordinator's files are: a file beside them has the same disk.
    pub fn directory(&self) -> &Path {
        self.files.path()
    }

    /// The times of the flushes that made so many shares durable, as its log says them.
    pub fn flushes(&mut self, shares: u64) -> Result<Vec<Duration>> {
        let (mut flushes, mut flushed) = (Vec::new(), 0);
        while flushed < shares {
            let line = self.coordinator.wait_event("flushed", START_WITHIN)?;
            flushed += line.number("shares")?;
            flushes.push(Duration::from_micros(line.number("micros")?));
        }
        ensure!(
            flushed == shares,
            "{flushed} shares are durable, {shares} acknowledged"
        );
        self.replayable += shares;
        Ok(flushes)
    }

    /// Shares of the open window.
    pub fn replayable(&self) -> u64 {
        self.replayable
    }

    /// Ends the coordinator and starts it on what it left; gives the time until it listens again.
    pub fn restart(&mut self) -> Result<Duration> {
        self.stop_coordinator()?;
        let started = Instant::now();
        (self.coordinator, self.address) = spawn(&self.binary, &self.config, &self.log)?;
        Ok(started.elapsed())
    }

    /// Stops the coordinator in an orderly way; the node stays.
    pub fn stop_coordinator(&mut self) -> Result<()> {
        let status = self.coordinator.terminate(STOP_WITHIN)?;
        ensure!(status.success(), "the coordinator ended with {status}");
        Ok(())
    }
}

/// Starts the coordinator, and waits until it listens; gives its address.
fn spawn(binary: &Path, config: &Path, log: &Path) -> Result<(Daemon, String)> {
    let mut command = Command::new(binary);
    command.arg("run").arg("--config").arg(config);
    command.env("RUST_LOG", LOG);
    let mut coordinator = Daemon::spawn("coordinator", command, log, None)?;
    let listening = coordinator.wait_event("listening", START_WITHIN)?;
    let address = listening.text("address")?.to_owned();
    Ok((coordinator, address))
}

/// Rounds come from new tips only; every header is a share and none is a block.
fn config_text(node: &Node, options: PoolOptions) -> String {
    format!(
        r#"network = "regtest"
data_dir = "coordinator"
listen = "127.0.0.1:0"
payout_address = "{operator}"
operator_fee_ppm = 10000
lanes = {lanes}
nonces_per_slot = {nonces}

[node]
rpc_url = "{url}"
cookie_file = "{cookie}"

[rounds]
signatures_ms = {signatures_ms}
refresh_ms = 3600000
regroup_ms = 60000
direct_after_ms = 3600000

[limits]
free_signers = 9999
shares_burst = 1000000
shares_per_second = 1000000

[shares]
z_min = 0
z_max = 0

[regtest]
block_zero_bits = 64

[log]
format = "json"
"#,
        operator = operator_address(),
        lanes = options.lanes,
        nonces = options.nonces,
        signatures_ms = options.signatures_ms,
        url = node.rpc_url(),
        cookie = node.cookie_file().display(),
    )
}

/// The coordinator's binary, built in this program's profile unless a directory with one is named.
fn coordinator() -> Result<PathBuf> {
    if let Some(directory) = env::var_os(BIN_DIR_VARIABLE) {
        return Ok(PathBuf::from(directory).join("tutti-coordinator"));
    }
    let own = env::current_exe()?;
    // Benches lie in target/<profile>/deps.
    let profile = own.parent().and_then(|deps| deps.parent());
    let profile = profile.context("this program lies in no target directory")?;
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .args(["build", "--quiet", "--locked", "-p", "tutti-coordinator"])
        .arg("--target-dir")
        .arg(profile.parent().context("no target directory")?);
    if profile.ends_with("release") {
        command.arg("--release");
    }
    let status = command.status().context("cannot run cargo")?;
    ensure!(status.success(), "cargo could not build the coordinator");
    Ok(profile.join("tutti-coordinator"))
}
