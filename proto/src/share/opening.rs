//! One share of a window, and the way from it to the window's record: so that somebody who looks at a
//! few of them finds out a record that claims work which its shares do not have.
//!
//! Positions are expected hashes, counted through the record's tally in its order. Whoever picks
//! positions at random finds a record of which a part f is false with probability 1 - (1 - f)^k after
//! k of them: each must lie in a share of the identity to whom the tally gives it.

use std::collections::BTreeMap;

use super::ShareRecord;
use super::tree::{Node, Side, Step};
use crate::id::Identity;
use crate::window::WindowRecord;
use crate::work::{Work, WorkOverflow};

/// A share and its way to the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opening {
    /// The share.
    pub share: ShareRecord,
    /// From it to the root of its identity's shares.
    pub path: Vec<Step>,
    /// How many shares that identity has.
    pub shares: u64,
    /// From there to the root of the window's.
    pub account_path: Vec<Step>,
}

/// Why an opening does not show that the record is true at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpeningError {
    /// The path does not lead to the record's root.
    #[error("the share is not below the root of the window's record")]
    Root,
    /// The path leads through other sums than the tally's.
    #[error("the tally gives {0} other work than the shares have")]
    Tally(Identity),
    /// The position is of another share.
    #[error("the share is not the one at position {0}")]
    Position(Work),
    /// A sum overflows.
    #[error("{0}")]
    Overflow(#[from] WorkOverflow),
}

/// Walks from a node towards a root: the root, and the work that stands before the node.
fn climb(node: Node, path: &[Step]) -> Result<(Node, Work), WorkOverflow> {
    let start = (node, Work::ZERO);
    path.iter()
        .try_fold(start, |(node, before), step| match step.side {
            Side::Left => {
                let before = before.checked_add(step.sibling.work)?;
                Ok((Node::above(&step.sibling, &node)?, before))
            }
            Side::Right => Ok((Node::above(&node, &step.sibling)?, before)),
        })
}

impl Opening {
    /// Checks that the record gives this position to this share. Whether the share itself is good is
    /// for the [terms](crate::terms) of its round to say.
    pub fn check(&self, record: &WindowRecord, position: Work) -> Result<(), OpeningError> {
        let identity = self.share.identity;
        let (account, before) = climb(Node::of_share(&self.share), &self.path)?;
        let leaf = Node::of_account(&identity, self.shares, &account);
        let (root, others) = climb(leaf, &self.account_path)?;
        if root.shares_root() != record.shares_root {
            return Err(OpeningError::Root);
        }
        let told = record.tally.get(&identity);
        let ahead = record.tally.range(..identity).map(|(_, work)| *work);
        let ahead = ahead.into_iter().try_fold(Work::ZERO, Work::checked_add)?;
        if told != Some(&account.work) || ahead != others {
            return Err(OpeningError::Tally(identity));
        }
        let first = others.checked_add(before)?;
        let end = first.checked_add(self.share.work())?;
        if first <= position && position < end {
            Ok(())
        } else {
            Err(OpeningError::Position(position))
        }
    }
}

/// The levels of a tree, its leaves first.
struct Levels(Vec<Vec<Node>>);

impl Levels {
    fn of(leaves: Vec<Node>) -> Result<Self, WorkOverflow> {
        let mut levels = vec![leaves];
        while let Some(level) = levels.last().filter(|level| level.len() > 1) {
            let above = level.chunks(2).map(|pair| match pair {
                [left, right] => Node::above(left, right),
                _ => Ok(pair[0]),
            });
            let above = above.collect::<Result<_, _>>()?;
            levels.push(above);
        }
        Ok(Self(levels))
    }

    fn root(&self) -> Option<&Node> {
        self.0.last()?.last()
    }

    /// The way from the leaf at `place` to the root.
    fn path(&self, mut place: usize) -> Vec<Step> {
        let mut path = Vec::new();
        for level in &self.0 {
            let (neighbour, side) = match place % 2 {
                0 => (place.saturating_add(1), Side::Right),
                _ => (place - 1, Side::Left),
            };
            if let Some(sibling) = level.get(neighbour).copied() {
                path.push(Step { side, sibling });
            }
            place /= 2;
        }
        path
    }
}

/// One identity's shares.
struct Account {
    shares: Vec<ShareRecord>,
    /// Work up to and with each share.
    ends: Vec<Work>,
    levels: Levels,
}

impl Account {
    fn of(shares: Vec<ShareRecord>) -> Result<Self, WorkOverflow> {
        let mut end = Work::ZERO;
        let ends = shares.iter().map(|share| {
            end = end.checked_add(share.work())?;
            Ok(end)
        });
        let ends = ends.collect::<Result<_, _>>()?;
        let leaves = shares.iter().map(Node::of_share).collect();
        Ok(Self {
            ends,
            levels: Levels::of(leaves)?,
            shares,
        })
    }

    fn count(&self) -> u64 {
        u64::try_from(self.shares.len()).unwrap_or(u64::MAX)
    }
}

/// Where a position lies among these sums: its place, and the sum before it.
fn find(ends: &[Work], position: Work) -> Option<(usize, Work)> {
    let place = ends.partition_point(|end| *end <= position);
    ends.get(place)?;
    let before = place.checked_sub(1).and_then(|before| ends.get(before));
    Some((place, before.copied().unwrap_or(Work::ZERO)))
}

/// A window's shares, ready to be opened anywhere.
pub struct Openings {
    accounts: Vec<Account>,
    /// Work up to and with each account.
    ends: Vec<Work>,
    tops: Levels,
}

