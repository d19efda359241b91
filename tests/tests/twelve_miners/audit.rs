//! What is on the disks and in the chain, checked without the daemons' word for it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use bitcoin::address::NetworkUnchecked;
use bitcoin::consensus::encode::deserialize_hex;
use bitcoin::hashes::Hash;
use bitcoin::secp256k1::{Message, Secp256k1, XOnlyPublicKey, schnorr};
use bitcoin::sighash::{Prevouts, SighashCache};
use bitcoin::{Address, Network, ScriptBuf, TapSighashType, Transaction};
use serde_json::Value;
use tutti_regtest::demo::expected::{amounts, own_weights};
use tutti_regtest::pool::{Miner, PoolOptions, operator_address};

use crate::script::Script;
use crate::watch::{Committed, Watch};

/// The pay-to-anchor output of every payout, sat.
const ANCHOR: u64 = 240;

/// Payouts of one round on a disk, raw, by the coinbase that they spend.
type Payouts = BTreeMap<String, Vec<String>>;

/// Every round on every disk is complete; every spared disk has every committed round, all alike.
/// Gives the number of payouts whose signatures were verified.
pub fn disks(miners: &[Miner], script: &Script, committed: &[Committed]) -> Result<usize> {
    let mut verified = 0;
    let mut alike: BTreeMap<String, Payouts> = BTreeMap::new();
    for (number, miner) in miners.iter().enumerate() {
        let rounds = rounds_on_disk(miner)?;
        verified += rounds
            .values()
            .flatten()
            .map(|(_, it)| it.len())
            .sum::<usize>();
        for Committed {
            seq,
            round,
            payouts,
        } in committed
        {
            let name = format!("{seq}-{round}");
            let held = rounds.get(&name);
            ensure!(
                held.is_some() || !script.spares(number),
                "{} has no file of round {name}, which was committed",
                miner.name
            );
            let Some(held) = held else { continue };
            let count: usize = held.values().map(Vec::len).sum();
            ensure!(
                count as u64 == *payouts,
                "{} holds {count} of {payouts} payouts of round {name}",
                miner.name
            );
            let first = alike.entry(name.clone()).or_insert_with(|| held.clone());
            ensure!(first == held, "{} holds another round {name}", miner.name);
        }
    }
    Ok(verified)
}

/// All rounds in a miner's data directory by name, each payout of them verified.
fn rounds_on_disk(miner: &Miner) -> Result<BTreeMap<String, Payouts>> {
    let mut rounds = BTreeMap::new();
    for entry in std::fs::read_dir(miner.data_dir().join("rounds"))? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let complete = || format!("{}: {}", miner.name, path.display());
        let round = std::fs::read(&path)?;
        let payouts = payouts(&round).with_context(complete)?;
        let name = path.file_stem().and_then(|name| name.to_str());
        rounds.insert(
            name.context("a round's file has a name")?.to_owned(),
            payouts,
        );
    }
    Ok(rounds)
}

fn payouts(round: &[u8]) -> Result<Payouts> {
    let round: Value = serde_json::from_slice(round)?;
    let mut found = Payouts::new();
    for lane in round["lanes"].as_array().context("lanes")? {
        let coinbase: Transaction =
            deserialize_hex(lane["coinbase"].as_str().context("coinbase")?)?;
        let payouts: Vec<String> = serde_json::from_value(lane["payouts"].clone())?;
        let direct = round["signers"] == 0;
        ensure!(direct == payouts.is_empty(), "a lane without a payout");
        for (vout, payout) in payouts.iter().enumerate() {
            verify(&coinbase, vout, &deserialize_hex(payout)?)?;
        }
        found.insert(coinbase.compute_txid().to_string(), payouts);
    }
    ensure!(!found.is_empty(), "a round without a lane");
    Ok(found)
}

/// The payout spends this output of the coinbase with a signature that consensus takes.
fn verify(coinbase: &Transaction, vout: usize, payout: &Transaction) -> Result<()> {
    let [input] = &payout.input[..] else {
        anyhow::bail!("a payout of {} inputs", payout.input.len());
    };
    let spends = input.previous_output;
    ensure!(
        spends.txid == coinbase.compute_txid() && spends.vout as usize == vout,
        "it spends {spends}"
    );
    let prevout = coinbase.output.get(vout).context("no such output")?;
    ensure!(prevout.script_pubkey.is_p2tr(), "the coinbase pays no key");
    let sighash = SighashCache::new(payout).taproot_key_spend_signature_hash(
        0,
        &Prevouts::All(&[prevout]),
        TapSighashType::Default,
    )?;
    let key = XOnlyPublicKey::from_slice(&prevout.script_pubkey.as_bytes()[2..])?;
    let signature = input.witness.nth(0).context("no signature")?;
    let signature = schnorr::Signature::from_slice(signature)?;
    let message = Message::from_digest(sighash.to_byte_array());
    Ok(Secp256k1::verification_only().verify_schnorr(&signature, &message, &key)?)
}

