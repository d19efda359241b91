//! The settlements as pure state: found, maturing, ripe, broadcast, confirmed, final; and replaced, or
//! back at any of these, when the chain reorganises. The rules are the protocol's
//! (`tutti_proto::settlement`).
//!
//! A block is found when the own node has its coinbase in the best chain, and not by anybody's word.

use std::collections::BTreeSet;

use bitcoin::Txid;
use serde::{Deserialize, Serialize};
use tutti_proto::bump::{Feerate, Seen};
use tutti_proto::coinbase::COINBASE_MATURITY;
use tutti_proto::settlement::{self, FINAL_CONFIRMATIONS, Sighting, Stage, Whereabouts};

use super::watched::Watched;
use crate::chain::{BlockRef, BroadcastOutcome, FoundTransaction, LeftChain, Scan};
use crate::store::RoundName;

/// Blocks for which a replaced settlement is remembered: no reorganisation goes back further.
const REPLACED_BLOCKS: u32 = 200;

/// All found blocks of held rounds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Book {
    /// The last block that was looked at.
    scanned_to: Option<BlockRef>,
    /// The highest block that was looked at before a late find put the scan back, until it is reached again: up to
    /// there something is booked, and may leave the chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    booked_to: Option<BlockRef>,
    found: Vec<Settlement>,
    /// Those that a reorganisation took out of the chain, until it brings them back or is old.
    #[serde(default)]
    replaced: Vec<Settlement>,
}

/// One found block, from its coinbase to its confirmed payouts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settlement {
    pub round: String,
    pub seq: u64,
    pub lane: usize,
    pub coinbase_txid: Txid,
    pub block: BlockRef,
    /// What its payouts pay us.
    pub own_sat: u64,
    pub payouts: Vec<Payout>,
}

/// What became of one payout.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payout {
    pub txid: Txid,
    /// The node's tip when the payout was first handed to it ripe, taken or not.
    #[serde(default)]
    pub tried: Option<u32>,
    /// The node's tip when the payout was first seen in its mempool, or by its word in its chain.
    pub broadcast: Option<u32>,
    /// Why the node refused it last, in its words.
    pub refused: Option<String>,
    pub confirmed: Option<BlockRef>,
    #[serde(rename = "final")]
    pub is_final: bool,
    /// What it was seen to pay, whoever pays it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seen: Option<SeenPaid>,
    /// What this participant did about its fee last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bumped: Option<BumpedBefore>,
}

/// A bump by policy. Stored before it is made: a process that ends over it makes the same one again, and no
/// higher one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BumpedBefore {
    /// The tip at which it was made, or tried.
    pub tip: u32,
    /// The feerate that payout and child were lifted to last, also where a later bump was not made; none if
    /// they never were.
    pub lifted_to_sat_per_kvb: Option<u64>,
}

/// [`Seen`], as it is stored: over a restart too, what others raised is given its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenPaid {
    pays_sat_per_kvb: u64,
    raised_at: Option<u32>,
}

impl From<Seen> for SeenPaid {
    fn from(seen: Seen) -> Self {
        Self {
            pays_sat_per_kvb: seen.pays.sat_per_kvb(),
            raised_at: seen.raised_at,
        }
    }
}

impl From<SeenPaid> for Seen {
    fn from(seen: SeenPaid) -> Self {
        Self {
            pays: Feerate::from_sat_per_kvb(seen.pays_sat_per_kvb),
            raised_at: seen.raised_at,
        }
    }
}

/// What changed, for the log and for the driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Found(Settlement),
    Lost(Settlement),
    Broadcast {
        txid: Txid,
        tip: u32,
        /// Whether we were the first.
        by_us: bool,
    },
    /// The node has it in a block that was not looked at yet.
    Mined {
        txid: Txid,
        tip: u32,
    },
    Refused {
        txid: Txid,
        reason: String,
        tip: u32,
    },
    Confirmed {
        txid: Txid,
        block: BlockRef,
    },
    Unconfirmed {
        txid: Txid,
        block: BlockRef,
    },
    Final {
        txid: Txid,
    },
}

