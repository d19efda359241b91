//! Terms that were checked before. A check aggregates all signers' keys, and the terms of one round come
//! up in several windows.

use std::collections::VecDeque;
use std::sync::Arc;

use tutti_proto::params::PoolName;
use tutti_proto::terms::{CheckedTerms, RoundTerms, TermsError};

/// Rounds whose shares still come, and some more.
const KNOWN_LIMIT: usize = 8;

/// Checked terms of the last rounds, oldest first.
pub struct KnownTerms {
    pool: PoolName,
    newest: VecDeque<Arc<CheckedTerms>>,
}

impl KnownTerms {
    /// None yet, of this pool.
    pub fn new(pool: PoolName) -> Self {
        Self {
            pool,
            newest: VecDeque::new(),
        }
    }

    /// Remembers terms that someone else has checked, or computed.
    pub fn note(&mut self, checked: Arc<CheckedTerms>) {
        if self.newest.len() >= KNOWN_LIMIT {
            self.newest.pop_front();
        }
        self.newest.push_back(checked);
    }

    /// Checks terms, unless exactly these were checked.
    pub fn check(&mut self, terms: &RoundTerms) -> Result<Arc<CheckedTerms>, TermsError> {
        let mut newest = self.newest.iter().rev();
        if let Some(known) = newest.find(|known| known.terms() == terms) {
            return Ok(known.clone());
        }
        let checked = Arc::new(terms.clone().check(&self.pool)?);
        self.note(checked.clone());
        Ok(checked)
    }
}
