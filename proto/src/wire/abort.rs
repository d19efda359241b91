//! The end of an attempt, and who is blamed for it.

use super::error::{WireError, WireReason};
use super::field::{all, bytes, fixed, identity, message, messages, round};
use super::{FromWire, SIGNERS_LIMIT, ToWire, pb};
use crate::message::{AbortReason, Blame, Evidence, TxAbort, TxAborted};

/// The schema's numbers are the domain's: `tests/wire.rs` compares all of them.
fn reason(number: i32) -> Result<AbortReason, WireError> {
    u32::try_from(number)
        .ok()
        .and_then(AbortReason::from_code)
        .ok_or_else(|| WireError::here(WireReason::UnknownValue(number)).under("reason"))
}

impl ToWire for TxAbort {
    type Message = pb::TxAbort;

    fn to_wire(&self) -> pb::TxAbort {
        pb::TxAbort {
            round: bytes(&self.round.0),
            reason: self.reason as i32,
            signature: bytes(&self.signature),
        }
    }
}

impl FromWire for TxAbort {
    fn from_wire(wire: pb::TxAbort) -> Result<Self, WireError> {
        Ok(Self {
            round: round("round", &wire.round)?,
            reason: reason(wire.reason)?,
            signature: fixed("signature", &wire.signature)?,
        })
    }
}

impl ToWire for Blame {
    type Message = pb::Blame;

    fn to_wire(&self) -> pb::Blame {
        use pb::blame::Evidence as Wire;
        let evidence = self.evidence.as_ref().map(|evidence| match evidence {
            Evidence::BadPartial { slot, signatures } => Wire::BadPartial(pb::BadPartial {
                slot: Some(slot.to_wire()),
                signatures: Some(signatures.to_wire()),
            }),
            Evidence::Refused(abort) => Wire::Refused(abort.to_wire()),
        });
        pb::Blame {
            identity: bytes(self.identity.as_bytes()),
            evidence,
        }
    }
}

impl FromWire for Blame {
    fn from_wire(wire: pb::Blame) -> Result<Self, WireError> {
        use pb::blame::Evidence as Wire;
        let evidence = match wire.evidence {
            None => None,
            Some(Wire::BadPartial(bad)) => Some(Evidence::BadPartial {
                slot: message("bad_partial.slot", bad.slot)?,
                signatures: message("bad_partial.signatures", bad.signatures)?,
            }),
            Some(Wire::Refused(abort)) => Some(Evidence::Refused(message("refused", Some(abort))?)),
        };
        Ok(Self {
            identity: identity("identity", &wire.identity)?,
            evidence,
        })
    }
}

impl ToWire for TxAborted {
    type Message = pb::TxAborted;

    fn to_wire(&self) -> pb::TxAborted {
        pb::TxAborted {
            round: bytes(&self.round.0),
            reason: self.reason as i32,
            blamed: all(&self.blamed),
            signature: bytes(&self.signature),
        }
    }
}

impl FromWire for TxAborted {
    fn from_wire(wire: pb::TxAborted) -> Result<Self, WireError> {
        Ok(Self {
            round: round("round", &wire.round)?,
            reason: reason(wire.reason)?,
            blamed: messages("blamed", wire.blamed, SIGNERS_LIMIT)?,
            signature: fixed("signature", &wire.signature)?,
        })
    }
}
