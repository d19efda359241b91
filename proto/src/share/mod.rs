//! Shares as the ledger keeps them: everything a stranger needs to check one.

mod opening;
mod tree;

pub use opening::{Opening, OpeningError, Openings, open};
pub use tree::{Node, ShareTree, Side, Step, SumTree};

use std::collections::BTreeMap;
use std::sync::LazyLock;

use crate::digest::Digest;
use crate::id::{Identity, LaneIndex, RoundId};
use crate::work::Work;

/// An accepted share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareRecord {
    /// Whose work it is.
    pub identity: Identity,
    /// Round whose lane was hashed.
    pub round: RoundId,
    /// The lane.
    pub lane: LaneIndex,
    /// Leading zero bits that its job asked.
    pub z: u8,
    /// The header.
    pub header: [u8; 80],
}

/// Bytes of a stored share.
pub const SHARE_RECORD_SIZE: usize = 32 + 32 + 2 + 1 + 80;

impl ShareRecord {
    /// Its weight, expected hashes.
    pub fn work(&self) -> Work {
        Work::of_zero_bits(self.z)
    }

    /// Its leaf in the window's merkle tree.
    pub fn leaf(&self) -> [u8; 32] {
        static START: LazyLock<Digest> = LazyLock::new(|| Digest::new("tutti/share"));
        START.again().fixed(&self.to_bytes()).finish()
    }

    /// The canonical bytes: identity, round, lane (little-endian), z, header.
    pub fn to_bytes(&self) -> [u8; SHARE_RECORD_SIZE] {
        let mut bytes = [0u8; SHARE_RECORD_SIZE];
        bytes[..32].copy_from_slice(self.identity.as_bytes());
        bytes[32..64].copy_from_slice(&self.round.0);
        bytes[64..66].copy_from_slice(&self.lane.0.to_le_bytes());
        bytes[66] = self.z;
        bytes[67..].copy_from_slice(&self.header);
        bytes
    }

    /// Reads the canonical bytes; `None` if the identity is not a key.
    pub fn from_bytes(bytes: &[u8; SHARE_RECORD_SIZE]) -> Option<Self> {
        Self::read(bytes, &mut BTreeMap::new())
    }

    /// The same, for many shares: an identity is looked at once, since to find out whether it is a key
    /// takes longer than all else.
    pub fn read(
        bytes: &[u8; SHARE_RECORD_SIZE],
        known: &mut BTreeMap<[u8; 32], Identity>,
    ) -> Option<Self> {
        let (identity, rest) = bytes.split_first_chunk::<32>()?;
        let (round, rest) = rest.split_first_chunk::<32>()?;
        let (lane, rest) = rest.split_first_chunk::<2>()?;
        let (z, header) = rest.split_first()?;
        let identity = match known.get(identity) {
            Some(known) => *known,
            None => {
                let parsed = Identity::parse(identity).ok()?;
                known.insert(*identity, parsed);
                parsed
            }
        };
        Some(Self {
            identity,
            round: RoundId(*round),
            lane: LaneIndex(u16::from_le_bytes(*lane)),
            z: *z,
            header: header.try_into().ok()?,
        })
    }
}
