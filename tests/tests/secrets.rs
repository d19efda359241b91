//! No seed, private key or nonce in any log, at any level: a pool whose daemons say all there is to say.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bitcoin::key::TapTweak;
use bitcoin::secp256k1::{All, Keypair, Secp256k1, SecretKey};
use tutti_regtest::binaries::Binaries;
use tutti_regtest::node::{Node, NodeOptions};
use tutti_regtest::pool::{Pool, PoolOptions, miner_name};

const STEP: Duration = Duration::from_secs(60);
/// Longer runs of hex are blocks and frames.
const LONGEST_RUN: usize = 4_096;
const SECRET_DIGITS: usize = 64;

/// Runs of hexadecimal digits long enough for a secret.
fn hex_runs(text: &str) -> BTreeSet<&str> {
    text.split(|digit: char| !digit.is_ascii_hexdigit())
        .filter(|run| (SECRET_DIGITS..=LONGEST_RUN).contains(&run.len()))
        .collect()
}

/// Every 32 bytes that stand in the text.
fn candidates(text: &str) -> BTreeSet<[u8; 32]> {
    let mut all = BTreeSet::new();
    for run in hex_runs(text) {
        let bytes = hex::decode(&run[..run.len() / 2 * 2]).unwrap_or_default();
        let windows = bytes
            .windows(32)
            .filter_map(|window| <[u8; 32]>::try_from(window).ok());
        all.extend(windows);
    }
    all
}

/// Public keys that a secret has: its own, and the output key of a wallet without scripts.
fn public_keys(secp: &Secp256k1<All>, secret: &[u8; 32]) -> Vec<[u8; 32]> {
    let Ok(secret) = SecretKey::from_slice(secret) else {
        return Vec::new();
    };
    let pair = Keypair::from_secret_key(secp, &secret);
    let tweaked = pair.tap_tweak(secp, None).to_keypair();
    [pair, tweaked]
        .map(|pair| pair.x_only_public_key().0.serialize())
        .to_vec()
}

/// Numbers in the text that are the secret of a number in it, or of a known key.
fn secrets(text: &str, known: &BTreeSet<[u8; 32]>) -> Vec<String> {
    let secp = Secp256k1::new();
    let all = candidates(text);
    let is_public = |key: &[u8; 32]| known.contains(key) || all.contains(key);
    let leaked = all
        .iter()
        .filter(|secret| public_keys(&secp, secret).iter().any(is_public));
    leaked.map(hex::encode).collect()
}

#[test]
fn a_planted_secret_is_found() {
    let secp = Secp256k1::new();
    let secret = [0x42; 32];
    let keys = public_keys(&secp, &secret);
    let line = format!(
        "{{\"event\":\"x\",\"why\":\"00ff{}\"}}",
        hex::encode(secret)
    );
    for key in &keys {
        assert_eq!(secrets(&line, &BTreeSet::from([*key])).len(), 1);
        let both = format!("{line}\n{}", hex::encode(key));
        assert_eq!(secrets(&both, &BTreeSet::new()).len(), 1);
    }
    assert_eq!(secrets(&line, &BTreeSet::new()), Vec::<String>::new());
}

#[test]
fn no_secret_of_anybody_stands_in_a_trace_of_all_daemons() -> Result<()> {
    let root = tempfile::tempdir()?;
    let node = Node::start(NodeOptions::default())?;
    let options = PoolOptions {
        block_zero_bits: 16,
        log_level: "trace",
        ..PoolOptions::default()
    };
    let mut pool = Pool::start(root.path(), node, Binaries::ready()?, &options, None)?;
    let mut miners = Vec::new();
    for number in 0..3 {
        let mut miner = pool.add_miner(&miner_name(number), 7_000)?;
        // Libraries too.
        pool.run_miner(&mut miner, &[("RUST_LOG", "trace")])?;
        miners.push(miner);
    }
    let coordinator = pool.coordinator.as_mut().context("it runs")?;
    let found = coordinator.wait_event("block_accepted", STEP)?;
    let height = u32::try_from(found.number("height")?)?;
    pool.node.mine(99)?;
    for miner in &mut miners {
        miner.daemon()?.wait_event("payout_broadcast", STEP)?;
    }
    let tip = pool.node.height()?;
    ensure!(tip >= height + 99);
    let mut text = String::new();
    let mut known = BTreeSet::new();
    for miner in &mut miners {
        let payouts = miner.command(&["payouts", "--found"])?;
        let payout = payouts[0]["payout_txids"][0].as_str().context("a payout")?;
        // Signs with the wallet's key; refused or not is all the same here.
        let bumped = miner.command(&["bump", payout, "--feerate", "3", "--dry-run"])?;
        text += &bumped.to_string();
        miner.daemon.take().context("it runs")?.terminate(STEP)?;
        text += &std::fs::read_to_string(root.path().join(format!("{}.log", miner.name)))?;
        let identity: [u8; 32] = hex::decode(&miner.identity)?
            .try_into()
            .ok()
            .context("32")?;
        known.insert(identity);
        let address: bitcoin::Address<_> = miner.first_address.parse()?;
        let script = address.assume_checked().script_pubkey();
        known.insert(script.as_bytes()[2..].try_into()?);
    }
    pool.coordinator
        .take()
        .context("it runs")?
        .terminate(STEP)?;
    let coordinator = std::fs::read_to_string(root.path().join("coordinator.log"))?;
    text += &coordinator;
    ensure!(text.contains("\"level\":\"trace\"") || text.contains("\"level\":\"TRACE\""));
    let leaked = secrets(&text, &known);
    ensure!(leaked.is_empty(), "{leaked:?}");
    let own = std::fs::read_to_string(root.path().join("coordinator").join("identity.key"))?;
    ensure!(!text.contains(own.trim()), "the coordinator's identity key");
    for miner in &miners {
        let seed = std::fs::read_to_string(miner.data_dir().join("seed.txt"))?;
        let words: Vec<&str> = seed
            .split_whitespace()
            .filter(|word| word.len() > 2)
            .collect();
        ensure!(words.len() >= 24);
        for three in words.windows(3) {
            ensure!(
                !text.contains(&three.join(" ")),
                "words of {}'s seed",
                miner.name
            );
        }
    }
    for private in ["xprv", "tprv"] {
        ensure!(!text.contains(private), "an extended private key");
    }
    println!("looked at {} bytes of logs", text.len());
    Ok(())
}
