//! A whole pool of real processes: bitcoind, coordinator, participants.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::Sender;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use bitcoin::key::TweakedPublicKey;
use bitcoin::{Address, Network, XOnlyPublicKey};
use serde_json::Value;

use crate::binaries::Binaries;
use crate::daemon::{Daemon, Line};
use crate::node::Node;

/// How a pool is set up.
#[derive(Clone, Debug)]
pub struct PoolOptions {
    /// Lanes of a template.
    pub lanes: u16,
    /// Operator's part, parts per million.
    pub operator_fee_ppm: u32,
    /// Leading zero bits that make a share a block.
    pub block_zero_bits: u8,
    /// A template of the same tip is refreshed after this time, ms.
    pub refresh_ms: u64,
    /// Aim of variable difficulty, ms between two shares of a miner.
    pub share_interval_ms: u64,
    /// Depth of the scoring, in multiples of a block's expected hashes.
    pub pplns_depth: u32,
    /// Most payees of a coinbase that pays directly; 0: all blocks are paid by signed payouts.
    pub direct_payees: u16,
    /// How long to gather newcomers before a round is made for them, ms.
    pub regroup_ms: u64,
    /// Easiest share, leading zero bits.
    pub z_min: u8,
    /// Hardest share, leading zero bits.
    pub z_max: u8,
    /// What the coordinator's log says: this and everything more severe.
    pub log_level: &'static str,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            lanes: 2,
            operator_fee_ppm: 10_000,
            block_zero_bits: 22,
            refresh_ms: 2_000,
            share_interval_ms: 1_000,
            pplns_depth: 8,
            direct_payees: 0,
            regroup_ms: 250,
            z_min: 8,
            z_max: 96,
            log_level: "debug",
        }
    }
}

/// The operator's output on regtest: BIP341's key without a known discrete logarithm.
pub fn operator_address() -> Address {
    let key = "50929b74c1a04954b78b4b6035e97a5e078a5a0f28ec96d547bfee9ace803ac0";
    let key: XOnlyPublicKey = key.parse().expect("BIP341's constant is a point");
    Address::p2tr_tweaked(
        TweakedPublicKey::dangerous_assume_tweaked(key),
        Network::Regtest,
    )
}

/// Files and processes of a pool.
pub struct Pool {
    /// The node that all of them use.
    pub node: Node,
    /// The coordinator, while it lives.
    pub coordinator: Option<Daemon>,
    /// Its address once it listens.
    pub address: String,
    root: PathBuf,
    binaries: Binaries,
    listener: Option<Sender<Line>>,
}

/// A miner's directory, and its process while it runs.
pub struct Miner {
    /// Its name: alice, bob, ...
    pub name: String,
    /// Identity, hex.
    pub identity: String,
    /// The first address of its wallet, to which its first payouts pay.
    pub first_address: String,
    /// The process, if it runs.
    pub daemon: Option<Daemon>,
    config: PathBuf,
    participant: PathBuf,
}

/// Names for miners, in order.
const NAMES: [&str; 12] = [
    "alice", "bob", "carol", "dave", "erin", "frank", "grace", "heidi", "ivan", "judy", "mallory",
    "niaj",
];

/// The n-th miner's name.
pub fn miner_name(number: usize) -> String {
    NAMES
        .get(number)
        .map_or_else(|| format!("miner{number}"), |name| (*name).to_owned())
}

impl Pool {
    /// Starts a coordinator on this node, all files below `root`.
    pub fn start(
        root: &Path,
        node: Node,
        binaries: Binaries,
        options: &PoolOptions,
        listener: Option<Sender<Line>>,
    ) -> Result<Pool> {
        fs::create_dir_all(root).with_context(|| format!("cannot create {}", root.display()))?;
        let mut pool = Pool {
            node,
            coordinator: None,
            address: String::new(),
            root: root.to_owned(),
            binaries,
            listener,
        };
        let config = pool.coordinator_config(options);
        fs::write(pool.root.join("coordinator.toml"), config)
            .context("cannot write coordinator.toml")?;
        pool.start_coordinator()?;
        Ok(pool)
    }

    /// Starts the coordinator from its configuration; also after it was killed.
    pub fn start_coordinator(&mut self) -> Result<()> {
        let mut daemon = self.spawn_coordinator()?;
        let listening = daemon.wait_event("listening", Duration::from_secs(30))?;
        self.address = listening.text("address")?.to_owned();
        self.coordinator = Some(daemon);
        Ok(())
    }

    /// Starts a coordinator process, which does not listen yet.
    pub fn spawn_coordinator(&self) -> Result<Daemon> {
        let mut command = Command::new(self.binaries.coordinator());
        command
            .arg("run")
            .arg("--config")
            .arg(self.root.join("coordinator.toml"));
        let log = self.root.join("coordinator.log");
        Daemon::spawn("coordinator", command, &log, self.listener.clone())
    }

