//! Settlement by a whole pool of real processes: by the coordinator first, by any one participant alone,
//! with the coordinator gone for good.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bitcoin::{Transaction, Txid};
use serde_json::{Value, json};
use tutti_proto::payout::ANCHOR_SAT;
use tutti_regtest::binaries::Binaries;
use tutti_regtest::daemon::Line;
use tutti_regtest::demo::expected::amounts_with;
use tutti_regtest::demo::held_files;
use tutti_regtest::node::{Node, NodeOptions};
use tutti_regtest::pool::{Miner, Pool, PoolOptions, miner_name};

const STEP: Duration = Duration::from_secs(60);
/// H/s of all miners together: a block of 2^14 hashes comes within seconds.
const HASHRATE: u64 = 20_000;

fn options() -> PoolOptions {
    PoolOptions {
        block_zero_bits: 16,
        ..PoolOptions::default()
    }
}

/// A pool on a node whose mempool does not survive a restart.
fn pool(root: &std::path::Path, miners: u64) -> Result<(Pool, Vec<Miner>)> {
    let node = Node::start(NodeOptions {
        extra_args: vec!["-persistmempool=0".to_owned()],
        ..NodeOptions::default()
    })?;
    let pool = Pool::start(root, node, Binaries::ready()?, &options(), None)?;
    let mut all = Vec::new();
    for number in 0..miners {
        let name = miner_name(usize::try_from(number)?);
        let mut miner = pool.add_miner(&name, HASHRATE / miners)?;
        pool.run_miner(&mut miner, &[])?;
        all.push(miner);
    }
    Ok((pool, all))
}

/// The first block that all miners signed.
fn block_of_all(pool: &mut Pool, miners: u64) -> Result<Line> {
    let coordinator = pool.coordinator.as_mut().context("it runs")?;
    let mut rounds = BTreeSet::new();
    loop {
        let found = coordinator.wait_for("a block of all", STEP, |line| {
            let by_all = line.fields["signers"].as_u64() > Some(miners);
            line.event() == "committed" && by_all || line.event() == "block_accepted"
        })?;
        // A block may still be of the round before.
        let round = found.text("round")?.to_owned();
        if found.event() == "committed" {
            rounds.insert(round);
            continue;
        }
        if !rounds.contains(&round) {
            continue;
        }
        let block = found.text("hash")?.parse()?;
        let coinbase = pool.node.block(&block)?.txdata[0].clone();
        // A direct round has no payouts.
        if coinbase.output.len() <= 2 {
            return Ok(found);
        }
    }
}

/// The payouts of a block as a miner holds them.
fn payouts(pool: &Pool, found: &Line, miner: &Miner) -> Result<Vec<Txid>> {
    let block = pool.node.block(&found.text("hash")?.parse()?)?;
    let coinbase = block.txdata[0].compute_txid().to_string();
    let lane = held_files(miner)?.remove(&coinbase);
    let lane = lane.with_context(|| format!("{} does not hold it", miner.name))?;
    let payouts = lane.payouts.iter().map(|hex| -> Result<Txid> {
        let payout: bitcoin::Transaction = bitcoin::consensus::encode::deserialize_hex(hex)?;
        Ok(payout.compute_txid())
    });
    payouts.collect()
}

fn mempool(node: &Node) -> Result<Vec<Txid>> {
    Ok(node.call("getrawmempool", &[])?)
}

fn ripen(pool: &Pool, found: &Line) -> Result<()> {
    let ripe_at = u32::try_from(found.number("height")? + 99)?;
    let tip = pool.node.height()?;
    pool.node.mine(ripe_at.saturating_sub(tip))?;
    Ok(())
}

