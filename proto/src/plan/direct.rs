//! The plan of a direct round: its coinbases pay the payees themselves. The last resort where no
//! signed round exists; nobody signs, and there is no payout.

use std::collections::BTreeMap;

use bitcoin::Transaction;
use bitcoin::hashes::Hash;

use super::accounts::carry_changes;
use super::amounts::RoundAmounts;
use super::{PlanError, PlanView, RoundInputs};
use crate::coinbase::{self, CoinbaseName};
use crate::id::{Identity, LaneIndex, RoundId};
use crate::split::DirectSplit;
use crate::window::Tally;

/// A direct plan that its holder computed itself.
#[derive(Clone, Debug)]
pub struct DirectPlan {
    round: RoundId,
    inputs: RoundInputs,
    split: DirectSplit,
    weights: Tally,
    coinbases: Vec<Transaction>,
}

impl DirectPlan {
    /// Computes everything from inputs and state.
    pub fn compute(inputs: RoundInputs, view: &PlanView<'_>) -> Result<Self, PlanError> {
        let amounts = RoundAmounts::direct(&inputs, view)?;
        let round = inputs.round_id(view.params);
        let outputs = amounts.outputs(&round, view);
        let RoundAmounts { weights, split, .. } = amounts;
        let coinbase = |lane| {
            let name = CoinbaseName {
                height: inputs.height,
                tag: &view.params.tag,
                round: inputs.seq,
                lane: LaneIndex(lane),
            };
            coinbase::build(name, &outputs, inputs.witness_commitment.as_ref())
        };
        let coinbases = (0..view.params.lanes).map(coinbase).collect();
        Ok(Self {
            round,
            inputs,
            split,
            weights,
            coinbases,
        })
    }

    /// The round's name.
    pub fn round(&self) -> RoundId {
        self.round
    }

    /// What it was computed from.
    pub fn inputs(&self) -> &RoundInputs {
        &self.inputs
    }

    /// Who gets how much.
    pub fn split(&self) -> &DirectSplit {
        &self.split
    }

    /// The weights that the split was made from.
    pub fn weights(&self) -> &Tally {
        &self.weights
    }

    /// The coinbases, lane by lane.
    pub fn coinbases(&self) -> &[Transaction] {
        &self.coinbases
    }

    /// Their txids, in the byte order in which they are hashed.
    pub fn txids(&self) -> Vec<[u8; 32]> {
        let txid = |coinbase: &Transaction| coinbase.compute_txid().to_byte_array();
        self.coinbases.iter().map(txid).collect()
    }

    /// What is owed to an identity that such a block does not pay although it could, sat.
    pub fn left_owed(&self, identity: &Identity, view: &PlanView<'_>) -> u64 {
        let Some((serial_id, payee)) = view.roster.active(identity) else {
            return 0;
        };
        let mut paid = self.split.outputs.iter();
        if paid.any(|(paid, _)| *paid == serial_id) {
            return 0;
        }
        let mut owed = self.split.carry_after.iter();
        let owed = owed.find(|(owed, _)| *owed == serial_id);
        let owed = owed.and_then(|(_, sat)| u64::try_from(*sat).ok());
        owed.filter(|sat| *sat >= payee.script.dust_limit())
            .unwrap_or(0)
    }

    /// How each identity's carry changes if a block of this round is booked, sat.
    pub fn carry_changes(&self, view: &PlanView<'_>) -> BTreeMap<Identity, i64> {
        carry_changes(&self.split.carry_after, view)
    }
}