    /// What the running pool tells anyone of itself.
    pub fn info(&self) -> Result<Value> {
        let address = format!("http://{}", self.address);
        let mut command = Command::new(self.binaries.coordinator());
        command.args(["info", "--json", "--address", &address]);
        let output = command.output().context("cannot run the coordinator")?;
        let why = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "info failed: {why}");
        serde_json::from_slice(&output.stdout).context("info prints no JSON")
    }

    fn coordinator_config(&self, options: &PoolOptions) -> String {
        let PoolOptions {
            lanes,
            operator_fee_ppm,
            block_zero_bits,
            refresh_ms,
            share_interval_ms,
            pplns_depth,
            direct_payees,
            regroup_ms,
            z_min,
            z_max,
            log_level,
        } = options;
        format!(
            r#"network = "regtest"
data_dir = "coordinator"
listen = "127.0.0.1:0"
tag = "/Tutti/"
payout_address = "{operator}"
operator_fee_ppm = {operator_fee_ppm}
lanes = {lanes}
pplns_depth = {pplns_depth}
direct_payees = {direct_payees}

[node]
rpc_url = "{url}"
cookie_file = "{cookie}"

[rounds]
refresh_ms = {refresh_ms}
regroup_ms = {regroup_ms}

[limits]
shares_burst = 1000000
shares_per_second = 1000000

[shares]
interval_ms = {share_interval_ms}
z_min = {z_min}
z_max = {z_max}

[regtest]
block_zero_bits = {block_zero_bits}

[log]
format = "json"
level = "{log_level}"
"#,
            operator = operator_address(),
            url = self.node.rpc_url(),
            cookie = self.node.cookie_file().display(),
        )
    }

    /// Creates a miner's seed and configuration; `hashrate` in hashes per second.
    pub fn add_miner(&self, name: &str, hashrate: u64) -> Result<Miner> {
        let config = self.root.join(format!("{name}.toml"));
        let text = format!(
            r#"network = "regtest"
data_dir = "{name}"
coordinator = "http://{address}"
threads = 1
hashrate_limit = {hashrate}

[node]
rpc_url = "{url}"
cookie_file = "{cookie}"

[log]
format = "json"
level = "debug"
"#,
            address = self.address,
            url = self.node.rpc_url(),
            cookie = self.node.cookie_file().display(),
        );
        fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
        let participant = self.binaries.participant();
        let mut miner = Miner {
            name: name.to_owned(),
            identity: String::new(),
            first_address: String::new(),
            daemon: None,
            config,
            participant,
        };
        let created = miner.command(&["init"])?;
        miner.identity = created["identity"]
            .as_str()
            .context("init prints the identity")?
            .to_owned();
        miner.first_address = created["first_address"]
            .as_str()
            .context("init prints the first address")?
            .to_owned();
        Ok(miner)
    }

    /// Starts a miner, with further environment.
    pub fn run_miner(&self, miner: &mut Miner, environment: &[(&str, &str)]) -> Result<()> {
        let mut command = Command::new(&miner.participant);
        command
            .arg("--config")
            .arg(&miner.config)
            .arg("run")
            .envs(environment.iter().copied());
        let log = self.root.join(format!("{}.log", miner.name));
        miner.daemon = Some(Daemon::spawn(
            &miner.name,
            command,
            &log,
            self.listener.clone(),
        )?);
        Ok(())
    }

    /// Rewrites where a miner finds its coordinator, which got a new port.
    pub fn repoint(&self, miner: &Miner) -> Result<()> {
        self.route(miner, &self.address)
    }

    /// Rewrites where a miner connects: a proxy's address puts the proxy in between.
    pub fn route(&self, miner: &Miner, address: &str) -> Result<()> {
        let text = fs::read_to_string(&miner.config)?;
        let line = |line: &str| {
            if line.starts_with("coordinator = ") {
                format!("coordinator = \"http://{address}\"")
            } else {
                line.to_owned()
            }
        };
        let text: Vec<String> = text.lines().map(line).collect();
        fs::write(&miner.config, text.join("\n")).context("cannot rewrite a miner's configuration")
    }

    /// Everything below this directory is the pool's.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

impl Miner {
    /// Runs one of the participant's commands with `--json` and gives what it prints.
    pub fn command(&self, arguments: &[&str]) -> Result<Value> {
        let output = Command::new(&self.participant)
            .arg("--config")
            .arg(&self.config)
            .arg("--json")
            .args(arguments)
            .output()
            .with_context(|| format!("cannot run {}", self.participant.display()))?;
        let said = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            bail!(
                "{}: {} failed ({}): {why}{said}",
                self.name,
                arguments.join(" "),
                output.status
            );
        }
        serde_json::from_str(said.trim())
            .with_context(|| format!("{}: not JSON: {said}", self.name))
    }

    /// Runs one of the participant's commands as a person does, with further environment and this input;
    /// gives all that it says on both of its outputs, and whether it succeeded.
    pub fn said(
        &self,
        arguments: &[&str],
        environment: &[(&str, &str)],
        input: &str,
    ) -> Result<(String, bool)> {
        let mut child = Command::new(&self.participant)
            .arg("--config")
            .arg(&self.config)
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot run {}", self.participant.display()))?;
        let mut stdin = child.stdin.take().context("a piped stdin is there")?;
        // Whoever reads no input may be gone.
        let _ = stdin.write_all(input.as_bytes());
        drop(stdin);
        let output = child.wait_with_output()?;
        let both = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&both).into_owned();
        Ok((text, output.status.success()))
    }

    /// The same configuration with a data directory of its own, in which nothing is yet.
    pub fn twin(&self, name: &str) -> Result<Miner> {
        let config = self.config.with_file_name(format!("{name}.toml"));
        let text = fs::read_to_string(&self.config)?;
        let own = format!("data_dir = \"{}\"", self.name);
        let text = text.replace(&own, &format!("data_dir = \"{name}\""));
        fs::write(&config, text).with_context(|| format!("cannot write {}", config.display()))?;
        Ok(Miner {
            name: name.to_owned(),
            identity: self.identity.clone(),
            first_address: self.first_address.clone(),
            daemon: None,
            config,
            participant: self.participant.clone(),
        })
    }

    /// Its data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.config.with_extension("")
    }

    /// The process; an error if it does not run.
    pub fn daemon(&mut self) -> Result<&mut Daemon> {
        let name = self.name.clone();
        self.daemon
            .as_mut()
            .with_context(|| format!("{name} does not run"))
    }
}
