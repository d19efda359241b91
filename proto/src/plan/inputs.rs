//! What a round is computed from, and the transcript hash that names it.

use std::collections::BTreeSet;

use super::{PlanError, PlanView};
use crate::digest::Digest;
use crate::feerate::FeeRate;
use crate::id::{Attempt, Identity, JobId, RoundId, RoundSeq};
use crate::musig::SlotKey;
use crate::params::{PROTOCOL_VERSION, PoolParams};
use crate::policy::subsidy;
use crate::window::LedgerHead;

/// One signer of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signer {
    /// Whose slot it is.
    pub identity: Identity,
    /// The slot's key.
    pub key: SlotKey,
}

/// What all coinbases and payouts of an attempt follow from; its hash is the round's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoundInputs {
    /// Round.
    pub seq: RoundSeq,
    /// Attempt.
    pub attempt: Attempt,
    /// Height of the block to be found.
    pub height: u32,
    /// Its compact target.
    pub bits: u32,
    /// Value of the coinbase: subsidy and fees, sat.
    pub reward: u64,
    /// BIP141 commitment of the template, if it has one.
    pub witness_commitment: Option<[u8; 32]>,
    /// Feerate of the payouts.
    pub feerate: FeeRate,
    /// Hash of the payee set.
    pub roster: [u8; 32],
    /// Head of the ledger.
    pub ledger: LedgerHead,
    /// Hash of the assignments.
    pub assignments: [u8; 32],
    /// Signers, in the order of their keys (BIP327 KeySort).
    pub signers: Vec<Signer>,
}

impl RoundInputs {
    /// The transcript hash: the round's name, and the coinbases' taproot leaf.
    pub fn round_id(&self, params: &PoolParams) -> RoundId {
        let mut digest = Digest::new("tutti/round")
            .u32(PROTOCOL_VERSION)
            .fixed(&params.digest())
            .u64(self.seq.0)
            .u32(self.attempt.0)
            .u32(self.height)
            .u32(self.bits)
            .u64(self.reward)
            .option32(self.witness_commitment.as_ref())
            .u64(self.feerate.sat_per_kvb())
            .fixed(&self.roster)
            .u64(self.ledger.seq.0)
            .fixed(&self.ledger.hash)
            .fixed(&self.assignments)
            .count(self.signers.len());
        for signer in &self.signers {
            digest = digest
                .fixed(&signer.key.serialize())
                .fixed(signer.identity.as_bytes());
        }
        RoundId(digest.finish())
    }

    pub(super) fn check_signers(&self, coordinator: &Identity) -> Result<(), PlanError> {
        if !self.signers.is_sorted_by(|a, b| a.key < b.key) {
            return Err(PlanError::Signers(
                "keys are not sorted, or one is there twice",
            ));
        }
        let identities: BTreeSet<_> = self.signers.iter().map(|signer| signer.identity).collect();
        if identities.len() != self.signers.len() {
            return Err(PlanError::Signers("an identity signs twice"));
        }
        if !identities.contains(coordinator) {
            return Err(PlanError::Signers("the coordinator is not among them"));
        }
        Ok(())
    }

    /// Whether the coinbases of this round pay the payees themselves: nobody signs anything.
    pub fn is_direct(&self) -> bool {
        self.signers.is_empty()
    }

    /// Names the round's work in shares.
    pub fn job(&self) -> JobId {
        let direct = u64::from(self.is_direct());
        JobId(self.seq.0.saturating_mul(2).saturating_add(direct))
    }

    /// Compares the state that the round is to be computed from with what its checker holds.
    pub(super) fn check_state(&self, view: &PlanView<'_>) -> Result<(), PlanError> {
        if self.roster != view.roster.digest() {
            return Err(PlanError::Roster);
        }
        let ours = view.ledger.head();
        if self.ledger != ours {
            return Err(PlanError::Ledger {
                ours,
                theirs: self.ledger,
            });
        }
        if self.assignments != view.assignments.digest() {
            return Err(PlanError::Assignments);
        }
        if self.height == 0 {
            return Err(PlanError::Height(self.height));
        }
        let subsidy = subsidy(view.params.network, self.height);
        if self.reward < subsidy {
            let (reward, height) = (self.reward, self.height);
            return Err(PlanError::RewardBelowSubsidy {
                reward,
                subsidy,
                height,
            });
        }
        Ok(())
    }
}
