//! What is wrong with a message, and where in it.

use crate::lane::AssignmentError;
use crate::musig::MusigError;
use crate::params::ParamsError;
use crate::reject::{Reject, RejectCode};
use crate::segment::FILE_FORMAT;

/// A message that is not what the schema allows. Nothing of it has been used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct WireError {
    /// Where, as the schema names it: `proposal.plan.inputs.signers[3].key`, or
    /// `message` for the whole.
    pub path: String,
    /// What.
    pub reason: WireReason,
}

/// What is wrong with a field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireReason {
    /// The bytes are not protobuf of this schema.
    #[error("not a protobuf message of this schema")]
    Undecodable,
    /// The field is not there.
    #[error("missing")]
    Missing,
    /// A fixed-length field of another length.
    #[error("{got} bytes, expected {want}")]
    Length {
        /// Length that came, bytes.
        got: usize,
        /// Length of the field, bytes.
        want: usize,
    },
    /// A list that is not as long as the one that it belongs to.
    #[error("{got} elements, expected {want}")]
    Count {
        /// How many came.
        got: usize,
        /// How many the other has.
        want: usize,
    },
    /// A list with too many elements.
    #[error("{got} elements, at most {limit} are allowed")]
    TooMany {
        /// How many came.
        got: usize,
        /// How many may.
        limit: usize,
    },
    /// A text, or bytes of no fixed length, that are too long.
    #[error("{got} bytes, at most {limit} are allowed")]
    TooLong {
        /// Its length, bytes.
        got: usize,
        /// The limit, bytes.
        limit: usize,
    },
    /// A number above its range.
    #[error("{got}, at most {limit} is allowed")]
    OutOfRange {
        /// The number.
        got: u64,
        /// The largest allowed.
        limit: u64,
    },
    /// A number that its enumeration does not have.
    #[error("unknown value {0}")]
    UnknownValue(i32),
    /// Control characters, or others than printable ASCII where only these are allowed.
    #[error("characters that are not printable")]
    NotPrintable,
    /// The list is not strictly ascending.
    #[error("not above the element before it")]
    NotAscending,
    /// A carry that is left out where it is 0.
    #[error("a carry of 0 sat, which is left out")]
    ZeroCarry,
    /// Not the x coordinate of a point.
    #[error("not an x-only public key")]
    NotAnIdentity,
    /// Not the magic bytes of a chain that we know.
    #[error("not the magic bytes of a known chain")]
    UnknownNetwork,
    /// A feerate that no payout may have.
    #[error("feerate of {0} sat/kvB is outside the allowed range")]
    FeeRate(u64),
    /// A file of another format.
    #[error("format {0}, this program reads format {FILE_FORMAT}")]
    Format(u32),
    /// A script that nodes do not relay.
    #[error("script of {0} bytes is not of a standard type")]
    NonStandardScript(usize),
    /// Not a key, nonce or partial signature.
    #[error(transparent)]
    Musig(#[from] MusigError),
    /// A pool parameter out of its range.
    #[error(transparent)]
    Params(#[from] ParamsError),
    /// The slices are not an assignment.
    #[error(transparent)]
    Assignments(#[from] AssignmentError),
}

impl WireError {
    /// The code with which such a message is refused.
    pub fn code(&self) -> RejectCode {
        match self.reason {
            WireReason::TooMany { .. } | WireReason::TooLong { .. } => RejectCode::Oversized,
            WireReason::NonStandardScript(_) => RejectCode::NonStandardScript,
            _ => RejectCode::Malformed,
        }
    }

    /// Something is wrong with the value as a whole.
    pub(super) fn here(reason: impl Into<WireReason>) -> Self {
        Self {
            path: String::new(),
            reason: reason.into(),
        }
    }

    /// Says in which field the value is.
    pub(super) fn under(mut self, field: &str) -> Self {
        // After an element of a list comes its index, which belongs to the field's name.
        let separator = if self.path.is_empty() || self.path.starts_with('[') {
            ""
        } else {
            "."
        };
        self.path = format!("{field}{separator}{}", self.path);
        self
    }
}

impl From<WireError> for Reject {
    fn from(error: WireError) -> Self {
        Reject {
            code: error.code(),
            detail: error.to_string(),
        }
    }
}

/// Puts the field's name before the path of an error.
pub(super) trait Within<T> {
    fn within(self, field: &str) -> Result<T, WireError>;
}

impl<T> Within<T> for Result<T, WireError> {
    fn within(self, field: &str) -> Result<T, WireError> {
        self.map_err(|error| error.under(field))
    }
}
