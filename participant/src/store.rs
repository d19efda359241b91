//! The data directory: what must survive a crash, and what tells others how the daemon is doing.
//!
//! | file                      | what                                                    | durable |
//! |---------------------------|---------------------------------------------------------|---------|
//! | `rounds/<seq>-<id>.json`  | a round's complete payouts, which make hashing safe      | yes     |
//! | `alone/<coinbase>.json`   | payouts that were imported without their round            | yes     |
//! | `own_work.json`           | acknowledged work of our own, by window                  | yes     |
//! | `heads.json`              | ledger heads as the coordinator signed them             | restarts |
//! | `equivocation-*.json`     | proof that a coordinator signed two; it is not joined   | yes     |
//! | `settlements.json`        | found blocks and their payouts, as the own node sees them | yes     |
//! | `owner.json`              | whose imported payouts these are, without a participant  | yes     |
//! | `wallet*.sqlite`          | addresses given out, and what the chain has for them    | yes     |
//! | `wallet.lock`             | held while one of them is open, for a moment            | no      |
//! | `birthday.json`           | since when there can be coins (`wallet/birthday.rs`)    | yes     |
//! | `segments/*`              | closed windows, named by their CIDs (`segments.rs`)     | yes     |
//! | `status.json`             | how the daemon is doing                                  | no      |
//! | `lock`                    | held while a daemon runs, with its pid                   | no      |
//!
//! A durable file is written under another name, flushed, renamed and its directory flushed: after a
//! crash there is the old one or the new one, complete.

mod alone;
mod atomic;
mod error;
mod heads;
mod held;
mod lock;
mod own_work;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use bitcoin::hashes::Hash;
use bitcoin::{Transaction, Txid};
use tutti_daemon::durable;
use tutti_proto::equivocation::Statements;
use tutti_proto::id::{Identity, RoundId};
use tutti_proto::participant::{Held, Memory, Record};

pub use alone::{AllAlone, Alone, all_alone, alone, is_alone, set_alone_aside, write_alone};
pub(crate) use atomic::read_json_in_part;
use atomic::read_json_within;
pub use atomic::{Durability, read_json, read_lazy, write_bytes, write_json};
pub use error::StoreError;
pub use held::RoundName;
pub use lock::{DataLock, is_held};
pub use own_work::{OwnWork, WindowWork};

use crate::proof;

/// Only the owner may look into the data directory.
const DIRECTORY_MODE: u32 = 0o700;
const ROUNDS: &str = "rounds";
const OWN_WORK: &str = "own_work.json";
const HEADS: &str = "heads.json";
pub const SETTLEMENTS: &str = "settlements.json";
pub const STATUS: &str = "status.json";
/// Whose payouts these are: the participant's, or where none was made, whoever's were imported.
pub const OWNER: &str = "owner.json";
pub const SEGMENTS: &str = "segments";
pub const SEED: &str = "seed.txt";

/// Blocks after which a round that nobody found is forgotten: twice what a coinbase takes to mature.
const KEEP_BLOCKS: u32 = 200;

/// No file of a round has as many bytes. A slot has at most 1,024 nonces, so that a round has as many payouts; each has
/// 10,000 vB, in hex 20 kB. With the coinbases that is 21 MB, and 100,000 payees, which are as many as a pool has, take
/// 25 MB.
const ROUND_BYTES_MAX: u64 = 64 << 20;

/// What is written while the daemon runs.
pub struct Store {
    directory: PathBuf,
    own_work: OwnWork,
    statements: Statements,
}

/// The rounds of a data directory, oldest first.
pub struct HeldRounds {
    pub rounds: Vec<Held>,
    /// Files that are not as they were written.
    pub damaged: Vec<StoreError>,
}

