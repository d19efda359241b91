//! Protobuf, and the only place where its types become checked types.
//!
//! Decoding bounds before it parses: a list's length is compared with its limit before the first
//! key in it is, and an error says where in the message it is. A decoded value is well formed; who
//! may send it, and when, is for the state machines to say.
//!
//! tonic must be given [`MESSAGE_LIMIT_TO_COORDINATOR`] and [`MESSAGE_LIMIT_TO_PARTICIPANT`] as
//! its largest messages: prost builds a message's structs, of up to some 50 times its bytes, before
//! anything here sees it.

mod abort;
mod credit;
mod envelope;
mod error;
mod field;
mod info;
mod ledger;
mod limit;
mod mining;
mod payee;
mod refusal;
mod round;
mod sample;
mod segment;
mod session;
mod spans;

pub use error::{WireError, WireReason};
pub use info::PoolInfo;
pub use limit::*;
pub use refusal::{reject_code, status};
pub use sample::{positions_from_wire, positions_to_wire};

use prost::Message;

/// What tonic and prost generate from the schema.
#[allow(clippy::all, reason = "generated")]
pub mod pb {
    tonic::include_proto!("tutti.v1");
}

/// A checked type that has a message of the schema.
pub trait ToWire {
    /// The message.
    type Message: Message + Default;

    /// Builds the message.
    fn to_wire(&self) -> Self::Message;

    /// Encodes it.
    fn encode(&self) -> Vec<u8> {
        self.to_wire().encode_to_vec()
    }
}

/// A checked type that can be read from a message.
pub trait FromWire: ToWire + Sized {
    /// Checks the message.
    fn from_wire(wire: Self::Message) -> Result<Self, WireError>;

    /// Decodes and checks it.
    fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let wire = Self::Message::decode(bytes)
            .map_err(|_| WireError::here(WireReason::Undecodable).under("message"))?;
        Self::from_wire(wire)
    }
}
