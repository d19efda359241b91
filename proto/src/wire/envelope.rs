//! The two directions of a session.

use super::error::{WireError, WireReason, Within};
use super::{FromWire, ToWire, pb};
use crate::message::{ToCoordinator, ToParticipant};

/// A oneof of the schema and the enum of the same messages. Schema, enum and this table name them
/// alike.
macro_rules! envelope {
    ($domain:ident, $module:ident, { $($variant:ident $field:literal,)* }) => {
        impl ToWire for $domain {
            type Message = pb::$domain;

            fn to_wire(&self) -> pb::$domain {
                use pb::$module::Message;
                let message = match self {
                    $($domain::$variant(message) => Message::$variant(message.to_wire()),)*
                };
                pb::$domain { message: Some(message) }
            }
        }

        impl FromWire for $domain {
            fn from_wire(wire: pb::$domain) -> Result<Self, WireError> {
                use pb::$module::Message;
                let message = wire
                    .message
                    .ok_or_else(|| WireError::here(WireReason::Missing).under("message"))?;
                match message {
                    $(Message::$variant(message) => {
                        FromWire::from_wire(message).map($domain::$variant).within($field)
                    })*
                }
            }
        }
    };
}

envelope!(ToCoordinator, to_coordinator, {
    Share "share",
    Join "join",
    TxAddOutput "tx_add_output",
    TxRemoveOutput "tx_remove_output",
    Slots "slots",
    TxComplete "tx_complete",
    TxSignatures "tx_signatures",
    TxAbort "tx_abort",
    Holds "holds",
});

envelope!(ToParticipant, to_participant, {
    ShareAck "share_ack",
    ShareReject "share_reject",
    Challenge "challenge",
    Welcome "welcome",
    TxAddOutput "tx_add_output",
    TxRemoveOutput "tx_remove_output",
    WindowClosed "window_closed",
    Assignments "assignments",
    Proposal "proposal",
    TxAborted "tx_aborted",
    Commit "commit",
    Job "job",
    BlockFound "block_found",
    Reject "reject",
    OutputExpired "output_expired",
});
