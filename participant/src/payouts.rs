//! `payouts`: what every held round pays, and how far its block's settlement is.
//!
//! Reads files only, so it shows the same whether or not the daemon runs.

mod export;
mod import;

use std::path::Path;

use serde::Serialize;
use tutti_proto::participant::{Held, HeldLane};
use tutti_proto::settlement;

use crate::amount::{btc, grouped, sats};
use crate::bump::Feerate;
use crate::date;
use crate::settle::{self, Book};
use crate::store::{self, RoundName, StoreError};

pub use export::{ExportError, Exported, export};
pub use import::{ImportError, Imported, import};

/// Seconds between two blocks, on average.
const BLOCK_S: u64 = 600;

/// One lane of a held round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PayoutRow {
    pub coinbase_txid: String,
    pub payout_txids: Vec<String>,
    pub round: String,
    pub seq: u64,
    pub height: u32,
    pub window: u64,
    pub lane: usize,
    /// live, stale, found, maturing, ripe, broadcast, confirmed, final, replaced.
    pub state: &'static str,
    pub block_hash: Option<String>,
    /// Of the found block, its own included.
    pub confirmations: Option<u32>,
    /// Of a found block: the tip from which on nodes take the payout.
    pub ripe_at: Option<u32>,
    /// When that is, if blocks come every ten minutes from now on, seconds since 1970. None once it
    /// is ripe.
    pub ripe_about: Option<u64>,
    /// Why the node refused a payout last, in its words.
    pub refused: Option<String>,
    pub feerate_sat_per_kvb: u64,
    pub own_sat: u64,
    pub payees: Vec<PayeeRow>,
}

/// What one payee gets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PayeeRow {
    pub identity: String,
    /// Place in the payout.
    pub serial_id: u64,
    /// Expected hashes, decimal.
    pub work: String,
    pub sat: u64,
}

/// The rows, and what could not be read.
pub struct Payouts {
    pub rows: Vec<PayoutRow>,
    pub damaged: Vec<StoreError>,
}

/// Reads all held rounds. `me` is the identity as `status.json` has it, `now` seconds since 1970.
pub fn payouts(
    directory: &Path,
    me: &str,
    found_only: bool,
    now: u64,
) -> Result<Payouts, StoreError> {
    let book = settle::read_book(directory)?.unwrap_or_default();
    let is_found = |name: &RoundName| book.settlements().iter().any(|s| s.is_of(name));
    let held = store::held_rounds(directory, |name| !found_only || is_found(name))?;
    let heights = held.rounds.iter().map(|held| held.height);
    let next = book
        .scanned_to()
        .map(|block| block.height.saturating_add(1));
    let newest = heights.chain(next).max().unwrap_or(0);
    let rows = held.rounds.iter().flat_map(|held| {
        let lanes = held.lanes.iter().enumerate();
        lanes.map(|(index, lane)| row(held, index, lane, &book, newest, me, now))
    });
    Ok(Payouts {
        rows: rows
            .filter(|row| !found_only || row.block_hash.is_some())
            .collect(),
        damaged: held.damaged,
    })
}

fn row(
    held: &Held,
    index: usize,
    lane: &HeldLane,
    book: &Book,
    newest: u32,
    me: &str,
    now: u64,
) -> PayoutRow {
    let coinbase_txid = lane.coinbase.compute_txid();
    let name = RoundName::of(held);
    let mut settlements = book.settlements().iter();
    let settlement = settlements.find(|s| s.is_of(&name) && s.coinbase_txid == coinbase_txid);
    let ripe_at = settlement.map(|s| settlement::ripe_at(s.block.height));
    let blocks_left = ripe_at.map_or(0, |ripe_at| ripe_at.saturating_sub(book.tip()));
    let mut replaced = book.replaced().iter();
    let state = match settlement {
        Some(settlement) => settlement.stage(book.tip()).name(),
        None if replaced.any(|s| s.coinbase_txid == coinbase_txid) => {
            settlement::Stage::Replaced.name()
        }
        None if held.height >= newest => "live",
        None => "stale",
    };
    let payees: Vec<PayeeRow> = held
        .payees
        .iter()
        .map(|payee| PayeeRow {
            identity: payee.identity.to_string(),
            serial_id: payee.serial_id.0,
            work: payee.work.to_string(),
            sat: payee.sat,
        })
        .collect();
    let own = payees.iter().filter(|payee| payee.identity == me);
    PayoutRow {
        coinbase_txid: coinbase_txid.to_string(),
        payout_txids: lane
            .payouts
            .iter()
            .map(|tx| tx.compute_txid().to_string())
            .collect(),
        round: held.round.to_string(),
        seq: held.seq.0,
        height: held.height,
        window: held.window.0,
        lane: index,
        state,
        block_hash: settlement.map(|s| s.block.hash.to_string()),
        confirmations: settlement.map(|s| s.confirmations(book.tip())),
        ripe_at,
        ripe_about: (blocks_left > 0).then(|| now.saturating_add(u64::from(blocks_left) * BLOCK_S)),
        refused: settlement.and_then(|s| s.payouts.iter().find_map(|p| p.refused.clone())),
        feerate_sat_per_kvb: held.feerate.sat_per_kvb(),
        own_sat: own.map(|payee| payee.sat).sum(),
        payees,
    }
}

/// For persons.
pub fn table(rows: &[PayoutRow]) -> String {
    let mut text = format!(
        "{:>6} {:>4} {:>8} {:<14} {:>36} {:>14} {:<17} {:>6}  {}\n",
        "round", "lane", "height", "state", "we get", "feerate", "ripe about", "payees", "payout"
    );
    for row in rows {
        let state = match (row.state, row.confirmations) {
            ("maturing", Some(n)) => format!("maturing {n}/100"),
            (state, _) => state.to_owned(),
        };
        let payout = row.payout_txids.first();
        let payout = payout.map_or("none: the coinbase pays itself", String::as_str);
        let more = match row.payout_txids.len() {
            0 | 1 => String::new(),
            count => format!(" and {} more", grouped(count - 1)),
        };
        text.push_str(&format!(
            "{:>6} {:>4} {:>8} {state:<14} {:>36} {:>14} {:<17} {:>6}  {payout}{more}\n",
            row.seq,
            row.lane,
            row.height,
            format!("{} = {}", sats(row.own_sat), btc(row.own_sat)),
            Feerate::from_sat_per_kvb(row.feerate_sat_per_kvb).to_string(),
            row.ripe_about.map_or_else(String::new, date::utc),
            row.payees.len(),
        ));
        if let Some(why) = &row.refused {
            text.push_str(&format!("       the node refused it: {why}\n"));
        }
    }
    if rows.is_empty() {
        text.push_str("no round is held\n");
    }
    text
}
