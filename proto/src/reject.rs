//! Why a message is refused: a closed list of codes, stable on the wire.

use std::fmt;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal $token:literal,)*) => {
        /// A stable reject code. The token is for logs and programs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        #[repr(u32)]
        pub enum RejectCode { $($(#[$doc])* $name = $code,)* }

        impl RejectCode {
            /// All codes.
            pub const ALL: &[RejectCode] = &[$(RejectCode::$name,)*];

            /// The code's stable name.
            pub fn token(self) -> &'static str {
                match self { $(RejectCode::$name => $token,)* }
            }
        }
    };
}

codes! {
    /// The bytes do not decode to a message.
    Malformed = 1 "malformed",
    /// Larger than its kind may be.
    Oversized = 2 "oversized",
    /// The session has not joined.
    NotJoined = 3 "not-joined",
    /// The session has joined already.
    AlreadyJoined = 4 "already-joined",
    /// The identity's signature is invalid.
    BadSignature = 5 "bad-signature",
    /// The other side speaks another protocol version.
    Version = 6 "version",
    /// More messages than the quota allows.
    RateLimited = 7 "rate-limited",
    /// The same identity joined on another connection.
    Replaced = 8 "replaced",
    /// The pool takes no more participants.
    PoolFull = 9 "pool-full",
    /// The serial_id has the other side's parity.
    SerialParity = 20 "serial-parity",
    /// The serial_id is taken.
    SerialTaken = 21 "serial-taken",
    /// The identity has all outputs it may have.
    OutputQuota = 22 "output-quota",
    /// Not an output of this identity.
    NotYourOutput = 23 "not-your-output",
    /// The script is not of a standard type.
    NonStandardScript = 24 "non-standard-script",
    /// The message speaks for another identity.
    NotYou = 25 "not-you",
    /// More slots than the quota, or too few nonces in one.
    SlotQuota = 30 "slot-quota",
    /// A slot key that was announced before.
    DuplicateSlot = 31 "duplicate-slot",
    /// Not the round that is being signed.
    StaleRound = 40 "stale-round",
    /// Not a signer of this round, or signed already.
    NotExpected = 41 "not-expected",
    /// Not one partial signature per payout.
    PartialCount = 42 "partial-count",
    /// No such job for this participant.
    UnknownJob = 60 "unknown-job",
    /// The job's lanes are too old to be credited.
    Stale = 61 "stale",
    /// The version lies in nobody's slice of ours, or the lane does not exist.
    NotYourSlice = 62 "not-your-slice",
    /// Bits outside BIP320's were rolled.
    VersionOutOfRange = 63 "version-out-of-range",
    /// Header time outside the job's range.
    TimeOutOfRange = 64 "time-out-of-range",
    /// Fewer leading zero bits than the job asks.
    LowDifficulty = 65 "low-difficulty",
    /// The same header was submitted before.
    Duplicate = 66 "duplicate",
}

impl RejectCode {
    /// Decodes the wire's number.
    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|known| *known as u32 == code)
    }

    /// The wire's number.
    pub fn code(self) -> u32 {
        self as u32
    }
}

impl fmt::Display for RejectCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.token())
    }
}

/// A refused message. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// Why.
    pub code: RejectCode,
    /// For a person: what happened and what to do.
    pub detail: String,
}