#[test]
fn each_one_of_five_participants_alone_pays_all_with_the_coordinator_gone_from_the_find_on()
-> Result<()> {
    let root = tempfile::tempdir()?;
    let (mut pool, mut miners) = pool(root.path(), 5)?;
    let found = block_of_all(&mut pool, 5)?;
    // Gone for good at the moment of the find, and so are all miners' processes.
    pool.coordinator.take().context("it runs")?.kill()?;
    for miner in &mut miners {
        miner.daemon.take().context("it runs")?.kill()?;
    }
    let payouts = payouts(&pool, &found, &miners[0])?;
    ripen(&pool, &found)?;
    ensure!(mempool(&pool.node)?.is_empty());
    let last = miners.len() - 1;
    for (number, miner) in miners.iter_mut().enumerate() {
        pool.run_miner(miner, &[])?;
        let daemon = miner.daemon()?;
        for _ in &payouts {
            let sent = daemon.wait_for("its broadcast", STEP, |line| {
                line.event() == "payout_broadcast"
                    && payouts
                        .iter()
                        .any(|txid| line.fields["payout_txid"] == txid.to_string())
            })?;
            ensure!(sent.fields["by_us"] == true, "{}: {:?}", miner.name, sent);
        }
        let pooled = mempool(&pool.node)?;
        ensure!(
            payouts.iter().all(|txid| pooled.contains(txid)),
            "{}",
            miner.name
        );
        if number < last {
            miner.daemon.take().context("it runs")?.kill()?;
            pool.node.restart()?;
            ensure!(mempool(&pool.node)?.is_empty(), "the node forgot");
        }
    }
    let block = pool.node.mine(1)?[0];
    let mined = pool.node.block(&block)?;
    let mined: Vec<Txid> = mined.txdata.iter().map(|tx| tx.compute_txid()).collect();
    ensure!(payouts.iter().all(|txid| mined.contains(txid)));
    // What each one gets is what the block's payees say, seen by each one's own files.
    for miner in &miners {
        let shown = miner.command(&["payouts", "--found"])?;
        let rows = &shown["payouts"];
        let payees = rows[0]["payees"].as_array().context("payees")?.iter();
        let own = payees.filter(|payee| payee["identity"] == miner.identity.as_str());
        let own: u64 = own.filter_map(|payee| payee["sat"].as_u64()).sum();
        ensure!(rows[0]["own_sat"].as_u64() == Some(own), "{rows}");
    }
    Ok(())
}

#[test]
fn the_coordinator_alone_broadcasts_restores_bumps_and_sees_the_payout_confirmed() -> Result<()> {
    let root = tempfile::tempdir()?;
    let (mut pool, mut miners) = pool(root.path(), 3)?;
    let found = block_of_all(&mut pool, 3)?;
    let payouts = payouts(&pool, &found, &miners[0])?;
    for miner in &mut miners {
        miner.daemon.take().context("it runs")?.kill()?;
    }
    // A restart forgets neither the block nor its payouts.
    pool.coordinator.take().context("it runs")?.kill()?;
    let mut coordinator = pool.spawn_coordinator()?;
    let address = coordinator.wait_event("bump_address", STEP)?;
    let address: bitcoin::Address<_> = address.text("address")?.parse()?;
    let script = address.assume_checked().script_pubkey();
    let txid = payouts[0].to_string();
    let of_it = |line: &Line| line.fields["payout_txid"] == txid.as_str();
    // The coin for its bumps ripens with the payout.
    pool.node.mine_to(1, &script)?;
    ripen(&pool, &found)?;
    coordinator.wait_for("its broadcast", STEP, |line| {
        line.event() == "payout_broadcast" && of_it(line)
    })?;
    ensure!(mempool(&pool.node)?.contains(&payouts[0]));
    pool.node.restart()?;
    coordinator.wait_for("its second broadcast", STEP, |line| {
        line.event() == "payout_broadcast" && of_it(line)
    })?;
    // Blocks pass it by until the coin is spendable.
    for _ in 0..4 {
        pool.node.mine_empty()?;
    }
    let bumped = coordinator.wait_for("its bump", STEP, |line| {
        line.event() == "payout_bumped" && of_it(line)
    })?;
    ensure!(
        bumped.text("because")?.contains("blocks passed it by"),
        "{bumped:?}"
    );
    let child: Txid = bumped.text("child_txid")?.parse()?;
    ensure!(mempool(&pool.node)?.contains(&child));
    let block = pool.node.mine(1)?[0];
    let mined = pool.node.block(&block)?;
    ensure!(mined.txdata.iter().any(|tx| tx.compute_txid() == child));
    coordinator.wait_for("the confirmation", STEP, |line| {
        line.event() == "settlement" && of_it(line) && line.fields["stage"] == "confirmed"
    })?;
    // A reorganisation takes it back, and the chain has it again.
    pool.node
        .call::<Value>("invalidateblock", &[json!(block)])?;
    coordinator.wait_for("the step back", STEP, |line| {
        line.event() == "settlement" && of_it(line) && line.fields["from"] == "confirmed"
    })?;
    pool.node
        .call::<Value>("reconsiderblock", &[json!(block)])?;
    coordinator.wait_for("the confirmation again", STEP, |line| {
        line.event() == "settlement" && of_it(line) && line.fields["stage"] == "confirmed"
    })?;
    // And then nothing is left to be done.
    pool.node.mine(99)?;
    coordinator.wait_for("the end", STEP, |line| {
        line.event() == "settlement" && of_it(line) && line.fields["stage"] == "final"
    })?;
    Ok(())
}

