//! The split of a direct round as SPEC.md tells it, slowly.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use tutti_proto::id::SerialId;
use tutti_proto::split::Account;

/// Amounts by serial_id, and what is owed after.
type Direct = (Vec<(u64, u64)>, BTreeMap<u64, i64>);

/// `None`: nothing can be paid.
pub fn reference_direct(
    reward: u64,
    ppm: u32,
    most: usize,
    accounts: &[Account],
) -> Option<Direct> {
    let fee = i128::from(reward) * i128::from(ppm) / 1_000_000;
    let fee_of = |a: &Account| {
        if a.serial_id == SerialId::OPERATOR {
            fee
        } else {
            0
        }
    };
    let mut left: Vec<&Account> = accounts
        .iter()
        .filter(|a| a.weight != 0 || a.carry != 0 || fee_of(a) != 0)
        .collect();
    let mut after = BTreeMap::new();
    let rows = loop {
        if left.is_empty() {
            return None;
        }
        let rows = pass(&left, i128::from(reward), &fee_of);
        let (paid, dust): (Vec<_>, Vec<_>) = rows
            .into_iter()
            .partition(|(a, _, amount)| *amount >= i128::from(a.dust_limit));
        after.extend(
            dust.iter()
                .map(|(a, owed, _)| (a.serial_id.0, *owed as i64)),
        );
        left = paid.iter().map(|(a, ..)| *a).collect();
        if dust.is_empty() {
            break paid;
        }
    };
    let mut order: Vec<_> = rows.iter().collect();
    order.sort_by_key(|(a, _, amount)| (Reverse(*amount), a.serial_id));
    let (first, rest) = order.split_at(most.min(order.len()));
    let advance: i128 = rest.iter().map(|(_, _, amount)| amount).sum();
    after.extend(
        rest.iter()
            .map(|(a, owed, _)| (a.serial_id.0, *owed as i64)),
    );
    let mut paid = first.to_vec();
    paid.sort_by_key(|(a, ..)| a.serial_id);
    let amounts: Vec<i128> = paid.iter().map(|(_, _, amount)| *amount).collect();
    let mut outputs = Vec::new();
    for ((account, owed, amount), part) in paid.into_iter().zip(cut(advance, &amounts)) {
        outputs.push((account.serial_id.0, (amount + part) as u64));
        after.insert(account.serial_id.0, (owed - amount - part) as i64);
    }
    after.retain(|_, owed| *owed != 0);
    Some((outputs, after))
}

/// Account, what it is owed, what it is paid.
type Row<'a> = (&'a Account, i128, i128);

fn pass<'a>(left: &[&'a Account], reward: i128, fee_of: &dyn Fn(&Account) -> i128) -> Vec<Row<'a>> {
    let claims: Vec<i128> = left
        .iter()
        .map(|a| i128::from(a.carry) + fee_of(a))
        .collect();
    let rest = reward - claims.iter().sum::<i128>();
    let rows = left.iter().zip(&claims);
    if rest >= 0 {
        let mut weights: Vec<i128> = left.iter().map(|a| a.weight as i128).collect();
        if weights.iter().all(|weight| *weight == 0) {
            weights.fill(1);
        }
        let parts = cut(rest, &weights);
        rows.zip(parts)
            .map(|((a, claim), part)| (*a, claim + part, claim + part))
            .collect()
    } else {
        let weights: Vec<i128> = claims.iter().map(|claim| (*claim).max(0)).collect();
        let negative: i128 = claims.iter().map(|claim| (*claim).min(0)).sum();
        let parts = cut(reward - negative, &weights);
        rows.zip(parts)
            .map(|((a, claim), part)| (*a, *claim, part.min(*claim)))
            .collect()
    }
}

/// Largest remainder by a full sort. Weights of the simulation are far below 2^60.
fn cut(amount: i128, weights: &[i128]) -> Vec<i128> {
    let total: i128 = weights.iter().sum();
    let mut parts: Vec<i128> = weights.iter().map(|w| amount * w / total).collect();
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by_key(|i| (Reverse(amount * weights[*i] % total), *i));
    let missing = amount - parts.iter().sum::<i128>();
    for place in order.into_iter().take(missing as usize) {
        parts[place] += 1;
    }
    parts
}
