//! Payouts that were imported without their round, as one file for each coinbase that they spend.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::hashes::Hash;
use bitcoin::{OutPoint, Transaction, Txid};
use serde::{Deserialize, Serialize};
use tutti_proto::id::{RoundId, RoundSeq};

use super::{
    Durability, ROUND_BYTES_MAX, RoundName, StoreError, create_directory, read_json_within,
    write_json,
};

pub(super) const DIRECTORY: &str = "alone";
/// The files' version; a later one is not guessed at.
const VERSION: u32 = 1;

/// Payouts of one coinbase; or a coinbase without any, which pays by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alone {
    /// What all of them spend.
    pub coinbase_txid: Txid,
    /// The coinbase itself, once it is known.
    pub coinbase: Option<Transaction>,
    pub payouts: Vec<Transaction>,
    /// What they pay us together, if a wallet could be asked.
    pub own_sat: Option<u64>,
}

/// Those of a data directory.
#[derive(Debug, Default)]
pub struct AllAlone {
    pub alone: Vec<Alone>,
    /// Files that are not as they were written.
    pub damaged: Vec<StoreError>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    coinbase_txid: Txid,
    /// Raw transaction, hex.
    coinbase: Option<String>,
    /// Raw transactions, hex.
    payouts: Vec<String>,
    own_sat: Option<u64>,
}

impl Alone {
    /// The name that stands for the round's, which is not known.
    pub fn name(&self) -> RoundName {
        name(self.coinbase_txid)
    }

    /// Height of its block, if one is found: a coinbase of the pool says it by its lock time (BIP54).
    pub fn height(&self) -> Option<u32> {
        let lock_time = self.coinbase.as_ref()?.lock_time.to_consensus_u32();
        lock_time.checked_add(1)
    }

    /// Whether it has a payout, or where it has none a coinbase, that held rounds do not have: a round's file
    /// may name any coinbase, and have none of its payouts.
    pub fn adds_to(&self, coinbases: &BTreeSet<Txid>, payouts: &BTreeSet<Txid>) -> bool {
        let mut own = self.payouts.iter();
        let pays_itself = self.payouts.is_empty() && self.coinbase.is_some();
        own.any(|payout| !payouts.contains(&payout.compute_txid()))
            || pays_itself && !coinbases.contains(&self.coinbase_txid)
    }

    /// The coinbase's outputs that they spend.
    pub fn spent(&self) -> impl Iterator<Item = OutPoint> {
        let inputs = self.payouts.iter().flat_map(|payout| &payout.input);
        inputs.map(|input| input.previous_output)
    }
}

fn name(coinbase: Txid) -> RoundName {
    RoundName {
        // Rounds that are held have ids that are hashes of transcripts: none is a coinbase's.
        seq: RoundSeq(0),
        round: RoundId(coinbase.to_byte_array()),
    }
}

/// Whether a name stands for a round that is not known.
pub fn is_alone(of: &RoundName, coinbase: &Txid) -> bool {
    *of == name(*coinbase)
}

/// Stores payouts of one coinbase. Durable when this returns.
pub fn write_alone(directory: &Path, alone: &Alone) -> Result<(), StoreError> {
    let path = path(directory, alone.coinbase_txid);
    create_directory(&directory.join(DIRECTORY))?;
    let file = File {
        version: VERSION,
        coinbase_txid: alone.coinbase_txid,
        coinbase: alone.coinbase.as_ref().map(serialize_hex),
        payouts: alone.payouts.iter().map(serialize_hex).collect(),
        own_sat: alone.own_sat,
    };
    write_json(&path, &file, Durability::Durable)
}

/// Moves a file that cannot be read to a name under which nothing reads it.
pub fn set_alone_aside(directory: &Path, coinbase: Txid) -> Result<(), StoreError> {
    let path = path(directory, coinbase);
    let mut names = (1u32..).map(|number| match number {
        1 => path.with_extension("json.damaged"),
        _ => path.with_extension(format!("json.damaged-{number}")),
    });
    // One that was moved before may be all that there is of its payouts.
    let Some(aside) = names.find(|name| !name.exists()) else {
        return Ok(());
    };
    fs::rename(&path, &aside).map_err(|source| StoreError::io("move away", &path, source))
}

/// All of a directory; a damaged file does not hide the others.
pub fn all_alone(directory: &Path) -> Result<AllAlone, StoreError> {
    let path = directory.join(DIRECTORY);
    let failed = |source| StoreError::io("read", &path, source);
    let entries = match fs::read_dir(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(AllAlone::default());
        }
        entries => entries.map_err(failed)?,
    };
    let mut txids = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        txids.extend(name.to_str().and_then(txid_of));
    }
    txids.sort_unstable();
    let mut all = AllAlone::default();
    for txid in txids {
        match alone(directory, txid) {
            Ok(alone) => all.alone.extend(alone),
            Err(error) => all.damaged.push(error),
        }
    }
    Ok(all)
}

/// Those of one coinbase.
pub fn alone(directory: &Path, coinbase: Txid) -> Result<Option<Alone>, StoreError> {
    let path = path(directory, coinbase);
    let Some(file) = read_json_within::<File>(&path, ROUND_BYTES_MAX)? else {
        return Ok(None);
    };
    let damaged = |reason: String| StoreError::Damaged {
        path: path.clone(),
        reason,
    };
    if file.version != VERSION {
        return Err(damaged(format!(
            "version {} is not {VERSION}",
            file.version
        )));
    }
    let transaction = |hex: &String| {
        deserialize_hex::<Transaction>(hex)
            .map_err(|error| damaged(format!("a transaction cannot be read: {error}")))
    };
    let payouts: Result<Vec<_>, _> = file.payouts.iter().map(transaction).collect();
    let alone = Alone {
        coinbase_txid: file.coinbase_txid,
        coinbase: file.coinbase.as_ref().map(transaction).transpose()?,
        payouts: payouts?,
        own_sat: file.own_sat,
    };
    let txid = alone.coinbase.as_ref().map(Transaction::compute_txid);
    let fits = alone.coinbase_txid == coinbase
        && txid.is_none_or(|txid| txid == coinbase)
        && alone.spent().all(|spent| spent.txid == coinbase);
    match fits {
        true => Ok(Some(alone)),
        false => Err(damaged("it holds payouts of another coinbase".to_owned())),
    }
}

pub(super) fn directory(directory: &Path) -> PathBuf {
    directory.join(DIRECTORY)
}

/// Whether a file of this name is read.
pub(super) fn is_name(name: &str) -> bool {
    txid_of(name).is_some()
}

/// Of a file that is named as these are, to the letter.
fn txid_of(name: &str) -> Option<Txid> {
    let txid = name.strip_suffix(".json")?.parse().ok()?;
    (file_name(txid) == name).then_some(txid)
}

pub(super) fn path_of(directory: &Path, name: &RoundName) -> PathBuf {
    path(directory, Txid::from_byte_array(name.round.0))
}

fn path(directory: &Path, coinbase: Txid) -> PathBuf {
    directory.join(DIRECTORY).join(file_name(coinbase))
}

fn file_name(coinbase: Txid) -> String {
    format!("{coinbase}.json")
}