/// Kills all miners' processes: the chain stands still, and nobody holds their wallets.
fn stop(miners: &mut [Miner]) -> Result<()> {
    for miner in miners {
        miner.daemon.take().context("it runs")?.kill()?;
    }
    Ok(())
}

/// Blocks pass a payout by until its bump is credited, then a miner bumps it, and it is mined with its
/// child. Gives the child's fee.
fn bump_in_time(pool: &Pool, miner: &Miner, found: &Line, payout: Txid) -> Result<u64> {
    let txid = payout.to_string();
    let first = miner.command(&["bump", &txid, "--feerate", "4", "--dry-run"])?;
    for _ in 0..3 {
        pool.node.mine_empty()?;
    }
    let bumped = miner.command(&["bump", &txid, "--feerate", "4"])?;
    ensure!(bumped["accepted"] == true, "{bumped}");
    let fee = bumped["fee"].as_u64().context("a fee")?;
    ensure!(fee > 240 && fee < 20_000, "{bumped}");
    for said in [&first, &bumped] {
        // The anchor's sat were nobody's.
        ensure!(said["credit"].as_u64() == Some(fee - ANCHOR_SAT), "{said}");
        let from = said["credit_from_height"].as_u64();
        ensure!(from == Some(found.number("height")? + 103), "{said}");
    }
    let block = pool.node.block(&pool.node.mine(1)?[0])?;
    let has = |txid: &str| {
        block
            .txdata
            .iter()
            .any(|tx| tx.compute_txid().to_string() == txid)
    };
    ensure!(has(&txid) && has(bumped["child_txid"].as_str().context("a child")?));
    ensure!(u64::from(pool.node.height()?) == found.number("height")? + 103);
    Ok(fee)
}

/// A block's payouts as a miner's command shows them.
fn shown(pool: &Pool, miner: &Miner, found: &Line) -> Result<Value> {
    let shown = miner.command(&["payouts"])?;
    let block = pool.node.block(&found.text("hash")?.parse()?)?;
    let coinbase = block.txdata[0].compute_txid().to_string();
    let of_block = |row: &&Value| row.to_string().contains(&coinbase);
    let rows = shown["payouts"].as_array().context("rows")?;
    let row = rows.iter().find(of_block);
    let row = row.with_context(|| format!("{} does not hold {coinbase}", miner.name))?;
    Ok(row.clone())
}

/// The miner whose part of a payout is the largest: not each has one in a quick block.
fn largest(miners: &[Miner], held: &Value) -> Result<usize> {
    let part = |miner: &Miner| {
        let payees = held["payees"].as_array().into_iter().flatten();
        let mut own = payees.filter(|payee| payee["identity"] == miner.identity.as_str());
        own.next().and_then(|payee| payee["sat"].as_u64())
    };
    let places = 0..miners.len();
    places
        .max_by_key(|place| part(&miners[*place]))
        .context("miners")
}

/// The payout of the first block whose round is of this window or a later one, as a miner shows it.
fn paid_after(pool: &mut Pool, miner: &Miner, window: u64) -> Result<(Line, Value)> {
    loop {
        let coordinator = pool.coordinator.as_mut().context("it runs")?;
        let found = coordinator.wait_event("block_accepted", STEP)?;
        let row = shown(pool, miner, &found)?;
        if row["window"].as_u64() >= Some(window) {
            return Ok((found, row));
        }
    }
}

/// The miners' work that a payout pays for, as its holder found it in the ledger. (A miner that was killed
/// does not know all of its own.)
fn works(miners: &[Miner], held: &Value) -> Result<BTreeMap<String, u128>> {
    let mut works = BTreeMap::new();
    for payee in held["payees"].as_array().context("payees")? {
        let identity = payee["identity"].as_str().context("an identity")?;
        if miners.iter().any(|miner| miner.identity == identity) {
            let work = payee["work"].as_str().context("work")?.parse()?;
            works.insert(identity.to_owned(), work);
        }
    }
    Ok(works)
}

