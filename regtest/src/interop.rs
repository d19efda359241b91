//! Another implementation's participant in a pool of ours: it signs, its shares count, and what it alone
//! has on its disk is enough for everyone to be paid. Bitcoin Core is the judge.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::key::TweakedPublicKey;
use bitcoin::{Address, Network, OutPoint, ScriptBuf, Transaction, XOnlyPublicKey};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::binaries::Binaries;
use crate::daemon::Line;
use crate::node::{Node, NodeOptions};
use crate::place::Place;
use crate::pool::{Miner, Pool, PoolOptions};

/// What is tried.
#[derive(Clone, Debug)]
pub struct InteropOptions {
    /// The other implementation's program and its first arguments.
    pub command: Vec<OsString>,
    /// Keep logs and data here; `None`: a temporary directory.
    pub keep: Option<PathBuf>,
    /// Judge nothing: leave the pool to the program until it ends.
    pub stay: bool,
}

/// Miners of ours.
const OURS: [&str; 2] = ["alice", "bob"];
/// Of each of them, hashes per second.
const HASHRATE: u64 = 100_000;
/// The coordinator, ours and the other.
const SIGNERS: u64 = 2 + OURS.len() as u64;
/// Accepted shares of the other before the block whose payout is followed.
const SHARES: u64 = 5;
/// How long the pool may say nothing.
const STEP: Duration = Duration::from_secs(60);
const IN_ALL: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(50);

/// Where the other one wants to be paid: the x coordinate of secp256k1's generator, to which nobody else pays.
fn script() -> Result<ScriptBuf> {
    let key = "79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
    let key: XOnlyPublicKey = key.parse().context("a point")?;
    let key = TweakedPublicKey::dangerous_assume_tweaked(key);
    Ok(Address::p2tr_tweaked(key, Network::Regtest).script_pubkey())
}

/// The other implementation's process. Dropping it kills it.
struct Other {
    child: Child,
    log: PathBuf,
}

impl Other {
    fn start(options: &InteropOptions, pool: &Pool, identity: &str, log: PathBuf) -> Result<Other> {
        let (program, arguments) = options.command.split_first().context("no command")?;
        let dir = pool.root().join("other");
        fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .args(["--coordinator", &pool.address])
            .args(["--coordinator-identity", identity])
            .args(["--script", &script()?.to_hex_string()])
            .arg("--dir")
            .arg(&dir)
            .stdin(Stdio::null());
        if !options.stay {
            let file =
                File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
            command.stdout(file.try_clone()?).stderr(file);
        }
        let shown = program.to_string_lossy();
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {shown}"))?;
        Ok(Other { child, log })
    }

    /// An error if it has ended.
    fn lives(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => bail!("the other implementation ended by itself ({status})"),
        }
    }

    fn last_words(&self) -> String {
        let said = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = said.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Asks it to end, as a service manager does.
    fn terminate(&mut self) -> Result<()> {
        kill(Pid::from_raw(self.child.id().try_into()?), Signal::SIGTERM)?;
        let deadline = Instant::now() + STEP;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                ensure!(
                    status.success(),
                    "after SIGTERM the other implementation ended with {status}"
                );
                return Ok(());
            }
            std::thread::sleep(POLL);
        }
        bail!(
            "the other implementation still runs {} s after SIGTERM",
            STEP.as_secs()
        )
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs it; an error is what the other implementation did not do.
pub fn run(options: &InteropOptions) -> Result<Value> {
    let place = Place::new(options.keep.as_deref())?;
    let root = place.path();
    let node = Node::start(NodeOptions {
        data_dir: Some(root.join("bitcoind")),
        ..NodeOptions::default()
    })?;
    let (sender, lines) = channel();
    let mut pool = Pool::start(
        root,
        node,
        Binaries::ready()?,
        &PoolOptions::default(),
        Some(sender),
    )?;
    let mut miners = Vec::new();
    for name in OURS {
        let mut miner = pool.add_miner(name, HASHRATE)?;
        pool.run_miner(&mut miner, &[])?;
        miners.push(miner);
    }
    let identity = wait(&lines, "a round with our miners", None, |line| {
        line.event() == "committed"
            && line
                .number("signers")
                .is_ok_and(|signers| signers == SIGNERS - 1)
    })
    .and_then(|_| coordinator_identity(&pool))?;
    eprintln!(
        "the pool of {} runs at {}, identity {identity}",
        OURS.join(", "),
        pool.address
    );

    let mut other = Other::start(options, &pool, &identity, root.join("other.log"))?;
    if options.stay {
        let status = other.child.wait()?;
        return Ok(json!({"interop": "not judged", "ended": status.to_string()}));
    }
    let shown = judge(&mut other, &mut pool, &mut miners, &lines);
    shown.with_context(|| {
        format!(
            "the other implementation's last words:\n{}",
            other.last_words()
        )
    })
}

