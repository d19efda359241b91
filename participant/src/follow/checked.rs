//! What was checked survives a restart: the state after a checked window, as a file of our own. A check
//! goes on from it, and takes nobody's word for what it has seen itself.
//!
//! The head's signature does not cover the payee set, and a damaged one would look like the
//! coordinator's lie only later: so the file begins with the SHA256 of what follows.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bitcoin::hashes::{Hash, sha256};
use tokio::task::spawn_blocking;
use tutti_proto::audit::Auditor;
use tutti_proto::message::SignedHead;
use tutti_proto::params::PoolName;
use tutti_proto::segment::Checkpoint;
use tutti_proto::wire::{FromWire, ToWire};

use crate::store::{Durability, write_bytes};

/// The file's name in a data directory.
pub const CHECKED: &str = "checked.checkpoint";
/// Ends the name of a damaged one.
const DAMAGED: &str = ".damaged";
/// Bytes of the checksum.
const SEAL: usize = 32;
/// Time between two writes: a restart checks so much again.
pub const SPACING: Duration = Duration::from_secs(60);

/// Where a check begins.
#[derive(Clone, Debug)]
pub struct Start {
    /// What an earlier one has checked.
    pub file: PathBuf,
    /// Shortest time between two writes of it.
    pub spacing: Duration,
    /// Without it: fewest signers of the state that the pool gives, the coordinator included.
    pub signers_min: u16,
}

/// What is in the file.
pub(super) enum Found {
    /// Nothing of this pool.
    Nothing,
    /// What goes on with the state.
    State(Box<Auditor>),
    /// It was damaged, and is set aside: what there is to say of it.
    Damaged(String),
}

/// The file of one check.
pub(super) struct CheckedFile {
    pub(super) start: Start,
    written: Option<Instant>,
}

impl CheckedFile {
    pub(super) fn new(start: Start) -> Self {
        Self {
            start,
            written: None,
        }
    }

    /// Looks for the state to go on with. One that is damaged is set aside: what the signers signed is
    /// better than no check.
    pub(super) async fn read(&self, pool: PoolName) -> Result<Found, String> {
        let path = self.start.file.clone();
        let read = move || {
            let bytes = match std::fs::read(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
                bytes => bytes.map_err(|error| format!("{}: {error}", path.display()))?,
            };
            match unseal(&bytes, pool) {
                Ok(None) => Ok(Found::Nothing),
                Ok(Some(auditor)) => Ok(Found::State(Box::new(auditor))),
                Err(why) => set_aside(&path, &why),
            }
        };
        let read = spawn_blocking(read).await;
        read.unwrap_or_else(|error| Err(error.to_string()))
    }

    /// Writes the state after the last checked window, unless that was done a moment ago.
    pub(super) async fn write(
        &mut self,
        auditor: &Auditor,
        head: SignedHead,
    ) -> Result<(), String> {
        let is_due = |written: Instant| written.elapsed() >= self.start.spacing;
        if !self.written.is_none_or(is_due) {
            return Ok(());
        }
        self.written = Some(Instant::now());
        let made = auditor
            .checkpoint(head)
            .map_err(|error| error.to_string())?;
        let Some(checkpoint) = made else {
            return Ok(());
        };
        let path = self.start.file.clone();
        let write = move || write_bytes(&path, &seal(&checkpoint), Durability::Durable);
        let written = spawn_blocking(write).await;
        match written {
            Ok(written) => written.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }
}

fn seal(checkpoint: &Checkpoint) -> Vec<u8> {
    let body = checkpoint.encode();
    let mut bytes = sha256::Hash::hash(&body).to_byte_array().to_vec();
    bytes.extend(body);
    bytes
}

/// The auditor that goes on with a file's state; none if it is of another pool.
fn unseal(bytes: &[u8], pool: PoolName) -> Result<Option<Auditor>, String> {
    let (seal, body) = bytes.split_at_checked(SEAL).ok_or("it is cut off")?;
    if sha256::Hash::hash(body).as_byte_array() != seal {
        return Err("its checksum is not that of its contents".to_owned());
    }
    let checkpoint = Checkpoint::decode(body).map_err(|error| error.to_string())?;
    if checkpoint.pool != pool {
        return Ok(None);
    }
    let checked = checkpoint.check().map_err(|error| error.to_string());
    checked.map(|(ledger, roster)| Some(Auditor::after(pool, ledger, roster)))
}

fn set_aside(path: &Path, why: &str) -> Result<Found, String> {
    let mut aside = path.as_os_str().to_owned();
    aside.push(DAMAGED);
    let (name, aside) = (path.display(), Path::new(&aside));
    let moved = std::fs::rename(path, aside);
    moved.map_err(|error| format!("{name} is damaged ({why}) and cannot be set aside: {error}"))?;
    Ok(Found::Damaged(format!(
        "{name} is damaged ({why}); it is {} now, and the check starts from what the pool's signers signed",
        aside.display()
    )))
}
