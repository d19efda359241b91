//! Changes of the payee set in the open window: so many, and so many of each identity.

use std::collections::BTreeMap;

use crate::id::Identity;
use crate::reject::{Reject, RejectCode};
use crate::roster::CHANGES_LIMIT;

/// Changes of a window that are left to the coordinator's own output: two for each restart.
const OWN: usize = 1_000;
/// Changes of one identity in a window; to move to another script takes two.
const EACH: usize = 8;

/// Those so far.
#[derive(Default)]
pub(super) struct Changes {
    all: usize,
    by: BTreeMap<Identity, usize>,
}

impl Changes {
    /// Notes a change by its output's owner, or that an output expired.
    pub(super) fn note(&mut self, by: Option<Identity>) {
        self.all = self.all.saturating_add(1);
        if let Some(by) = by {
            let own = self.by.entry(by).or_default();
            *own = own.saturating_add(1);
        }
    }

    /// How many there are.
    pub(super) fn all(&self) -> usize {
        self.all
    }

    /// Whether this participant's output may come or go, and another make room for it.
    pub(super) fn check(&self, by: &Identity) -> Result<(), Reject> {
        let own = self.by.get(by).copied().unwrap_or(0);
        if own >= EACH {
            let code = RejectCode::RateLimited;
            let detail =
                format!("your outputs changed {EACH} times in this window; try in the next");
            return Err(Reject { code, detail });
        }
        if self.all.saturating_add(OWN + 2) > CHANGES_LIMIT {
            let code = RejectCode::PoolFull;
            let detail = "the payee set has changed too often in this window; try in the next";
            let detail = detail.to_owned();
            return Err(Reject { code, detail });
        }
        Ok(())
    }
}
