//! From a proposal off the wire to the only thing that can be signed or hashed.
//!
//! This directory is the security review's one page. [`CheckedPlan::compute`] and
//! [`DirectPlan::compute`] build every coinbase, every payout and every amount from state that their
//! caller holds itself; [`ProposedPlan::check`] compares the result with what was proposed and with
//! the participant's policy. Amounts are never taken from a peer, and no slot signs anything but a
//! `CheckedPlan`.

mod accounts;
mod amounts;
mod direct;
mod error;
mod inputs;
mod signed;

pub use amounts::{Amounts, RoundAmounts};
pub use direct::DirectPlan;
pub use error::{CompleteError, PlanError};
pub use inputs::{RoundInputs, Signer};
pub(crate) use signed::unsigned_payouts;
pub use signed::{CheckedPlan, LanePlan};

use std::collections::BTreeSet;

use crate::id::{Attempt, Identity, LaneIndex, RoundId, RoundSeq};
use crate::lane::Assignments;
use crate::musig::{AggregateNonce, SlotKey};
use crate::params::PoolParams;
use crate::policy::Policy;
use crate::roster::Roster;
use crate::window::Ledger;

/// The replicated state that a plan is computed from.
#[derive(Clone, Copy, Debug)]
pub struct PlanView<'a> {
    /// The pool's parameters.
    pub params: &'a PoolParams,
    /// The payee set.
    pub roster: &'a Roster,
    /// The ledger.
    pub ledger: &'a Ledger,
    /// Who hashes what.
    pub assignments: &'a Assignments,
}

/// A plan as a peer proposes it: parsed, not yet believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProposedPlan {
    /// What the coordinator says the transcript hashes to.
    pub round: RoundId,
    /// What the plan is to be computed from.
    pub inputs: RoundInputs,
    /// `tx_add_input`: the coinbase txids that the coordinator computed, one per lane.
    pub coinbases: Vec<[u8; 32]>,
    /// Aggregate nonces, lane by lane, within a lane shard by shard.
    pub nonces: Vec<AggregateNonce>,
}

/// A plan that its holder computed itself and agrees to.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "made once, moved out once")]
pub enum Checked {
    /// Its payouts are to be signed.
    ToSign(CheckedPlan),
    /// Its coinbases pay the payees themselves.
    Direct(DirectPlan),
}

impl Checked {
    /// The round's name.
    pub fn round(&self) -> RoundId {
        match self {
            Self::ToSign(plan) => plan.round(),
            Self::Direct(plan) => plan.round(),
        }
    }

    /// What it was computed from.
    pub fn inputs(&self) -> &RoundInputs {
        match self {
            Self::ToSign(plan) => plan.inputs(),
            Self::Direct(plan) => plan.inputs(),
        }
    }
}

/// What a participant knows of itself when it checks a proposal.
#[derive(Clone, Copy, Debug)]
pub struct Checker<'a> {
    /// Its identity.
    pub identity: &'a Identity,
    /// Its announced, unused slots.
    pub slots: &'a BTreeSet<SlotKey>,
    /// The last round and attempt it saw.
    pub last: Option<(RoundSeq, Attempt)>,
    /// What it accepts.
    pub policy: &'a Policy,
}

impl ProposedPlan {
    /// Computes the plan from our own state and compares. `Ok` is consent to sign and to hash it.
    pub fn check(&self, view: &PlanView<'_>, me: &Checker<'_>) -> Result<Checked, PlanError> {
        if view.roster.active(me.identity).is_none() {
            return Err(PlanError::NotPayee);
        }
        if view.params.operator_fee_ppm > me.policy.operator_fee_ppm_max {
            let (fee, limit) = (view.params.operator_fee_ppm, me.policy.operator_fee_ppm_max);
            return Err(PlanError::OperatorFee { fee, limit });
        }
        if view.params.bump_credit > me.policy.bump_credit_max {
            let (credit, limit) = (view.params.bump_credit, me.policy.bump_credit_max);
            return Err(PlanError::BumpCredit { credit, limit });
        }
        if self.inputs.is_direct() {
            check_direct(me)?;
        } else {
            self.check_signing(me)?;
        }
        let checked = self.compute(view)?;
        if let Checked::Direct(plan) = &checked {
            let (owed, limit) = (plan.left_owed(me.identity, view), me.policy.direct_owed_max);
            if owed > limit {
                return Err(PlanError::DirectOwed { owed, limit });
            }
        }
        Ok(checked)
    }

