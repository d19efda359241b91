//! Lanes, slices and who hashes which: nobody repeats another's work.
//!
//! A slice is a prefix of the 16 version bits that BIP320 lets a miner roll, on one lane. The
//! prefixes of a lane form a Huffman code over the participants' work rates: disjoint and covering
//! by construction, and a faster miner gets a wider slice.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use crate::digest::Digest;
use crate::id::{Identity, LaneIndex};
use crate::work::ZERO_BITS_LIMIT;

/// BIP320: bits 13 to 28 of the header's version are free for miners.
pub const VERSION_MASK: u32 = 0x1fff_e000;
/// Position of the lowest of them.
const VERSION_SHIFT: u32 = 13;
/// How many they are.
pub const VERSION_BITS: u8 = 16;
/// Most slices of one round.
pub const SLICES_LIMIT: usize = 65_536;

/// A part of a lane: all versions whose rollable bits start with a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slice {
    /// The lane.
    pub lane: LaneIndex,
    /// The prefix, left-aligned in 16 bits; the bits after `prefix_len` are zero.
    pub prefix: u16,
    /// Bits of the prefix, 0 to 16.
    pub prefix_len: u8,
}

/// A slice, whose it is, and by what its shares are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Assigned {
    /// The slice.
    pub slice: Slice,
    /// Whose it is.
    pub owner: Identity,
    /// Leading zero bits of a share: the same for all slices of one owner. The round's transcript
    /// commits to it before anybody hashes, so that nobody can choose it by what was found.
    pub z: u8,
}

/// A participant among whom lanes are divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Worker {
    /// Work rate, in any unit.
    pub rate: u64,
    /// Leading zero bits of its shares.
    pub z: u8,
}

/// Who hashes what in a round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignments {
    /// In order.
    slices: Vec<Assigned>,
    /// The same by owner: every share asks for its owner's.
    by_owner: BTreeMap<Identity, Vec<Assigned>>,
}

/// Why a list of slices is not an assignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssignmentError {
    /// Too long a prefix, or bits set after it.
    #[error("slice {prefix:#06x}/{prefix_len} of lane {lane} is malformed")]
    Malformed {
        /// Lane.
        lane: LaneIndex,
        /// Prefix.
        prefix: u16,
        /// Its length.
        prefix_len: u8,
    },
    /// Two slices share versions.
    #[error("two slices of lane {lane} overlap at {prefix:#06x}")]
    Overlap {
        /// Lane.
        lane: LaneIndex,
        /// Where.
        prefix: u16,
    },
    /// A lane that the round does not have.
    #[error("lane {0} does not exist")]
    NoSuchLane(LaneIndex),
    /// One owner's slices have several z, or one that no share may have.
    #[error("{0} has slices of several z, or of one above {ZERO_BITS_LIMIT}")]
    ZeroBits(Identity),
    /// More slices than a message may carry.
    #[error("more than {SLICES_LIMIT} slices")]
    TooMany,
}

impl Slice {
    /// Whether a header version lies in this slice and differs from `base` in rollable bits only.
    pub fn contains(&self, version: i32, base: i32) -> bool {
        let (version, base) = (version as u32, base as u32);
        let rolled = ((version & VERSION_MASK) >> VERSION_SHIFT) as u16;
        version & !VERSION_MASK == base & !VERSION_MASK && (rolled ^ self.prefix) & self.mask() == 0
    }

    /// The version with the prefix of this slice and all its free bits zero.
    pub fn first_version(&self, base: i32) -> i32 {
        ((base as u32 & !VERSION_MASK) | (u32::from(self.prefix) << VERSION_SHIFT)) as i32
    }

    /// The version bits that are free within this slice.
    pub fn free_mask(&self) -> u32 {
        u32::from(!self.mask()) << VERSION_SHIFT
    }

    fn mask(&self) -> u16 {
        u16::MAX
            .checked_shl(u32::from(VERSION_BITS.saturating_sub(self.prefix_len)))
            .unwrap_or(0)
    }