/// Compares a payout with what follows from the work in the ledger and a carry of the bumper; gives its part.
fn follows(miners: &[Miner], held: &Value, reward: u64, bumper: &str, fee: u64) -> Result<u64> {
    let weights = works(miners, held)?;
    let carries = [(bumper.to_owned(), i64::try_from(fee)?)].into();
    let expected = amounts_with(&weights, &carries, miners, &options(), held, reward)?;
    for payee in held["payees"].as_array().context("payees")? {
        let of = payee["identity"].as_str().context("an identity")?;
        let of = if expected.contains_key(of) { of } else { "" };
        let same = payee["sat"].as_u64() == Some(expected[of].sat);
        ensure!(same, "{payee} {expected:?}");
    }
    let share = expected.get(bumper).context("the bumper is paid")?.sat;
    let without = amounts_with(&weights, &[].into(), miners, &options(), held, reward)?;
    let without = without.get(bumper).map_or(0, |of| of.sat);
    // Who alone worked for a quick block has all of it either way.
    let alone = weights.len() == 1;
    ensure!(share > without || alone, "{share} sat, {without} without");
    println!("bump of {fee} sat credited: {share} sat, {without} without");
    Ok(share)
}

#[test]
fn a_miners_bump_is_credited_once_it_is_final_and_the_next_payout_pays_it_to_the_sat() -> Result<()>
{
    let root = tempfile::tempdir()?;
    let (mut pool, mut miners) = pool(root.path(), 3)?;
    let found = block_of_all(&mut pool, 3)?;
    let payout = payouts(&pool, &found, &miners[0])?[0];
    stop(&mut miners)?;
    ripen(&pool, &found)?;
    let txid = payout.to_string();
    let of_it = |line: &Line| line.fields["payout_txid"] == txid.as_str();
    let coordinator = pool.coordinator.as_mut().context("it runs")?;
    coordinator.wait_for("its broadcast", STEP, |line| {
        line.event() == "payout_broadcast" && of_it(line)
    })?;
    let place = largest(&miners, &shown(&pool, &miners[0], &found)?)?;
    let bumper = miners[place].identity.clone();
    let fee = bump_in_time(&pool, &miners[place], &found, payout)? - ANCHOR_SAT;
    let coordinator = pool.coordinator.as_mut().context("it runs")?;
    coordinator.wait_for("its confirmation", STEP, |line| {
        line.event() == "settlement" && of_it(line) && line.fields["stage"] == "confirmed"
    })?;
    // It is at its end, and the coordinator dies over the credit.
    pool.node.mine(99)?;
    let taken = coordinator.wait_event("bump_credit_taken", STEP)?;
    ensure!(of_it(&taken) && taken.number("sat")? == fee, "{taken:?}");
    ensure!(taken.text("identity")? == bumper, "{taken:?}");
    coordinator.kill()?;
    pool.start_coordinator()?;
    for miner in &mut miners {
        pool.repoint(miner)?;
        pool.run_miner(miner, &[])?;
    }
    let coordinator = pool.coordinator.as_mut().context("it runs")?;
    let credited = coordinator.wait_event("bump_credited", STEP)?;
    ensure!(
        of_it(&credited) && credited.number("sat")? == fee,
        "{credited:?}"
    );
    let own = miners[place].daemon()?.wait_event("bump_credited", STEP)?;
    ensure!(own.number("sat")? == fee, "{own:?}");
    // The next block pays it: every sat as it follows from the work in the ledger and this carry.
    let (next, held) = paid_after(&mut pool, &miners[0], credited.number("window")?)?;
    stop(&mut miners)?;
    let block = pool.node.block(&next.text("hash")?.parse()?)?;
    let reward = block.txdata[0].output.iter().map(|output| output.value);
    let reward = reward.sum::<bitcoin::Amount>().to_sat();
    let share = follows(&miners, &held, reward, &bumper, fee)?;
    // Bitcoin Core takes it and mines it.
    ripen(&pool, &next)?;
    let next_payout = payouts(&pool, &next, &miners[0])?[0];
    let next_txid = next_payout.to_string();
    let coordinator = pool.coordinator.as_mut().context("it runs")?;
    coordinator.wait_for("its broadcast", STEP, |line| {
        line.event() == "payout_broadcast" && line.fields["payout_txid"] == next_txid.as_str()
    })?;
    let mined = pool.node.block(&pool.node.mine(1)?[0])?;
    let paid = mined
        .txdata
        .iter()
        .find(|tx| tx.compute_txid() == next_payout);
    let paid: &Transaction = paid.context("the block has the payout")?;
    let sats: Vec<u64> = paid
        .output
        .iter()
        .map(|output| output.value.to_sat())
        .collect();
    ensure!(sats.contains(&share), "{share} sat of {sats:?}");
    Ok(())
}
