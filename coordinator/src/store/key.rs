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
    Committed(RoundSeq),
    /// The last window before the round, the round, the previous block.
    Terms(WindowSeq, RoundId, [u8; 32]),
}

impl Key {
    pub(super) const LOG: &'static [u8] = b"L";
    pub(super) const COMMITTED: &'static [u8] = b"C";

    pub(super) const TERMS: &'static [u8] = b"T";

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
            Key::Committed(seq) => [Self::COMMITTED, &seq.0.to_be_bytes()].concat(),
            Key::Terms(window, round, tip) => {
                [Self::TERMS, &window.0.to_be_bytes(), &round.0, &tip].concat()
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
            Key::Terms(window, round, _) => write!(f, "terms/{window}/{round:.16}"),
        }
    }
}

/// The number in a key of one number.
pub(super) fn number(key: &[u8]) -> Option<u64> {
    let (_, number) = key.split_first()?;
    Some(u64::from_be_bytes(number.try_into().ok()?))
}
