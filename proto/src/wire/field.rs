//! Reading and writing single fields: lengths, ranges, counts and order.

use bitcoin::Network;
use bitcoin::p2p::Magic;
use prost::bytes::Bytes;

use super::error::{WireError, WireReason, Within};
use super::{FromWire, ToWire};
use crate::id::{Identity, LaneIndex, RoundId};
use crate::musig::SlotKey;
use crate::params::LANES_LIMIT;
use crate::window::Scoring;

/// Exactly `N` bytes.
pub(super) fn array<const N: usize>(bytes: &[u8]) -> Result<[u8; N], WireError> {
    bytes.try_into().map_err(|_| {
        WireError::here(WireReason::Length {
            got: bytes.len(),
            want: N,
        })
    })
}

pub(super) fn fixed<const N: usize>(field: &str, bytes: &[u8]) -> Result<[u8; N], WireError> {
    array(bytes).within(field)
}

pub(super) fn identity(field: &str, bytes: &[u8]) -> Result<Identity, WireError> {
    parse_identity(bytes).within(field)
}

pub(super) fn parse_identity(bytes: &[u8]) -> Result<Identity, WireError> {
    Identity::parse(&array(bytes)?).map_err(|_| WireError::here(WireReason::NotAnIdentity))
}

pub(super) fn slot_key(field: &str, bytes: &[u8]) -> Result<SlotKey, WireError> {
    let parse = |bytes| SlotKey::parse(&array(bytes)?).map_err(WireError::here);
    parse(bytes).within(field)
}

pub(super) fn round(field: &str, bytes: &[u8]) -> Result<RoundId, WireError> {
    fixed(field, bytes).map(RoundId)
}

pub(super) fn network(field: &str, bytes: &[u8]) -> Result<Network, WireError> {
    let parse = |bytes| {
        Network::from_magic(Magic::from_bytes(array(bytes)?))
            .ok_or_else(|| WireError::here(WireReason::UnknownNetwork))
    };
    parse(bytes).within(field)
}

pub(super) fn scoring(field: &str, code: u32) -> Result<Scoring, WireError> {
    let (got, limit) = (u64::from(code), u64::from(Scoring::Epoch.code()));
    Scoring::from_code(code)
        .ok_or_else(|| WireError::here(WireReason::OutOfRange { got, limit }).under(field))
}

/// A number of at most `limit`, in a narrower integer.
pub(super) fn at_most<T: TryFrom<u32>>(
    field: &str,
    number: u32,
    limit: u32,
) -> Result<T, WireError> {
    let narrow = T::try_from(number).ok().filter(|_| number <= limit);
    narrow.ok_or_else(|| {
        let (got, limit) = (u64::from(number), u64::from(limit));
        WireError::here(WireReason::OutOfRange { got, limit }).under(field)
    })
}

pub(super) fn lane(field: &str, number: u32) -> Result<LaneIndex, WireError> {
    at_most(field, number, u32::from(LANES_LIMIT) - 1).map(LaneIndex)
}

pub(super) fn printable_ascii(
    field: &str,
    text: String,
    limit: usize,
) -> Result<String, WireError> {
    let printable = |c: char| matches!(c, ' '..='~');
    text_of(field, text, limit, printable)
}

/// A text of at most `limit` bytes in which every character is allowed.
pub(super) fn text_of(
    field: &str,
    text: String,
    limit: usize,
    allowed: impl Fn(char) -> bool,
) -> Result<String, WireError> {
    let got = text.len();
    if got > limit {
        return Err(WireError::here(WireReason::TooLong { got, limit }).under(field));
    }
    if !text.chars().all(allowed) {
        return Err(WireError::here(WireReason::NotPrintable).under(field));
    }
    Ok(text)
}

/// A message that must be there.
pub(super) fn message<T: FromWire>(field: &str, wire: Option<T::Message>) -> Result<T, WireError> {
    let wire = wire.ok_or_else(|| WireError::here(WireReason::Missing).under(field))?;
    T::from_wire(wire).within(field)
}

/// A message that may be left out.
pub(super) fn optional<T: FromWire>(
    field: &str,
    wire: Option<T::Message>,
) -> Result<Option<T>, WireError> {
    wire.map(|wire| T::from_wire(wire).within(field))
        .transpose()
}

/// A list, whose length is checked before its first element is looked at.
pub(super) fn list<W, T>(
    field: &str,
    items: Vec<W>,
    limit: usize,
    parse: impl Fn(W) -> Result<T, WireError>,
) -> Result<Vec<T>, WireError> {
    let got = items.len();
    if got > limit {
        return Err(WireError::here(WireReason::TooMany { got, limit }).under(field));
    }
    items
        .into_iter()
        .enumerate()
        .map(|(place, item)| {
            let at = |error: WireError| error.under(&format!("[{place}]")).under(field);
            parse(item).map_err(at)
        })
        .collect()
}

/// A list of messages.
pub(super) fn messages<T: FromWire>(
    field: &str,
    items: Vec<T::Message>,
    limit: usize,
) -> Result<Vec<T>, WireError> {
    list(field, items, limit, T::from_wire)
}

/// Checks that a list has the one order in which a map or a set is sent.
pub(super) fn ascending<T, K: Ord>(
    field: &str,
    items: &[T],
    key: impl Fn(&T) -> K,
) -> Result<(), WireError> {
    let misplaced = items
        .windows(2)
        .position(|pair| matches!(pair, [a, b] if key(a) >= key(b)));
    match misplaced {
        None => Ok(()),
        Some(before) => Err(WireError::here(WireReason::NotAscending)
            .under(&format!("[{}]", before + 1))
            .under(field)),
    }
}

pub(super) fn bytes(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

pub(super) fn all<T: ToWire>(items: &[T]) -> Vec<T::Message> {
    items.iter().map(T::to_wire).collect()
}
