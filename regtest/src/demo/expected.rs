//! What each miner must get, computed from the miners' own records of their acknowledged work.
//!
//! Nothing here comes from the coordinator: the windows' tallies are put together from what each
//! miner wrote down itself, and go through the published split.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use serde_json::Value;
use tutti_proto::feerate::FeeRate;
use tutti_proto::id::SerialId;
use tutti_proto::split::{Account, SplitInput, split, split_direct};

use crate::pool::{Miner, PoolOptions};

/// One miner's work and what it is worth in the found block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Work in the scoring depth, expected hashes.
    pub work: u128,
    /// Amount, sat.
    pub sat: u64,
}

/// Work of every miner in each window, by the miners' own records.
fn windows(miners: &[Miner], last: u64) -> Result<BTreeMap<u64, BTreeMap<String, u128>>> {
    let mut windows: BTreeMap<u64, BTreeMap<String, u128>> = BTreeMap::new();
    for miner in miners {
        let status = miner.command(&["status"])?;
        for entry in status["own_work"]
            .as_array()
            .context("own_work is a list")?
        {
            let window = entry["window"].as_u64().context("a window has a number")?;
            let work: u128 = entry["work"]
                .as_str()
                .context("work is a decimal string")?
                .parse()?;
            if window <= last {
                windows
                    .entry(window)
                    .or_default()
                    .insert(miner.identity.clone(), work);
            }
        }
    }
    Ok(windows)
}

/// Each miner's work in the scoring depth of a held payout, by the miners' own records.
pub fn own_weights(
    miners: &[Miner],
    options: &PoolOptions,
    held: &Value,
) -> Result<BTreeMap<String, u128>> {
    let last = held["window"]
        .as_u64()
        .context("the payout names its last window")?;
    let depth = (1u128 << options.block_zero_bits) * u128::from(options.pplns_depth);
    weights(&windows(miners, last)?, depth)
}

/// PPLNS: newest windows first until `depth`; the last one that is needed counts pro rata.
fn weights(
    windows: &BTreeMap<u64, BTreeMap<String, u128>>,
    depth: u128,
) -> Result<BTreeMap<String, u128>> {
    let mut weights: BTreeMap<String, u128> = BTreeMap::new();
    let mut missing = depth;
    for tally in windows.values().rev() {
        let sum: u128 = tally.values().sum();
        let counted = sum.min(missing);
        for (identity, work) in tally {
            let part = work.checked_mul(counted).context("work overflows")? / sum.max(1);
            *weights.entry(identity.clone()).or_default() += part;
        }
        missing -= counted;
        if missing == 0 {
            break;
        }
    }
    Ok(weights)
}

/// Amounts by identity, from each miner's work; the operator's under the empty string. Nothing is owed
/// from before.
pub fn amounts(
    weights: &BTreeMap<String, u128>,
    miners: &[Miner],
    options: &PoolOptions,
    held: &Value,
    reward: u64,
) -> Result<BTreeMap<String, Expected>> {
    amounts_with(weights, &BTreeMap::new(), miners, options, held, reward)
}

/// The same, with what is owed to some, sat.
pub fn amounts_with(
    weights: &BTreeMap<String, u128>,
    carries: &BTreeMap<String, i64>,
    miners: &[Miner],
    options: &PoolOptions,
    held: &Value,
    reward: u64,
) -> Result<BTreeMap<String, Expected>> {
    let feerate =
        FeeRate::from_sat_per_kvb(held["feerate_sat_per_kvb"].as_u64().context("a feerate")?)?;
    // Places in the payout are the only thing taken from the record: they decide who gets the odd sat.
    let mut places: BTreeMap<u64, String> = BTreeMap::new();
    for payee in held["payees"].as_array().context("payees are a list")? {
        let identity = payee["identity"]
            .as_str()
            .context("a payee has an identity")?
            .to_owned();
        let mine = miners.iter().any(|miner| miner.identity == identity);
        let place = payee["serial_id"]
            .as_u64()
            .context("a payee has a serial_id")?;
        places.insert(place, if mine { identity } else { String::new() });
    }
    // Before any work is in the ledger the signing participants get equal parts.
    let weight = |identity: &String| match weights.is_empty() {
        true => u128::from(!identity.is_empty()),
        false => weights.get(identity).copied().unwrap_or(0),
    };
    let accounts: Vec<Account> = places
        .iter()
        .map(|(place, identity)| Account {
            serial_id: SerialId(*place),
            dust_limit: 330, // P2TR
            output_size: 43,
            weight: weight(identity),
            carry: carries.get(identity).copied().unwrap_or(0),
        })
        .collect();
    let operator_fee_ppm = options.operator_fee_ppm;
    let mut amounts = BTreeMap::new();
    let mut pay = |(serial_id, sat): &(SerialId, u64)| {
        let identity = places
            .get(&serial_id.0)
            .context("the split pays who is in it")?;
        let work = weights.get(identity).copied().unwrap_or(0);
        amounts.insert(identity.clone(), Expected { work, sat: *sat });
        anyhow::Ok(())
    };
    if held["payout_txids"].as_array().is_some_and(Vec::is_empty) {
        let payees_max = usize::from(options.direct_payees);
        let result = split_direct(reward, operator_fee_ppm, payees_max, &accounts)?;
        result.outputs.iter().try_for_each(&mut pay)?;
        return Ok(amounts);
    }
    let result = split(&SplitInput {
        reward,
        feerate,
        operator_fee_ppm,
        shards_max: usize::MAX,
        accounts: &accounts,
    })?;
    let mut outputs = result.shards.iter().flat_map(|shard| &shard.outputs);
    outputs.try_for_each(&mut pay)?;
    Ok(amounts)
}