    fn last(&self) -> u16 {
        self.prefix | !self.mask()
    }
}

impl Assignments {
    /// Checks that all slices are well formed and that no two overlap.
    pub fn parse(mut slices: Vec<Assigned>, lanes: u16) -> Result<Self, AssignmentError> {
        if slices.len() > SLICES_LIMIT {
            return Err(AssignmentError::TooMany);
        }
        slices.sort_unstable();
        let mut previous: Option<Slice> = None;
        for Assigned { slice, .. } in &slices {
            let Slice {
                lane,
                prefix,
                prefix_len,
            } = *slice;
            if lane.0 >= lanes {
                return Err(AssignmentError::NoSuchLane(lane));
            }
            if prefix_len > VERSION_BITS || prefix & !slice.mask() != 0 {
                return Err(AssignmentError::Malformed {
                    lane,
                    prefix,
                    prefix_len,
                });
            }
            if previous.is_some_and(|p| p.lane == lane && p.last() >= prefix) {
                return Err(AssignmentError::Overlap { lane, prefix });
            }
            previous = Some(*slice);
        }
        let set = Self::from_sorted(slices);
        for (owner, assigned) in &set.by_owner {
            let z = assigned.first().map_or(0, |first| first.z);
            if z > ZERO_BITS_LIMIT || assigned.iter().any(|other| other.z != z) {
                return Err(AssignmentError::ZeroBits(*owner));
            }
        }
        Ok(set)
    }

    fn from_sorted(slices: Vec<Assigned>) -> Self {
        let mut by_owner: BTreeMap<Identity, Vec<Assigned>> = BTreeMap::new();
        for assigned in &slices {
            by_owner.entry(assigned.owner).or_default().push(*assigned);
        }
        Self { slices, by_owner }
    }

    /// Divides all lanes among participants by work rate: disjoint, covering, deterministic.
    pub fn divide(workers: &BTreeMap<Identity, Worker>, lanes: u16) -> Self {
        if workers.is_empty() || lanes == 0 {
            return Self::default();
        }
        // One lane has room for 2^16 prefixes: of more participants, the fastest hash.
        let mut rates: Vec<(&Identity, &Worker)> = workers.iter().collect();
        rates.sort_by_key(|(_, worker)| Reverse(worker.rate));
        rates.truncate(SLICES_LIMIT);
        let total: u128 = rates
            .iter()
            .map(|(_, worker)| u128::from(worker.rate))
            .sum();
        // Slower miners count as this at least, so that no prefix gets longer than 16 bits. Should
        // it not suffice, raise it: once all count alike, the prefixes are as short as can be.
        let mut floor = (total / 2_000).max(1);
        loop {
            let leaves = rates
                .iter()
                .map(|(who, worker)| (u128::from(worker.rate).max(floor), **who))
                .collect();
            if let Some(slices) = huffman(leaves, lanes) {
                let assigned = |(slice, owner)| Assigned {
                    slice,
                    owner,
                    z: workers.get(&owner).map_or(0, |worker| worker.z),
                };
                return Self::from_sorted(slices.into_iter().map(assigned).collect());
            }
            floor = floor.saturating_mul(2);
        }
    }

