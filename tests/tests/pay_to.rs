//! A pool's miners that are paid to own keys, to an xpub, and to a fixed address: real processes, one block.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tutti_regtest::binaries::Binaries;
use tutti_regtest::node::{Node, NodeOptions};
use tutti_regtest::pool::{Miner, Pool, PoolOptions};

const STEP: Duration = Duration::from_secs(60);

fn sat(value: &Value, key: &str) -> Result<u64> {
    let amount = value[key].as_u64();
    amount.with_context(|| format!("no {key} in {value}"))
}

/// The account's xpub, out of its descriptor.
fn xpub(keys: &Miner) -> Result<String> {
    let shown = keys.command(&["wallet", "descriptors"])?;
    let external = shown["external"].as_str().context("text")?;
    let key = external.strip_prefix("tr(").context("taproot")?;
    Ok(key.split("/0/*").next().context("a key")?.to_owned())
}

fn append(pool: &Pool, name: &str, text: &str) -> Result<()> {
    let path = pool.root().join(format!("{name}.toml"));
    let config = std::fs::read_to_string(&path)?;
    Ok(std::fs::write(&path, config + text)?)
}

/// What the miner shows, once it is not zero.
fn until(miner: &Miner, command: &[&str], amount: impl Fn(&Value) -> Result<u64>) -> Result<u64> {
    let deadline = Instant::now() + STEP;
    loop {
        let shown = miner.command(command)?;
        match amount(&shown)? {
            0 => ensure!(Instant::now() < deadline, "{}: {shown}", miner.name),
            amount => return Ok(amount),
        }
    }
}

#[test]
fn miners_are_paid_to_own_keys_an_xpub_and_a_fixed_address_alike() -> Result<()> {
    let root = tempfile::tempdir()?;
    let node = Node::start(NodeOptions::default())?;
    let options = PoolOptions {
        block_zero_bits: 16,
        ..PoolOptions::default()
    };
    let mut pool = Pool::start(root.path(), node, Binaries::ready()?, &options, None)?;
    // Whose keys are used elsewhere: never runs.
    let keys = pool.add_miner("keys", 1)?;
    let mut miners = Vec::new();
    for (name, section) in [
        ("own", String::new()),
        ("xpub", format!("\n[wallet]\nxpub = \"{}\"\n", xpub(&keys)?)),
        (
            "address",
            format!("\n[wallet]\naddress = \"{}\"\n", keys.first_address),
        ),
    ] {
        let mut miner = pool.add_miner(name, 7_000)?;
        append(&pool, name, &section)?;
        pool.run_miner(&mut miner, &[])?;
        miners.push(miner);
    }
    // The first blocks may be found before all three have work in a closed window.
    let mut earned = Vec::new();
    for miner in &mut miners {
        earned.push(until(miner, &["payouts", "--found"], |all| {
            let rows = all["payouts"].as_array().context("rows")?;
            let own = rows.iter().map(|row| sat(row, "own_sat"));
            own.sum::<Result<u64>>()
        })?);
    }
    pool.node.mine(99)?;
    for (miner, own) in miners.iter_mut().zip(&earned) {
        miner.daemon()?.wait_event("payout_broadcast", STEP)?;
        until(miner, &["wallet", "balance"], |balance| {
            let seen = sat(balance, "unconfirmed_payouts")? + sat(balance, "confirmed")?;
            Ok(if seen >= *own { seen } else { 0 })
        })?;
    }
    for miner in &mut miners {
        miner.daemon.take().context("it runs")?.terminate(STEP)?;
    }
    pool.coordinator
        .take()
        .context("it runs")?
        .terminate(STEP)?;
    pool.node.mine(1)?;
    for (miner, own) in miners.iter().zip(&earned) {
        let balance = miner.command(&["wallet", "balance"])?;
        let confirmed = sat(&balance, "confirmed")?;
        ensure!(confirmed >= *own, "{}: {own} of {balance}", miner.name);
    }
    // Both of the others' payouts are the keys' owner's.
    let rescan = keys.command(&["wallet", "rescan", "--from", "0"])?;
    let confirmed = sat(&rescan["balance"], "confirmed")?;
    ensure!(confirmed >= earned[1] + earned[2], "{earned:?}: {rescan}");
    Ok(())
}
