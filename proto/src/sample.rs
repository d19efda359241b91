//! Checking a window by a few of its shares: for those who do not follow all of them.

use std::collections::BTreeMap;

use crate::follower::ROUND_WINDOWS;
use crate::id::Identity;
use crate::params::PoolName;
use crate::share::{Opening, OpeningError, Step};
use crate::terms::{Refusal, Rolled, RoundTerms, TermsError};
use crate::window::WindowRecord;
use crate::work::Work;

/// The answer to a request for shares at some positions of a closed window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// Terms of the shares' rounds.
    pub terms: Vec<RoundTerms>,
    /// One share for each position.
    pub shares: Vec<SampledShare>,
}

/// A share as a sample tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampledShare {
    /// Place of its round's terms.
    pub terms: usize,
    /// Whose it is.
    pub identity: Identity,
    /// What the miner chose.
    pub rolled: Rolled,
    /// From it to the root of its identity's shares.
    pub path: Vec<Step>,
    /// How many shares that identity has.
    pub shares: u64,
    /// From there to the root of the window's.
    pub account_path: Vec<Step>,
}

/// Why a sample shows that a record is false, or is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SampleError {
    /// Not one share for each position.
    #[error("{got} shares for {want} positions")]
    Count {
        /// How many came.
        got: usize,
        /// How many were asked for.
        want: usize,
    },
    /// Terms that do not belong together.
    #[error("the terms of a round: {0}")]
    Terms(#[from] TermsError),
    /// A share names terms that are not there.
    #[error("the share at position {0} names a round that is not there")]
    Dangling(Work),
    /// The share's round was proposed later, or is over.
    #[error("the share at position {0} is of a round of another time")]
    OldRound(Work),
    /// The share stands in two places.
    #[error("the share at position {0} is counted twice")]
    Duplicate(Work),
    /// The share is none.
    #[error("the share at position {position}: {refusal}")]
    Share {
        /// Where.
        position: Work,
        /// Why it is none.
        refusal: Refusal,
    },
    /// The record does not give this position to this share.
    #[error("at position {position}: {error}")]
    Opening {
        /// Where.
        position: Work,
        /// Why.
        error: OpeningError,
    },
}

impl Sample {
    /// Checks that the record is true at these positions.
    pub fn check(
        self,
        pool: &PoolName,
        record: &WindowRecord,
        positions: &[Work],
    ) -> Result<(), SampleError> {
        let (got, want) = (self.shares.len(), positions.len());
        if got != want {
            return Err(SampleError::Count { got, want });
        }
        let terms = self.terms.into_iter().map(|terms| terms.check(pool));
        let terms: Vec<_> = terms.collect::<Result<_, _>>()?;
        let mut leaves = BTreeMap::new();
        for (share, position) in self.shares.into_iter().zip(positions) {
            let position = *position;
            let terms = terms
                .get(share.terms)
                .ok_or(SampleError::Dangling(position))?;
            let proposed = terms.terms().inputs.ledger.seq.0;
            let age = record.seq.0.checked_sub(proposed);
            if age.is_none_or(|age| age == 0 || age > ROUND_WINDOWS) {
                return Err(SampleError::OldRound(position));
            }
            let judged = terms.judge(&share.identity, &share.rolled);
            let judged = judged.map_err(|refusal| SampleError::Share { position, refusal })?;
            // One header is one leaf.
            let leaf = (share.path.clone(), share.account_path.clone());
            if *leaves.entry(judged.hash).or_insert_with(|| leaf.clone()) != leaf {
                return Err(SampleError::Duplicate(position));
            }
            let opening = Opening {
                share: judged.record,
                path: share.path,
                shares: share.shares,
                account_path: share.account_path,
            };
            opening
                .check(record, position)
                .map_err(|error| SampleError::Opening { position, error })?;
        }
        Ok(())
    }
}
