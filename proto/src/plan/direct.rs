//! The plan of a direct round: its coinbases pay the payees themselves. The last resort where no
//! signed round exists; nobody signs, and there is no payout.

use std::collections::BTreeMap;

use bitcoin::hashes::Hash;
use bitcoin::{Amount, ScriptBuf, Transaction};

use super::accounts::{accounts, carry_changes};
use super::{PlanError, PlanView, RoundInputs};
use crate::coinbase::{self, CoinbaseName};
use crate::id::{Identity, LaneIndex, RoundId};
use crate::split::{DirectSplit, split_direct};
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
        inputs.check_state(view)?;
        if !inputs.is_direct() {
            return Err(PlanError::Signers("a direct round has none"));
        }
        if view.params.direct_payees == 0 {
            return Err(PlanError::NoDirectRounds);
        }
        let weights = view.params.weights(view.ledger, inputs.bits)?;
        let split = split_direct(
            inputs.reward,
            view.params.operator_fee_ppm,
            usize::from(view.params.direct_payees),
            &accounts(&inputs, view, &weights),
        )?;
        let script = |serial_id| {
            let payee = view.roster.payee(serial_id);
            payee.map_or_else(ScriptBuf::new, |payee| payee.script.as_script().to_owned())
        };
        let round = inputs.round_id(view.params);
        let payees = split.outputs.iter();
        let payees = payees.map(|(serial_id, sat)| (script(*serial_id), Amount::from_sat(*sat)));
        // Where a signed round's coinbase commits to its transcript in the output key, this one says it.
        let name = (coinbase::round_script(&round), Amount::ZERO);
        let outputs: Vec<(ScriptBuf, Amount)> = payees.chain([name]).collect();
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

    /// How each identity's carry changes if a block of this round is booked, sat.
    pub fn carry_changes(&self, view: &PlanView<'_>) -> BTreeMap<Identity, i64> {
        carry_changes(&self.split.carry_after, view)
    }
}