    /// Slices in order, with their owners.
    pub fn iter(&self) -> impl Iterator<Item = Assigned> + '_ {
        self.slices.iter().copied()
    }

    /// The slices of one participant.
    pub fn of(&self, identity: &Identity) -> &[Assigned] {
        self.by_owner.get(identity).map_or(&[], Vec::as_slice)
    }

    /// Leading zero bits of a participant's shares, if it has a slice.
    pub fn z(&self, identity: &Identity) -> Option<u8> {
        self.of(identity).first().map(|assigned| assigned.z)
    }

    /// Whoever has a slice, ascending.
    pub fn owners(&self) -> impl Iterator<Item = Identity> + '_ {
        self.by_owner.keys().copied()
    }

    /// Whether all slices are on the first so many lanes.
    pub fn are_on(&self, lanes: u16) -> bool {
        let last = self.slices.last();
        last.is_none_or(|last| last.slice.lane.0 < lanes)
    }

    /// Hash of the whole list.
    pub fn digest(&self) -> [u8; 32] {
        let digest = Digest::new("tutti/assignments").count(self.slices.len());
        self.slices
            .iter()
            .fold(digest, |d, Assigned { slice, owner, z }| {
                d.u16(slice.lane.0)
                    .u16(slice.prefix)
                    .u8(slice.prefix_len)
                    .fixed(owner.as_bytes())
                    .u8(*z)
            })
            .finish()
    }
}

enum Tree {
    Leaf(Identity),
    Node(usize, usize),
}

