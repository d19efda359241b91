//! Keys: a letter for the space, then numbers that sort as bytes.

use std::fmt;

use tutti_proto::id::{RoundId, RoundSeq, WindowSeq};
use tutti_proto::terms::RoundTerms;

/// A record's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    Meta(&'static str),
    Log(u64),
    Share(WindowSeq, u64),
    Committed(RoundSeq, RoundId),
    /// The last window before the round, the round, the previous block.
    Terms(WindowSeq, RoundId, [u8; 32]),
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
    /// What the log before a record adds up to, by that record's number.
    Base,
}

impl Space {
    /// Those of live rounds.
    pub(super) const LIVE: [Space; 5] = [
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
            Space::Transactions => b"X",
            Space::Base => b"B",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Space::Live => "live",
            Space::Jobs => "jobs",
            Space::Ahead => "ahead",
            Space::Assignments => "assignments",
            Space::Transactions => "transactions",
            Space::Base => "base",
        }
    }
}

impl Key {
    pub(super) const LOG: &'static [u8] = b"L";
    pub(super) const COMMITTED: &'static [u8] = b"C";

    pub(super) const TERMS: &'static [u8] = b"T";
    /// After all others: sled copies a leaf with all that is in it, and what is as large as terms, beside
    /// which shares come to lie, would be copied with every few hundred of them.
    const SHARES: &'static [u8] = b"Z";

    /// Terms of a round that was proposed on this window.
    pub(super) fn terms_of(window: WindowSeq, round: &RoundId) -> Vec<u8> {
        [Self::TERMS, &window.0.to_be_bytes(), &round.0].concat()
    }

    pub(super) fn terms(round: RoundId, terms: &RoundTerms) -> Self {
        let window = terms.inputs.ledger.seq;
        Key::Terms(window, round, terms.header.previous_block)
    }

    pub(super) fn shares_of(window: WindowSeq) -> Vec<u8> {
        [Self::SHARES, &window.0.to_be_bytes()].concat()
    }

    pub(super) fn to_bytes(self) -> Vec<u8> {
        match self {
            Key::Meta(name) => [b"M", name.as_bytes()].concat(),
            Key::Log(number) => [Self::LOG, &number.to_be_bytes()].concat(),
            Key::Share(window, index) => {
                [Self::shares_of(window).as_slice(), &index.to_be_bytes()].concat()
            }
            Key::Committed(seq, round) => {
                [Self::COMMITTED, &seq.0.to_be_bytes(), &round.0].concat()
            }
            Key::Terms(window, round, tip) => {
                [Self::terms_of(window, &round).as_slice(), &tip].concat()
            }
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
            Key::Committed(seq, round) => write!(f, "committed/{seq}/{round:.16}"),
            Key::Terms(window, round, _) => write!(f, "terms/{window}/{round:.16}"),
            Key::Part(space, number, part) => write!(f, "{}/{number}/{part}", space.name()),
        }
    }
}

/// A key of numbers and hashes, of the two spaces in which a round has a place.
pub(super) fn of_round(key: &[u8]) -> Option<Key> {
    let (space, rest) = key.split_first()?;
    let (number, rest) = rest.split_first_chunk::<8>()?;
    let (round, tip) = rest.split_first_chunk::<32>()?;
    let (number, round) = (u64::from_be_bytes(*number), RoundId(*round));
    match std::slice::from_ref(space) {
        Key::COMMITTED => tip
            .is_empty()
            .then_some(Key::Committed(RoundSeq(number), round)),
        Key::TERMS => Some(Key::Terms(WindowSeq(number), round, tip.try_into().ok()?)),
        _ => None,
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