/// A payout that the node should take now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DuePayout<'a> {
    pub settlement: &'a Settlement,
    pub txid: Txid,
}

impl Book {
    pub fn scanned_to(&self) -> Option<BlockRef> {
        self.scanned_to
    }

    /// Where it is not `scanned_to`, the highest block up to which something is booked.
    pub fn booked_to(&self) -> Option<BlockRef> {
        self.booked_to
    }

    pub fn settlements(&self) -> &[Settlement] {
        &self.found
    }

    /// Settlements whose block the chain lost.
    pub fn replaced(&self) -> &[Settlement] {
        &self.replaced
    }

    /// Books what a scan saw: first what went away, then what came.
    pub fn apply(&mut self, scan: &Scan, watched: &Watched) -> Vec<Change> {
        let mut changes = self.disconnect(&scan.disconnected);
        for found in &scan.found {
            changes.extend(self.connect(found, watched));
        }
        self.skip_to(scan.scanned_to);
        let highest = self.booked_to.unwrap_or(scan.scanned_to);
        changes.extend(self.finish(highest.height));
        changes
    }

    /// Books what left the chain above the block scanned to.
    pub fn undo(&mut self, left: &LeftChain) -> Vec<Change> {
        let changes = self.disconnect(&left.gone);
        let scanned_to = self.tip();
        self.booked_to = Some(left.fork).filter(|fork| fork.height > scanned_to);
        changes
    }

    /// Books one transaction in the best chain, at most at the height scanned to.
    pub fn connect(&mut self, found: &FoundTransaction, watched: &Watched) -> Option<Change> {
        if let Some((round, lane)) = watched.lane_of(&found.txid) {
            let mut booked = self.found.iter_mut();
            if let Some(booked) = booked.find(|s| s.coinbase_txid == found.txid) {
                booked.block = found.block;
                return None;
            }
            let payouts = watched.payouts_of(&found.txid).into_iter();
            let settlement = Settlement {
                round: round.name.round.to_string(),
                seq: round.name.seq.0,
                lane,
                coinbase_txid: found.txid,
                block: found.block,
                own_sat: round.own_sat,
                payouts: payouts.map(Payout::new).collect(),
            };
            self.replaced.retain(|s| s.coinbase_txid != found.txid);
            // The oldest first, in whichever order they are seen.
            let height = settlement.block.height;
            let place = self.found.partition_point(|s| s.block.height <= height);
            self.found.insert(place, settlement.clone());
            return Some(Change::Found(settlement));
        }
        let payout = self.payout(&found.txid)?;
        if payout.confirmed == Some(found.block) {
            return None;
        }
        payout.confirmed = Some(found.block);
        payout.refused = None;
        Some(Change::Confirmed {
            txid: found.txid,
            block: found.block,
        })
    }

    /// Puts the scan back to a block that was found late, if its payouts may have been mined since:
    /// they were not looked for.
    pub fn scan_again_from(&mut self, block: BlockRef) {
        if confirmations(block, self.tip()) > COINBASE_MATURITY {
            self.booked_to = self.booked_to.or(self.scanned_to);
            self.scanned_to = Some(block);
        }
    }

    /// Goes on behind this block, as after one that cannot be looked at.
    pub fn skip_to(&mut self, block: BlockRef) {
        self.scanned_to = Some(block);
        self.booked_to = self.booked_to.filter(|to| to.height > block.height);
    }

    /// Adds payouts that became known after their block was found. They may be in the chain since.
    pub fn complete(&mut self, watched: &Watched) -> bool {
        let mut back_to: Option<BlockRef> = None;
        for settlement in &mut self.found {
            let known = watched.payouts_of(&settlement.coinbase_txid).into_iter();
            let held = &settlement.payouts;
            let new: Vec<Txid> = known
                .filter(|txid| held.iter().all(|p| p.txid != *txid))
                .collect();
            if !new.is_empty() {
                back_to = back_to.into_iter().chain([settlement.block]).min();
                settlement.payouts.extend(new.into_iter().map(Payout::new));
            }
        }
        if let Some(block) = back_to {
            self.scan_again_from(block);
        }
        back_to.is_some()
    }

