//! Payouts of found blocks on disk, from the find until they are final: as files, so that the operator
//! can broadcast one by hand.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::hashes::Hash;
use bitcoin::hex::FromHex;
use bitcoin::{BlockHash, Transaction};
use serde::{Deserialize, Serialize};
use tutti_daemon::durable;
use tutti_proto::coordinator::Found;
use tutti_proto::id::Identity;
use tutti_proto::window::{BlockPayouts, payees_digest};

use crate::store::{Store, StoreError};

/// The files' version; a later one is not guessed at.
const VERSION: u32 = 2;

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
    /// What the block was booked with: by it bumps are credited.
    pub terms: BlockPayouts,
    /// Whom each payout pays, in the order of its outputs.
    pub payees: Vec<Vec<Identity>>,
}

impl FoundPayouts {
    /// What was committed for a block's lane. `None`: its coinbase pays by itself.
    pub fn of(store: &Store, found: &Found) -> Result<Option<Self>, StoreError> {
        let committed = store.committed(found.seq, found.round)?;
        let lane = committed.as_ref().and_then(|of| of.lane(found.lane));
        let lane = lane.filter(|(_, payouts)| !payouts.is_empty());
        Ok(lane.map(|(coinbase, payouts)| Self {
            block: found.hash,
            height: found.height,
            coinbase: coinbase.clone(),
            payouts,
            terms: found.payouts.clone(),
            payees: found.payees.clone(),
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
    /// Compact target of the round.
    bits: u32,
    /// The pool's parameters of the round.
    bump_credit: u32,
    bump_credit_after: u16,
    /// Identities whom the outputs of each payout pay, hex.
    payees: Vec<Vec<String>>,
}

/// The directory of the payouts.
pub(super) struct KeptPayouts {
    directory: PathBuf,
}

impl KeptPayouts {
    /// Makes the directory if there is none.
    pub(super) fn open(directory: PathBuf) -> io::Result<Self> {
        durable::directory(&directory)?;
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
            bits: found.terms.bits,
            bump_credit: found.terms.bump_credit,
            bump_credit_after: found.terms.bump_credit_after,
            payees: found.payees.iter().map(|of| names(of)).collect(),
        };
        let text = serde_json::to_string_pretty(&file).map_err(io::Error::other)?;
        durable::write(&path, (text + "\n").as_bytes())
    }

    /// All that is kept, and what of it cannot be read.
    pub(super) fn all(&self) -> io::Result<(Vec<FoundPayouts>, Vec<String>)> {
        let (mut found, mut damaged) = (Vec::new(), Vec::new());
        let unread = |error| durable::named("read", &self.directory, &error);
        for entry in fs::read_dir(&self.directory).map_err(unread)? {
            let path = entry.map_err(unread)?.path();
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
    let payees: Result<Vec<_>, String> = file.payees.iter().map(|of| identities(of)).collect();
    let (coinbase, payees) = (transaction(&file.coinbase)?, payees?);
    Ok(FoundPayouts {
        block: file.block.to_byte_array(),
        height: file.height,
        terms: BlockPayouts {
            height: file.height,
            bits: file.bits,
            bump_credit: file.bump_credit,
            bump_credit_after: file.bump_credit_after,
            coinbase: coinbase.compute_txid().to_byte_array(),
            shards: payees.iter().map(|of| payees_digest(of)).collect(),
        },
        payouts: payouts?,
        coinbase,
        payees,
    })
}

fn names(identities: &[Identity]) -> Vec<String> {
    identities.iter().map(Identity::to_string).collect()
}

fn identities(names: &[String]) -> Result<Vec<Identity>, String> {
    let identity = |name: &String| {
        let bytes = <[u8; 32]>::from_hex(name).ok();
        let identity = bytes.and_then(|bytes| Identity::parse(&bytes).ok());
        identity.ok_or_else(|| format!("{name:?} is no identity"))
    };
    names.iter().map(identity).collect()
}

#[cfg(test)]
mod tests {
    use bitcoin::Network;
    use bitcoin::constants::genesis_block;
    use tutti_proto::identity::IdentityKey;

    use super::*;

    #[test]
    fn what_is_kept_comes_back_until_it_is_forgotten_and_damage_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let kept = KeptPayouts::open(dir.path().join("payouts")).unwrap();
        let transaction = genesis_block(Network::Regtest).txdata[0].clone();
        let identity = |n| IdentityKey::from_bytes(&mut [n; 32]).unwrap().identity();
        let payees = vec![vec![identity(1), identity(2)], vec![identity(3)]];
        let found = FoundPayouts {
            block: [7; 32],
            height: 9,
            terms: BlockPayouts {
                height: 9,
                bits: 0x207f_ffff,
                bump_credit: 5,
                bump_credit_after: 6,
                coinbase: transaction.compute_txid().to_byte_array(),
                shards: payees.iter().map(|of| payees_digest(of)).collect(),
            },
            payees,
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
