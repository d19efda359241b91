//! What was checked survives a restart: the state after a checked window, as a file of our own. A check
//! goes on from it, and takes nobody's word for what it has seen itself.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::task::spawn_blocking;
use tutti_proto::audit::Auditor;
use tutti_proto::message::SignedHead;
use tutti_proto::params::PoolName;
use tutti_proto::segment::Checkpoint;
use tutti_proto::wire::{FromWire, ToWire};

use crate::store::{Durability, write_bytes};

/// The file's name in a data directory.
pub const CHECKED: &str = "checked.checkpoint";
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

    /// An auditor that goes on where the file was written; none if there is no file for this pool. One
    /// that cannot be read is not passed over: whoever damages it would choose where we start.
    pub(super) async fn read(&self, pool: PoolName) -> Result<Option<Auditor>, String> {
        let path = self.start.file.clone();
        let read = move || {
            let name = path.display().to_string();
            let fail = |why: &dyn std::fmt::Display| {
                format!(
                    "{name}: {why}; without the file the check starts from what the pool's signers signed"
                )
            };
            let bytes = match std::fs::read(&path) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                bytes => bytes.map_err(|error| fail(&error))?,
            };
            let checkpoint = Checkpoint::decode(&bytes).map_err(|error| fail(&error))?;
            if checkpoint.pool != pool {
                return Ok(None);
            }
            let (ledger, roster) = checkpoint.check().map_err(|error| fail(&error))?;
            Ok(Some(Auditor::after(pool, ledger, roster)))
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
        let write = move || write_bytes(&path, &checkpoint.encode(), Durability::Durable);
        let written = spawn_blocking(write).await;
        match written {
            Ok(written) => written.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Why the check cannot go on with a window that nobody tells any more.
    pub(super) fn gone(&self, window: u64) -> String {
        format!(
            "the pool no longer keeps window {window}, with which the check goes on; to start anew from what \
             the pool's signers signed, remove {} and restart",
            self.start.file.display()
        )
    }
}
