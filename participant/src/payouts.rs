//! `payouts`: what every held round pays, and how far its block's settlement is.
//!
//! Reads files only, and says up to which block `run` or `watch` has looked.

mod export;
mod import;
mod import_one;
mod single;

use std::path::Path;

use bitcoin::{Transaction, Txid};
use serde::{Serialize, Serializer};
use tutti_proto::participant::{Held, HeldLane};
use tutti_proto::settlement;

use crate::amount::{both, grouped};
use crate::bump::{self, Feerate};
use crate::date;
use crate::settle::{self, Book, Settlement};
use crate::store::{self, Alone, StoreError};

pub use export::{ExportError, Exported, export};
pub(crate) use import::valid_payouts;
pub use import::{ImportError, Imported, import};
pub use import_one::{ImportedPayout, import_one};
pub use single::{NotAPayout, SingleError};

/// Seconds between two blocks, on average.
const BLOCK_S: u64 = 600;

/// One lane of a held round, or payouts that were imported without one: what only the round says is
/// unknown then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PayoutRow {
    pub coinbase_txid: String,
    pub payout_txids: Vec<String>,
    pub round: Option<String>,
    pub seq: Option<u64>,
    pub height: Option<u32>,
    pub window: Option<u64>,
    pub lane: Option<usize>,
    /// live, stale, found, maturing, ripe, broadcast, confirmed, final, replaced; unknown where the
    /// height is, or where nobody looked at the chain yet.
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
    pub feerate_sat_per_kvb: Option<u64>,
    pub own_sat: Option<u64>,
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
#[derive(Debug, Serialize)]
pub struct Payouts {
    #[serde(rename = "payouts")]
    pub rows: Vec<PayoutRow>,
    #[serde(serialize_with = "as_files")]
    pub damaged: Vec<StoreError>,
    /// The last block that was looked at; none if `run` and `watch` never did, with a node.
    pub as_of_height: Option<u32>,
    /// Whether one of them runs, and looks on.
    pub running: bool,
    /// Rows that are not those asked for.
    #[serde(skip)]
    pub left_out: usize,
}

/// A file that could not be read, for programs.
#[derive(Serialize)]
struct DamagedFile<'a> {
    path: &'a Path,
    reason: String,
}

fn as_files<S: Serializer>(damaged: &[StoreError], to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(damaged.iter().map(|error| DamagedFile {
        path: error.path(),
        reason: error.reason(),
    }))
}

/// Reads all held rounds. `me` is the identity as `status.json` has it, `now` seconds since 1970.
pub fn payouts(
    directory: &Path,
    me: &str,
    found_only: bool,
    now: u64,
) -> Result<Payouts, StoreError> {
    let book = settle::read_book(directory)?.unwrap_or_default();
    let held = store::held_rounds(directory, |_| true)?;
    // A round of the next height is held as soon as this height's is.
    let heights = held.rounds.iter().map(|held| held.height);
    let present = heights.max().map_or(0, |next| next.saturating_sub(1));
    let scanned = book.scanned_to();
    let live_from = scanned.map_or(0, |scanned| scanned.height.saturating_add(1));
    let live_from = live_from.max(present);
    let running = store::is_held(directory);
    let seen = Seen {
        book: &book,
        live_from,
        is_known: scanned.is_some(),
        running,
        now,
    };
    let rows = held.rounds.iter().flat_map(|held| {
        let lanes = held.lanes.iter().enumerate();
        lanes.map(|(index, lane)| of_lane(held, index, lane, &seen, me))
    });
    let mut rows: Vec<PayoutRow> = rows.collect();
    let all = store::all_alone(directory)?;
    let lanes = || held.rounds.iter().flat_map(|held| &held.lanes);
    let coinbases = lanes().map(|lane| lane.coinbase.compute_txid()).collect();
    let in_rounds = lanes().flat_map(|lane| &lane.payouts);
    let in_rounds = in_rounds.map(Transaction::compute_txid).collect();
    let alone = all.alone.iter();
    let alone = alone.filter(|alone| alone.adds_to(&coinbases, &in_rounds));
    rows.extend(alone.map(|alone| of_alone(alone, &seen)));
    let mut damaged = held.damaged;
    damaged.extend(all.damaged);
    damaged.extend(store::misnamed(directory)?);
    let all = rows.len();
    rows.retain(|row| !found_only || row.block_hash.is_some());
    Ok(Payouts {
        left_out: all.saturating_sub(rows.len()),
        rows,
        damaged,
        as_of_height: scanned.map(|block| block.height),
        running,
    })
}

/// What the own node's chain showed.
struct Seen<'a> {
    book: &'a Book,
    /// The lowest height that may still be hashed.
    live_from: u32,
    /// Whether there is a lowest height that was not looked at: else a round may be found long since.
    is_known: bool,
    running: bool,
    now: u64,
}

