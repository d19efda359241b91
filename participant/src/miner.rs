//! Hashing: jobs in, shares out.
//!
//! The coinbase of a lane is fixed, so a job is a header of which only the version's rollable
//! bits, the time and the nonce may change, each within the participant's own slice.

mod cpu;
mod header;
pub mod kernel;
mod pace;
mod space;

pub use cpu::{CpuHasher, CpuSettings};
pub use header::HeaderSearch;
pub use kernel::{Kernel, KernelChoice, KernelError};
pub use space::{Run, SearchSpace};

use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, CompactTarget, TxMerkleNode};
use thiserror::Error;
use tutti_proto::id::{JobId, LaneIndex};
use tutti_proto::participant::{self, Order};

/// The version bits that BIP320 leaves to miners: 13 to 28.
pub const ROLLABLE_VERSION_BITS: u32 = 0x1fff_e000;

/// Whatever searches headers: CPU threads now, devices behind the participant later.
///
/// The caller hands over a job only while it holds the complete payout of the job's lane.
pub trait Hasher {
    /// Replaces all jobs at once; none stops the search.
    fn set_jobs(&mut self, jobs: Vec<MiningJob>);

    /// Headers hashed since the start.
    fn hashes(&self) -> u64;
}

/// A slice of a lane to search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MiningJob {
    pub id: u64,
    pub lane: u16,
    pub versions: VersionSpace,
    pub prev_hash: BlockHash,
    pub merkle_root: TxMerkleNode,
    pub bits: CompactTarget,
    pub times: TimeRange,
    /// Leading zero bits that make a hash a share.
    pub zero_bits: u8,
}

impl MiningJob {
    /// Whether the two differ at most in their id, share target and times, so that a search goes on
    /// where it was instead of finding the same shares again.
    fn is_same_work(&self, other: &Self) -> bool {
        self.lane == other.lane
            && self.versions == other.versions
            && self.prev_hash == other.prev_hash
            && self.merkle_root == other.merkle_root
            && self.bits == other.bits
    }
}

impl TryFrom<&Order> for MiningJob {
    type Error = SliceError;

    fn try_from(order: &Order) -> Result<Self, SliceError> {
        let fixed = order.slice.first_version(order.version);
        Ok(Self {
            id: order.job.0,
            lane: order.slice.lane.0,
            versions: VersionSpace::new(fixed, order.slice.free_mask())?,
            prev_hash: BlockHash::from_byte_array(order.previous_block),
            merkle_root: TxMerkleNode::from_byte_array(order.merkle_root),
            bits: CompactTarget::from_consensus(order.bits),
            times: TimeRange::new(order.time_min, order.time_max)?,
            zero_bits: order.z,
        })
    }
}

impl From<FoundShare> for participant::FoundShare {
    fn from(found: FoundShare) -> Self {
        Self {
            job: JobId(found.job_id),
            lane: LaneIndex(found.lane),
            version: found.version,
            time: found.time,
            nonce: found.nonce,
        }
    }
}

/// The header versions of a slice: some bits fixed, the others free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VersionSpace {
    fixed: u32,
    free: u32,
}

/// The header times of a slice, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    first: u32,
    last: u32,
}

/// Why a slice cannot be searched.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SliceError {
    #[error(
        "version bits {bits:#010x} are free, but only {ROLLABLE_VERSION_BITS:#010x} may be rolled"
    )]
    NotRollable { bits: u32 },
    #[error("version bits {bits:#010x} are both fixed to 1 and free")]
    FixedAndFree { bits: u32 },
    #[error("the slice's last time {last} is before its first {first}")]
    NoTime { first: u32, last: u32 },
}

impl VersionSpace {
    /// All versions that equal `fixed` outside the bits of `free`, which must be 0 in `fixed`.
    pub fn new(fixed: i32, free: u32) -> Result<Self, SliceError> {
        let fixed = fixed.cast_unsigned();
        match (free & !ROLLABLE_VERSION_BITS, free & fixed) {
            (0, 0) => Ok(Self { fixed, free }),
            (0, bits) => Err(SliceError::FixedAndFree { bits }),
            (bits, _) => Err(SliceError::NotRollable { bits }),
        }
    }

    fn first(self) -> u32 {
        self.fixed
    }

    /// The version after `version`, in ascending order.
    fn next(self, version: u32) -> Option<u32> {
        // Setting every other bit lets the carry of the addition pass over them.
        let rolled = (version | !self.free).wrapping_add(1) & self.free;
        (rolled != 0).then_some(self.fixed | rolled)
    }
}

impl TimeRange {
    pub fn new(first: u32, last: u32) -> Result<Self, SliceError> {
        if last < first {
            return Err(SliceError::NoTime { first, last });
        }
        Ok(Self { first, last })
    }
}

/// A header that is a share of its job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundShare {
    pub job_id: u64,
    pub lane: u16,
    pub version: i32,
    pub time: u32,
    pub nonce: u32,
    pub hash: BlockHash,
    /// Leading zero bits the hash has, at least as many as the job asks.
    pub zero_bits: u16,
}