/// A found block and its payout.
pub struct Paid {
    pub round: String,
    pub coinbase: Transaction,
    /// What a spared miner lists of it.
    pub held: Value,
    /// As it was mined; of a direct round, the coinbase itself.
    pub payout: Transaction,
}

/// What a miner lists of the found block with this coinbase.
pub fn held(miner: &Miner, coinbase: &str) -> Result<Value> {
    let all = miner.command(&["payouts", "--found"])?;
    let mut rows = all["payouts"].as_array().into_iter().flatten();
    let held = rows.find(|held| held["coinbase_txid"] == coinbase);
    let held = held.with_context(|| format!("{} does not list {coinbase}", miner.name))?;
    Ok(held.clone())
}

/// Everybody got from each block what the miners' own records of their acknowledged work give. Gives
/// the sum.
///
/// One thing may lack in them: a share whose acknowledgement was on its way when its miner was
/// stopped, killed or cut off counts, and the miner does not know it. So for those four the work in
/// the payout lies between their own record and what the coordinator's log says it accepted.
pub fn to_the_sat(
    miners: &[Miner],
    watch: &Watch,
    options: &PoolOptions,
    paid: &[Paid],
) -> Result<u64> {
    let blocks = paid.len();
    let mut sum = 0u64;
    for (number, paid) in paid.iter().enumerate() {
        let weights = weights(miners, watch, options, paid)
            .with_context(|| format!("round {}", paid.round))?;
        ensure!(
            number + 1 < blocks || weights.len() == miners.len(),
            "somebody has no work in the last block's payout: {weights:?}"
        );
        let reward = paid.coinbase.output.iter().map(|it| it.value.to_sat());
        let expected = amounts(&weights, miners, options, &paid.held, reward.sum())?;
        let payout = &paid.payout;
        let direct = payout.compute_txid() == paid.coinbase.compute_txid();
        let mut table = if direct { 0 } else { ANCHOR };
        let operator = BTreeSet::from([operator_address().script_pubkey()]);
        let mut payees = vec![("operator", "", operator)];
        for miner in miners {
            payees.push((&miner.name, &miner.identity, scripts(miner, watch)?));
        }
        for (name, identity, scripts) in payees {
            let outputs = payout.output.iter();
            let own = outputs.filter(|output| scripts.contains(&output.script_pubkey));
            let got: u64 = own.map(|output| output.value.to_sat()).sum();
            let due = expected.get(identity).map_or(0, |due| due.sat);
            ensure!(got == due, "{name}: {due} sat are due, {got} were paid");
            ensure!(
                got > 0 || weights.get(identity).is_none_or(|work| *work == 0),
                "{name} worked and got nothing"
            );
            table += got;
        }
        let outputs: u64 = payout.output.iter().map(|it| it.value.to_sat()).sum();
        ensure!(
            outputs == table,
            "{outputs} sat paid, {table} accounted for"
        );
        sum += outputs;
    }
    Ok(sum)
}

/// Each miner's work in a payout.
fn weights(
    miners: &[Miner],
    watch: &Watch,
    options: &PoolOptions,
    paid: &Paid,
) -> Result<BTreeMap<String, u128>> {
    let own = own_weights(miners, options, &paid.held)?;
    let seq = paid.held["seq"].as_u64().context("a round's number")?;
    let accepted = watch.accepted_before.get(&seq);
    let accepted = accepted.with_context(|| format!("round {seq} was never proposed"))?;
    let mut weights = BTreeMap::new();
    for miner in miners {
        let of = |map: &BTreeMap<String, u128>| map.get(&miner.identity).copied().unwrap_or(0);
        let (own, accepted, paid) = (of(&own), of(accepted), paid_work(paid, miner)?);
        let untouched = watch.spares(&miner.name);
        ensure!(
            own <= paid && paid <= accepted && (own == paid || !untouched),
            "{}: work {own} by its own record, {paid} in the payout, {accepted} accepted",
            miner.name
        );
        if paid > 0 {
            weights.insert(miner.identity.clone(), paid);
        }
    }
    Ok(weights)
}

/// The work that a miner is paid for, by what a spared miner computed itself and signed.
fn paid_work(paid: &Paid, miner: &Miner) -> Result<u128> {
    let payees = paid.held["payees"].as_array().context("payees")?;
    let mut work = 0;
    for payee in payees.iter().filter(|it| it["identity"] == *miner.identity) {
        let text = payee["work"].as_str().context("work is a decimal string")?;
        work = work.max(text.parse()?);
    }
    Ok(work)
}

/// Where a miner's own wallet said that it wants to be paid.
fn scripts(miner: &Miner, watch: &Watch) -> Result<BTreeSet<ScriptBuf>> {
    let heard = watch.miners.get(&miner.name).context("a known miner")?;
    let addresses = heard.addresses.iter().chain([&miner.first_address]);
    let script = |address: &String| {
        let address: Address<NetworkUnchecked> = address.parse()?;
        Ok(address.require_network(Network::Regtest)?.script_pubkey())
    };
    addresses.map(script).collect()
}