    /// Undoes all of it, for a node that does not know the block that was scanned to.
    pub fn start_over(&mut self) -> Vec<Change> {
        let blocks = |settlement: &Settlement| {
            let payouts = settlement.payouts.iter();
            let confirmed = payouts.filter_map(|payout| payout.confirmed);
            confirmed.chain([settlement.block]).collect::<Vec<_>>()
        };
        let all: Vec<BlockRef> = self.found.iter().flat_map(blocks).collect();
        (self.scanned_to, self.booked_to) = (None, None);
        self.disconnect(&all)
    }

    /// Payouts that a node with this tip takes, and that were not seen in the chain. The tip may be
    /// above the height scanned to: a scan that is held up holds up no payout.
    pub fn due(&self, tip: u32) -> Vec<DuePayout<'_>> {
        let ripe = self
            .found
            .iter()
            .filter(|s| s.confirmations(tip) >= COINBASE_MATURITY);
        ripe.flat_map(|settlement| {
            let open = settlement.payouts.iter().filter(|p| p.confirmed.is_none());
            open.map(move |payout| DuePayout {
                settlement,
                txid: payout.txid,
            })
        })
        .collect()
    }

    /// Books the node's answer to a broadcast at this tip. Nothing is to be stored or told where it is the same
    /// refusal again, whatever numbers come with it.
    pub fn judged(&mut self, txid: &Txid, outcome: &BroadcastOutcome, tip: u32) -> Option<Change> {
        let payout = self.payout(txid)?;
        let tried = payout.tried;
        if !matches!(outcome, BroadcastOutcome::PrematureCoinbaseSpend { .. }) {
            payout.tried.get_or_insert(tip);
        }
        match outcome {
            BroadcastOutcome::PrematureCoinbaseSpend { reason }
            | BroadcastOutcome::Rejected { reason } => {
                let before = payout.refused.replace(reason.clone());
                let was_broadcast = payout.broadcast.take().is_some();
                // What was told of it stands, tip after tip.
                let is_same = before.is_some_and(|before| kind(&before) == kind(reason));
                let is_known = is_same && !was_broadcast;
                (!is_known || payout.tried != tried).then(|| Change::Refused {
                    txid: *txid,
                    reason: reason.clone(),
                    tip,
                })
            }
            taken => {
                payout.refused = None;
                let first = payout.broadcast.is_none();
                payout.broadcast = payout.broadcast.or(Some(tip));
                let txid = *txid;
                first.then_some(match taken {
                    BroadcastOutcome::AlreadyInChain => Change::Mined { txid, tip },
                    _ => Change::Broadcast {
                        txid,
                        tip,
                        by_us: *taken == BroadcastOutcome::Accepted,
                    },
                })
            }
        }
    }

    /// Books that the node's mempool does not have a payout any more.
    pub fn dropped(&mut self, txid: &Txid) {
        if let Some(payout) = self.payout(txid) {
            payout.broadcast = None;
        }
    }

    /// Books what a payout was seen to pay. Says whether that is new.
    pub fn note_seen(&mut self, txid: &Txid, seen: SeenPaid) -> bool {
        let before = self.payout(txid).map(|payout| &mut payout.seen);
        before.is_some_and(|before| before.replace(seen) != Some(seen))
    }

    /// Books what was done about a payout's fee. Says whether that is new.
    pub fn note_bump(&mut self, txid: &Txid, bumped: BumpedBefore) -> bool {
        let before = self.payout(txid).map(|payout| &mut payout.bumped);
        before.is_some_and(|before| before.replace(bumped) != Some(bumped))
    }

    /// Drops repeated payouts, which versions before took from a file: the second would be due for ever.
    pub fn list_once(&mut self) {
        for settlement in self.found.iter_mut().chain(&mut self.replaced) {
            let mut seen = BTreeSet::new();
            settlement.payouts.retain(|payout| seen.insert(payout.txid));
        }
    }

    /// Forgets payouts of a coinbase that are not valid. Says whether there were any.
    pub fn verified(&mut self, coinbase: &Txid, valid: &BTreeSet<Txid>) -> bool {
        let all = self.found.iter_mut().chain(&mut self.replaced);
        let mut changed = false;
        for settlement in all.filter(|s| s.coinbase_txid == *coinbase) {
            let before = settlement.payouts.len();
            settlement
                .payouts
                .retain(|payout| valid.contains(&payout.txid));
            changed |= settlement.payouts.len() != before;
        }
        changed
    }

    /// Height scanned to.
    pub fn tip(&self) -> u32 {
        self.scanned_to.map_or(0, |block| block.height)
    }

    fn payout(&mut self, txid: &Txid) -> Option<&mut Payout> {
        let mut payouts = self.found.iter_mut().flat_map(|s| s.payouts.iter_mut());
        payouts.find(|payout| payout.txid == *txid)
    }

    fn disconnect(&mut self, blocks: &[BlockRef]) -> Vec<Change> {
        let mut changes = Vec::new();
        for block in blocks {
            let payouts = self.found.iter_mut().flat_map(|s| s.payouts.iter_mut());
            for payout in payouts.filter(|payout| payout.confirmed == Some(*block)) {
                payout.confirmed = None;
                payout.is_final = false;
                changes.push(Change::Unconfirmed {
                    txid: payout.txid,
                    block: *block,
                });
            }
            let lost: Vec<_> = self.found.extract_if(.., |s| s.block == *block).collect();
            self.replaced.extend(lost.iter().cloned());
            changes.extend(lost.into_iter().map(Change::Lost));
        }
        changes
    }

    fn finish(&mut self, tip: u32) -> Vec<Change> {
        self.replaced
            .retain(|s| s.block.height.saturating_add(REPLACED_BLOCKS) >= tip);
        // A reorganisation made them immature again: no mempool has them.
        let immature = self.found.iter_mut();
        let immature = immature.filter(|s| s.confirmations(tip) < COINBASE_MATURITY);
        for payout in immature.flat_map(|s| s.payouts.iter_mut()) {
            (payout.tried, payout.broadcast) = (None, None);
            (payout.seen, payout.bumped) = (None, None);
        }
        let payouts = self.found.iter_mut().flat_map(|s| s.payouts.iter_mut());
        let buried = payouts.filter(|payout| {
            let confirmed = payout.confirmed;
            !payout.is_final
                && confirmed.is_some_and(|b| confirmations(b, tip) >= FINAL_CONFIRMATIONS)
        });
        buried
            .map(|payout| {
                payout.is_final = true;
                Change::Final { txid: payout.txid }
            })
            .collect()
    }
}

