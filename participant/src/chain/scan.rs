//! Following the chain: which transactions we wait for were mined, and which blocks went away.

use std::collections::BTreeSet;

use bitcoin::{BlockHash, Txid};

use super::{BlockRef, BlockTransactions, HeaderInfo};

/// What a scan reads of a node.
pub trait BlockView {
    type Error;

    /// Whether nothing but a block that this view no longer has is in the way.
    fn is_gone(error: &Self::Error) -> bool;

    fn tip(&self) -> Result<BlockRef, Self::Error>;
    fn header(&self, hash: BlockHash) -> Result<Option<HeaderInfo>, Self::Error>;
    fn block_at(&self, height: u32) -> Result<Option<BlockRef>, Self::Error>;
    fn transactions(&self, hash: BlockHash) -> Result<BlockTransactions, Self::Error>;
}

/// A transaction that was waited for, in the best chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundTransaction {
    pub txid: Txid,
    pub block: BlockRef,
}

/// What changed since the block that was scanned last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// Scanned before and no longer in the best chain, highest first. What was found in them is not
    /// found any more. To be booked before `found`.
    pub disconnected: Vec<BlockRef>,
    pub found: Vec<FoundTransaction>,
    /// Where the next scan goes on; to be stored together with the above.
    pub scanned_to: BlockRef,
    pub tip: BlockRef,
}

impl Scan {
    /// Whether the scan reached the tip; if not, scan again.
    pub fn is_complete(&self) -> bool {
        self.scanned_to.hash == self.tip.hash
    }
}

/// What left the best chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftChain {
    /// Highest first.
    pub gone: Vec<BlockRef>,
    /// The block below, which is in the best chain.
    pub fork: BlockRef,
}

/// Headers that are walked back: two weeks of blocks, far more than any reorganisation. What differs by more is
/// another chain.
pub const LEFT_BLOCKS_MAX: usize = 2_016;

/// Goes back from a block to the best chain. `None` when the node does not know the block, or has left more than
/// [`LEFT_BLOCKS_MAX`] blocks.
pub fn left_chain<V: BlockView>(view: &V, from: BlockHash) -> Result<Option<LeftChain>, V::Error> {
    let mut gone = Vec::new();
    let Some(mut header) = view.header(from)? else {
        return Ok(None);
    };
    while !header.in_best_chain {
        if gone.len() == LEFT_BLOCKS_MAX {
            return Ok(None);
        }
        gone.push(header.block);
        let Some(previous) = header.previous else {
            return Ok(None);
        };
        let Some(parent) = view.header(previous)? else {
            return Ok(None);
        };
        header = parent;
    }
    let fork = header.block;
    Ok(Some(LeftChain { gone, fork }))
}

