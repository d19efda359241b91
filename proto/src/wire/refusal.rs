//! Refusals: as a message of the session, and as the status that ends one.

use tonic::metadata::MetadataValue;
use tonic::{Code, Status};

use super::error::{WireError, WireReason};
use super::field::text_of;
use super::{DETAIL_LIMIT, FromWire, ToWire, pb};
use crate::reject::{Reject, RejectCode};

/// Trailer with the reject code's token, for programs.
const TRAILER: &str = "tutti-reject";

/// A reject code by its number.
pub(super) fn code(field: &str, number: i32) -> Result<RejectCode, WireError> {
    u32::try_from(number)
        .ok()
        .and_then(RejectCode::from_code)
        .ok_or_else(|| WireError::here(WireReason::UnknownValue(number)).under(field))
}

impl ToWire for Reject {
    type Message = pb::Reject;

    /// The detail is cut to its limit and loses control characters: it may quote anything.
    fn to_wire(&self) -> pb::Reject {
        pb::Reject {
            code: self.code as i32,
            detail: printable(&self.detail),
        }
    }
}

impl FromWire for Reject {
    fn from_wire(wire: pb::Reject) -> Result<Self, WireError> {
        Ok(Self {
            code: code("code", wire.code)?,
            // It ends up on terminals: no escape sequences.
            detail: text_of("detail", wire.detail, DETAIL_LIMIT, |c| !c.is_control())?,
        })
    }
}

fn printable(detail: &str) -> String {
    let mut text = String::with_capacity(detail.len().min(DETAIL_LIMIT));
    for c in detail.chars() {
        if text.len() + c.len_utf8() > DETAIL_LIMIT {
            break;
        }
        text.push(if c.is_control() { ' ' } else { c });
    }
    text
}

/// The status with which a call ends when the refusal is the last word.
pub fn status(reject: &Reject) -> Status {
    let grpc = match reject.code {
        RejectCode::Malformed
        | RejectCode::SerialParity
        | RejectCode::NonStandardScript
        | RejectCode::PartialCount
        | RejectCode::VersionOutOfRange
        | RejectCode::TimeOutOfRange
        | RejectCode::LowDifficulty => Code::InvalidArgument,
        RejectCode::BadSignature | RejectCode::NotJoined => Code::Unauthenticated,
        RejectCode::NotYou | RejectCode::NotYourOutput | RejectCode::NotYourSlice => {
            Code::PermissionDenied
        }
        RejectCode::Oversized
        | RejectCode::RateLimited
        | RejectCode::PoolFull
        | RejectCode::OutputQuota
        | RejectCode::SlotQuota => Code::ResourceExhausted,
        RejectCode::SerialTaken | RejectCode::DuplicateSlot | RejectCode::Duplicate => {
            Code::AlreadyExists
        }
        RejectCode::UnknownJob => Code::NotFound,
        RejectCode::Replaced => Code::Aborted,
        RejectCode::Version
        | RejectCode::AlreadyJoined
        | RejectCode::StaleRound
        | RejectCode::NotExpected
        | RejectCode::Stale => Code::FailedPrecondition,
    };
    let token = reject.code.token();
    let mut status = Status::new(grpc, format!("{token}: {}", printable(&reject.detail)));
    status
        .metadata_mut()
        .insert(TRAILER, MetadataValue::from_static(token));
    status
}

/// The reject code of a status that [`status`] made; none if the call ended otherwise.
pub fn reject_code(status: &Status) -> Option<RejectCode> {
    let token = status.metadata().get(TRAILER)?.to_str().ok()?;
    RejectCode::ALL
        .iter()
        .copied()
        .find(|code| code.token() == token)
}
