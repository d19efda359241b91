//! `payouts import`: takes exported rounds into a data directory. Files come from anywhere, so each
//! payout is verified before it is kept.

use std::path::{Path, PathBuf};

use bitcoin::hashes::Hash;
use bitcoin::secp256k1::{Message, Secp256k1, XOnlyPublicKey, schnorr};
use bitcoin::{Transaction, TxOut};
use serde::Serialize;
use thiserror::Error;
use tutti_proto::participant::{Held, HeldLane};
use tutti_proto::payout;

use super::export::{MANIFEST, Manifest};
use crate::bump;
use crate::store::{self, Durability, RoundName, StoreError};

/// What was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Imported {
    /// Rounds that were not held before.
    pub rounds: usize,
    /// Rounds that were.
    pub known: usize,
    /// A daemon runs and sees them after its next start.
    pub restart: bool,
}

/// Why nothing was taken.
#[derive(Debug, Error)]
pub enum ImportError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "{} holds no exported rounds; name the directory that `payouts export` wrote", .0.display()
    )]
    Nothing(PathBuf),
    #[error("round {seq}, lane {lane}: {reason}; get the export anew")]
    Invalid {
        seq: u64,
        lane: usize,
        reason: Invalid,
    },
}

/// What is wrong with a payout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Invalid {
    #[error("the coinbase is not of the round's height")]
    Height,
    #[error("a payout does not spend its lane's coinbase")]
    Coinbase,
    #[error("a payout is not a version-3 transaction with one input")]
    Form,
    #[error("a payout pays more than its coinbase has")]
    Amount,
    #[error("a payout's signature is not valid")]
    Signature,
}

/// Takes all rounds of an exported directory, or none if one of them is not valid.
pub fn import(data_dir: &Path, from: &Path) -> Result<Imported, ImportError> {
    let held = store::held_rounds(from, |_| true)?;
    if let Some(damaged) = held.damaged.into_iter().next() {
        return Err(damaged.into());
    }
    if held.rounds.is_empty() {
        return Err(ImportError::Nothing(from.to_owned()));
    }
    held.rounds.iter().try_for_each(verify)?;
    store::create_directory(data_dir)?;
    let before = store::held_names(data_dir)?;
    let new = |held: &&Held| !before.contains(&RoundName::of(held));
    let new: Vec<&Held> = held.rounds.iter().filter(new).collect();
    for round in &new {
        store::write_round(data_dir, round)?;
    }
    own(data_dir, from)?;
    Ok(Imported {
        rounds: new.len(),
        known: held.rounds.len() - new.len(),
        restart: store::is_held(data_dir),
    })
}

/// Remembers whose payouts these are where no participant was made.
fn own(data_dir: &Path, from: &Path) -> Result<(), StoreError> {
    let manifest: Option<Manifest<serde_json::Value>> = store::read_json(&from.join(MANIFEST))?;
    if let Some(manifest) = manifest
        && !data_dir.join(store::STATUS).exists()
    {
        let owner = data_dir.join(store::OWNER);
        store::write_json(&owner, &manifest.identity, Durability::Durable)?;
    }
    Ok(())
}

fn verify(held: &Held) -> Result<(), ImportError> {
    for (number, lane) in held.lanes.iter().enumerate() {
        verify_lane(held, lane).map_err(|reason| ImportError::Invalid {
            seq: held.seq.0,
            lane: number,
            reason,
        })?;
    }
    Ok(())
}

fn verify_lane(held: &Held, lane: &HeldLane) -> Result<(), Invalid> {
    let below = held.height.checked_sub(1);
    if below != Some(lane.coinbase.lock_time.to_consensus_u32()) || !lane.coinbase.is_coinbase() {
        return Err(Invalid::Height);
    }
    for transaction in &lane.payouts {
        let [input] = transaction.input.as_slice() else {
            return Err(Invalid::Form);
        };
        if transaction.version != payout::PAYOUT_VERSION {
            return Err(Invalid::Form);
        }
        let vout = usize::try_from(input.previous_output.vout).ok();
        let spent = vout.and_then(|vout| lane.coinbase.output.get(vout));
        let spent = spent.ok_or(Invalid::Coinbase)?;
        if input.previous_output.txid != lane.coinbase.compute_txid() {
            return Err(Invalid::Coinbase);
        }
        if bump::fee(&lane.coinbase, transaction).is_none() {
            return Err(Invalid::Amount);
        }
        verify_signature(transaction, spent).ok_or(Invalid::Signature)?;
    }
    Ok(())
}

fn verify_signature(transaction: &Transaction, spent: &TxOut) -> Option<()> {
    let mut witness = transaction.input.first()?.witness.iter();
    let signature = schnorr::Signature::from_slice(witness.next()?).ok()?;
    if witness.next().is_some() || !spent.script_pubkey.is_p2tr() {
        return None;
    }
    let key = XOnlyPublicKey::from_slice(spent.script_pubkey.as_bytes().get(2..)?).ok()?;
    let sighash = payout::sighash(transaction, spent);
    let sighash = bitcoin::TapSighash::from_byte_array(sighash);
    Secp256k1::verification_only()
        .verify_schnorr(&signature, &Message::from(sighash), &key)
        .ok()
}

impl Imported {
    /// For persons.
    pub fn text(&self) -> String {
        let next = if self.restart {
            "restart the daemon, which looks for their blocks from then on"
        } else {
            "`tutti-participant watch` broadcasts what is ripe; `run` does too"
        };
        format!(
            "took {} rounds ({} were held already); {next}\n",
            self.rounds, self.known
        )
    }
}
