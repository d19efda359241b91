//! Names of things: small newtypes, so that a lane is never taken for a shard or a round for a job.

use std::cmp::Ordering;
use std::fmt;

use bitcoin::XOnlyPublicKey;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

number! {
    /// Position of an output in the payout. Even: the coordinator's; odd: a participant's (BOLT2).
    SerialId(u64)
}
number! {
    /// A round before its transcript exists: counts up from 1, never reused.
    RoundSeq(u64)
}
number! {
    /// One try of a round, from 0.
    Attempt(u32)
}
number! {
    /// One fixed coinbase of a template, from 0.
    LaneIndex(u16)
}
number! {
    /// A job as issued to one participant, with the z it is judged by.
    JobId(u64)
}
number! {
    /// A share window, from 1; 0 is the state before the first window closed.
    WindowSeq(u64)
}
number! {
    /// A connection, as the shell numbers them. Never on the wire.
    PeerId(u64)
}

impl SerialId {
    /// The operator's own output.
    pub const OPERATOR: SerialId = SerialId(0);

    /// Whether this number is of the parity that participants use.
    pub fn is_participants(self) -> bool {
        self.0 % 2 == 1
    }
}

impl WindowSeq {
    /// The window after this one.
    pub fn next(self) -> WindowSeq {
        // 2^64 windows take longer than the chain's heights last.
        WindowSeq(self.0.saturating_add(1))
    }
}

/// A round once its transcript exists: the transcript's hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoundId(pub [u8; 32]);

/// A long-lived BIP340 x-only identity key. Ordered as its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity([u8; 32]);

/// Bytes compared as one number, before the others are: maps by identity are looked up for every share.
const COMPARED_FIRST: usize = 8;

impl Ord for Identity {
    fn cmp(&self, other: &Self) -> Ordering {
        let first = |identity: &Self| {
            let bytes = identity.0.first_chunk::<COMPARED_FIRST>();
            bytes.map(|bytes| u64::from_be_bytes(*bytes))
        };
        let by_first = first(self).cmp(&first(other));
        by_first.then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Identity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The bytes are not the x coordinate of a point of secp256k1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an x-only public key")]
pub struct NotAKey;

impl Identity {
    /// Checks that the bytes are a point.
    pub fn parse(bytes: &[u8; 32]) -> Result<Self, NotAKey> {
        XOnlyPublicKey::from_slice(bytes).map_err(|_| NotAKey)?;
        Ok(Self(*bytes))
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl From<XOnlyPublicKey> for Identity {
    fn from(key: XOnlyPublicKey) -> Self {
        Self(key.serialize())
    }
}

/// Writes bytes as lower-case hex.
pub fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|b| write!(f, "{b:02x}"))
}

macro_rules! hex_display {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // `{:.8}` prints the first 8 hex digits, for tables and logs.
                let shown = f
                    .precision()
                    .map_or(32, |digits| digits.div_ceil(2).min(32));
                write_hex(f, &self.0[..shown])
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self:.16})", stringify!($name))
            }
        }
    };
}
hex_display!(RoundId);
hex_display!(Identity);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn identities_are_ordered_as_their_bytes(a: [u8; 32], b: [u8; 32], same in 0..=32usize) {
            let mut b = b;
            b[..same].copy_from_slice(&a[..same]);
            prop_assert_eq!(Identity(a).cmp(&Identity(b)), a.cmp(&b));
        }
    }
}
