//! The amounts of a round: what follows from inputs and state before there is any key, nonce or
//! signature. Whoever checks a round later, as whoever signs it, starts here.

use std::collections::BTreeMap;

use bitcoin::{Amount, ScriptBuf};

use super::accounts::{accounts, carry_changes, payees};
use super::{PlanError, PlanView, RoundInputs};
use crate::coinbase;
use crate::id::{Identity, RoundId, SerialId};
use crate::split::{Account, DirectSplit, Split, SplitInput, split, split_direct};
use crate::window::Tally;

/// Who gets how much of a round, from what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoundAmounts<S> {
    /// The weights that the split was made from.
    pub weights: Tally,
    /// The accounts that were split among, in serial_id order.
    pub accounts: Vec<Account>,
    /// The split.
    pub split: S,
}

/// The amounts of a round of either kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Amounts {
    /// Payouts are signed ahead.
    Signed(RoundAmounts<Split>),
    /// The coinbases pay the payees themselves.
    Direct(RoundAmounts<DirectSplit>),
}

impl RoundAmounts<Split> {
    /// Of a round whose payouts are signed.
    pub fn signed(inputs: &RoundInputs, view: &PlanView<'_>) -> Result<Self, PlanError> {
        inputs.check_state(view)?;
        inputs.check_signers(&view.params.coordinator)?;
        let weights = view.params.weights(view.ledger, inputs.bits)?;
        let accounts = accounts(inputs, view, &weights);
        let split = split(&SplitInput {
            reward: inputs.reward,
            feerate: inputs.feerate,
            operator_fee_ppm: view.params.operator_fee_ppm,
            shards_max: view.params.shards_max(),
            accounts: &accounts,
        })?;
        Ok(Self {
            weights,
            accounts,
            split,
        })
    }
}

impl RoundAmounts<DirectSplit> {
    /// Of a round whose coinbases pay the payees.
    pub fn direct(inputs: &RoundInputs, view: &PlanView<'_>) -> Result<Self, PlanError> {
        inputs.check_state(view)?;
        if !inputs.is_direct() {
            return Err(PlanError::Signers("a direct round has none"));
        }
        if view.params.direct_payees == 0 {
            return Err(PlanError::NoDirectRounds);
        }
        let weights = view.params.weights(view.ledger, inputs.bits)?;
        let accounts = accounts(inputs, view, &weights);
        let split = split_direct(
            inputs.reward,
            view.params.operator_fee_ppm,
            usize::from(view.params.direct_payees),
            &accounts,
        )?;
        Ok(Self {
            weights,
            accounts,
            split,
        })
    }

    /// Outputs of the coinbases, before the witness commitment: the payees', and one that names the
    /// round. Where a signed round's coinbase commits to its transcript in the output key, this one
    /// says it.
    pub fn outputs(&self, round: &RoundId, view: &PlanView<'_>) -> Vec<(ScriptBuf, Amount)> {
        let script = |serial_id| {
            let payee = view.roster.payee(serial_id);
            payee.map_or_else(ScriptBuf::new, |payee| payee.script.as_script().to_owned())
        };
        let payees = self.split.outputs.iter();
        let payees = payees.map(|(serial_id, sat)| (script(*serial_id), Amount::from_sat(*sat)));
        let name = (coinbase::round_script(round), Amount::ZERO);
        payees.chain([name]).collect()
    }
}

impl Amounts {
    /// Of any round.
    pub fn of(inputs: &RoundInputs, view: &PlanView<'_>) -> Result<Self, PlanError> {
        match inputs.is_direct() {
            true => RoundAmounts::direct(inputs, view).map(Self::Direct),
            false => RoundAmounts::signed(inputs, view).map(Self::Signed),
        }
    }

    /// The accounts that were split among, in serial_id order.
    pub fn accounts(&self) -> &[Account] {
        match self {
            Self::Signed(amounts) => &amounts.accounts,
            Self::Direct(amounts) => &amounts.accounts,
        }
    }

    /// The weights that the split was made from.
    pub fn weights(&self) -> &Tally {
        match self {
            Self::Signed(amounts) => &amounts.weights,
            Self::Direct(amounts) => &amounts.weights,
        }
    }

    /// What each account is owed once a block of the round is booked, sat; those that end at zero left
    /// out.
    pub fn carry_after(&self) -> &[(SerialId, i64)] {
        match self {
            Self::Signed(amounts) => &amounts.split.carry_after,
            Self::Direct(amounts) => &amounts.split.carry_after,
        }
    }

    /// How each identity's carry changes if a block of this round is booked, sat.
    pub fn carry_changes(&self, view: &PlanView<'_>) -> BTreeMap<Identity, i64> {
        carry_changes(self.carry_after(), view)
    }

    /// Whom the payouts pay, shard by shard; nobody where the coinbase pays.
    pub fn payees(&self, view: &PlanView<'_>) -> Vec<Vec<Identity>> {
        match self {
            Self::Signed(amounts) => payees(&amounts.split, view),
            Self::Direct(_) => Vec::new(),
        }
    }
}
