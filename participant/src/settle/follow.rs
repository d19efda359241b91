//! One look at the chain after another: what is new is booked, what is ripe is broadcast.

use std::collections::BTreeSet;
use std::path::Path;

use bitcoin::{BlockHash, Transaction, Txid};
use tutti_proto::id::RoundId;

use super::book::{Book, BumpedBefore, Change, Payout};
use super::failing::{Failing, Purpose};
use super::watched::{Watched, WatchedRound};
use crate::chain::{BlockRef, BlockView, FoundTransaction, Node, NodeError, Scan, scan};
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
    book: Book,
    watched: Watched,
    /// Scanned heights at which a watched round's block may stand unseen.
    late: BTreeSet<u32>,
    /// Booked and not yet stored and told.
    changes: Vec<Change>,
    changed: bool,
    /// The tip, and the height believed in, at which the due payouts were handed to the node.
    broadcast_at: Option<(BlockHash, u32)>,
    /// Rounds of unknown height of which the node was asked where their block is.
    placed: BTreeSet<RoundName>,
    /// Payouts at which the node fails.
    failing: Failing,
}

impl Follower {
    /// What was scanned is on disk, for which rounds is not: a round may have been stored after its
    /// height was scanned and before the block there was looked at. So those blocks are looked at.
    pub fn new(mut book: Book, watched: Watched) -> Self {
        book.list_once();
        let settled = |round: &WatchedRound| {
            let mut settlements = book.settlements().iter();
            settlements.any(|settlement| settlement.is_of(&round.name))
        };
        let unsettled = watched.rounds().filter(|round| !settled(round));
        let late = unsettled
            .filter_map(|round| round.height)
            .filter(|height| is_scanned(&book, *height))
            .collect();
        Self {
            book,
            watched,
            late,
            changes: Vec::new(),
            changed: false,
            broadcast_at: None,
            placed: BTreeSet::new(),
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
    }

    pub fn forget(&mut self, rounds: &[RoundName]) {
        rounds.iter().for_each(|name| self.watched.remove(name));
    }

    /// The rounds of all found blocks.
    pub fn found_rounds(&self) -> BTreeSet<RoundId> {
        let rounds = self.watched.rounds();
        let of_found = |round: &&WatchedRound| {
            let mut settlements = self.book.settlements().iter();
            settlements.any(|settlement| settlement.is_of(&round.name))
        };
        rounds
            .filter(of_found)
            .map(|round| round.name.round)
            .collect()
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
    pub fn place(&mut self, node: &Node) -> Result<bool, NodeError> {
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
                more |= block.is_some();
                self.late.extend(block.map(|block| block.height));
            }
            self.placed.insert(name);
        }
        Ok(more)
    }

    /// Coinbases that are not known, and that a block is known to have.
    pub fn unknown_coinbases(&self) -> Vec<(Txid, BlockRef)> {
        let settlements = self.book.settlements().iter();
        let unknown = settlements.filter(|settlement| {
            let round = self.watched.lane_of(&settlement.coinbase_txid);
            round.is_some_and(|(round, _)| round.asked().next().is_some())
        });
        unknown.map(|s| (s.coinbase_txid, s.block)).collect()
    }

    /// The coinbase of payouts that were imported alone is known now, or will not be.
    pub fn no_longer_unknown(&mut self, coinbase: &Txid) {
        self.watched.no_longer_unknown(coinbase);
    }

    /// Of payouts that were imported alone only these are valid, as their coinbase shows.
    pub fn verified(&mut self, coinbase: &Txid, valid: &BTreeSet<Txid>) {
        self.watched.verified(coinbase, valid);
        self.changed |= self.book.verified(coinbase, valid);
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
            let mut dropped = false;
            if asked && was_there {
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
            let mut names = self.watched.rounds().map(|round| round.name);
            let Some(name) = names.find(|name| payout.settlement.is_of(name)) else {
                continue;
            };
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
                let transactions = view.transactions(block.hash);
                if transactions.as_ref().is_err_and(V::is_gone) {
                    // Said once; whatever else there is to do does not wait for it.
                    self.late.remove(&height);
                }
                let mut txids = transactions?.txids.into_iter();
                let coinbase = txids.find(|txid| self.watched.lane_of(txid).is_some());
                let found = coinbase.map(|txid| FoundTransaction { txid, block });
                let change = found.and_then(|found| self.book.connect(&found, &self.watched));
                if change.is_some() {
                    self.changed = true;
                    self.changes.extend(change);
                    // What ripened long ago is due at this tip, and may be in the chain since.
                    self.broadcast_at = None;
                    self.book.scan_again_from(block);
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
