//! Payouts of found blocks on disk, from the find until they are final: as files, so that the operator
//! can broadcast one by hand.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Transaction};
use serde::{Deserialize, Serialize};
use tutti_proto::coordinator::Found;

use crate::durable;
use crate::store::{Store, StoreError};

/// The files' version; a later one is not guessed at.
const VERSION: u32 = 1;

/// A found block and what it pays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundPayouts {
    /// Its hash, in the byte order in which it is hashed.
    pub block: [u8; 32],
    /// Its height.
    pub height: u32,
    /// Its coinbase.
    pub coinbase: Transaction,
    /// The signed payouts, one for each of the coinbase's outputs of the pool.
    pub payouts: Vec<Transaction>,
}

impl FoundPayouts {
    /// What was committed for a block's lane. `None`: its coinbase pays by itself.
    pub fn of(store: &Store, found: &Found) -> Result<Option<Self>, StoreError> {
        let committed = store.committed(found.seq, found.round)?;
        let mut lanes = committed.into_iter().flat_map(|committed| committed.lanes);
        let lane = lanes.nth(usize::from(found.lane.0));
        let lane = lane.filter(|(_, payouts)| !payouts.is_empty());
        Ok(lane.map(|(coinbase, payouts)| Self {
            block: found.hash,
            height: found.height,
            coinbase,
            payouts,
        }))
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    block: BlockHash,
    height: u32,
    /// Raw transaction, hex.
    coinbase: String,
    /// Raw transactions, hex: what any node takes at maturity.
    payouts: Vec<String>,
}

/// The directory of the payouts.
pub(super) struct KeptPayouts {
    directory: PathBuf,
}

impl KeptPayouts {
    /// Makes the directory if there is none.
    pub(super) fn open(directory: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&directory)?;
        durable::sync_entry(&directory)?;
        Ok(Self { directory })
    }

    /// They are on disk when this returns.
    pub(super) fn keep(&self, found: &FoundPayouts) -> io::Result<()> {
        let path = self.path(&found.block);
        if path.exists() {
            return Ok(());
        }
        let file = File {
            version: VERSION,
            block: BlockHash::from_byte_array(found.block),
            height: found.height,
            coinbase: serialize_hex(&found.coinbase),
            payouts: found.payouts.iter().map(serialize_hex).collect(),
        };
        let text = serde_json::to_string_pretty(&file).map_err(io::Error::other)?;
        durable::write(&path, (text + "\n").as_bytes())
    }

    /// All that is kept, and what of it cannot be read.
    pub(super) fn all(&self) -> io::Result<(Vec<FoundPayouts>, Vec<String>)> {
        let (mut found, mut damaged) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            match read(&path) {
                Ok(payouts) => found.push(payouts),
                Err(why) => damaged.push(format!(
                    "{} cannot be used ({why}); restore it from a copy, the participants have its payouts too",
                    path.display()
                )),
            }
        }
        Ok((found, damaged))
    }

    /// Nothing becomes of them any more.
    pub(super) fn forget(&self, block: &[u8; 32]) {
        // If it stays, it is forgotten after the next start.
        let _ = fs::remove_file(self.path(block));
    }

    fn path(&self, block: &[u8; 32]) -> PathBuf {
        let name = format!("{}.json", BlockHash::from_byte_array(*block));
        self.directory.join(name)
    }
}

fn read(path: &Path) -> Result<FoundPayouts, String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let file: File = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    if file.version != VERSION {
        return Err(format!("version {} is not {VERSION}", file.version));
    }
    let transaction = |hex: &String| {
        deserialize_hex::<Transaction>(hex).map_err(|error| format!("a transaction: {error}"))
    };
    let payouts: Result<Vec<_>, _> = file.payouts.iter().map(transaction).collect();
    Ok(FoundPayouts {
        block: file.block.to_byte_array(),
        height: file.height,
        coinbase: transaction(&file.coinbase)?,
        payouts: payouts?,
    })
}

#[cfg(test)]
mod tests {
    use bitcoin::Network;
    use bitcoin::constants::genesis_block;

    use super::*;

    #[test]
    fn what_is_kept_comes_back_until_it_is_forgotten_and_damage_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let kept = KeptPayouts::open(dir.path().join("payouts")).unwrap();
        let transaction = genesis_block(Network::Regtest).txdata[0].clone();
        let found = FoundPayouts {
            block: [7; 32],
            height: 9,
            coinbase: transaction.clone(),
            payouts: vec![transaction.clone(), transaction],
        };
        kept.keep(&found).unwrap();
        kept.keep(&found).unwrap();
        assert_eq!(kept.all().unwrap(), (vec![found.clone()], Vec::new()));
        let path = kept.path(&found.block);
        let whole = fs::read_to_string(&path).unwrap();
        fs::write(&path, &whole[..whole.len() / 2]).unwrap();
        let (none, damaged) = kept.all().unwrap();
        assert!(none.is_empty() && damaged[0].contains("restore it from a copy"));
        kept.forget(&found.block);
        assert_eq!(kept.all().unwrap(), (Vec::new(), Vec::new()));
    }
}