impl Store {
    /// Opens or creates the files.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let rounds = directory.join(ROUNDS);
        create_directory(&rounds)?;
        // Also where an earlier run created it and came no further.
        durable::sync_entry(&rounds)
            .map_err(|source| StoreError::io("flush", directory, source))?;
        for (of, ending) in [
            (rounds, ".json"),
            (directory.to_owned(), ".json"),
            (directory.join(alone::DIRECTORY), ""),
            (directory.join(SEGMENTS), ""),
        ] {
            atomic::remove_temporary(&of, ending)?;
        }
        Ok(Self {
            directory: directory.to_owned(),
            own_work: OwnWork::load(&directory.join(OWN_WORK))?,
            statements: heads::load(&directory.join(HEADS))?,
        })
    }

    /// What the core must know of the runs before.
    pub fn memory(&self) -> Result<Memory, StoreError> {
        let proofs = proof::kept(&self.directory)?.into_iter();
        Ok(Memory {
            coordinator: self.own_work.coordinator(),
            own_work: self.own_work.windows().clone(),
            statements: self.statements.clone(),
            convicted: proofs.map(|proof| proof.coordinator).collect(),
        })
    }

    /// Acknowledged work of our own.
    pub fn own_work(&self) -> &OwnWork {
        &self.own_work
    }

    /// Whose acknowledgements come from now on. Returns whose those so far were if another's: they
    /// count no more.
    pub fn joined(&mut self, coordinator: &Identity) -> Option<Identity> {
        self.own_work.belong_to(coordinator)
    }

    /// Stores the records; all of them are durable when this returns.
    pub fn save(&mut self, records: &[Record]) -> Result<(), StoreError> {
        let (mut own_work, mut heads) = (false, false);
        for record in records {
            match record {
                Record::Held(held) => store_round(&self.directory, held)?,
                Record::OwnWork { window, work } => {
                    self.own_work.set(*window, *work);
                    own_work = true;
                }
                Record::Head { coordinator, head } => {
                    // The core has compared them already.
                    heads |= self.statements.note_head(coordinator, head).is_ok();
                }
                Record::Equivocation(proof) => {
                    proof::keep(&self.directory, proof)?;
                }
            }
        }
        if own_work {
            self.own_work.store(&self.directory.join(OWN_WORK))?;
        }
        if heads {
            heads::store(&self.directory.join(HEADS), &self.statements)?;
        }
        Ok(())
    }
}

/// Stores a round below a directory that need not be a participant's. Durable when this returns.
pub fn write_round(directory: &Path, held: &Held) -> Result<(), StoreError> {
    create_directory(&directory.join(ROUNDS))?;
    store_round(directory, held)
}

fn store_round(directory: &Path, held: &Held) -> Result<(), StoreError> {
    let path = round_path(directory, &RoundName::of(held));
    write_json(&path, &held::HeldFile::from(held), Durability::Durable)
}

/// Whose payouts a directory holds: its participant's, or whoever's they were when imported.
pub fn owner(directory: &Path) -> Result<Option<String>, StoreError> {
    #[derive(serde::Deserialize)]
    struct Participant {
        identity: String,
    }
    let participant: Option<Participant> = read_lazy(&directory.join(STATUS))?;
    match participant {
        Some(participant) => Ok(Some(participant.identity)),
        None => read_json(&directory.join(OWNER)),
    }
}

/// Has this participant known as the owner whatever becomes of its status.
pub fn own(directory: &Path, identity: &str) -> Result<(), StoreError> {
    let path = directory.join(OWNER);
    match read_lazy::<String>(&path)? {
        Some(owner) if owner == identity => Ok(()),
        _ => write_json(&path, &identity, Durability::Durable),
    }
}

/// Creates a directory for its owner alone, and its parents. All that is new is durable: a file
/// flushed into a directory is lost with it.
pub fn create_directory(path: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::DirBuilderExt;
    let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let missing: Vec<&Path> = path.ancestors().take_while(is_missing).collect();
    fs::DirBuilder::new()
        .recursive(true)
        .mode(DIRECTORY_MODE)
        .create(path)
        .map_err(|source| StoreError::io("create", path, source))?;
    for created in missing {
        durable::sync_entry(created).map_err(|source| StoreError::io("flush", created, source))?;
    }
    Ok(())
}

/// Reads the rounds that are wanted; a damaged file does not hide the others.
pub fn held_rounds(
    directory: &Path,
    wanted: impl Fn(&RoundName) -> bool,
) -> Result<HeldRounds, StoreError> {
    let mut found = HeldRounds {
        rounds: Vec::new(),
        damaged: Vec::new(),
    };
    for name in held_names(directory)?.into_iter().filter(wanted) {
        match held_round(directory, &name) {
            Ok(held) => found.rounds.push(held),
            Err(error) => found.damaged.push(error),
        }
    }
    Ok(found)
}

