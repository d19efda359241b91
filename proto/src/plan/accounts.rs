//! The accounts that a reward is split among.

use std::collections::{BTreeMap, BTreeSet};

use super::{PlanView, RoundInputs};
use crate::id::{Identity, SerialId};
use crate::split::{Account, Split};
use crate::window::Tally;

/// Weight of each payee: its identity's work. While nobody has any: one for each participant that
/// signs; if none does, for each that is registered; if none is, for the coordinator.
pub(super) fn accounts(inputs: &RoundInputs, view: &PlanView<'_>, weights: &Tally) -> Vec<Account> {
    let registered = |identity: &Identity| view.roster.active(identity).is_some();
    let worked = weights.keys().any(registered);
    let coordinator = view.params.coordinator;
    let signers = inputs.signers.iter().map(|signer| signer.identity);
    let participants = |who: &Identity| *who != coordinator && registered(who);
    let mut equal: BTreeSet<Identity> = signers.filter(participants).collect();
    if equal.is_empty() {
        let payees = view.roster.iter().map(|(_, payee)| payee.identity);
        equal = payees.filter(participants).collect();
    }
    if equal.is_empty() {
        equal.insert(coordinator);
    }
    view.roster
        .iter()
        .filter(|(serial_id, payee)| view.roster.is_active(*serial_id, payee))
        .map(|(serial_id, payee)| Account {
            serial_id,
            dust_limit: payee.script.dust_limit(),
            output_size: payee.script.output_size(),
            weight: if worked {
                weights.get(&payee.identity).map_or(0, |work| work.0)
            } else {
                u128::from(equal.contains(&payee.identity))
            },
            carry: view.ledger.carry(&payee.identity),
        })
        .collect()
}

/// Whom the outputs of each shard's payout pay, in their order.
pub(super) fn payees(split: &Split, view: &PlanView<'_>) -> Vec<Vec<Identity>> {
    let payee = |(serial_id, _): &(SerialId, u64)| {
        let payee = view.roster.payee(*serial_id);
        payee.map(|payee| payee.identity)
    };
    let shards = split.shards.iter();
    shards
        .map(|shard| shard.outputs.iter().filter_map(payee).collect())
        .collect()
}

/// How each identity's carry changes if a block is booked that leaves `carry_after`, sat.
pub(super) fn carry_changes(
    carry_after: &[(SerialId, i64)],
    view: &PlanView<'_>,
) -> BTreeMap<Identity, i64> {
    let after: BTreeMap<SerialId, i64> = carry_after.iter().copied().collect();
    view.roster
        .iter()
        .filter(|(serial_id, payee)| view.roster.is_active(*serial_id, payee))
        .filter_map(|(serial_id, payee)| {
            let after = after.get(&serial_id).copied().unwrap_or(0);
            let change = after.checked_sub(view.ledger.carry(&payee.identity))?;
            (change != 0).then_some((payee.identity, change))
        })
        .collect()
}