/// Huffman trees, one per lane; `None` if a prefix would be longer than 16 bits.
fn huffman(mut leaves: Vec<(u128, Identity)>, lanes: u16) -> Option<Vec<(Slice, Identity)>> {
    let lanes = usize::from(lanes);
    // A miner may need more than one lane: halve the heaviest until every lane has a leaf.
    leaves.sort_unstable_by_key(|(weight, who)| Reverse((*weight, *who)));
    let mut heaviest: BinaryHeap<(u128, Reverse<Identity>)> = leaves
        .into_iter()
        .map(|(weight, who)| (weight, Reverse(who)))
        .collect();
    while heaviest.len() < lanes {
        let (weight, who) = heaviest.pop()?;
        heaviest.push((weight.div_ceil(2), who));
        heaviest.push(((weight / 2).max(1), who));
    }
    let mut trees: Vec<Tree> = Vec::with_capacity(2 * heaviest.len());
    let mut lightest = BinaryHeap::new();
    for (weight, Reverse(who)) in heaviest.into_sorted_vec() {
        lightest.push(Reverse((weight, trees.len())));
        trees.push(Tree::Leaf(who));
    }
    while lightest.len() > lanes {
        let Reverse((a_weight, a)) = lightest.pop()?;
        let Reverse((b_weight, b)) = lightest.pop()?;
        lightest.push(Reverse((a_weight.saturating_add(b_weight), trees.len())));
        trees.push(Tree::Node(a, b));
    }
    let mut roots: Vec<usize> = lightest
        .into_iter()
        .map(|Reverse((_, root))| root)
        .collect();
    roots.sort_unstable();
    let mut slices = Vec::new();
    for (lane, root) in roots.into_iter().enumerate() {
        let lane = LaneIndex(u16::try_from(lane).ok()?);
        let mut open = vec![(root, 0u16, 0u8)];
        while let Some((tree, prefix, prefix_len)) = open.pop() {
            match trees[tree] {
                Tree::Leaf(who) => slices.push((
                    Slice {
                        lane,
                        prefix,
                        prefix_len,
                    },
                    who,
                )),
                Tree::Node(..) if prefix_len == VERSION_BITS => return None,
                Tree::Node(a, b) => {
                    open.push((a, prefix, prefix_len + 1));
                    open.push((
                        b,
                        prefix | (1 << (VERSION_BITS - 1 - prefix_len)),
                        prefix_len + 1,
                    ));
                }
            }
        }
    }
    slices.sort_unstable();
    Some(slices)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn who(n: u32) -> Identity {
        let mut bytes = [1u8; 32];
        bytes[..4].copy_from_slice(&n.to_be_bytes());
        let secret = bitcoin::secp256k1::SecretKey::from_slice(&bytes).unwrap();
        let secp = bitcoin::secp256k1::Secp256k1::signing_only();
        Identity::from(secret.x_only_public_key(&secp).0)
    }

    fn worker(rate: u64) -> Worker {
        Worker { rate, z: 20 }
    }

    proptest! {
        #[test]
        fn a_division_is_disjoint_and_covers_every_lane(
            rates in proptest::collection::vec(0u64.., 1..60), lanes in 1u16..6,
        ) {
            let rates: BTreeMap<_, _> = rates.iter().enumerate().map(|(n, r)| (who(n as u32), worker(*r))).collect();
            let division = Assignments::divide(&rates, lanes);
            prop_assert_eq!(&Assignments::parse(division.slices.clone(), lanes).unwrap(), &division);
            for lane in 0..lanes {
                let covered: u32 = division.iter()
                    .filter(|assigned| assigned.slice.lane.0 == lane)
                    .map(|assigned| 1u32 << (VERSION_BITS - assigned.slice.prefix_len))
                    .sum();
                prop_assert_eq!(covered, 1 << VERSION_BITS);
            }
            for identity in rates.keys() {
                prop_assert!(!division.of(identity).is_empty());
            }
        }
    }

    #[test]
    fn a_faster_miner_gets_a_wider_slice() {
        let rates = BTreeMap::from([
            (who(1), worker(1_000)),
            (who(2), worker(10)),
            (who(3), worker(10)),
        ]);
        let division = Assignments::divide(&rates, 1);
        assert_eq!(division.of(&who(1))[0].slice.prefix_len, 1);
        assert_eq!(division.of(&who(2))[0].slice.prefix_len, 2);
    }

    #[test]
    fn extreme_rates_still_fit_sixteen_bits() {
        let rates: BTreeMap<_, _> = (0..64).map(|n| (who(n), worker(1u64 << n))).collect();
        let division = Assignments::divide(&rates, 1);
        assert_eq!(division.iter().count(), 64);
        assert!(Assignments::parse(division.slices, 1).is_ok());
    }

    #[test]
    fn more_participants_than_prefixes_still_end_in_a_division() {
        let candidates = (0u32..).filter_map(|n| {
            let mut bytes = [0u8; 32];
            bytes[28..].copy_from_slice(&n.to_be_bytes());
            Identity::parse(&bytes).ok()
        });
        let rates: BTreeMap<_, _> = candidates
            .take(SLICES_LIMIT + 1)
            .zip((1u64..).map(worker))
            .collect();
        let slowest = *rates.keys().next().unwrap();
        let division = Assignments::divide(&rates, 1);
        assert_eq!(division.iter().count(), SLICES_LIMIT);
        assert!(division.of(&slowest).is_empty());
        assert!(Assignments::parse(division.slices, 1).is_ok());
    }

    #[test]
    fn overlapping_slices_are_refused() {
        let slice = |prefix, prefix_len| Assigned {
            slice: Slice {
                lane: LaneIndex(0),
                prefix,
                prefix_len,
            },
            owner: who(1),
            z: 20,
        };
        for bad in [
            vec![slice(0, 0), slice(0x8000, 1)],
            vec![slice(0x8000, 1), slice(0x8000, 1)],
            vec![slice(0x8000, 1), slice(0xc000, 2)],
        ] {
            assert!(matches!(
                Assignments::parse(bad, 1),
                Err(AssignmentError::Overlap { .. })
            ));
        }
        assert!(matches!(
            Assignments::parse(vec![slice(0x4000, 1)], 1),
            Err(AssignmentError::Malformed { .. })
        ));
    }

    #[test]
    fn one_owner_has_one_z() {
        let slice = |prefix, z| Assigned {
            slice: Slice {
                lane: LaneIndex(0),
                prefix,
                prefix_len: 1,
            },
            owner: who(1),
            z,
        };
        assert!(Assignments::parse(vec![slice(0, 20), slice(0x8000, 20)], 1).is_ok());
        for bad in [vec![slice(0, 20), slice(0x8000, 21)], vec![slice(0, 97)]] {
            let refused = Assignments::parse(bad, 1);
            assert_eq!(refused, Err(AssignmentError::ZeroBits(who(1))));
        }
    }
}
