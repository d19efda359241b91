//! The split: who gets how much of a reward, to the sat. SPEC.md ("Split") is the text of this file.
//!
//! Integers only. Operator fee first, then carries, then the rest by weight with the largest
//! remainder; whoever would get less than its dust limit gets no output, its amount becomes carry,
//! and what that frees is split among the others by the same rule until nothing changes. Where the
//! payouts cannot hold all, the smallest amounts become carry, and the others are paid them in advance.

mod direct;

pub use direct::{DirectSplit, split_direct};

use std::cmp::Reverse;

use ethnum::U256;

use crate::amount::both;
use crate::feerate::FeeRate;
use crate::id::SerialId;
use crate::payout::{self, ANCHOR_SAT, ShardLayout};

/// Sat that will ever exist; no reward is larger.
pub const MAX_MONEY: u64 = 2_100_000_000_000_000;

/// What the split needs to know of one payee.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// Place in the payout.
    pub serial_id: SerialId,
    /// Smallest amount that gets an output, sat.
    pub dust_limit: u64,
    /// Bytes of its output.
    pub output_size: u64,
    /// Expected hashes in the scoring depth.
    pub weight: u128,
    /// What earlier blocks left owed to it (negative: overpaid), sat.
    pub carry: i64,
}

/// One reward to split.
#[derive(Clone, Copy, Debug)]
pub struct SplitInput<'a> {
    /// Value of the coinbase, sat.
    pub reward: u64,
    /// Feerate of the payouts.
    pub feerate: FeeRate,
    /// Operator's part, parts per million of the reward; goes to the account of `SerialId::OPERATOR`.
    pub operator_fee_ppm: u32,
    /// Most payout transactions: a slot has no more nonces per lane. At least one is made.
    pub shards_max: usize,
    /// In ascending serial_id order, no two alike.
    pub accounts: &'a [Account],
}

/// One payout's part of the coinbase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Payees and amounts, in serial_id order, sat.
    pub outputs: Vec<(SerialId, u64)>,
    /// Fee, sat.
    pub fee: u64,
    /// Value of its coinbase output: outputs, anchor and fee, sat.
    pub value: u64,
}

/// The result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Split {
    /// One per payout transaction.
    pub shards: Vec<Shard>,
    /// What each account is owed once this block is booked, accounts that end at zero left out.
    pub carry_after: Vec<(SerialId, i64)>,
}

/// Why a reward cannot be split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// More sat than there are.
    #[error("reward of {} is above {}", both(*.0), both(MAX_MONEY))]
    RewardAboveMoney(u64),
    /// Nothing is left for anybody after fees, anchors and dust limits.
    #[error("reward of {} leaves no payee an output above its dust limit", both(*reward))]
    NothingPayable {
        /// The reward, sat.
        reward: u64,
    },
    /// Accounts are not in strictly ascending serial_id order.
    #[error("accounts are not in ascending serial_id order")]
    Unordered,
    /// A sum leaves the range of its integer: such weights or carries cannot come from a ledger.
    #[error("the weights or carries overflow")]
    Overflow,
}

/// An account that may still get an output, and what it would get in this pass.
struct Candidate<'a> {
    account: &'a Account,
    /// Carry, operator fee and its part of the rest, sat.
    owed: i64,
    /// What of `owed` this block cannot pay because the carries exceed it, sat.
    cut: u64,
    /// What it is paid beyond that, and owes, sat.
    advance: u64,
}

/// Splits a reward. The same input gives the same result everywhere.
pub fn split(input: &SplitInput<'_>) -> Result<Split, SplitError> {
    if input.reward > MAX_MONEY {
        return Err(SplitError::RewardAboveMoney(input.reward));
    }
    if !input
        .accounts
        .is_sorted_by(|a, b| a.serial_id < b.serial_id)
    {
        return Err(SplitError::Unordered);
    }
    let operator_fee = operator_fee(input.reward, input.operator_fee_ppm);
    let mut carry_after = Vec::new();
    let mut candidates = candidates(input.accounts, operator_fee);
    loop {
        let layout = payout::layout(candidates.iter().map(|c| c.account.output_size));
        let shards_max = input.shards_max.max(1);
        let costs = costs_of(&layout[..layout.len().min(shards_max)], input.feerate);
        if drop_dust(
            &mut candidates,
            &mut carry_after,
            input.reward,
            costs,
            operator_fee,
        )? {
            continue;
        }
        if layout.len() > shards_max {
            drop_smallest(&mut candidates, &mut carry_after, shards_max);
            let layout = payout::layout(candidates.iter().map(|c| c.account.output_size));
            let costs = costs_of(&layout, input.feerate);
            if advance(&mut candidates, input.reward.saturating_sub(costs))? {
                return finish(&candidates, &layout, input.feerate, carry_after);
            }
            continue;
        }
        return finish(&candidates, &layout, input.feerate, carry_after);
    }
}

/// Fees and anchors of payouts, sat.
fn costs_of(layout: &[ShardLayout], feerate: FeeRate) -> u64 {
    let costs = layout
        .iter()
        .map(|s| feerate.fee(s.vsize).saturating_add(ANCHOR_SAT));
    costs.fold(0, u64::saturating_add)
}

