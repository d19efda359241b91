//! One look at the chain after another: what is new is booked, what is ripe is broadcast.

use std::collections::BTreeSet;
use std::path::Path;

use bitcoin::{BlockHash, Transaction, Txid};
use tutti_proto::id::RoundId;

use super::book::{Book, BumpedBefore, Change, Payout, SeenPaid};
use super::failing::{Failing, Purpose};
use super::pruned::{Gone, unsettled};
use super::watched::{Watched, WatchedRound};
use crate::chain::{
    BlockRef, BlockView, BroadcastOutcome, FoundTransaction, Node, NodeError, Scan, left_chain,
    scan,
};
use crate::news::{DaemonEvent, News};
use crate::store::{self, RoundName};

/// Blocks scanned before what was seen is stored, and what is ripe is broadcast: some seconds.
const SCAN_BLOCKS: u32 = 100;

/// Whether a look reached the tip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    More,
    Done,
    /// The node catches up with what was looked at before: until then it shows nothing.
    Waits,
}

/// The book, the rounds it is about, and how far both are.
pub struct Follower {
    pub(super) book: Book,
    pub(super) watched: Watched,
    /// Scanned heights at which a watched round's block may stand unseen.
    pub(super) late: BTreeSet<u32>,
    /// The last of them that was looked at.
    looked_back_to: Option<u32>,
    /// Booked and not yet stored and told.
    pub(super) changes: Vec<Change>,
    pub(super) changed: bool,
    /// Whether there are blocks up to the tip that were not looked at, or not asked for where they are gone.
    pub(super) is_behind: bool,
    /// The tip, and the height believed in, at which due payouts were handed to the node.
    broadcast_at: Option<(BlockHash, u32)>,
    /// Those that were.
    handed: BTreeSet<Txid>,
    /// Those that were refused while blocks were not looked at: it says nothing, and they are handed over again
    /// once these are, or at the next tip.
    refused_behind: BTreeSet<Txid>,
    /// Payouts that the node then called mined, in a block that was not scanned yet.
    in_chain: BTreeSet<Txid>,
    /// Rounds of unknown height of which the node was asked where their block is.
    pub(super) placed: BTreeSet<RoundName>,
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
        let late = late(&watched, &book);
        // An earlier process may have passed blocks that are gone, and have ended before it asked.
        let gone = Gone::asking(!book.due(book.tip()).is_empty());
        Self {
            book,
            watched,
            late,
            looked_back_to: None,
            changes: Vec::new(),
            changed,
            is_behind: false,
            broadcast_at: None,
            handed: BTreeSet::new(),
            refused_behind: BTreeSet::new(),
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
        self.gone.begin_anew(&round.name);
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

    /// Goes towards the tip. Blocks of rounds that came after them are looked at first: what they made may be ripe
    /// for long, and blocks from there on are looked at anyway.
    pub fn scan<V: BlockView>(&mut self, view: &V) -> Result<Step, V::Error> {
        let blocks = if self.late.is_empty() { SCAN_BLOCKS } else { 0 };
        let found = self.advance(view, blocks)?;
        if let Err(error) = self.look_back(view) {
            // A block that cannot be had holds up no other.
            self.advance(view, SCAN_BLOCKS)?;
            return Err(error);
        }
        // Looking back may have put the book back.
        let reached = self.book.scanned_to() == Some(found.scanned_to) && found.is_complete();
        Ok(match reached && self.late.is_empty() {
            true => Step::Done,
            false => Step::More,
        })
    }

    /// Undoes what left the chain, and looks at some blocks more.
    fn advance<V: BlockView>(&mut self, view: &V, blocks: u32) -> Result<Scan, V::Error> {
        let found = match self.book.scanned_to() {
            Some(since) if self.undo(view)? => {
                scan(view, since.hash, self.watched.wanted(), blocks)?
            }
            _ => None,
        };
        let Some(found) = found else {
            return self.start(view);
        };
        self.changed |= self.book.scanned_to() != Some(found.scanned_to);
        self.changes.extend(self.book.apply(&found, &self.watched));
        Ok(found)
    }

    /// Undoes what was booked above a late find, and left the chain before the scan came back to it. Says
    /// whether the node has that chain, or one that is not far from it.
    fn undo<V: BlockView>(&mut self, view: &V) -> Result<bool, V::Error> {
        let Some(booked_to) = self.book.booked_to() else {
            return Ok(true);
        };
        let Some(left) = left_chain(view, booked_to.hash)? else {
            return Ok(false);
        };
        if !left.gone.is_empty() {
            self.changed = true;
            self.changes.extend(self.book.undo(&left));
        }
        Ok(true)
    }

    /// Begins at the tip, on a first start; or with another node, or a fresh one, or one whose chain is another: what
    /// was seen before counts no more. Of what is below, only the blocks of held rounds are looked at, and those after a find.
    fn start<V: BlockView>(&mut self, view: &V) -> Result<Scan, V::Error> {
        let tip = view.tip()?;
        self.placed.clear();
        self.gone = Gone::default();
        self.changes.extend(self.book.start_over());
        let start = Scan {
            disconnected: Vec::new(),
            found: Vec::new(),
            scanned_to: tip,
            tip,
        };
        self.changed = true;
        self.changes.extend(self.book.apply(&start, &self.watched));
        self.late = late(&self.watched, &self.book);
        Ok(start)
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

    /// Notes what a payout was seen to pay.
    pub fn note_seen(&mut self, txid: &Txid, seen: SeenPaid) {
        self.changed |= self.book.note_seen(txid, seen);
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
        let at = Some((tip.hash, believed));
        if self.broadcast_at != at {
            self.broadcast_at = at;
            self.handed.clear();
            self.refused_behind.clear();
            self.in_chain.clear();
        }
        if !self.is_behind {
            self.refused_behind.clear();
        }
        let wanted = self.not_handed(node, believed)?;
        for transaction in self.due(directory, believed, &wanted) {
            let txid = transaction.compute_txid();
            let outcome = node.broadcast(&transaction);
            let outcome = self
                .failing
                .of_one_call(Purpose::Broadcast(txid), outcome)?;
            let Some(outcome) = outcome else { continue };
            if self.is_behind && !outcome.is_known_to_the_network() {
                // It may be mined and spent, in a block that was not looked at yet.
                self.refused_behind.insert(txid);
                // Also one that was there before, and that the mempool dropped.
                self.handed.remove(&txid);
                continue;
            }
            if outcome == BroadcastOutcome::AlreadyInChain {
                self.in_chain.insert(txid);
            }
            self.handed.insert(txid);
            let change = self.book.judged(&txid, &outcome, tip.height);
            self.changed |= change.is_some();
            self.changes.extend(change);
        }
        // Also what no file has: it is not there a moment later either.
        self.handed.extend(wanted.difference(&self.refused_behind));
        Ok(())
    }

    /// Due payouts that the node was not handed at this tip, or that its mempool dropped.
    fn not_handed(&mut self, node: &Node, believed: u32) -> Result<BTreeSet<Txid>, NodeError> {
        let (mut wanted, mut all_dropped) = (BTreeSet::new(), BTreeSet::new());
        let due = self.book.due(believed);
        self.failing
            .retain(|txid| due.iter().any(|due| due.txid == *txid));
        for due in due {
            let is_broadcast = |p: &Payout| p.txid == due.txid && p.broadcast.is_some();
            let was_there = due.settlement.payouts.iter().any(is_broadcast);
            let purpose = Purpose::Broadcast(due.txid);
            let asked = self.handed.contains(&due.txid);
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
            if (!asked || missed || dropped) && !self.refused_behind.contains(&due.txid) {
                wanted.insert(due.txid);
            }
            if dropped {
                all_dropped.insert(due.txid);
            }
        }
        all_dropped.iter().for_each(|txid| self.book.dropped(txid));
        Ok(wanted)
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

    /// Looks at some of the blocks of rounds that came after them.
    fn look_back<V: BlockView>(&mut self, view: &V) -> Result<(), V::Error> {
        for _ in 0..SCAN_BLOCKS {
            let below = self.late.range(..self.looked_back_to.unwrap_or(u32::MAX));
            let next = below.last().or(self.late.last());
            let Some(height) = next.copied() else {
                break;
            };
            // If this one fails, the next look begins below it.
            self.looked_back_to = Some(height);
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

/// Scanned heights at which a round's block may stand unseen.
fn late(watched: &Watched, book: &Book) -> BTreeSet<u32> {
    let heights = unsettled(watched, book).filter_map(|round| round.height);
    heights.filter(|height| is_scanned(book, *height)).collect()
}

fn is_scanned(book: &Book, height: u32) -> bool {
    book.scanned_to().is_some_and(|to| to.height >= height)
}