/// Reads one round.
pub fn held_round(directory: &Path, name: &RoundName) -> Result<Held, StoreError> {
    let path = round_path(directory, name);
    let damaged = |reason: String| StoreError::Damaged {
        path: path.clone(),
        reason,
    };
    let file: Option<held::HeldFile> = read_json_within(&path, ROUND_BYTES_MAX)?;
    let file = file.ok_or_else(|| damaged("it is gone".to_owned()))?;
    let held = Held::try_from(file).map_err(|error| damaged(error.to_string()))?;
    if RoundName::of(&held) == *name {
        Ok(held)
    } else {
        Err(damaged(
            "it holds another round than its name says".to_owned(),
        ))
    }
}

/// The signed payouts by the name of their round, or by the one that stands for it where only they were
/// imported.
pub fn payouts_of(directory: &Path, name: &RoundName) -> Result<Vec<Transaction>, StoreError> {
    let coinbase = Txid::from_byte_array(name.round.0);
    let mut payouts = Vec::new();
    if let Some(alone) = alone(directory, coinbase)? {
        payouts = alone.payouts;
        // A round may be called as the payouts of a coinbase are.
        if !round_path(directory, name).exists() {
            return Ok(payouts);
        }
    }
    let held = held_round(directory, name)?;
    payouts.extend(held.lanes.into_iter().flat_map(|lane| lane.payouts));
    Ok(payouts)
}

/// The names of all rounds, oldest first.
pub fn held_names(directory: &Path) -> Result<Vec<RoundName>, StoreError> {
    let path = directory.join(ROUNDS);
    let failed = |source| StoreError::io("read", &path, source);
    let entries = match fs::read_dir(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        names.extend(name.to_str().and_then(round_name));
    }
    names.sort_unstable();
    Ok(names)
}

/// Files among the rounds and payouts of a directory that are not named as these are, so that nothing reads them.
pub fn misnamed(directory: &Path) -> Result<Vec<StoreError>, StoreError> {
    let is_round = |name: &str| round_name(name).is_some();
    let in_rounds = misnamed_in(&directory.join(ROUNDS), "SEQ-ROUND.json", is_round)?;
    let in_alone = misnamed_in(
        &alone::directory(directory),
        "COINBASE_TXID.json",
        alone::is_name,
    )?;
    Ok(in_rounds.into_iter().chain(in_alone).collect())
}

/// Of a file that is named as rounds are, to the letter.
fn round_name(name: &str) -> Option<RoundName> {
    RoundName::parse(name).filter(|of| of.file_name() == name)
}

fn misnamed_in(
    directory: &Path,
    form: &str,
    is_name: impl Fn(&str) -> bool,
) -> Result<Vec<StoreError>, StoreError> {
    let failed = |source| StoreError::io("read", directory, source);
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut misnamed = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        // What a crash left half written is no file yet.
        let is_json = path
            .extension()
            .is_some_and(|extension| extension == "json");
        if is_json && !name.is_some_and(&is_name) {
            let reason = format!("its name is not of the form {form}");
            misnamed.push(StoreError::Damaged { path, reason });
        }
    }
    Ok(misnamed)
}

/// Forgets rounds that nobody found and nobody can find any more; none whose height is not known. Only an own node that has scanned
/// all blocks up to `scanned_to` knows which these are: without one, none is forgotten.
pub fn prune(
    directory: &Path,
    rounds: impl Iterator<Item = (RoundName, Option<u32>)>,
    scanned_to: u32,
    found: &BTreeSet<RoundId>,
) -> Result<Vec<RoundName>, StoreError> {
    let mut forgotten = Vec::new();
    for (name, height) in rounds {
        let kept = height.is_none_or(|height| height.saturating_add(KEEP_BLOCKS) >= scanned_to)
            || found.contains(&name.round);
        if kept {
            continue;
        }
        // A round first: its name is its own, while a file of one payout is named by what any round may
        // name, too.
        let path = match round_path(directory, &name) {
            path if path.exists() => path,
            _ => alone::path_of(directory, &name),
        };
        match fs::remove_file(&path) {
            // Somebody moved it away: what is not there is forgotten.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            removed => removed.map_err(|source| StoreError::io("remove", &path, source))?,
        }
        forgotten.push(name);
    }
    Ok(forgotten)
}

fn round_path(directory: &Path, name: &RoundName) -> PathBuf {
    directory.join(ROUNDS).join(name.file_name())
}