/// Pays those who are left what the others cannot be paid now: by amount, and they owe it. `false`:
/// their payouts, filled anew, cost more than was counted, and there is nothing to advance.
fn advance(candidates: &mut [Candidate<'_>], available: u64) -> Result<bool, SplitError> {
    let amounts: Option<Vec<u64>> = candidates.iter().map(Candidate::amount).collect();
    let amounts = amounts.ok_or(SplitError::Overflow)?;
    let paid = amounts
        .iter()
        .try_fold(0u64, |sum, sat| sum.checked_add(*sat));
    let paid = paid.ok_or(SplitError::Overflow)?;
    let Some(rest) = available.checked_sub(paid) else {
        return Ok(false);
    };
    let parts = largest_remainder(rest, amounts.iter().map(|sat| u128::from(*sat)))?;
    for (c, part) in candidates.iter_mut().zip(parts) {
        c.advance = part;
    }
    Ok(true)
}

/// Those who may get an output.
fn candidates(accounts: &[Account], operator_fee: u64) -> Vec<Candidate<'_>> {
    let may_be_paid = |account: &&Account| {
        let operator = account.serial_id == SerialId::OPERATOR && operator_fee > 0;
        account.weight > 0 || account.carry != 0 || operator
    };
    let candidate = |account| Candidate {
        account,
        owed: 0,
        cut: 0,
        advance: 0,
    };
    accounts.iter().filter(may_be_paid).map(candidate).collect()
}

/// One pass: apportions what the costs leave, and takes out who would get less than its dust limit.
/// Says whether there was any.
fn drop_dust(
    candidates: &mut Vec<Candidate<'_>>,
    carry_after: &mut Vec<(SerialId, i64)>,
    reward: u64,
    costs: u64,
    operator_fee: u64,
) -> Result<bool, SplitError> {
    let available = reward.checked_sub(costs).filter(|_| !candidates.is_empty());
    let available = available.ok_or(SplitError::NothingPayable { reward })?;
    apportion(candidates, available, operator_fee)?;
    let before = candidates.len();
    candidates.retain(|c| {
        let kept = c.amount().is_some_and(|sat| sat >= c.account.dust_limit);
        if !kept && c.owed != 0 {
            carry_after.push((c.account.serial_id, c.owed));
        }
        kept
    });
    Ok(candidates.len() != before)
}

/// Takes out the smallest amounts, ties from the higher serial_id, until the others fit.
fn drop_smallest(
    candidates: &mut Vec<Candidate<'_>>,
    carry_after: &mut Vec<(SerialId, i64)>,
    shards_max: usize,
) {
    let mut by_size: Vec<(u64, Reverse<SerialId>)> = candidates.iter().map(rank).collect();
    by_size.sort_unstable();
    // Fewer outputs never need more shards, so the least number to drop can be searched for.
    let fits = |dropped: usize| {
        let limit = by_size.get(dropped);
        let kept = candidates
            .iter()
            .filter(|c| limit.is_some_and(|l| rank(c) >= *l));
        payout::layout(kept.map(|c| c.account.output_size)).len() <= shards_max
    };
    let (mut too_few, mut enough) = (0, by_size.len());
    while enough - too_few > 1 {
        let middle = too_few + (enough - too_few) / 2;
        if fits(middle) {
            enough = middle;
        } else {
            too_few = middle;
        }
    }
    let limit = by_size.get(enough).copied();
    candidates.retain(|c| {
        let kept = limit.is_some_and(|limit| rank(c) >= limit);
        if !kept {
            carry_after.push((c.account.serial_id, c.owed));
        }
        kept
    });
}

/// Orders candidates by amount; of two alike the lower serial_id is the greater.
fn rank(candidate: &Candidate<'_>) -> (u64, Reverse<SerialId>) {
    let serial_id = candidate.account.serial_id;
    (candidate.amount().unwrap_or(0), Reverse(serial_id))
}

impl Candidate<'_> {
    /// What it is paid, advance included, and what is owed to it after, sat.
    fn settle(&self) -> Result<(u64, i64), SplitError> {
        let amount = self.amount().and_then(|sat| sat.checked_add(self.advance));
        let amount = amount.ok_or(SplitError::Overflow)?;
        let cut = i64::try_from(self.cut).map_err(|_| SplitError::Overflow)?;
        let owed = cut.checked_sub_unsigned(self.advance);
        Ok((amount, owed.ok_or(SplitError::Overflow)?))
    }

    /// What it would be paid now, sat; `None` if it owes.
    fn amount(&self) -> Option<u64> {
        u64::try_from(self.owed.checked_sub_unsigned(self.cut)?).ok()
    }
}

/// `floor(reward * ppm / 1,000,000)`.
pub fn operator_fee(reward: u64, ppm: u32) -> u64 {
    // reward <= 21e14 < 2^51 and ppm <= 2^32: the product fits u128, the quotient u64.
    let fee = u128::from(reward) * u128::from(ppm.min(1_000_000)) / 1_000_000;
    u64::try_from(fee).unwrap_or(u64::MAX)
}