impl Settlement {
    /// Blocks from its own to the tip, both counted.
    pub fn confirmations(&self, tip: u32) -> u32 {
        confirmations(self.block, tip)
    }

    /// How far it is. With several payouts, as far as the last of them.
    pub fn stage(&self, tip: u32) -> Stage {
        let block = self.confirmations(tip);
        let stage = |payout: &Payout| {
            Stage::of(Sighting {
                confirmations: block,
                payout: match (payout.confirmed, payout.broadcast) {
                    (Some(block), _) => Whereabouts::Chain(confirmations(block, tip)),
                    (None, Some(_)) => Whereabouts::Mempool,
                    (None, None) => Whereabouts::Nowhere,
                },
            })
        };
        let stages = self.payouts.iter().map(stage);
        stages.min().unwrap_or_else(|| Stage::of_direct(block))
    }

    /// Whether it is a settlement of this round.
    pub fn is_of(&self, name: &RoundName) -> bool {
        self.seq == name.seq.0 && self.round == name.round.to_string()
    }
}

impl Payout {
    fn new(txid: Txid) -> Self {
        Self {
            txid,
            tried: None,
            broadcast: None,
            refused: None,
            confirmed: None,
            is_final: false,
            seen: None,
            bumped: None,
        }
    }
}

/// The words with which a refusal begins; what follows may be another at each tip.
fn kind(reason: &str) -> &str {
    reason.split([',', ':']).next().unwrap_or_default().trim()
}

fn confirmations(block: BlockRef, tip: u32) -> u32 {
    settlement::confirmations(block.height, tip)
}
