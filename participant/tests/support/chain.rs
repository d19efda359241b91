//! A chain of the test's own, and a follower of it.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::cell::Cell;
use std::collections::BTreeMap;
use std::convert::Infallible;

use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Txid};
use tutti_participant::chain::{
    BlockRef, BlockTransactions, BlockView, BroadcastOutcome, HeaderInfo,
};
use tutti_participant::settle::{Book, Change, Follower, Stage, Step, Watched, WatchedRound};

use super::{Round, some_identity, some_script};

/// Blocks by hash; the best chain by height.
#[derive(Default)]
pub struct Chain {
    pub known: BTreeMap<BlockHash, BlockTransactions>,
    pub best: Vec<BlockHash>,
    /// How many headers were asked for.
    pub headers: Cell<usize>,
}

impl Chain {
    /// A chain from 0 to `tip` without anything in it.
    pub fn up_to(tip: u32) -> Self {
        let mut chain = Self::default();
        (0..=tip).for_each(|_| chain.mine(b'a', &[]));
        chain
    }

    pub fn mine(&mut self, branch: u8, txids: &[Txid]) {
        let height = self.best.len() as u32;
        let hash = BlockHash::hash(&[branch, height as u8, (height >> 8) as u8]);
        let block = BlockTransactions {
            block: BlockRef { height, hash },
            previous: self.best.last().copied(),
            txids: txids.to_vec(),
        };
        self.known.insert(hash, block);
        self.best.push(hash);
    }

    pub fn mine_to(&mut self, branch: u8, tip: u32) {
        while self.best.len() as u32 <= tip {
            self.mine(branch, &[]);
        }
    }

    /// Takes the blocks from this height on out of the best chain.
    pub fn cut(&mut self, from: u32) {
        self.best.truncate(from as usize);
    }
}

impl BlockView for Chain {
    type Error = Infallible;

    fn is_gone(error: &Infallible) -> bool {
        match *error {}
    }

    fn tip(&self) -> Result<BlockRef, Infallible> {
        let height = self.best.len() as u32 - 1;
        Ok(BlockRef {
            height,
            hash: self.best[height as usize],
        })
    }

    fn header(&self, hash: BlockHash) -> Result<Option<HeaderInfo>, Infallible> {
        self.headers.set(self.headers.get() + 1);
        Ok(self.known.get(&hash).map(|block| HeaderInfo {
            block: block.block,
            previous: block.previous,
            time: 0,
            median_time: 0,
            in_best_chain: self.best.contains(&hash),
        }))
    }

    fn block_at(&self, height: u32) -> Result<Option<BlockRef>, Infallible> {
        let hash = self.best.get(height as usize).copied();
        Ok(hash.map(|hash| BlockRef { height, hash }))
    }

    fn transactions(&self, hash: BlockHash) -> Result<BlockTransactions, Infallible> {
        Ok(self.known[&hash].clone())
    }
}

pub fn round(seq: u64, height: u32) -> WatchedRound {
    let payees = [
        (some_identity(1), some_script(1), 600_000),
        (some_identity(2), some_script(2), 0),
    ];
    let held = Round {
        seq,
        height,
        lanes: 2,
        reward: 5_000_000_000,
        payees: &payees,
    }
    .held();
    WatchedRound::new(&held, &some_identity(1))
}

pub fn follower(rounds: &[WatchedRound], book: Book) -> Follower {
    let mut watched = Watched::default();
    rounds.iter().cloned().for_each(|round| watched.add(round));
    Follower::new(book, watched)
}

/// Scans to the tip.
pub fn look(follower: &mut Follower, chain: &Chain) -> Vec<Change> {
    loop {
        let Ok(step) = follower.scan(chain);
        if step == Step::Done {
            return follower.take_changes();
        }
    }
}

pub fn stage(follower: &Follower) -> Stage {
    follower.book().settlements()[0].stage(follower.book().tip())
}

pub fn due(follower: &Follower) -> Vec<Txid> {
    let book = follower.book();
    book.due(book.tip()).iter().map(|due| due.txid).collect()
}

pub fn judge(follower: &mut Follower, txid: &Txid, outcome: &BroadcastOutcome) -> Option<Change> {
    // Through a copy of the book, as a restart would.
    let mut book = follower.book().clone();
    let change = book.judged(txid, outcome, book.tip());
    let rounds: Vec<_> = follower.watched().rounds().cloned().collect();
    *follower = self::follower(&rounds, reread(&book));
    change
}

pub fn reread(book: &Book) -> Book {
    let text = serde_json::to_string(book).expect("written");
    serde_json::from_str(&text).expect("read")
}
