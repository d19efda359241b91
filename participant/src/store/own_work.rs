//! Acknowledged work of our own: what the ledger must at least show, also after a restart.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tutti_proto::id::WindowSeq;
use tutti_proto::work::Work;

use super::{Durability, StoreError, read_json, write_json};

/// Windows remembered: those not yet closed matter, the others are for the miner to look at.
const WINDOWS_LIMIT: usize = 64;

/// By window, for one coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnWork {
    coordinator: String,
    windows: BTreeMap<WindowSeq, Work>,
}

#[derive(Serialize, Deserialize)]
struct OwnWorkFile {
    /// Another pool numbers its windows anew.
    coordinator: String,
    windows: Vec<WindowWork>,
}

/// One window, as files and programs see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowWork {
    pub window: u64,
    /// Expected hashes, decimal: more than JSON's numbers hold everywhere.
    pub work: String,
}

impl OwnWork {
    pub(super) fn load(path: &Path, coordinator: &str) -> Result<Self, StoreError> {
        let file: Option<OwnWorkFile> = read_json(path)?;
        let mut windows = BTreeMap::new();
        let of_this = file.filter(|file| file.coordinator == coordinator);
        for entry in of_this.into_iter().flat_map(|file| file.windows) {
            let work = entry.work.parse().map_err(|_| StoreError::Damaged {
                path: path.to_owned(),
                reason: format!("{:?} is not an amount of work", entry.work),
            })?;
            windows.insert(WindowSeq(entry.window), Work(work));
        }
        Ok(Self {
            coordinator: coordinator.to_owned(),
            windows,
        })
    }

    pub(super) fn set(&mut self, window: WindowSeq, work: Work) {
        self.windows.insert(window, work);
        while self.windows.len() > WINDOWS_LIMIT {
            self.windows.pop_first();
        }
    }

    pub(super) fn store(&self, path: &Path) -> Result<(), StoreError> {
        let file = OwnWorkFile {
            coordinator: self.coordinator.clone(),
            windows: self.entries(),
        };
        write_json(path, &file, Durability::Durable)
    }

    /// What was acknowledged, by window.
    pub fn windows(&self) -> &BTreeMap<WindowSeq, Work> {
        &self.windows
    }

    /// The same for files and programs.
    pub fn entries(&self) -> Vec<WindowWork> {
        let entry = |(window, work): (&WindowSeq, &Work)| WindowWork {
            window: window.0,
            work: work.to_string(),
        };
        self.windows.iter().map(entry).collect()
    }
}
