//! What to hash, and what was found.

use prost::bytes::Bytes;

use super::error::WireError;
use super::field::{array, ascending, at_most, bytes, fixed, identity, lane, list, message, round};
use super::refusal::code;
use super::{FromWire, MERKLE_PATH_LIMIT, SHARE_SEQS_LIMIT, ToWire, pb};
use crate::id::{JobId, WindowSeq};
use crate::lane::{Assigned, Assignments, SLICES_LIMIT, Slice, VERSION_BITS};
use crate::message::{AssignmentsSet, BlockFound, Job, Share, ShareAck, ShareReject};
use crate::params::LANES_LIMIT;
use crate::terms::HeaderTerms;
use crate::work::ZERO_BITS_LIMIT;

impl ToWire for AssignmentsSet {
    type Message = pb::AssignmentsSet;

    fn to_wire(&self) -> pb::AssignmentsSet {
        pb::AssignmentsSet {
            slices: slices_to_wire(&self.assignments),
        }
    }
}

impl FromWire for AssignmentsSet {
    /// Against the largest number of lanes that any pool may have; the pool's own is checked by
    /// whoever knows its parameters.
    fn from_wire(wire: pb::AssignmentsSet) -> Result<Self, WireError> {
        let assignments = slices_from_wire(wire.slices)?;
        Ok(Self { assignments })
    }
}

pub(super) fn slices_to_wire(assignments: &Assignments) -> Vec<pb::Slice> {
    let slice = |Assigned { slice, owner, z }| pb::Slice {
        lane: u32::from(slice.lane.0),
        prefix: u32::from(slice.prefix),
        prefix_len: u32::from(slice.prefix_len),
        owner: bytes(owner.as_bytes()),
        z: u32::from(z),
    };
    assignments.iter().map(slice).collect()
}

pub(super) fn slices_from_wire(slices: Vec<pb::Slice>) -> Result<Assignments, WireError> {
    let slices = list("slices", slices, SLICES_LIMIT, |wire| {
        Ok(Assigned {
            slice: Slice {
                lane: lane("lane", wire.lane)?,
                prefix: at_most("prefix", wire.prefix, u32::from(u16::MAX))?,
                prefix_len: at_most("prefix_len", wire.prefix_len, u32::from(VERSION_BITS))?,
            },
            owner: identity("owner", &wire.owner)?,
            z: at_most("z", wire.z, u32::from(ZERO_BITS_LIMIT))?,
        })
    })?;
    ascending("slices", &slices, |assigned| assigned.slice)?;
    Assignments::parse(slices, LANES_LIMIT).map_err(|error| WireError::here(error).under("slices"))
}

impl ToWire for Job {
    type Message = pb::Job;

    fn to_wire(&self) -> pb::Job {
        pb::Job {
            id: self.id.0,
            round: bytes(&self.round.0),
            header: Some(self.header.to_wire()),
        }
    }
}

impl FromWire for Job {
    fn from_wire(wire: pb::Job) -> Result<Self, WireError> {
        Ok(Self {
            id: JobId(wire.id),
            round: round("round", &wire.round)?,
            header: message("header", wire.header)?,
        })
    }
}

impl ToWire for HeaderTerms {
    type Message = pb::HeaderTerms;

    fn to_wire(&self) -> pb::HeaderTerms {
        pb::HeaderTerms {
            version: self.version,
            bits: self.bits,
            previous_block: bytes(&self.previous_block),
            time_min: self.time_min,
            time_max: self.time_max,
            merkle_path: self.merkle_path.iter().map(|hash| bytes(hash)).collect(),
        }
    }
}

impl FromWire for HeaderTerms {
    fn from_wire(wire: pb::HeaderTerms) -> Result<Self, WireError> {
        let hash = |hash: Bytes| array(&hash);
        Ok(Self {
            version: wire.version,
            bits: wire.bits,
            previous_block: fixed("previous_block", &wire.previous_block)?,
            time_min: wire.time_min,
            time_max: wire.time_max,
            merkle_path: list("merkle_path", wire.merkle_path, MERKLE_PATH_LIMIT, hash)?,
        })
    }
}

impl ToWire for Share {
    type Message = pb::Share;

    fn to_wire(&self) -> pb::Share {
        pb::Share {
            seq: self.seq,
            job: self.job.0,
            lane: u32::from(self.lane.0),
            version: self.version,
            time: self.time,
            nonce: self.nonce,
        }
    }
}

impl FromWire for Share {
    fn from_wire(wire: pb::Share) -> Result<Self, WireError> {
        Ok(Self {
            seq: wire.seq,
            job: JobId(wire.job),
            lane: lane("lane", wire.lane)?,
            version: wire.version,
            time: wire.time,
            nonce: wire.nonce,
        })
    }
}

impl ToWire for ShareAck {
    type Message = pb::ShareAck;

    fn to_wire(&self) -> pb::ShareAck {
        pb::ShareAck {
            window: self.window.0,
            seqs: self.seqs.clone(),
        }
    }
}

impl FromWire for ShareAck {
    fn from_wire(wire: pb::ShareAck) -> Result<Self, WireError> {
        Ok(Self {
            window: WindowSeq(wire.window),
            seqs: list("seqs", wire.seqs, SHARE_SEQS_LIMIT, Ok)?,
        })
    }
}

impl ToWire for ShareReject {
    type Message = pb::ShareReject;

    fn to_wire(&self) -> pb::ShareReject {
        pb::ShareReject {
            seq: self.seq,
            code: self.code as i32,
            got: self.got,
            want: self.want,
        }
    }
}

impl FromWire for ShareReject {
    fn from_wire(wire: pb::ShareReject) -> Result<Self, WireError> {
        Ok(Self {
            seq: wire.seq,
            code: code("code", wire.code)?,
            got: wire.got,
            want: wire.want,
        })
    }
}

impl ToWire for BlockFound {
    type Message = pb::BlockFound;

    fn to_wire(&self) -> pb::BlockFound {
        pb::BlockFound {
            height: self.height,
            hash: bytes(&self.hash),
            round: bytes(&self.round.0),
            lane: u32::from(self.lane.0),
            finder: bytes(self.finder.as_bytes()),
        }
    }
}

impl FromWire for BlockFound {
    fn from_wire(wire: pb::BlockFound) -> Result<Self, WireError> {
        Ok(Self {
            height: wire.height,
            hash: fixed("hash", &wire.hash)?,
            round: round("round", &wire.round)?,
            lane: lane("lane", wire.lane)?,
            finder: identity("finder", &wire.finder)?,
        })
    }
}