    /// Computes the plan from our own state and compares, whether or not we may or want to take part.
    pub fn compute(&self, view: &PlanView<'_>) -> Result<Checked, PlanError> {
        if self.inputs.is_direct() {
            if !self.nonces.is_empty() {
                let (got, sessions) = (self.nonces.len(), 0);
                return Err(PlanError::Nonces { got, sessions });
            }
            let plan = DirectPlan::compute(self.inputs.clone(), view)?;
            self.compare(plan.round(), &plan.txids())?;
            return Ok(Checked::Direct(plan));
        }
        let plan = CheckedPlan::compute(self.inputs.clone(), |_| Ok(self.nonces.clone()), view)?;
        let txids: Vec<[u8; 32]> = plan.lanes().iter().map(|lane| lane.txid).collect();
        self.compare(plan.round(), &txids)?;
        Ok(Checked::ToSign(plan))
    }

    /// What only concerns rounds that are signed.
    fn check_signing(&self, me: &Checker<'_>) -> Result<(), PlanError> {
        let RoundInputs {
            seq,
            attempt,
            feerate,
            ..
        } = self.inputs;
        if me.last.is_some_and(|last| last >= (seq, attempt)) {
            return Err(PlanError::NotNewer { seq, attempt });
        }
        if feerate > me.policy.feerate_max {
            return Err(PlanError::FeeRate {
                rate: feerate,
                limit: me.policy.feerate_max,
            });
        }
        let signers = self.inputs.signers.len();
        if signers < usize::from(me.policy.signers_min) {
            return Err(PlanError::TooFewSigners {
                signers,
                limit: me.policy.signers_min,
            });
        }
        for signer in &self.inputs.signers {
            if (signer.identity == *me.identity) != me.slots.contains(&signer.key) {
                return Err(PlanError::OurSlot);
            }
        }
        if me.policy.must_be_signer && self.own_key(me.identity).is_none() {
            return Err(PlanError::NotSigner);
        }
        Ok(())
    }

    /// Compares the names that the coordinator gave with what we computed.
    fn compare(&self, round: RoundId, txids: &[[u8; 32]]) -> Result<(), PlanError> {
        // What proves two proposals of one attempt is kept by the ledger's number.
        let (seq, window) = (self.inputs.seq, self.inputs.ledger.seq);
        if seq.0 != window.0 {
            return Err(PlanError::RoundNumber { seq, window });
        }
        if round != self.round {
            return Err(PlanError::Transcript { ours: round });
        }
        let differs = |lane: usize| self.coinbases.get(lane) != txids.get(lane);
        let lanes = txids.len().max(self.coinbases.len());
        match (0..lanes).find(|lane| differs(*lane)) {
            Some(lane) => {
                let lane = LaneIndex(u16::try_from(lane).unwrap_or(u16::MAX));
                Err(PlanError::Coinbase(lane))
            }
            None => Ok(()),
        }
    }

    /// The slot with which this identity is to sign.
    pub fn own_key(&self, identity: &Identity) -> Option<SlotKey> {
        self.inputs
            .signers
            .iter()
            .find(|signer| signer.identity == *identity)
            .map(|signer| signer.key)
    }
}

/// What only concerns rounds that nobody signs.
fn check_direct(me: &Checker<'_>) -> Result<(), PlanError> {
    if me.policy.refuse_direct {
        return Err(PlanError::Direct);
    }
    if me.policy.must_be_signer {
        return Err(PlanError::NotSigner);
    }
    Ok(())
}