/// One pass: what every candidate would get of `available` sat.
fn apportion(
    candidates: &mut [Candidate<'_>],
    available: u64,
    operator_fee: u64,
) -> Result<(), SplitError> {
    let mut claims: i128 = 0;
    for c in candidates.iter_mut() {
        let fee = if c.account.serial_id == SerialId::OPERATOR {
            operator_fee
        } else {
            0
        };
        c.owed = c
            .account
            .carry
            .checked_add_unsigned(fee)
            .ok_or(SplitError::Overflow)?;
        c.cut = 0;
        claims += i128::from(c.owed);
    }
    let rest = i128::from(available) - claims;
    if rest >= 0 {
        let rest = u64::try_from(rest).map_err(|_| SplitError::Overflow)?;
        let unweighted = candidates.iter().all(|c| c.account.weight == 0);
        let weights = candidates
            .iter()
            .map(|c| if unweighted { 1 } else { c.account.weight });
        let parts = largest_remainder(rest, weights)?;
        for (c, part) in candidates.iter_mut().zip(parts) {
            c.owed = c
                .owed
                .checked_add_unsigned(part)
                .ok_or(SplitError::Overflow)?;
        }
    } else {
        // Weight counts for nothing: what there is goes to those who are owed, by what they are owed.
        let positive = candidates
            .iter()
            .map(|c| u64::try_from(c.owed).unwrap_or(0));
        let payable = rest + positive.clone().map(i128::from).sum::<i128>();
        let payable = u64::try_from(payable).map_err(|_| SplitError::Overflow)?;
        let parts = largest_remainder(payable, positive.clone().map(u128::from))?;
        let cuts: Vec<u64> = positive
            .zip(parts)
            // A part is at most the claim that it is a part of.
            .map(|(claim, part)| claim.saturating_sub(part))
            .collect();
        for (c, cut) in candidates.iter_mut().zip(cuts) {
            c.cut = cut;
        }
    }
    Ok(())
}

/// Cuts `amount` into whole parts by weight: floors first, then one unit each to the largest
/// remainders, ties to the earlier place. The parts' sum is `amount`.
fn largest_remainder(
    amount: u64,
    weights: impl Iterator<Item = u128> + Clone,
) -> Result<Vec<u64>, SplitError> {
    let total = weights
        .clone()
        .try_fold(0u128, u128::checked_add)
        .ok_or(SplitError::Overflow)?;
    if total == 0 {
        return Err(SplitError::Overflow);
    }
    let mut parts = Vec::new();
    let mut remainders = Vec::new();
    let mut left = amount;
    for (place, weight) in weights.enumerate() {
        let (part, remainder) = multiply_divide(amount, weight, total);
        parts.push(part);
        remainders.push((Reverse(remainder), place));
        // The floors' sum is at most `amount`.
        left = left.saturating_sub(part);
    }
    let left = usize::try_from(left).map_err(|_| SplitError::Overflow)?;
    if left > 0 {
        // `left` < number of parts, since every remainder is below one unit.
        remainders.select_nth_unstable(left - 1);
        for (_, place) in &remainders[..left] {
            parts[*place] = parts[*place].checked_add(1).ok_or(SplitError::Overflow)?;
        }
    }
    Ok(parts)
}

/// Quotient and remainder of `amount * weight / total`, for `weight <= total`, `total > 0`.
fn multiply_divide(amount: u64, weight: u128, total: u128) -> (u64, u128) {
    match u128::from(amount).checked_mul(weight) {
        // The quotient is at most `amount`.
        Some(product) => ((product / total) as u64, product % total),
        None => {
            let product = U256::from(amount) * U256::from(weight);
            let total = U256::from(total);
            ((product / total).as_u64(), (product % total).as_u128())
        }
    }
}

/// Lays the last pass's amounts out into shards.
fn finish(
    candidates: &[Candidate<'_>],
    layout: &[ShardLayout],
    feerate: FeeRate,
    mut carry_after: Vec<(SerialId, i64)>,
) -> Result<Split, SplitError> {
    let mut rest = candidates;
    let mut shards = Vec::with_capacity(layout.len());
    for shard in layout {
        let (mine, others) = rest.split_at(shard.payees);
        rest = others;
        let fee = feerate.fee(shard.vsize);
        let mut value = fee.checked_add(ANCHOR_SAT).ok_or(SplitError::Overflow)?;
        let mut outputs = Vec::with_capacity(mine.len());
        for c in mine {
            let (amount, owed) = c.settle()?;
            value = value.checked_add(amount).ok_or(SplitError::Overflow)?;
            outputs.push((c.account.serial_id, amount));
            if owed != 0 {
                carry_after.push((c.account.serial_id, owed));
            }
        }
        shards.push(Shard {
            outputs,
            fee,
            value,
        });
    }
    carry_after.sort_unstable();
    Ok(Split {
        shards,
        carry_after,
    })
}
