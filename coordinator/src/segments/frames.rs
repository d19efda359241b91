//! What a follower is sent, encoded: of a segment as it is read, part by part, so that a slow follower
//! costs one part of memory.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use prost::Message;
use prost::bytes::{BufMut, Bytes};
use prost::encoding::{WireType, encode_key, encode_varint};
use tutti_proto::segment::{Checkpoint, PACKED_SHARE_SIZE, WindowEnd, WindowPart};
use tutti_proto::wire::{ToWire, pb};

use pb::followed::Followed as Oneof;

/// Fields of `tutti.v1.Segment`.
const PARTS: u64 = 3;
const END: u64 = 4;
/// Fields of `tutti.v1.Followed`.
const PART: u32 = 2;
const ENDED: u32 = 3;
/// Longest field of a segment that is believed: a part of 65,536 shares and of the largest terms.
const FIELD_LIMIT: u64 = 256 << 20;

fn frame(followed: Oneof) -> Bytes {
    let followed = Some(followed);
    pb::Followed { followed }.encode_to_vec().into()
}

/// A part as a follower is sent it.
pub fn part_frame(part: &WindowPart) -> Bytes {
    frame(Oneof::Part(part.to_wire()))
}

/// An end as a follower is sent it.
pub fn end_frame(end: &WindowEnd) -> Bytes {
    frame(Oneof::End(end.to_wire()))
}

/// A checkpoint as a follower is sent it.
pub fn checkpoint_frame(checkpoint: &Checkpoint) -> Bytes {
    frame(Oneof::Checkpoint(checkpoint.to_wire()))
}

/// A part of which the first `known` shares of the window are not sent again.
pub fn trimmed(frame: &Bytes, known: u64) -> Bytes {
    let Ok(pb::Followed {
        followed: Some(Oneof::Part(part)),
    }) = pb::Followed::decode(frame.clone())
    else {
        return frame.clone();
    };
    self::frame(Oneof::Part(without(part, known)))
}

fn without(mut part: pb::WindowPart, known: u64) -> pb::WindowPart {
    let count = (part.shares.len() / PACKED_SHARE_SIZE) as u64;
    let drop = known.saturating_sub(part.first_share).min(count);
    // At most `count`, which came from a length.
    let at = usize::try_from(drop).unwrap_or_default() * PACKED_SHARE_SIZE;
    part.shares = part.shares.slice(at..);
    part.first_share += drop;
    part
}

/// Reads a segment as frames, without the first shares.
pub struct SegmentFrames {
    file: BufReader<File>,
    known: u64,
}

impl SegmentFrames {
    /// Frames of an open segment, of which so many shares are known.
    pub fn new(file: File, known: u64) -> Self {
        Self {
            file: BufReader::new(file),
            known,
        }
    }

    /// The next frame, and whether it is the window's end.
    pub fn next(&mut self) -> io::Result<Option<(Bytes, bool)>> {
        while !self.file.fill_buf()?.is_empty() {
            let key = self.varint()?;
            let (field, kind) = (key >> 3, key & 7);
            if kind == WireType::Varint as u64 {
                self.varint()?;
                continue;
            }
            let length = self.varint()?;
            if kind != WireType::LengthDelimited as u64 || length > FIELD_LIMIT {
                return Err(io::ErrorKind::InvalidData.into());
            }
            let mut body = vec![0; usize::try_from(length).unwrap_or_default()];
            self.file.read_exact(&mut body)?;
            match field {
                PARTS => return Ok(Some((self.part(body)?, false))),
                END => return Ok(Some((wrapped(ENDED, &body), true))),
                _ => {}
            }
        }
        Ok(None)
    }

    fn part(&self, body: Vec<u8>) -> io::Result<Bytes> {
        if self.known == 0 {
            return Ok(wrapped(PART, &body));
        }
        let part = pb::WindowPart::decode(Bytes::from(body));
        let part = part.map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
        Ok(frame(Oneof::Part(without(part, self.known))))
    }

    fn varint(&mut self) -> io::Result<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let mut byte = [0];
            self.file.read_exact(&mut byte)?;
            value |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] < 0x80 {
                return Ok(value);
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }
}

fn wrapped(field: u32, body: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(body.len() + 16);
    encode_key(field, WireType::LengthDelimited, &mut frame);
    encode_varint(body.len() as u64, &mut frame);
    frame.put_slice(body);
    frame.into()
}
