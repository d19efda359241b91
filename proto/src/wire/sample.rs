//! A few shares of a window and their way to its record.

use super::error::WireError;
use super::field::{all, at_most, bytes, fixed, identity, lane, list, messages};
use super::{FromWire, PATH_LIMIT, POSITIONS_LIMIT, ToWire, pb};
use crate::sample::{Sample, SampledShare};
use crate::share::{Node, Side, Step};
use crate::terms::Rolled;
use crate::work::Work;

impl ToWire for Step {
    type Message = pb::Step;

    fn to_wire(&self) -> pb::Step {
        pb::Step {
            left: self.side == Side::Left,
            hash: bytes(&self.sibling.hash),
            work: bytes(&self.sibling.work.0.to_le_bytes()),
        }
    }
}

impl FromWire for Step {
    fn from_wire(wire: pb::Step) -> Result<Self, WireError> {
        Ok(Self {
            side: if wire.left { Side::Left } else { Side::Right },
            sibling: Node {
                hash: fixed("hash", &wire.hash)?,
                work: Work(u128::from_le_bytes(fixed("work", &wire.work)?)),
            },
        })
    }
}

impl ToWire for SampledShare {
    type Message = pb::Opening;

    fn to_wire(&self) -> pb::Opening {
        pb::Opening {
            // A sample has at most 64.
            terms: u32::try_from(self.terms).unwrap_or(u32::MAX),
            identity: bytes(self.identity.as_bytes()),
            lane: u32::from(self.rolled.lane.0),
            version: self.rolled.version,
            time: self.rolled.time,
            nonce: self.rolled.nonce,
            path: all(&self.path),
            shares: self.shares,
            account_path: all(&self.account_path),
        }
    }
}

impl FromWire for SampledShare {
    fn from_wire(wire: pb::Opening) -> Result<Self, WireError> {
        let last = u32::try_from(POSITIONS_LIMIT).unwrap_or(u32::MAX);
        Ok(Self {
            terms: usize::from(at_most::<u16>("terms", wire.terms, last)?),
            identity: identity("identity", &wire.identity)?,
            rolled: Rolled {
                lane: lane("lane", wire.lane)?,
                version: wire.version,
                time: wire.time,
                nonce: wire.nonce,
            },
            path: messages("path", wire.path, PATH_LIMIT)?,
            shares: wire.shares,
            account_path: messages("account_path", wire.account_path, PATH_LIMIT)?,
        })
    }
}

impl ToWire for Sample {
    type Message = pb::SampleReply;

    fn to_wire(&self) -> pb::SampleReply {
        pb::SampleReply {
            terms: all(&self.terms),
            openings: all(&self.shares),
        }
    }
}

impl FromWire for Sample {
    fn from_wire(wire: pb::SampleReply) -> Result<Self, WireError> {
        Ok(Self {
            terms: messages("terms", wire.terms, POSITIONS_LIMIT)?,
            shares: messages("openings", wire.openings, POSITIONS_LIMIT)?,
        })
    }
}

/// The positions of a sample request.
pub fn positions_to_wire(positions: &[Work]) -> Vec<prost::bytes::Bytes> {
    let position = |position: &Work| bytes(&position.0.to_le_bytes());
    positions.iter().map(position).collect()
}

/// Reads them.
pub fn positions_from_wire(wire: Vec<prost::bytes::Bytes>) -> Result<Vec<Work>, WireError> {
    list("positions", wire, POSITIONS_LIMIT, |bytes| {
        let position = fixed("position", &bytes)?;
        Ok(Work(u128::from_le_bytes(position)))
    })
}