fn judge(
    other: &mut Other,
    pool: &mut Pool,
    miners: &mut [Miner],
    lines: &Receiver<Line>,
) -> Result<Value> {
    let stranger = |line: &Line| {
        !miners
            .iter()
            .any(|miner| line.fields["identity"] == miner.identity.as_str())
    };
    let joined = wait(lines, "its join", Some(other), |line| {
        line.event() == "joined" && stranger(line)
    })?;
    let identity = joined.text("identity")?.to_owned();
    eprintln!("it joined as {identity}");
    wait(
        lines,
        "a round that it signs",
        Some(other),
        is_signed_by_all,
    )?;
    eprintln!("a round of {SIGNERS} signers, it among them, is committed");
    for number in 1..=SHARES {
        wait(lines, "a share of it", Some(other), |line| {
            line.event() == "share_accepted" && line.fields["identity"] == identity.as_str()
        })?;
        eprintln!("share {number} of {SHARES} of it is accepted");
    }
    // A window with that work closes, and is paid for by what is signed next.
    wait(
        lines,
        "a round that pays it for work",
        Some(other),
        is_signed_by_all,
    )?;
    wait(lines, "another round", Some(other), is_signed_by_all)?;
    let found = wait(lines, "a block", Some(other), |line| {
        line.event() == "block_accepted"
    })?;
    let height = found.number("height")?;
    let block = pool.node.block(&found.text("hash")?.parse()?)?;
    eprintln!("the node took the pool's block at height {height}");
    let coinbase = block.txdata.first().context("a block has a coinbase")?;
    let coinbase_txid = coinbase.compute_txid();
    let ours = miners.first_mut().context("there are miners of ours")?;
    let expected = checked_by_ours(ours, &coinbase_txid.to_string(), &identity)?;

    // Nobody of ours is there any more: what the other has is all that there is.
    let mut coordinator = pool.coordinator.take().context("the coordinator runs")?;
    coordinator.kill()?;
    for miner in miners.iter_mut() {
        miner.daemon()?.kill()?;
    }
    other.terminate()?;
    let payout = held_by(
        &pool.root().join("other").join("payouts"),
        OutPoint::new(coinbase_txid, 0),
    )?;
    let tip = u64::from(pool.node.height()?);
    pool.node
        .mine(u32::try_from((height + 99).saturating_sub(tip))?)?;
    let txid: String = pool
        .node
        .call("sendrawtransaction", &[json!(serialize_hex(&payout))])?;
    let hash = pool.node.mine(1)?.pop().context("one block")?;
    let mined = pool.node.block(&hash)?;
    ensure!(
        mined.txdata.contains(&payout),
        "the payout is not in the next block"
    );
    let script = script()?;
    let outputs = payout
        .output
        .iter()
        .filter(|output| output.script_pubkey == script);
    let paid: u64 = outputs.map(|output| output.value.to_sat()).sum();
    ensure!(expected > 0, "its work is worth nothing to ours");
    ensure!(
        paid == expected,
        "it was paid {paid} sat, where its work is worth {expected}"
    );
    eprintln!(
        "its own file of payout {txid} was mined: {paid} sat for it, to the sat what ours say"
    );
    Ok(json!({
        "interop": "ok", "identity": identity, "signers": SIGNERS, "height": height,
        "payout_txid": txid, "paid_sat": paid, "expected_sat": expected,
    }))
}

fn is_signed_by_all(line: &Line) -> bool {
    line.event() == "committed"
        && line
            .number("signers")
            .is_ok_and(|signers| signers == SIGNERS)
}

/// Waits for a line of the coordinator's log.
fn wait(
    lines: &Receiver<Line>,
    what: &str,
    mut other: Option<&mut Other>,
    wanted: impl Fn(&Line) -> bool,
) -> Result<Line> {
    let deadline = Instant::now() + IN_ALL;
    while Instant::now() < deadline {
        if let Some(other) = &mut other {
            other.lives()?;
        }
        let line = lines.recv_timeout(STEP);
        let line = line
            .with_context(|| format!("waiting for {what}: nothing new for {} s", STEP.as_secs()))?;
        if line.from == "coordinator" && wanted(&line) {
            return Ok(line);
        }
    }
    bail!("{what}: not within {} s", IN_ALL.as_secs())
}

/// As a pool host tells it its miners.
fn coordinator_identity(pool: &Pool) -> Result<String> {
    let info = pool.info()?;
    let identity = info["identity"]
        .as_str()
        .context("info prints the identity")?;
    Ok(identity.to_owned())
}

/// What one of our miners, who checked every share, computed for it.
fn checked_by_ours(miner: &mut Miner, coinbase_txid: &str, identity: &str) -> Result<u64> {
    miner
        .daemon()?
        .wait_for("sight of the block on its own node", STEP, |line| {
            line.event() == "pool_block_seen" && line.fields["coinbase_txid"] == coinbase_txid
        })?;
    let held = miner.command(&["payouts", "--found"])?;
    let mut rows = held["payouts"].as_array().into_iter().flatten();
    let found = rows.find(|row| row["coinbase_txid"] == coinbase_txid);
    let found = found.with_context(|| format!("{} does not list the found payout", miner.name))?;
    let payees = found["payees"].as_array().into_iter().flatten();
    let amounts = payees.filter(|payee| payee["identity"] == identity);
    Ok(amounts.filter_map(|payee| payee["sat"].as_u64()).sum())
}

/// The payout among its files that spends this output.
fn held_by(directory: &Path, coinbase: OutPoint) -> Result<Transaction> {
    let unreadable = || format!("cannot read {}", directory.display());
    for entry in fs::read_dir(directory).with_context(unreadable)? {
        let path = entry?.path();
        let text = fs::read_to_string(&path)?;
        let payout: Transaction = deserialize_hex(text.trim())
            .with_context(|| format!("{} is no raw transaction in hex", path.display()))?;
        if payout
            .input
            .iter()
            .any(|input| input.previous_output == coinbase)
        {
            return Ok(payout);
        }
    }
    bail!("{} has no payout of {coinbase}", directory.display())
}
