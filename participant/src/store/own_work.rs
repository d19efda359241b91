//! Acknowledged work of our own: what the ledger must at least show, also after a restart.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use tutti_proto::id::{Identity, WindowSeq};
use tutti_proto::work::Work;

use crate::proof;

use super::{Durability, StoreError, read_json, write_json};

/// Windows remembered: those not yet closed matter, the others are for the miner to look at.
const WINDOWS_LIMIT: usize = 512;

/// By window, for one coordinator: another pool numbers its windows anew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnWork {
    /// Identity of the coordinator; none before the first session.
    coordinator: Option<Identity>,
    windows: BTreeMap<WindowSeq, Work>,
}

#[derive(Serialize, Deserialize)]
struct OwnWorkFile {
    coordinator: Option<String>,
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
    pub(super) fn load(path: &Path) -> Result<Self, StoreError> {
        let Some(file) = read_json::<OwnWorkFile>(path)? else {
            return Ok(Self::default());
        };
        let damaged = |text: &str, what: &str| StoreError::Damaged {
            path: path.to_owned(),
            reason: format!("{text:?} is not {what}"),
        };
        let identity =
            |text: &String| proof::identity(text).ok_or_else(|| damaged(text, "an identity"));
        let coordinator = file.coordinator.as_ref().map(identity).transpose()?;
        let mut windows = BTreeMap::new();
        for WindowWork { window, work } in file.windows {
            let hashes = work.parse();
            let hashes = hashes.map_err(|_| damaged(&work, "an amount of work"))?;
            windows.insert(WindowSeq(window), Work(hashes));
        }
        Ok(Self {
            coordinator,
            windows,
        })
    }

    /// Whose windows they are.
    pub(super) fn coordinator(&self) -> Option<Identity> {
        self.coordinator
    }

    /// Says whose windows are meant from now on. Returns whose they were if another's, which are
    /// forgotten then.
    pub(super) fn belong_to(&mut self, coordinator: &Identity) -> Option<Identity> {
        let before = self.coordinator.replace(*coordinator);
        let other = before.filter(|before| before != coordinator);
        if other.is_some() {
            self.windows.clear();
        }
        other
    }

    pub(super) fn set(&mut self, window: WindowSeq, work: Work) {
        self.windows.insert(window, work);
        while self.windows.len() > WINDOWS_LIMIT {
            self.windows.pop_first();
        }
    }

    pub(super) fn store(&self, path: &Path) -> Result<(), StoreError> {
        let file = OwnWorkFile {
            coordinator: self.coordinator.map(|identity| identity.to_string()),
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