/// Goes from the block scanned last to the tip, at most `max_blocks` on, and looks for transactions.
///
/// `None` when the node has another chain than that of the block `since`, or a fresh one, as [`left_chain`]
/// says. Start then from a block that the node has.
pub fn scan<V: BlockView>(
    view: &V,
    since: BlockHash,
    wanted: &BTreeSet<Txid>,
    max_blocks: u32,
) -> Result<Option<Scan>, V::Error> {
    let Some(left) = left_chain(view, since)? else {
        return Ok(None);
    };
    let tip = view.tip()?;
    let mut scanned_to = left.fork;
    let mut found = Vec::new();
    for _ in 0..max_blocks {
        if scanned_to.height >= tip.height {
            break;
        }
        let Some(next) = view.block_at(scanned_to.height + 1)? else {
            break;
        };
        let block = match view.transactions(next.hash) {
            // What was scanned so far counts, and what went away; the next scan meets the error at once.
            Err(_) if scanned_to != left.fork || !left.gone.is_empty() => break,
            block => block?,
        };
        if block.previous != Some(scanned_to.hash) {
            // The chain changed under our feet; the next scan starts by walking back.
            break;
        }
        scanned_to = next;
        let mined = block.txids.into_iter().filter(|txid| wanted.contains(txid));
        found.extend(mined.map(|txid| FoundTransaction { txid, block: next }));
    }
    Ok(Some(Scan {
        disconnected: left.gone,
        found,
        scanned_to,
        tip,
    }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;

    use bitcoin::hashes::Hash;

    use super::*;

    /// Blocks named by a letter for their branch and a height; the best chain by height.
    #[derive(Default)]
    struct Chain {
        known: BTreeMap<BlockHash, BlockTransactions>,
        best: Vec<BlockHash>,
    }

    fn hash(branch: u8, height: u32) -> BlockHash {
        BlockHash::hash(&[branch, height as u8])
    }

    fn payment_txid(branch: u8, height: u32) -> Txid {
        Txid::hash(&[branch, height as u8, 1])
    }

    fn coinbase_txid(branch: u8, height: u32) -> Txid {
        Txid::hash(&[branch, height as u8])
    }

    impl Chain {
        /// Replaces everything from `from` on by `count` blocks of `branch`.
        fn extend(&mut self, branch: u8, from: u32, count: u32) {
            self.best.truncate(from as usize);
            for height in from..from + count {
                let hash = hash(branch, height);
                let block = BlockTransactions {
                    block: BlockRef { height, hash },
                    previous: self.best.last().copied(),
                    txids: vec![coinbase_txid(branch, height), payment_txid(branch, height)],
                };
                self.known.insert(hash, block);
                self.best.push(hash);
            }
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

    fn scanned(chain: &Chain, since: BlockHash, wanted: &[Txid], max: u32) -> Scan {
        let wanted = wanted.iter().copied().collect();
        let Ok(scan) = scan(chain, since, &wanted, max);
        scan.expect("the block is known")
    }

    #[test]
    fn only_wanted_transactions_above_the_last_scan_are_found() {
        let mut chain = Chain::default();
        chain.extend(b'a', 0, 10);
        let wanted = [
            coinbase_txid(b'a', 2),
            coinbase_txid(b'a', 7),
            payment_txid(b'a', 8),
        ];
        let scan = scanned(&chain, hash(b'a', 4), &wanted, 100);
        let found = |txid, height| FoundTransaction {
            txid,
            block: BlockRef {
                height,
                hash: hash(b'a', height),
            },
        };
        assert_eq!(scan.found, [found(wanted[1], 7), found(wanted[2], 8)]);
        assert!(scan.is_complete() && scan.disconnected.is_empty());
    }

    #[test]
    fn a_reorg_names_what_went_away_and_scans_the_other_branch() {
        let mut chain = Chain::default();
        chain.extend(b'a', 0, 8);
        chain.extend(b'b', 5, 4);
        let wanted = [coinbase_txid(b'a', 6), coinbase_txid(b'b', 6)];
        let scan = scanned(&chain, hash(b'a', 7), &wanted, 100);
        let gone: Vec<_> = scan.disconnected.iter().map(|block| block.height).collect();
        assert_eq!(gone, [7, 6, 5]);
        assert_eq!(scan.found.len(), 1);
        assert_eq!(scan.found[0].txid, wanted[1]);
        assert_eq!(scan.scanned_to.hash, hash(b'b', 8));
    }

    #[test]
    fn a_long_scan_goes_on_where_it_stopped() {
        let mut chain = Chain::default();
        chain.extend(b'a', 0, 10);
        let first = scanned(&chain, hash(b'a', 0), &[], 4);
        assert_eq!((first.scanned_to.height, first.is_complete()), (4, false));
        let second = scanned(&chain, first.scanned_to.hash, &[], 100);
        assert!(second.is_complete());
    }

    #[test]
    fn a_block_the_node_never_saw_is_told_apart() {
        let mut chain = Chain::default();
        chain.extend(b'a', 0, 3);
        let Ok(scan) = scan(&chain, hash(b'z', 2), &BTreeSet::new(), 10);
        assert_eq!(scan, None);
    }
}
