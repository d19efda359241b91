//! The tree that a window's record commits to: who did how much, and by which shares.
//!
//! A node sums the work below it, so that a record which claims more work than its shares have is
//! found out by looking at a few of them ([`Opening`](super::Opening)). Each identity's shares, in the
//! order of their acceptance, are a tree of their own; these trees, ascending by identity, are the
//! leaves of the window's.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::ShareRecord;
use crate::digest::Digest;
use crate::id::Identity;
use crate::window::Tally;
use crate::work::{Work, WorkOverflow};

/// A subtree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Node {
    /// Commits to it.
    pub hash: [u8; 32],
    /// Sum of its shares' work, expected hashes.
    pub work: Work,
}

/// Where a sibling stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Before the node.
    Left,
    /// After it.
    Right,
}

/// A step from a leaf towards the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// Where the sibling stands.
    pub side: Side,
    /// The sibling.
    pub sibling: Node,
}

impl Node {
    /// The node above two.
    pub fn above(left: &Node, right: &Node) -> Result<Node, WorkOverflow> {
        static START: LazyLock<Digest> = LazyLock::new(|| Digest::new("tutti/share-node"));
        let mut digest = START.again();
        for child in [left, right] {
            digest = digest.fixed(&child.hash).u128(child.work.0);
        }
        Ok(Node {
            hash: digest.finish(),
            work: left.work.checked_add(right.work)?,
        })
    }

    /// The leaf of a share.
    pub fn of_share(share: &ShareRecord) -> Node {
        Node {
            hash: share.leaf(),
            work: share.work(),
        }
    }

    /// The leaf of an identity: `root` is that of its own shares.
    pub fn of_account(identity: &Identity, shares: u64, root: &Node) -> Node {
        let hash = Digest::new("tutti/share-account")
            .fixed(identity.as_bytes())
            .u64(shares)
            .fixed(&root.hash)
            .finish();
        let work = root.work;
        Node { hash, work }
    }

    /// What the record names as the root of its shares.
    pub fn shares_root(&self) -> [u8; 32] {
        Digest::new("tutti/shares")
            .fixed(&self.hash)
            .u128(self.work.0)
            .finish()
    }
}

/// A tree that grows leaf by leaf: on every level neighbours are paired from the left, and the last of
/// an odd level moves up alone.
#[derive(Clone, Debug, Default)]
pub struct SumTree {
    /// Complete subtrees, the largest first: their sizes are the binary digits of `len`.
    peaks: Vec<Node>,
    len: u64,
}

impl SumTree {
    /// Leaves.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds a leaf. On an error nothing has changed.
    pub fn push(&mut self, leaf: Node) -> Result<(), WorkOverflow> {
        let mut node = leaf;
        let merged = self.len.trailing_ones() as usize;
        let kept = self.peaks.len().saturating_sub(merged);
        for left in self.peaks[kept..].iter().rev() {
            node = Node::above(left, &node)?;
        }
        self.peaks.truncate(kept);
        self.peaks.push(node);
        self.len = self.len.saturating_add(1);
        Ok(())
    }

    /// Work of all leaves.
    pub fn work(&self) -> Work {
        let peaks = self.peaks.iter();
        Work(peaks.fold(0, |sum, peak| sum.saturating_add(peak.work.0)))
    }

    /// The root, if there is any leaf.
    pub fn root(&self) -> Option<Node> {
        let mut peaks = self.peaks.iter().rev();
        let last = *peaks.next()?;
        peaks
            .try_fold(last, |right, left| Node::above(left, &right))
            .ok()
    }
}

/// A window's shares.
#[derive(Clone, Debug, Default)]
pub struct ShareTree {
    accounts: BTreeMap<Identity, SumTree>,
    total: Work,
    shares: u64,
}

impl ShareTree {
    /// The tree of these shares.
    pub fn of<'a>(shares: impl IntoIterator<Item = &'a ShareRecord>) -> Result<Self, WorkOverflow> {
        let mut tree = Self::default();
        for share in shares {
            tree.add(share)?;
        }
        Ok(tree)
    }

    /// Adds a share; says its place in the order of acceptance. On an error nothing has changed.
    pub fn add(&mut self, share: &ShareRecord) -> Result<u64, WorkOverflow> {
        // No sum of a part overflows where that of all does not.
        self.total = self.total.checked_add(share.work())?;
        let account = self.accounts.entry(share.identity).or_default();
        account.push(Node::of_share(share))?;
        let index = self.shares;
        self.shares = index.saturating_add(1);
        Ok(index)
    }

    /// How many shares.
    pub fn shares(&self) -> u64 {
        self.shares
    }

    /// Work of each identity.
    pub fn tally(&self) -> Tally {
        let works = self.accounts.iter();
        let works = works.map(|(who, account)| (*who, account.work()));
        works.collect()
    }

    /// Whether any share is this identity's.
    pub fn has_work_of(&self, identity: &Identity) -> bool {
        self.accounts.contains_key(identity)
    }

    /// What the record names as the root of its shares. No shares: 32 zero bytes.
    pub fn root(&self) -> [u8; 32] {
        let mut top = SumTree::default();
        for (identity, account) in &self.accounts {
            let root = account.root();
            let leaf = root.map(|root| Node::of_account(identity, account.len(), &root));
            // Their sum is `total`, which has not overflowed.
            if leaf.is_none_or(|leaf| top.push(leaf).is_err()) {
                return [0; 32];
            }
        }
        top.root().map_or([0; 32], |root| root.shares_root())
    }
}
