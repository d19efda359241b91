//! One look at the chain after another: what is new is booked, what is ripe is broadcast.

use std::collections::BTreeSet;
use std::path::Path;

use bitcoin::{BlockHash, Transaction, Txid};
use tutti_proto::id::RoundId;

use super::book::{Book, BumpedBefore, Change, Payout};
use super::failing::{Failing, Purpose};
use super::pruned::{Gone, unsettled};
use super::watched::{Watched, WatchedRound};
use crate::chain::{
    BlockRef, BlockView, BroadcastOutcome, FoundTransaction, Node, NodeError, Scan, scan,
};
use crate::news::{DaemonEvent, News};
use crate::store::{self, RoundName};

/// Blocks scanned before what was seen is stored.
const SCAN_BLOCKS: u32 = 500;

/// Whether a scan reached the tip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    More,
    Done,
}

/// The book, the rounds it is about, and how far both are.
pub struct Follower {
    pub(super) book: Book,
    pub(super) watched: Watched,
    /// Scanned heights at which a watched round's block may stand unseen.
    late: BTreeSet<u32>,
    /// Booked and not yet stored and told.
    pub(super) changes: Vec<Change>,
    pub(super) changed: bool,
    /// The tip, and the height believed in, at which the due payouts were handed to the node.
    pub(super) broadcast_at: Option<(BlockHash, u32)>,
    /// Payouts that the node then called mined, in a block that was not scanned yet.
    in_chain: BTreeSet<Txid>,
    /// Rounds of unknown height of which the node was asked where their block is.
    placed: BTreeSet<RoundName>,
    pub(super) gone: Gone,
    /// Payouts at which the node fails.
    failing: Failing,
}

impl Follower {
    /// What was scanned is on disk, for which rounds is not: a round may have been stored after its
    /// height was scanned and before the block there was looked at. So those blocks are looked at.
    pub fn new(mut book: Book, watched: Watched) -> Self {
        book.list_once();
        let changed = book.complete(&watched);
        let late = unsettled(&watched, &book)
            .filter_map(|round| round.height)
            .filter(|height| is_scanned(&book, *height))
            .collect();
        // An earlier process may have passed blocks that are gone, and have ended before it asked.
        let gone = Gone::asking(!book.due(book.tip()).is_empty());
        Self {
            book,
            watched,
            late,
            changes: Vec::new(),
            changed,
            broadcast_at: None,
            in_chain: BTreeSet::new(),
            placed: BTreeSet::new(),
            gone,
            failing: Failing::default(),
        }
    }

    pub fn book(&self) -> &Book {
        &self.book
    }

    pub fn watched(&self) -> &Watched {
        &self.watched
    }

