//! Keys: a letter for the space, then numbers that sort as bytes.

use std::fmt;

use tutti_proto::id::{RoundSeq, WindowSeq};

/// A record's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Meta(&'static str),
    Log(u64),
    Share(WindowSeq, u64),
    Committed(RoundSeq),
    Part(Space, u64, u64),
}

/// Spaces of values that come in parts or one after another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Space {
    /// A live round, by its number.
    Live,
    /// Jobs issued on it.
    Jobs,
    /// The round kept for the next height.
    Ahead,
    /// Who hashes what, by a number of its own.
    Assignments,
    /// The transactions of a height's templates.
    Transactions,
}

impl Space {
    pub(super) const ALL: [Space; 5] = [
        Space::Live,
        Space::Jobs,
        Space::Ahead,
        Space::Assignments,
        Space::Transactions,
    ];

    pub(super) fn prefix(self) -> &'static [u8] {
        match self {
            Space::Live => b"R",
            Space::Jobs => b"J",
            Space::Ahead => b"N",
            Space::Assignments => b"A",
            Space::Transactions => b"T",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Space::Live => "live",
            Space::Jobs => "jobs",
            Space::Ahead => "ahead",
            Space::Assignments => "assignments",
            Space::Transactions => "transactions",
        }
    }
}

impl Key {
    pub(super) const LOG: &'static [u8] = b"L";
    pub(super) const COMMITTED: &'static [u8] = b"C";

    pub(super) fn shares_of(window: WindowSeq) -> Vec<u8> {
        [b"S".as_slice(), &window.0.to_be_bytes()].concat()
    }

    pub(super) fn to_bytes(self) -> Vec<u8> {
        match self {
            Key::Meta(name) => [b"M", name.as_bytes()].concat(),
            Key::Log(number) => [Self::LOG, &number.to_be_bytes()].concat(),
            Key::Share(window, index) => {
                [Self::shares_of(window).as_slice(), &index.to_be_bytes()].concat()
            }
            Key::Committed(seq) => [Self::COMMITTED, &seq.0.to_be_bytes()].concat(),
            Key::Part(space, number, part) => {
                [space.prefix(), &number.to_be_bytes(), &part.to_be_bytes()].concat()
            }
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Key::Meta(name) => write!(f, "meta/{name}"),
            Key::Log(number) => write!(f, "log/{number}"),
            Key::Share(window, index) => write!(f, "share/{window}/{index}"),
            Key::Committed(seq) => write!(f, "committed/{seq}"),
            Key::Part(space, number, part) => write!(f, "{}/{number}/{part}", space.name()),
        }
    }
}

/// The numbers in a key of parts.
pub(super) fn numbers(key: &[u8]) -> Option<(u64, u64)> {
    let (_, numbers) = key.split_first()?;
    let (number, part) = numbers.split_first_chunk::<8>()?;
    let part = <[u8; 8]>::try_from(part).ok()?;
    Some((u64::from_be_bytes(*number), u64::from_be_bytes(part)))
}

/// The number in a key of one number.
pub(super) fn number(key: &[u8]) -> Option<u64> {
    let (_, number) = key.split_first()?;
    Some(u64::from_be_bytes(number.try_into().ok()?))
}
