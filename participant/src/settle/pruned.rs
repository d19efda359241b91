//! Past blocks that the node no longer has. It is pruned, and its set of unspent outputs is not: what is in
//! there of a coinbase or of its payout says that a block has it, and at which height.

use std::collections::BTreeSet;

use bitcoin::{BlockHash, OutPoint, Txid};

use super::follow::{Follower, Step};
use super::watched::{WatchedLane, WatchedRound};
use crate::chain::{BlockRef, FoundTransaction, Node, NodeError, left_chain};
use crate::store::RoundName;

/// Outputs of a payout that are asked for where it is not known whether its block was found: there are
/// many such rounds.
const ASKED_OUTPUTS: u32 = 8;
/// And of its coinbase: all shards of a signed round, some of a direct round's payees.
const ASKED_COINBASE_OUTPUTS: usize = 100;
/// Outputs that are asked for before what is ripe is broadcast, and whoever waits is answered. A lane that is begun is
/// asked for to its end: some hundred calls.
const ASKED_AT_ONCE: usize = 100;
/// Where it is known: more than any payout has.
const ALL_OUTPUTS: u32 = 400;

/// What could not be looked at, and what of it stays unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Passed {
    /// The lowest height and the highest.
    pub from: u32,
    pub to: u32,
    /// Rounds of these heights of which nothing says whether their block was found. They are kept.
    pub undecided: usize,
}

/// What a follower knows of blocks that are gone.
#[derive(Debug, Default)]
pub(super) struct Gone {
    /// Rounds whose block may be one of them, to be asked for.
    unseen: BTreeSet<RoundName>,
    /// The one that is asked for now, and how many of its lanes were.
    asked_of: Option<(RoundName, usize)>,
    /// The lowest block that was found so, from which the scan is to be put back.
    found: Option<BlockRef>,
    /// Those that were asked for, and of which nothing was to be had.
    undecided: BTreeSet<RoundName>,
    /// Payouts may have been mined in them, and are to be asked for.
    payouts: bool,
    /// Heights that were passed, and up to which that was told.
    passed: Option<(u32, u32)>,
    told: Option<u32>,
}

impl Gone {
    /// The lanes of a round may not be those that were.
    pub(super) fn begin_anew(&mut self, round: &RoundName) {
        self.asked_of = self.asked_of.filter(|(of, _)| of != round);
    }

    /// Whether payouts are to be asked for.
    pub(super) fn asking(payouts: bool) -> Self {
        Self {
            payouts,
            ..Self::default()
        }
    }

    /// Blocks from one height to another cannot be looked at.
    pub(super) fn add<'a>(
        &mut self,
        heights: (u32, u32),
        unsettled: impl Iterator<Item = &'a WatchedRound>,
    ) {
        let (from, to) = heights;
        let gone = unsettled.filter(|round| round.height.is_some_and(|h| (from..=to).contains(&h)));
        let gone = gone.map(|round| round.name);
        self.unseen
            .extend(gone.filter(|name| !self.undecided.contains(name)));
        let (lowest, highest) = self.passed.unwrap_or(heights);
        self.passed = Some((lowest.min(from), highest.max(to)));
    }
}

impl Follower {
    /// Goes towards the tip, past what the node no longer has.
    pub fn go_on(&mut self, node: &Node) -> Result<Step, NodeError> {
        let step = self.step(node);
        // Also where an error holds it up.
        self.is_behind = !matches!(step, Ok(Step::Done));
        step
    }

    fn step(&mut self, node: &Node) -> Result<Step, NodeError> {
        if self.is_ahead_of(node)? {
            return Ok(Step::Waits);
        }
        // Blocks and answers hold up each other in nothing: there may be many of both.
        let step = self.scan_past(node)?;
        let asks = self.late.is_empty() && !self.gone.unseen.is_empty();
        if asks {
            let asked = self.ask_rounds(node);
            // The scan is put back once for all that was found, unless the next answer cannot be had.
            if asked.is_err() || self.gone.unseen.is_empty() {
                let found = self.gone.found.take();
                found
                    .into_iter()
                    .for_each(|block| self.book.scan_again_from(block));
            }
            asked?;
        }
        match step {
            Step::Done => {
                let more = self.place(node)? | self.ask_payouts(node)? | asks;
                Ok(if more { Step::More } else { Step::Done })
            }
            step => Ok(step),
        }
    }

