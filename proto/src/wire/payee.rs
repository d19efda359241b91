//! The payee set: outputs added and removed.

use bitcoin::ScriptBuf;

use super::error::{WireError, WireReason};
use super::field::{bytes, fixed, identity};
use super::{FromWire, SCRIPT_LIMIT, ToWire, pb};
use crate::id::SerialId;
use crate::message::{OutputExpired, TxAddOutput, TxRemoveOutput};
use crate::script::PayoutScript;

fn script(field: &str, bytes: &[u8]) -> Result<PayoutScript, WireError> {
    let standard = (bytes.len() <= SCRIPT_LIMIT)
        .then(|| PayoutScript::parse(ScriptBuf::from_bytes(bytes.to_vec())).ok())
        .flatten();
    standard.ok_or_else(|| WireError::here(WireReason::NonStandardScript(bytes.len())).under(field))
}

impl ToWire for TxAddOutput {
    type Message = pb::TxAddOutput;

    fn to_wire(&self) -> pb::TxAddOutput {
        pb::TxAddOutput {
            identity: bytes(self.identity.as_bytes()),
            serial_id: self.serial_id.0,
            script: bytes(self.script.as_script().as_bytes()),
            signature: bytes(&self.signature),
        }
    }
}

impl FromWire for TxAddOutput {
    fn from_wire(wire: pb::TxAddOutput) -> Result<Self, WireError> {
        Ok(Self {
            identity: identity("identity", &wire.identity)?,
            serial_id: SerialId(wire.serial_id),
            script: script("script", &wire.script)?,
            signature: fixed("signature", &wire.signature)?,
        })
    }
}

impl ToWire for TxRemoveOutput {
    type Message = pb::TxRemoveOutput;

    fn to_wire(&self) -> pb::TxRemoveOutput {
        pb::TxRemoveOutput {
            identity: bytes(self.identity.as_bytes()),
            serial_id: self.serial_id.0,
            signature: bytes(&self.signature),
        }
    }
}

impl FromWire for TxRemoveOutput {
    fn from_wire(wire: pb::TxRemoveOutput) -> Result<Self, WireError> {
        Ok(Self {
            identity: identity("identity", &wire.identity)?,
            serial_id: SerialId(wire.serial_id),
            signature: fixed("signature", &wire.signature)?,
        })
    }
}

impl ToWire for OutputExpired {
    type Message = pb::OutputExpired;

    fn to_wire(&self) -> pb::OutputExpired {
        pb::OutputExpired {
            serial_id: self.serial_id.0,
        }
    }
}

impl FromWire for OutputExpired {
    fn from_wire(wire: pb::OutputExpired) -> Result<Self, WireError> {
        Ok(Self {
            serial_id: SerialId(wire.serial_id),
        })
    }
}
