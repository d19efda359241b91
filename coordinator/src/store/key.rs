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
}

impl Key {
    pub(super) const LOG: &'static [u8] = b"L";
    pub(super) const COMMITTED: &'static [u8] = b"C";

    pub(super) const TERMS: &'static [u8] = b"T";

    /// Terms of a round that was proposed on this window.
    pub(super) fn terms_of(window: WindowSeq, round: &RoundId) -> Vec<u8> {
        [Self::TERMS, &window.0.to_be_bytes(), &round.0].concat()
    }

    pub(super) fn terms(round: RoundId, terms: &RoundTerms) -> Self {
        let window = terms.inputs.ledger.seq;
        Key::Terms(window, round, terms.header.previous_block)
    }

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
            Key::Committed(seq, round) => {
                [Self::COMMITTED, &seq.0.to_be_bytes(), &round.0].concat()
            }
            Key::Terms(window, round, tip) => {
                [Self::terms_of(window, &round).as_slice(), &tip].concat()
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

/// The number in a key of one number.
pub(super) fn number(key: &[u8]) -> Option<u64> {
    let (_, number) = key.split_first()?;
    Some(u64::from_be_bytes(number.try_into().ok()?))
}