    /// Whether the node is on its way to the blocks that were looked at before. It knows the headers first: it would
    /// seem to have left all these blocks.
    fn is_ahead_of(&self, node: &Node) -> Result<bool, NodeError> {
        let tip = node.tip()?;
        let last = self.book.booked_to().or(self.book.scanned_to());
        let Some(last) = last.filter(|last| last.height > tip.block.height) else {
            return Ok(false);
        };
        // It ends that download a day of blocks before it has them all. Then nothing rivals ours, and there is more
        // to come: headers of blocks that were given up by hand do not count.
        if tip.initial_block_download {
            return Ok(true);
        }
        if tip.headers < last.height {
            return Ok(false);
        }
        let left = left_chain(node, last.hash)?;
        // It may have gone on meanwhile.
        Ok(left.is_some_and(|left| left.fork.height >= tip.block.height))
    }

    /// Scans, past what the node no longer has.
    fn scan_past(&mut self, node: &Node) -> Result<Step, NodeError> {
        match self.scan(node) {
            Err(NodeError::BlockGone { hash, .. }) => {
                self.pass(node, hash)?;
                Ok(Step::More)
            }
            step => step,
        }
    }

    /// Goes on at the first block that the node still has.
    fn pass(&mut self, node: &Node, missing: BlockHash) -> Result<(), NodeError> {
        let Some(missing) = node.header(missing)? else {
            return Ok(()); // The chain changed under our feet: the next scan sees it.
        };
        let from = missing.block.height;
        let to = node.first_block()?.saturating_sub(1).max(from);
        let to = to.min(node.tip()?.block.height);
        let Some(last) = node.block_at(to)? else {
            return Ok(());
        };
        let unsettled = unsettled(&self.watched, &self.book);
        self.gone.add((from, to), unsettled);
        self.gone.payouts = true;
        // A coinbase whose height is not known may be in one of them.
        self.placed.clear();
        self.book.skip_to(last);
        self.changed = true;
        Ok(())
    }

    /// Asks for the coinbases and payouts of some lanes whose block is gone, the newest first: it is the likeliest
    /// to be ripe and not paid. What comes of it is not kept: another start asks again, and may have another node,
    /// or more of a round's lanes and payouts.
    fn ask_rounds(&mut self, node: &Node) -> Result<(), NodeError> {
        let mut asked = 0;
        while asked < ASKED_AT_ONCE {
            let Some(name) = self.gone.unseen.last().copied() else {
                return Ok(());
            };
            let begun = self.gone.asked_of.filter(|(of, _)| *of == name);
            let next = begun.map_or(0, |(_, lanes)| lanes);
            let round = self.watched.round(&name);
            let lane = round.and_then(|round| Some((round, round.lanes.get(next)?)));
            let Some((round, lane)) = lane else {
                self.gone.undecided.insert(name);
                self.gone.unseen.remove(&name);
                continue;
            };
            match shown(node, round.height, lane, &mut asked)? {
                Some(found) => {
                    if self.book_late(&found) {
                        let lowest = self.gone.found.into_iter().chain([found.block]);
                        self.gone.found = lowest.min_by_key(|block| block.height);
                    }
                    self.gone.unseen.remove(&name);
                }
                None => self.gone.asked_of = Some((name, next + 1)),
            }
        }
        Ok(())
    }

