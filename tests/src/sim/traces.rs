//! What a pool's life has left behind: in its coordinator's records, and in what was said.

use std::collections::BTreeMap;

use tutti_proto::coordinator::{Found, Record, RestoreError, Restored};
use tutti_proto::id::Identity;
use tutti_proto::message::{Share, ShareReject, ToCoordinator, ToParticipant};

use super::World;

impl World {
    /// The state that the records make.
    pub fn restored(&self) -> Result<Restored, RestoreError> {
        let mut restored = Restored::default();
        let identity = self.coordinator.identity();
        for record in &self.records {
            restored.apply(&identity, record.clone())?;
        }
        Ok(restored)
    }

    /// Work of the windows that were closed, as stored.
    pub fn recorded_work(&self) -> BTreeMap<Identity, u128> {
        let mut work = BTreeMap::new();
        for record in &self.records {
            if let Record::WindowClosed(window) = record {
                for (who, done) in &window.record.tally {
                    *work.entry(*who).or_default() += done.0;
                }
            }
        }
        work
    }

    /// The last block that a miner found.
    pub fn last_found(&self) -> Option<Found> {
        self.records.iter().rev().find_map(|record| match record {
            Record::Candidate(found) => Some(found.clone()),
            _ => None,
        })
    }

    /// The last share that a miner submitted.
    pub fn last_share(&self, miner: usize) -> Option<Share> {
        let identity = self.miners.get(miner)?.identity();
        self.said
            .iter()
            .rev()
            .find_map(|(who, message)| match message {
                ToCoordinator::Share(share) if *who == identity => Some(*share),
                _ => None,
            })
    }

    /// The refusals of shares among what was told, from this place in `told` on.
    pub fn share_rejects(&self, from: usize) -> Vec<ShareReject> {
        let told = self.told.iter().skip(from);
        told.filter_map(|(_, message)| match message {
            ToParticipant::ShareReject(reject) => Some(*reject),
            _ => None,
        })
        .collect()
    }
}