impl Seen<'_> {
    /// A row with what the chain says of a coinbase, and with nothing of what a round says.
    fn row(
        &self,
        settlement: Option<&Settlement>,
        coinbase_txid: Txid,
        height: Option<u32>,
    ) -> PayoutRow {
        let book = self.book;
        let height = settlement.map(|s| s.block.height).or(height);
        let ripe_at = settlement.map(|s| settlement::ripe_at(s.block.height));
        let blocks_left = ripe_at.map_or(0, |ripe_at| ripe_at.saturating_sub(book.tip()));
        let ripe_about = self.now.saturating_add(u64::from(blocks_left) * BLOCK_S);
        let mut replaced = book.replaced().iter();
        let state = match (settlement, height) {
            (Some(settlement), _) => settlement.stage(book.tip()).name(),
            _ if replaced.any(|s| s.coinbase_txid == coinbase_txid) => {
                settlement::Stage::Replaced.name()
            }
            (None, None) => "unknown",
            (None, Some(height)) if height >= self.live_from && (self.is_known || self.running) => {
                "live"
            }
            (None, Some(_)) if !self.is_known => "unknown",
            (None, Some(_)) => "stale",
        };
        PayoutRow {
            coinbase_txid: coinbase_txid.to_string(),
            payout_txids: Vec::new(),
            round: None,
            seq: None,
            height,
            window: None,
            lane: None,
            state,
            block_hash: settlement.map(|s| s.block.hash.to_string()),
            confirmations: settlement.map(|s| s.confirmations(book.tip())),
            ripe_at,
            ripe_about: (blocks_left > 0).then_some(ripe_about),
            refused: settlement.and_then(|s| s.payouts.iter().find_map(|p| p.refused.clone())),
            feerate_sat_per_kvb: None,
            own_sat: None,
            payees: Vec::new(),
        }
    }
}

fn of_lane(held: &Held, index: usize, lane: &HeldLane, seen: &Seen<'_>, me: &str) -> PayoutRow {
    let coinbase_txid = lane.coinbase.compute_txid();
    let mut settlements = seen.book.settlements().iter();
    let settlement = settlements.find(|s| s.coinbase_txid == coinbase_txid);
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
        payout_txids: txids(&lane.payouts),
        round: Some(held.round.to_string()),
        seq: Some(held.seq.0),
        height: Some(held.height),
        window: Some(held.window.0),
        lane: Some(index),
        feerate_sat_per_kvb: Some(held.feerate.sat_per_kvb()),
        own_sat: Some(own.map(|payee| payee.sat).sum()),
        payees,
        ..seen.row(settlement, coinbase_txid, Some(held.height))
    }
}

fn of_alone(alone: &Alone, seen: &Seen<'_>) -> PayoutRow {
    let mut settlements = seen.book.settlements().iter();
    let settlement = settlements.find(|s| s.coinbase_txid == alone.coinbase_txid);
    let feerate = |payout: &Transaction| {
        let fee = bump::fee(alone.coinbase.as_ref()?, payout)?;
        Feerate::paid(fee, u64::try_from(payout.vsize()).ok()?)
    };
    let feerates = alone.payouts.iter().filter_map(feerate);
    PayoutRow {
        payout_txids: txids(&alone.payouts),
        feerate_sat_per_kvb: feerates.min().map(Feerate::sat_per_kvb),
        own_sat: alone.own_sat,
        ..seen.row(settlement, alone.coinbase_txid, alone.height())
    }
}

fn txids(payouts: &[Transaction]) -> Vec<String> {
    let txids = payouts.iter().map(|tx| tx.compute_txid().to_string());
    txids.collect()
}

impl Payouts {
    /// For persons.
    pub fn table(&self) -> String {
        table(&self.rows) + &self.nothing() + &self.as_of()
    }

    /// Why there is no row.
    fn nothing(&self) -> String {
        match (self.rows.is_empty(), self.left_out) {
            (false, _) => String::new(),
            (true, 0) => "no round is held\n".to_owned(),
            (true, others) => format!(
                "no held round's block is known to be found; {} rows without --found\n",
                grouped(others)
            ),
        }
    }

    /// How old all of it is.
    fn as_of(&self) -> String {
        match (self.as_of_height, self.running) {
            // There is nothing to look for.
            (None, _) if self.rows.is_empty() && self.left_out == 0 => String::new(),
            (None, true) => {
                "no block was looked at yet: `tutti-participant status` shows the own node\n".to_owned()
            }
            (None, false) => {
                "no block was looked at yet: run `tutti-participant watch`, with a [node] in the configuration\n"
                    .to_owned()
            }
            (Some(height), true) => format!("as of block {}\n", grouped(u64::from(height))),
            (Some(height), false) => format!(
                "as of block {}; no daemon runs here that looks at later ones: run `tutti-participant watch`, or `run`\n",
                grouped(u64::from(height))
            ),
        }
    }
}

fn table(rows: &[PayoutRow]) -> String {
    let mut text = format!(
        "{:>6} {:>4} {:>8} {:<14} {:>36} {:>14} {:<17} {:>6}  {}\n",
        "round", "lane", "height", "state", "we get", "feerate", "ripe about", "payees", "payout"
    );
    let number = |number: Option<u64>| number.map_or_else(|| "?".to_owned(), |n| n.to_string());
    let wide = |lane: usize| u64::try_from(lane).unwrap_or(u64::MAX);
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
            number(row.seq),
            number(row.lane.map(wide)),
            number(row.height.map(u64::from)),
            row.own_sat.map_or_else(|| "unknown".to_owned(), both),
            row.feerate_sat_per_kvb.map_or_else(
                || "unknown".to_owned(),
                |rate| Feerate::from_sat_per_kvb(rate).to_string()
            ),
            row.ripe_about.map_or_else(String::new, date::utc),
            number((!row.payees.is_empty()).then(|| wide(row.payees.len()))),
        ));
        if let Some(block) = &row.block_hash {
            text.push_str(&format!("       block {block}\n"));
        }
        if let Some(why) = &row.refused {
            text.push_str(&format!("       the node refused it: {why}\n"));
        }
    }
    text
}