    /// Asks whether payouts of found blocks were mined in blocks that are gone.
    fn ask_payouts(&mut self, node: &Node) -> Result<bool, NodeError> {
        if !self.gone.payouts {
            return Ok(false);
        }
        let settlements = self.book.settlements().iter();
        let open = settlements.flat_map(|settlement| &settlement.payouts);
        let open = open.filter(|payout| payout.confirmed.is_none());
        let open: Vec<Txid> = open.map(|payout| payout.txid).collect();
        for txid in open {
            // The usual case, and one question: what waits there was not mined.
            if node.mempool_entry(txid)?.is_some() {
                continue;
            }
            let block = block_of_any(node, outputs(txid, ALL_OUTPUTS))?;
            let scanned_to = self.book.tip();
            let block = block.filter(|block| block.height <= scanned_to);
            let found = block.map(|block| FoundTransaction { txid, block });
            if let Some(change) = found.and_then(|found| self.book.connect(&found, &self.watched)) {
                self.changed = true;
                self.changes.push(change);
            }
        }
        // Not before: a call may have failed.
        self.gone.payouts = false;
        Ok(false)
    }

    /// Books a coinbase that no scan will see. Returns whether it was not booked before.
    pub(super) fn found_late(&mut self, found: &FoundTransaction) -> bool {
        let is_new = self.book_late(found);
        if is_new {
            // What ripened long ago may be in the chain since.
            self.book.scan_again_from(found.block);
        }
        is_new
    }

    fn book_late(&mut self, found: &FoundTransaction) -> bool {
        let change = self.book.connect(found, &self.watched);
        let is_new = change.is_some();
        self.changed |= is_new;
        self.changes.extend(change);
        is_new
    }

    /// Whether nothing can be said of a round's block: it is kept.
    pub fn is_undecided(&self, name: &RoundName) -> bool {
        if !self.gone.undecided.contains(name) && !self.gone.unseen.contains(name) {
            return false;
        }
        // Of one height there is one block.
        let height = self.watched.round(name).and_then(|round| round.height);
        let mut settlements = self.book.settlements().iter();
        !settlements.any(|settlement| Some(settlement.block.height) == height)
    }

    /// What was passed since the last call.
    pub fn take_passed(&mut self) -> Option<Passed> {
        let (from, to) = self.gone.passed.take()?;
        if self.gone.told.is_some_and(|told| told >= to) {
            return None;
        }
        self.gone.told = Some(to);
        let names = self.gone.undecided.iter();
        let undecided = names.filter(|name| self.is_undecided(name)).count();
        Some(Passed {
            from,
            to,
            undecided,
        })
    }
}

/// The coinbase of a lane if it has an unspent output, or a payout that has one. Counts what is asked for.
fn shown(
    node: &Node,
    height: Option<u32>,
    lane: &WatchedLane,
    asked: &mut usize,
) -> Result<Option<FoundTransaction>, NodeError> {
    let made = lane.outputs.iter().copied().take(ASKED_COINBASE_OUTPUTS);
    let mut block = block_of_any(node, made.inspect(|_| *asked += 1))?;
    if block.is_none() {
        let payouts = lane.payouts.iter();
        let paid = payouts.flat_map(|txid| outputs(*txid, ASKED_OUTPUTS));
        let spent_by = block_of_any(node, paid.inspect(|_| *asked += 1))?;
        // Where its payout is, the coinbase is: at the one height that it names (BIP34).
        block = match spent_by.and(height) {
            Some(height) => node.block_at(height)?,
            None => None,
        };
    }
    let txid = lane.coinbase;
    Ok(block.map(|block| FoundTransaction { txid, block }))
}

fn outputs(txid: Txid, count: u32) -> impl Iterator<Item = OutPoint> {
    (0..count).map(move |vout| OutPoint::new(txid, vout))
}

fn block_of_any(
    node: &Node,
    outputs: impl Iterator<Item = OutPoint>,
) -> Result<Option<BlockRef>, NodeError> {
    for output in outputs {
        if let Some(block) = node.block_of_unspent(output)? {
            return Ok(Some(block));
        }
    }
    Ok(None)
}

/// Rounds of which no block was found.
pub(super) fn unsettled<'a>(
    watched: &'a super::watched::Watched,
    book: &'a super::book::Book,
) -> impl Iterator<Item = &'a WatchedRound> {
    watched.rounds().filter(|round| {
        let mut settlements = book.settlements().iter();
        !settlements.any(|settlement| round.has(&settlement.coinbase_txid))
    })
}
