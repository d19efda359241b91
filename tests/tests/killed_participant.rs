//! Invariant 1 on real processes: at whatever step a participant dies, it has hashed nothing whose
//! complete payout is not on its disk.

use std::cell::Cell;
use std::time::Duration;

use anyhow::{Context, Result};
use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::hashes::Hash;
use bitcoin::secp256k1::{Message, Secp256k1, XOnlyPublicKey, schnorr};
use bitcoin::sighash::{Prevouts, SighashCache};
use bitcoin::{TapSighashType, Transaction};
use tutti_regtest::binaries::Binaries;
use tutti_regtest::demo::held_files;
use tutti_regtest::node::{Node, NodeOptions};
use tutti_regtest::pool::{Miner, Pool, PoolOptions};

const STEP: Duration = Duration::from_secs(60);

/// Where the participant kills itself, and whether the round's payouts must be on disk by then.
const STEPS: [(&str, bool); 7] = [
    ("proposal-received", false),
    ("signatures-sent", false),
    ("commit-received", false),
    ("before-store", false),
    ("after-store", true),
    ("before-mine", true),
    ("after-mine", true),
];

/// Every stored payout spends its coinbase with a signature that consensus takes.
fn check_disk(miner: &Miner) -> Result<usize> {
    let mut complete = 0;
    for entry in std::fs::read_dir(miner.data_dir().join("rounds"))
        .into_iter()
        .flatten()
    {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let round: serde_json::Value = serde_json::from_slice(&std::fs::read(&path)?)?;
        for lane in round["lanes"].as_array().context("lanes")? {
            let coinbase: Transaction =
                deserialize_hex(lane["coinbase"].as_str().context("coinbase")?)?;
            for (vout, payout) in lane["payouts"]
                .as_array()
                .context("payouts")?
                .iter()
                .enumerate()
            {
                let payout: Transaction = deserialize_hex(payout.as_str().context("payout")?)?;
                let prevout = &coinbase.output[vout];
                assert_eq!(
                    payout.input[0].previous_output.txid,
                    coinbase.compute_txid()
                );
                assert_eq!(payout.input[0].previous_output.vout as usize, vout);
                let sighash = SighashCache::new(&payout).taproot_key_spend_signature_hash(
                    0,
                    &Prevouts::All(&[prevout]),
                    TapSighashType::Default,
                )?;
                let key = XOnlyPublicKey::from_slice(&prevout.script_pubkey.as_bytes()[2..])?;
                let signature = schnorr::Signature::from_slice(&payout.input[0].witness[0])?;
                let message = Message::from_digest(sighash.to_byte_array());
                Secp256k1::verification_only().verify_schnorr(&signature, &message, &key)?;
                complete += 1;
            }
        }
    }
    Ok(complete)
}

/// Shares that the coordinator accepted from a miner until it saw its session end.
fn shares_until_it_left(pool: &mut Pool, miner: &Miner) -> Result<u32> {
    let coordinator = pool.coordinator.as_mut().context("the coordinator runs")?;
    let shares = Cell::new(0);
    coordinator.wait_for("end of the killed miner's session", STEP, |line| {
        let its = line.fields["identity"] == miner.identity.as_str();
        if its && line.event() == "share_accepted" {
            shares.set(shares.get() + 1);
        }
        its && line.event() == "left"
    })?;
    Ok(shares.get())
}

/// Killed from outside while it hashes, as soon as work of it counts.
fn killed_with_its_first_shares(pool: &mut Pool, options: &PoolOptions) -> Result<()> {
    let mut victim = pool.add_miner("victim-of-sigkill", 5_000)?;
    pool.run_miner(&mut victim, &[])?;
    victim.daemon()?.wait_event("shares_acknowledged", STEP)?;
    victim.daemon()?.kill()?;
    assert!(
        shares_until_it_left(pool, &victim)? > 0,
        "the coordinator acknowledges what it accepted"
    );
    assert!(check_disk(&victim)? >= usize::from(options.lanes));
    assert!(held_files(&victim)?.len() >= usize::from(options.lanes));
    Ok(())
}

#[test]
fn killed_at_every_step_it_has_hashed_nothing_unsigned() -> Result<()> {
    let root = tempfile::tempdir()?;
    let node = Node::start(NodeOptions::default())?;
    // No block is found, so that only the round matters.
    let options = PoolOptions {
        block_zero_bits: 60,
        refresh_ms: 1_000,
        ..PoolOptions::default()
    };
    let mut pool = Pool::start(root.path(), node, Binaries::ready()?, &options, None)?;
    let mut others = Vec::new();
    for name in ["alice", "bob"] {
        let mut miner = pool.add_miner(name, 5_000)?;
        pool.run_miner(&mut miner, &[])?;
        others.push(miner);
    }
    for miner in &mut others {
        miner.daemon()?.wait_event("hashing", STEP)?;
    }
    for (step, stored) in STEPS {
        let mut victim = pool.add_miner(&format!("victim-{step}"), 5_000)?;
        pool.run_miner(&mut victim, &[("TUTTI_CRASH_AT", step)])?;
        let status = victim.daemon()?.wait_exit(STEP)?;
        assert!(!status.success(), "{step}: it was to be killed");
        let hashed = shares_until_it_left(&mut pool, &victim)?;
        let complete = check_disk(&victim)?;
        assert_eq!(
            complete > 0,
            stored,
            "{step}: {complete} complete payouts on disk"
        );
        assert!(
            hashed == 0 || stored,
            "{step}: {hashed} shares without a payout on disk"
        );
        assert!(
            stored || !victim.daemon()?.has_seen("hashing"),
            "{step}: it says that it hashed"
        );
        if stored {
            // And those of the next height, where it signed that round first.
            let held = held_files(&victim)?.len();
            assert!(
                held >= usize::from(options.lanes),
                "{step}: {held} files, every lane is held"
            );
        }
        // Its keys are gone; it joins again, signs the next round with fresh ones, and hashes.
        pool.run_miner(&mut victim, &[])?;
        victim.daemon()?.wait_event("hashing", STEP)?;
        assert!(check_disk(&victim)? > 0);
        victim.daemon()?.terminate(STEP)?;
    }
    killed_with_its_first_shares(&mut pool, &options)?;
    for miner in &mut others {
        assert!(
            !miner.daemon()?.has_seen("plan_refused"),
            "{} saw a plan it could not accept",
            miner.name
        );
    }
    Ok(())
}
