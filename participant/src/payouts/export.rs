//! `payouts export`: the held payouts as files that any Bitcoin node or wallet can broadcast.
//!
//! | file                      | what                                                             |
//! |---------------------------|------------------------------------------------------------------|
//! | `HEIGHT-TXID.hex`         | the signed payout, raw, for `bitcoin-cli sendrawtransaction`      |
//! | `HEIGHT-TXID.psbt`        | the same as a finalized PSBT, with the coinbase that it spends   |
//! | `rounds/`, `alone/`       | the rounds, and payouts without one, for `payouts import`        |
//! | `payouts.json`            | whose they are, and what `payouts --json` showed                 |
//! | `README.txt`              | what to do with them                                             |

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Psbt, Transaction, Witness, psbt};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::PayoutRow;
use crate::store::{self, Alone, RoundName, StoreError};

pub(super) const MANIFEST: &str = "payouts.json";
const README: &str = "README.txt";
const ADVICE: &str = "Signed payouts of a Tutti pool. Each is valid once its block, whose height its name starts with, is\n\
in the best chain and 99 blocks are on it; a payout whose block was not found never is. Nobody but\n\
the payees gains by broadcasting one, and everybody may: keep copies where you like.\n\n\
With a node:           bitcoin-cli sendrawtransaction $(cat HEIGHT-TXID.hex)\n\
With a wallet:         open HEIGHT-TXID.psbt, which is complete, and broadcast it\n\
With a second machine: tutti-participant payouts import THIS-DIRECTORY (or one file of it), then tutti-participant watch\n\n\
To spend what you were paid you need the seed, which is not in here.\n";

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Exported {
    pub directory: PathBuf,
    pub rounds: usize,
    pub payouts: usize,
}

/// Why nothing, or not everything, was written.
#[derive(Debug, Error)]
pub enum ExportError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "{0}; nothing was exported: once it is moved away, the others are, and `payouts import FILE` takes what it held, one payout at a time, from a copy"
    )]
    Damaged(StoreError),
    #[error("cannot write {}: {source}; name a directory that can be written to", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("payout {txid} does not fit its coinbase ({reason}); its round's file is damaged")]
    Payout { txid: bitcoin::Txid, reason: String },
}

/// Whose payouts were exported, and how they stood.
#[derive(Serialize, Deserialize)]
pub(super) struct Manifest<Rows> {
    pub(super) identity: String,
    pub(super) payouts: Rows,
}

/// Writes the payouts of these rows. Files that are there already are replaced.
pub fn export(
    data_dir: &Path,
    to: &Path,
    identity: &str,
    rows: &[PayoutRow],
) -> Result<Exported, ExportError> {
    let wanted = |name: &RoundName| {
        rows.iter()
            .any(|row| row.seq == Some(name.seq.0) && row.round == Some(name.round.to_string()))
    };
    // Of what cannot be read no row says whether it is wanted.
    let mut held = store::held_rounds(data_dir, |_| true)?;
    held.rounds.retain(|round| wanted(&RoundName::of(round)));
    // What nothing reads for its name is missing in the export, whatever it is.
    let misnamed = store::misnamed(data_dir)?.into_iter();
    if let Some(damaged) = misnamed.chain(held.damaged).next() {
        return Err(ExportError::Damaged(damaged));
    }
    let all = store::all_alone(data_dir)?;
    if let Some(damaged) = all.damaged.into_iter().next() {
        return Err(ExportError::Damaged(damaged));
    }
    store::create_directory(to)?;
    let mut payouts = 0;
    for round in &held.rounds {
        store::write_round(to, round)?;
        for lane in &round.lanes {
            for payout in &lane.payouts {
                let name = format!("{}-{}", round.height, payout.compute_txid());
                write_payout(to, &name, payout, Some(&lane.coinbase))?;
                payouts += 1;
            }
        }
    }
    payouts += export_alone(&all.alone, to, rows)?;
    let manifest = Manifest {
        identity: identity.to_owned(),
        payouts: rows,
    };
    store::write_json(&to.join(MANIFEST), &manifest, store::Durability::Durable)?;
    write(&to.join(README), ADVICE.as_bytes())?;
    Ok(Exported {
        directory: to.to_owned(),
        rounds: held.rounds.len(),
        payouts,
    })
}

/// Payouts that were imported without their rounds.
fn export_alone(all: &[Alone], to: &Path, rows: &[PayoutRow]) -> Result<usize, ExportError> {
    let rows = rows.iter().filter(|row| row.round.is_none());
    let wanted: BTreeMap<&str, Option<u32>> = rows
        .map(|row| (row.coinbase_txid.as_str(), row.height))
        .collect();
    let mut payouts = 0;
    for alone in all {
        let Some(height) = wanted.get(alone.coinbase_txid.to_string().as_str()) else {
            continue;
        };
        store::write_alone(to, alone)?;
        let height = height.map_or_else(|| "unknown".to_owned(), |height| height.to_string());
        for payout in &alone.payouts {
            let name = format!("{height}-{}", payout.compute_txid());
            write_payout(to, &name, payout, alone.coinbase.as_ref())?;
            payouts += 1;
        }
    }
    Ok(payouts)
}

/// Raw, and as a PSBT where what it spends is known.
fn write_payout(
    to: &Path,
    name: &str,
    payout: &Transaction,
    coinbase: Option<&Transaction>,
) -> Result<(), ExportError> {
    let hex = serialize_hex(payout) + "\n";
    write(&to.join(format!("{name}.hex")), hex.as_bytes())?;
    let Some(coinbase) = coinbase else {
        return Ok(());
    };
    let psbt = finalized(coinbase, payout)?.serialize();
    write(&to.join(format!("{name}.psbt")), &psbt)
}

/// The payout as a PSBT that needs nothing more.
fn finalized(coinbase: &Transaction, payout: &Transaction) -> Result<Psbt, ExportError> {
    let damaged = |reason: &str| ExportError::Payout {
        txid: payout.compute_txid(),
        reason: reason.to_owned(),
    };
    let mut unsigned = payout.clone();
    let mut witnesses = Vec::new();
    for input in &mut unsigned.input {
        witnesses.push(std::mem::replace(&mut input.witness, Witness::new()));
    }
    let mut psbt = Psbt::from_unsigned_tx(unsigned).map_err(|e| damaged(&e.to_string()))?;
    for (input, witness) in witnesses.into_iter().enumerate() {
        let spent = payout.input[input].previous_output;
        let vout = usize::try_from(spent.vout).ok();
        let output = vout.and_then(|vout| coinbase.output.get(vout));
        if spent.txid != coinbase.compute_txid() {
            return Err(damaged("it spends another transaction"));
        }
        psbt.inputs[input] = psbt::Input {
            non_witness_utxo: Some(coinbase.clone()),
            witness_utxo: Some(output.ok_or_else(|| damaged("no such output"))?.clone()),
            final_script_witness: Some(witness),
            ..Default::default()
        };
    }
    Ok(psbt)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), ExportError> {
    let written = fs::write(path, bytes).and_then(|()| fs::File::open(path)?.sync_all());
    written.map_err(|source| ExportError::Write {
        path: path.to_owned(),
        source,
    })
}

impl Exported {
    /// For persons.
    pub fn text(&self) -> String {
        format!(
            "{} payouts of {} rounds are in {}; its README.txt says how to broadcast them.\n\
             With the seed's words they are all that is needed to be paid.\n",
            self.payouts,
            self.rounds,
            self.directory.display()
        )
    }
}
