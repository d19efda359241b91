//! The demo's result: what was expected, what the chain paid, and whether they are equal.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Result, ensure};
use bitcoin::address::NetworkUnchecked;
use bitcoin::{Address, Network, ScriptBuf};
use serde_json::{Value, json};

use super::Settlement;
use super::expected::{amounts, own_weights};
use super::story::Story;
use crate::pool::{Miner, PoolOptions, operator_address};

/// One line of the table.
#[derive(Clone, Debug)]
struct Row {
    miner: String,
    work: u128,
    expected_sat: u64,
    paid_sat: u64,
}

/// What the demo shows.
#[derive(Clone, Debug)]
pub struct Report {
    rows: Vec<Row>,
    json: Value,
    node_says: Value,
}

pub(super) fn compare(
    settlement: &Settlement,
    miners: &[Miner],
    options: &PoolOptions,
    story: &Story,
    started: Instant,
) -> Result<Report> {
    let Settlement {
        coinbase,
        payout,
        held,
        bumped,
        node_says,
        ..
    } = settlement;
    let reward = coinbase
        .output
        .iter()
        .map(|output| output.value.to_sat())
        .sum();
    let weights = own_weights(miners, options, held)?;
    let expected = amounts(&weights, miners, options, held, reward)?;
    let paid = |script: &ScriptBuf| -> u64 {
        let outputs = payout
            .output
            .iter()
            .filter(|output| output.script_pubkey == *script);
        outputs.map(|output| output.value.to_sat()).sum()
    };
    let mut rows = Vec::new();
    for miner in miners {
        let scripts = scripts_of(miner, story)?;
        let due = expected.get(&miner.identity);
        rows.push(Row {
            miner: miner.name.clone(),
            work: due.map_or(0, |due| due.work),
            expected_sat: due.map_or(0, |due| due.sat),
            paid_sat: scripts.iter().map(&paid).sum(),
        });
    }
    let operator = expected.get("");
    rows.push(Row {
        miner: "operator".into(),
        work: 0,
        expected_sat: operator.map_or(0, |due| due.sat),
        paid_sat: paid(&operator_address().script_pubkey()),
    });
    for row in &rows {
        let Row {
            miner,
            expected_sat,
            paid_sat,
            ..
        } = row;
        ensure!(
            expected_sat == paid_sat,
            "{miner}: expected {expected_sat} sat, was paid {paid_sat} sat"
        );
    }
    let outputs: u64 = payout
        .output
        .iter()
        .map(|output| output.value.to_sat())
        .sum();
    let table: u64 = rows.iter().map(|row| row.paid_sat).sum();
    ensure!(
        outputs == table + 240,
        "the payout pays {outputs} sat, the table with the anchor {}",
        table + 240
    );
    let payees: Vec<Value> = rows
        .iter()
        .map(|row| {
            let Row { miner, work, expected_sat, paid_sat } = row;
            json!({"miner": miner, "work": u64::try_from(*work).unwrap_or(u64::MAX), "expected_sat": expected_sat, "paid_sat": paid_sat})
        })
        .collect();
    let json = json!({
        "demo": "ok",
        "miners": miners.len(),
        "signers": settlement.signers,
        "rounds": story.rounds,
        "shares": story.shares.values().sum::<u64>(),
        "coinbase_txid": coinbase.compute_txid(),
        "payout_txid": payout.compute_txid(),
        "refused_at_h98": settlement.refused_at_h98,
        "accepted_at_h99": settlement.accepted_at_h99,
        "coordinator_killed": true,
        "bumped": bumped["accepted"],
        "payees": payees,
        "seconds": started.elapsed().as_secs(),
    });
    Ok(Report {
        rows,
        json,
        node_says: node_says.clone(),
    })
}

/// Where the miner's own wallet said that it wants to be paid.
fn scripts_of(miner: &Miner, story: &Story) -> Result<BTreeSet<ScriptBuf>> {
    let addresses = story.addresses.get(&miner.name).into_iter().flatten();
    let script = |address: &String| {
        let address: Address<NetworkUnchecked> = address.parse()?;
        Ok(address.require_network(Network::Regtest)?.script_pubkey())
    };
    addresses.map(script).collect()
}

/// Digits in groups of three.
fn grouped(number: u128) -> String {
    let digits = number.to_string();
    let mut shown = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            shown.push(' ');
        }
        shown.push(digit);
    }
    shown
}

impl Report {
    /// The table, and what the node says of the payout, for a person.
    pub fn print(&self) {
        eprintln!(
            "\n  {:<10} {:>14} {:>16} {:>16}",
            "miner", "work (hashes)", "expected (sat)", "paid (sat)"
        );
        for Row {
            miner,
            work,
            expected_sat,
            paid_sat,
        } in &self.rows
        {
            let (work, expected) = (grouped(*work), grouped(u128::from(*expected_sat)));
            eprintln!(
                "  {miner:<10} {work:>14} {expected:>16} {:>16}",
                grouped(u128::from(*paid_sat))
            );
        }
        let node = &self.node_says;
        eprintln!("\n  bitcoind on {}:", node["txid"].as_str().unwrap_or(""));
        eprintln!(
            "  version {}, {} vB, {} outputs, {} confirmation(s), block {}",
            node["version"],
            node["vsize"],
            node["vout"].as_array().map_or(0, Vec::len),
            node["confirmations"],
            node["blockhash"].as_str().unwrap_or("")
        );
    }

    /// One object for a program.
    pub fn json(&self) -> &Value {
        &self.json
    }
}
