//! The split of a coinbase that pays the payees itself: no payout, no fee, few outputs.

use std::cmp::Reverse;

use super::{
    Account, Candidate, MAX_MONEY, SplitError, candidates, drop_dust, largest_remainder,
    operator_fee, rank,
};
use crate::id::SerialId;

/// The outputs of a direct coinbase, and what it leaves owed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectSplit {
    /// Payees and amounts, in serial_id order, sat. Their sum is the reward.
    pub outputs: Vec<(SerialId, u64)>,
    /// What each account is owed once this block is booked, accounts that end at zero left out.
    pub carry_after: Vec<(SerialId, i64)>,
}

/// Splits a reward among at most `payees_max` outputs of the coinbase. The others' amounts become
/// carry; those who are paid get them in advance, and owe them.
pub fn split_direct(
    reward: u64,
    operator_fee_ppm: u32,
    payees_max: usize,
    accounts: &[Account],
) -> Result<DirectSplit, SplitError> {
    if reward > MAX_MONEY {
        return Err(SplitError::RewardAboveMoney(reward));
    }
    if !accounts.is_sorted_by(|a, b| a.serial_id < b.serial_id) {
        return Err(SplitError::Unordered);
    }
    let operator_fee = operator_fee(reward, operator_fee_ppm);
    let mut carry_after = Vec::new();
    let mut candidates = candidates(accounts, operator_fee);
    while drop_dust(&mut candidates, &mut carry_after, reward, 0, operator_fee)? {}

    let mut by_size: Vec<(u64, Reverse<SerialId>)> = candidates.iter().map(rank).collect();
    by_size.sort_unstable_by_key(|rank| Reverse(*rank));
    let smallest = by_size.get(payees_max.min(by_size.len()).saturating_sub(1));
    let smallest = smallest.filter(|_| payees_max > 0);
    let smallest = *smallest.ok_or(SplitError::NothingPayable { reward })?;
    let (paid, others): (Vec<_>, Vec<_>) =
        candidates.into_iter().partition(|c| rank(c) >= smallest);
    let advance = others.iter().try_fold(0u64, |sum, c| {
        carry_after.push((c.account.serial_id, c.owed));
        sum.checked_add(c.amount()?)
    });
    let advance = advance.ok_or(SplitError::Overflow)?;
    let outputs = pay(&paid, advance, &mut carry_after)?;
    carry_after.retain(|(_, carry)| *carry != 0);
    carry_after.sort_unstable();
    Ok(DirectSplit {
        outputs,
        carry_after,
    })
}

/// Pays everyone its own amount and its part of the advance, by amount.
fn pay(
    paid: &[Candidate<'_>],
    advance: u64,
    carry_after: &mut Vec<(SerialId, i64)>,
) -> Result<Vec<(SerialId, u64)>, SplitError> {
    let amounts: Option<Vec<u64>> = paid.iter().map(Candidate::amount).collect();
    let amounts = amounts.ok_or(SplitError::Overflow)?;
    let parts = largest_remainder(advance, amounts.iter().map(|sat| u128::from(*sat)))?;
    let mut outputs = Vec::with_capacity(paid.len());
    for ((c, amount), part) in paid.iter().zip(amounts).zip(parts) {
        let amount = amount.checked_add(part).ok_or(SplitError::Overflow)?;
        let cut = i64::try_from(c.cut).map_err(|_| SplitError::Overflow)?;
        let owed = cut.checked_sub_unsigned(part).ok_or(SplitError::Overflow)?;
        carry_after.push((c.account.serial_id, owed));
        outputs.push((c.account.serial_id, amount));
    }
    Ok(outputs)
}