impl Openings {
    /// Those of these shares, in the order of their acceptance.
    pub fn of(shares: &[ShareRecord]) -> Result<Self, WorkOverflow> {
        let mut by_identity: BTreeMap<Identity, Vec<ShareRecord>> = BTreeMap::new();
        for share in shares {
            by_identity.entry(share.identity).or_default().push(*share);
        }
        let (mut accounts, mut ends) = (Vec::new(), Vec::new());
        let mut tops = Vec::new();
        let mut end = Work::ZERO;
        for (identity, shares) in by_identity {
            let account = Account::of(shares)?;
            let Some(root) = account.levels.root() else {
                continue;
            };
            tops.push(Node::of_account(&identity, account.count(), root));
            end = end.checked_add(root.work)?;
            ends.push(end);
            accounts.push(account);
        }
        Ok(Self {
            accounts,
            ends,
            tops: Levels::of(tops)?,
        })
    }

    /// Opens the share at a position; `None` beyond their work.
    pub fn at(&self, position: Work) -> Option<Opening> {
        let (place, before) = find(&self.ends, position)?;
        let account = self.accounts.get(place)?;
        let (share, _) = find(&account.ends, Work(position.0.checked_sub(before.0)?))?;
        Some(Opening {
            share: *account.shares.get(share)?,
            path: account.levels.path(share),
            shares: account.count(),
            account_path: self.tops.path(place),
        })
    }
}

/// Opens a window's shares at positions; `None` for a position beyond their work.
pub fn open(
    shares: &[ShareRecord],
    positions: &[Work],
) -> Result<Vec<Option<Opening>>, WorkOverflow> {
    let openings = Openings::of(shares)?;
    let open = positions.iter().map(|position| openings.at(*position));
    Ok(open.collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::id::{LaneIndex, RoundId, WindowSeq};
    use crate::share::{ShareTree, SumTree};

    fn who(n: u8) -> Identity {
        let secret = bitcoin::secp256k1::SecretKey::from_slice(&[n; 32]).unwrap();
        let secp = bitcoin::secp256k1::Secp256k1::signing_only();
        Identity::from(secret.x_only_public_key(&secp).0)
    }

    fn share(who: Identity, n: usize, z: u8) -> ShareRecord {
        let mut header = [0; 80];
        header[..8].copy_from_slice(&n.to_le_bytes());
        ShareRecord {
            identity: who,
            round: RoundId([7; 32]),
            lane: LaneIndex(0),
            z,
            header,
        }
    }

    fn shares(of: &[(u8, u8)]) -> Vec<ShareRecord> {
        let share = |(n, (owner, z)): (usize, &(u8, u8))| share(who(1 + owner % 5), n, z % 20);
        of.iter().enumerate().map(share).collect()
    }

    fn record(shares: &[ShareRecord]) -> WindowRecord {
        let tree = ShareTree::of(shares).unwrap();
        WindowRecord {
            seq: WindowSeq(1),
            previous: [0; 32],
            shares_root: tree.root(),
            shares: tree.shares(),
            height: 1,
            tally: tree.tally(),
            bookings: Vec::new(),
            credits: Vec::new(),
        }
    }

    proptest! {
        #[test]
        fn every_position_opens_and_no_opening_serves_another(
            of in proptest::collection::vec(any::<(u8, u8)>(), 1..70),
            at in any::<u64>(),
        ) {
            let shares = shares(&of);
            let record = record(&shares);
            let total = crate::window::total(&record.tally).unwrap();
            let position = Work(u128::from(at) % total.0);
            let openings = open(&shares, &[position, total]).unwrap();
            prop_assert_eq!(&openings[1], &None);
            let opening = openings[0].clone().unwrap();
            prop_assert_eq!(opening.check(&record, position), Ok(()));
            let beyond = Work(position.0.wrapping_add(opening.share.work().0));
            prop_assert_eq!(opening.check(&record, beyond), Err(OpeningError::Position(beyond)));
        }

        #[test]
        fn a_tree_that_grows_is_the_tree_built_at_once(count in 1usize..200) {
            let leaves: Vec<Node> = shares(&vec![(0, 3); count]).iter().map(Node::of_share).collect();
            let mut grown = SumTree::default();
            for leaf in &leaves {
                grown.push(*leaf).unwrap();
            }
            for place in 0..count {
                let steps = Levels::of(leaves.clone()).unwrap().path(place);
                let (root, before) = climb(leaves[place], &steps).unwrap();
                prop_assert_eq!(Some(root), grown.root());
                prop_assert_eq!(before, Work(8 * place as u128));
            }
        }
    }

    #[test]
    fn work_that_is_moved_or_made_up_is_found_where_it_is_claimed() {
        let shares = shares(&[(0, 4), (1, 4), (0, 4), (2, 4), (1, 4)]);
        let honest = record(&shares);
        let open_first = || open(&shares, &[Work(0)]).unwrap()[0].clone().unwrap();
        let owner = *honest.tally.keys().next().unwrap();
        let mut inflated = honest.clone();
        inflated.tally.insert(owner, Work(1_000));
        let refused = open_first().check(&inflated, Work(0));
        assert_eq!(refused, Err(OpeningError::Tally(owner)));
        let mut moved = open_first();
        moved.share.identity = *honest.tally.keys().last().unwrap();
        assert_eq!(moved.check(&honest, Work(0)), Err(OpeningError::Root));
        let mut heavier = open_first();
        heavier.share.z += 1;
        assert_eq!(heavier.check(&honest, Work(0)), Err(OpeningError::Root));
        let mut sums = open_first();
        sums.account_path[0].sibling.work.0 += 1;
        assert_eq!(sums.check(&honest, Work(0)), Err(OpeningError::Root));
    }
}
