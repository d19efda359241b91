//! What a follower is sent, encoded: of a segment as it is read, piece by piece, so that a slow follower
//! costs a few small pieces of memory.

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
/// Fields of `tutti.v1.WindowPart`.
const WINDOW: u32 = 1;
const TERMS: u32 = 2;
const OUTPUTS: u32 = 3;
const FIRST_SHARE: u32 = 4;
const SHARES: u32 = 5;
/// Fields of `tutti.v1.Followed`.
const PART: u32 = 2;
const ENDED: u32 = 3;
/// Longest field of a segment that is believed: a part of 65,536 shares and of the largest terms.
const FIELD_LIMIT: u64 = 256 << 20;
/// Bytes of a part's piece, about: a follower that does not read has three of them in memory, and there
/// may be ten thousand followers.
const PIECE: usize = 40 << 10;

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
    /// Place of the next share.
    next: u64,
    part: Option<Part>,
}

/// A part of which there is more.
#[derive(Default)]
struct Part {
    window: u64,
    /// Bytes of it.
    left: u64,
    /// Of them bytes of shares, which come last.
    shares: u64,
}

impl SegmentFrames {
    /// Frames of an open segment, of which so many shares are known.
    pub fn new(file: File, known: u64) -> Self {
        Self {
            file: BufReader::new(file),
            known,
            next: 0,
            part: None,
        }
    }

    /// The next frame, and whether it is the window's end.
    pub fn read(&mut self) -> io::Result<Option<(Bytes, bool)>> {
        loop {
            if let Some(part) = self.part.take()
                && let Some(frame) = self.piece(part)?
            {
                return Ok(Some((frame, false)));
            }
            if self.file.fill_buf()?.is_empty() {
                return Ok(None);
            }
            let (key, _) = self.varint()?;
            let (field, kind) = (key >> 3, key & 7);
            if kind == WireType::Varint as u64 {
                self.varint()?;
                continue;
            }
            let (length, _) = self.varint()?;
            if kind != WireType::LengthDelimited as u64 || length > FIELD_LIMIT {
                return Err(io::ErrorKind::InvalidData.into());
            }
            match field {
                PARTS => {
                    self.part = Some(Part {
                        left: length,
                        ..Part::default()
                    });
                }
                END => return Ok(Some((wrapped(ENDED, &self.body(length)?), true))),
                _ => drop(self.body(length)?),
            }
        }
    }

    /// The next piece of a part; none if nothing of it is news.
    fn piece(&mut self, mut part: Part) -> io::Result<Option<Bytes>> {
        let mut told = Vec::new();
        while part.shares == 0 && part.left > 0 && told.len() < PIECE {
            self.field(&mut part, &mut told)?;
        }
        let first = self.next.max(self.known);
        let mut shares = Vec::new();
        while part.shares > 0 && shares.is_empty() && told.len() < PIECE {
            let length = part
                .shares
                .min((PIECE / PACKED_SHARE_SIZE * PACKED_SHARE_SIZE) as u64);
            shares = self.body(length)?;
            (part.shares, part.left) = (part.shares - length, part.left.saturating_sub(length));
            let count = length / PACKED_SHARE_SIZE as u64;
            // At most `count`, which came from a length.
            let known = self.known.saturating_sub(self.next).min(count);
            self.next = self.next.saturating_add(count);
            shares.drain(..usize::try_from(known).unwrap_or_default() * PACKED_SHARE_SIZE);
        }
        let news = !told.is_empty() || !shares.is_empty();
        encode_varint_field(FIRST_SHARE, first, &mut told);
        encode_key(SHARES, WireType::LengthDelimited, &mut told);
        encode_varint(shares.len() as u64, &mut told);
        told.extend_from_slice(&shares);
        let mut body = Vec::with_capacity(told.len() + 16);
        encode_varint_field(WINDOW, part.window, &mut body);
        body.extend_from_slice(&told);
        if part.left > 0 {
            self.part = Some(part);
        }
        Ok(news.then(|| wrapped(PART, &body)))
    }

    /// Reads a field of a part: what is to be told as it is goes to `told`.
    fn field(&mut self, part: &mut Part, told: &mut Vec<u8>) -> io::Result<()> {
        let invalid = || io::Error::from(io::ErrorKind::InvalidData);
        let (key, size) = self.varint()?;
        let (value, more) = self.varint()?;
        let left = part.left.checked_sub(size + more).ok_or_else(invalid)?;
        part.left = left;
        let field = u32::try_from(key >> 3).map_err(|_| invalid())?;
        let bytes = key & 7 == WireType::LengthDelimited as u64;
        match (field, bytes) {
            (WINDOW, false) => part.window = value,
            (FIRST_SHARE, false) if value == self.next => {}
            (SHARES, true) if value == left && value % PACKED_SHARE_SIZE as u64 == 0 => {
                part.shares = value;
            }
            (TERMS | OUTPUTS, true) if value <= left => {
                encode_key(field, WireType::LengthDelimited, told);
                encode_varint(value, told);
                told.append(&mut self.body(value)?);
                part.left = left - value;
            }
            _ => return Err(invalid()),
        }
        Ok(())
    }

    /// So many bytes; what is not there takes no memory.
    fn body(&mut self, length: u64) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        self.file.by_ref().take(length).read_to_end(&mut body)?;
        if (body.len() as u64) < length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(body)
    }

    /// A number, and its bytes.
    fn varint(&mut self) -> io::Result<(u64, u64)> {
        let mut value = 0u64;
        for (size, shift) in (1..).zip((0..64).step_by(7)) {
            let mut byte = [0];
            self.file.read_exact(&mut byte)?;
            value |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] < 0x80 {
                return Ok((value, size));
            }
        }
        Err(io::ErrorKind::InvalidData.into())
    }
}

fn encode_varint_field(field: u32, value: u64, to: &mut Vec<u8>) {
    encode_key(field, WireType::Varint, to);
    encode_varint(value, to);
}

fn wrapped(field: u32, body: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(body.len() + 16);
    encode_key(field, WireType::LengthDelimited, &mut frame);
    encode_varint(body.len() as u64, &mut frame);
    frame.put_slice(body);
    frame.into()
}