    /// Whether the book is to be stored; asking says that it will be.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// What was booked since the last call; to be stored before it is told.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.changes)
    }

    /// Looks for the round's blocks from now on. Its block may be there already: others get the
    /// commit earlier than we do, and may be fast.
    pub fn watch(&mut self, round: WatchedRound) {
        let scanned = |height: &u32| is_scanned(&self.book, *height);
        self.late.extend(round.height.filter(scanned));
        self.watched.add(round);
        self.changed |= self.book.complete(&self.watched);
    }

    pub fn forget(&mut self, rounds: &[RoundName]) {
        rounds.iter().for_each(|name| self.watched.remove(name));
    }

    /// The rounds of all found blocks.
    pub fn found_rounds(&self) -> BTreeSet<RoundId> {
        let settlements = self.book.settlements().iter();
        let names = settlements.flat_map(|s| self.watched.names_of(&s.coinbase_txid));
        names.map(|name| name.round).collect()
    }

    /// Goes towards the tip.
    pub fn scan<V: BlockView>(&mut self, view: &V) -> Result<Step, V::Error> {
        let since = match self.book.scanned_to() {
            Some(block) => block,
            None => self.first_block(view)?,
        };
        let found = match scan(view, since.hash, self.watched.wanted(), SCAN_BLOCKS)? {
            Some(found) => found,
            None => {
                // Another node, or a fresh one: what the old one saw counts no more.
                let (scanned_to, tip) = (self.first_block(view)?, view.tip()?);
                self.placed.clear();
                self.gone = Gone::default();
                self.changes.extend(self.book.start_over());
                Scan {
                    disconnected: Vec::new(),
                    found: Vec::new(),
                    scanned_to,
                    tip,
                }
            }
        };
        self.changed |= self.book.scanned_to() != Some(found.scanned_to);
        self.changes.extend(self.book.apply(&found, &self.watched));
        self.look_back(view)?;
        // Looking back may have put the book back.
        let reached = self.book.scanned_to() == Some(found.scanned_to) && found.is_complete();
        Ok(if reached { Step::Done } else { Step::More })
    }

    /// Asks the node, once, which block has the coinbase of payouts that were imported alone, among those
    /// that are scanned; those to come are looked at anyway. Returns whether there is more to look at.
    pub(super) fn place(&mut self, node: &Node) -> Result<bool, NodeError> {
        if self.book.scanned_to().is_none() {
            return Ok(false);
        }
        let rounds = self.watched.rounds();
        let unplaced = rounds.filter(|round| round.height.is_none());
        let unplaced: Vec<_> = unplaced
            .filter(|round| !self.placed.contains(&round.name))
            .map(|round| (round.name, round.asked().collect::<Vec<_>>()))
            .collect();
        let mut more = false;
        for (name, asked) in unplaced {
            for output in asked {
                let block = node.block_of_unspent(output)?;
                let block = block.filter(|block| is_scanned(&self.book, block.height));
                let txid = output.txid;
                // The block itself may be gone: what it made is not.
                more |=
                    block.is_some_and(|block| self.found_late(&FoundTransaction { txid, block }));
            }
            self.placed.insert(name);
        }
        Ok(more)
    }

    /// Coinbases that are not known, and that a block is known to have.
    pub fn unknown_coinbases(&self) -> Vec<(Txid, BlockRef)> {
        let settlements = self.book.settlements().iter();
        let unknown = settlements.filter(|settlement| {
            let names = self.watched.names_of(&settlement.coinbase_txid);
            let mut rounds = names.filter_map(|name| self.watched.round(&name));
            rounds.any(|round| round.asked().next().is_some())
        });
        unknown.map(|s| (s.coinbase_txid, s.block)).collect()
    }

    /// The coinbase of payouts that were imported alone is known now, or will not be.
    pub fn no_longer_unknown(&mut self, coinbase: &Txid) {
        self.watched.no_longer_unknown(coinbase);
    }

    /// Of payouts that were imported alone only these are valid, as their coinbase shows.
    pub fn verified(&mut self, name: &RoundName, coinbase: &Txid, valid: &BTreeSet<Txid>) {
        self.watched.verified(name, valid);
        let held = self.watched.payouts_of(coinbase).into_iter().collect();
        self.changed |= self.book.verified(coinbase, &held);
    }

    /// Notes what was done about a payout's fee.
    pub fn note_bump(&mut self, txid: &Txid, bumped: BumpedBefore) {
        self.changed |= self.book.note_bump(txid, bumped);
    }

    /// Hands the due payouts to the node, once for each tip, and again what its mempool dropped. The scan may be
    /// behind the tip, or ahead. `believed` is a height that the chain may have although the node does
    /// not show it: what is ripe there is handed over too, and nothing is lost if the node refuses.
    pub fn broadcast(
        &mut self,
        node: &Node,
        directory: &Path,
        tip: BlockRef,
        believed: u32,
    ) -> Result<(), NodeError> {
        let scanned_to = self.book.scanned_to();
        let tip = scanned_to
            .filter(|to| to.height >= tip.height)
            .unwrap_or(tip);
        let believed = believed.max(tip.height);
        let asked = self.broadcast_at == Some((tip.hash, believed));
        if !asked {
            self.in_chain.clear();
        }
        let mut wanted = BTreeSet::new();
        let due = self.book.due(believed);
        self.failing
            .retain(|txid| due.iter().any(|due| due.txid == *txid));
        for due in due {
            let is_broadcast = |p: &Payout| p.txid == due.txid && p.broadcast.is_some();
            let was_there = due.settlement.payouts.iter().any(is_broadcast);
            let purpose = Purpose::Broadcast(due.txid);
            // What the node failed at was not handed over.
            let missed = self.failing.contains(purpose);
            // A node that restarts, or whose mempool is full, forgets.
            let mined = self.in_chain.contains(&due.txid);
            let mut dropped = false;
            if asked && was_there && !mined {
                let pooled = node.mempool_entry(due.txid);
                let pooled = self.failing.of_one_call(purpose, pooled)?;
                dropped = pooled.is_some_and(|entry| entry.is_none());
            }
            if !asked || missed || dropped {
                wanted.insert((due.txid, dropped));
            }
        }
        for (txid, _) in wanted.iter().filter(|(_, dropped)| *dropped) {
            self.book.dropped(txid);
        }
        let wanted: BTreeSet<Txid> = wanted.into_iter().map(|(txid, _)| txid).collect();
        for transaction in self.due(directory, believed, &wanted) {
            let txid = transaction.compute_txid();
            let outcome = node.broadcast(&transaction);
            let outcome = self
                .failing
                .of_one_call(Purpose::Broadcast(txid), outcome)?;
            let Some(outcome) = outcome else { continue };
            if outcome == BroadcastOutcome::AlreadyInChain {
                self.in_chain.insert(txid);
            }
            let change = self.book.judged(&txid, &outcome, tip.height);
            self.changed |= change.is_some();
            self.changes.extend(change);
        }
        self.broadcast_at = Some((tip.hash, believed));
        Ok(())
    }

    fn due(&self, directory: &Path, tip: u32, wanted: &BTreeSet<Txid>) -> Vec<Transaction> {
        let mut due = Vec::new();
        let payouts = self.book.due(tip).into_iter();
        for payout in payouts.filter(|payout| wanted.contains(&payout.txid)) {
            for name in self.watched.names_of(&payout.settlement.coinbase_txid) {
                match store::payouts_of(directory, &name) {
                    Ok(payouts) => {
                        let payouts = payouts.into_iter();
                        due.extend(payouts.filter(|tx| tx.compute_txid() == payout.txid));
                    }
                    // Said at every block; the other payouts go out all the same.
                    Err(error) => {
                        let why = &error.to_string();
                        News::from(DaemonEvent::RoundUnreadable { why }).emit();
                    }
                }
            }
        }
        // Of several files the same one; with another signature it is another one.
        let mut seen = BTreeSet::new();
        due.retain(|tx| seen.insert(tx.compute_wtxid()));
        due
    }

    /// Where a first scan starts: below all that may be found.
    fn first_block<V: BlockView>(&self, view: &V) -> Result<BlockRef, V::Error> {
        let tip = view.tip()?;
        let lowest = self.watched.rounds().filter_map(|round| round.height).min();
        let below = lowest.map_or(tip.height, |height| height.saturating_sub(1));
        let block = view.block_at(below.min(tip.height))?;
        Ok(block.unwrap_or(tip))
    }

    /// Looks at the blocks of rounds that came after them.
    fn look_back<V: BlockView>(&mut self, view: &V) -> Result<(), V::Error> {
        while let Some(height) = self.late.last().copied() {
            if let Some(block) = view.block_at(height)? {
                let transactions = match view.transactions(block.hash) {
                    Err(error) if V::is_gone(&error) => {
                        // Whatever else there is to do does not wait for it.
                        let unsettled = unsettled(&self.watched, &self.book);
                        self.gone.add((height, height), unsettled);
                        self.late.remove(&height);
                        continue;
                    }
                    transactions => transactions?,
                };
                let mut txids = transactions.txids.into_iter();
                let coinbase = txids.find(|txid| self.watched.lane_of(txid).is_some());
                if let Some(txid) = coinbase {
                    self.found_late(&FoundTransaction { txid, block });
                }
            }
            self.late.remove(&height);
        }
        Ok(())
    }
}

fn is_scanned(book: &Book, height: u32) -> bool {
    book.scanned_to().is_some_and(|to| to.height >= height)
}
