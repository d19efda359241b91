//! What happened in windows: parts, ends, segments, checkpoints, terms.

use std::sync::Arc;

use bitcoin::consensus::encode::{deserialize, serialize};
use bitcoin::{Amount, ScriptBuf};

use super::error::{WireError, WireReason};
use super::field::{all, bytes, fixed, list, message, messages};
use super::mining::{slices_from_wire, slices_to_wire};
use super::{
    COINBASE_OUTPUTS_LIMIT, FromWire, PARTS_LIMIT, PAYOUT_BYTES_LIMIT, SCRIPT_LIMIT,
    SHARES_OF_PART_LIMIT, TERMS_LIMIT, ToWire, pb,
};
use crate::id::WindowSeq;
use crate::message::{OutputExpired, TxAddOutput, TxRemoveOutput};
use crate::roster::PAYEES_LIMIT;
use crate::segment::{
    Checkpoint, FILE_FORMAT, OutputChange, PACKED_SHARE_SIZE, PackedShare, Segment, SignedRound,
    WindowEnd, WindowPart,
};
use crate::terms::RoundTerms;

impl ToWire for RoundTerms {
    type Message = pb::RoundTerms;

    fn to_wire(&self) -> pb::RoundTerms {
        let output = |(script, sat): &(ScriptBuf, Amount)| pb::CoinbaseOutput {
            script: bytes(script.as_bytes()),
            sat: sat.to_sat(),
        };
        pb::RoundTerms {
            params: Some(self.params.to_wire()),
            inputs: Some(self.inputs.to_wire()),
            slices: slices_to_wire(&self.assignments),
            outputs: self.outputs.iter().map(output).collect(),
            header: Some(self.header.to_wire()),
        }
    }
}

impl FromWire for RoundTerms {
    fn from_wire(wire: pb::RoundTerms) -> Result<Self, WireError> {
        let output = |wire: pb::CoinbaseOutput| {
            if wire.script.len() > SCRIPT_LIMIT {
                let reason = WireReason::NonStandardScript(wire.script.len());
                return Err(WireError::here(reason).under("script"));
            }
            let script = ScriptBuf::from_bytes(wire.script.to_vec());
            Ok((script, Amount::from_sat(wire.sat)))
        };
        Ok(Self {
            params: Arc::new(message("params", wire.params)?),
            inputs: message("inputs", wire.inputs)?,
            assignments: Arc::new(slices_from_wire(wire.slices)?),
            outputs: list("outputs", wire.outputs, COINBASE_OUTPUTS_LIMIT, output)?,
            header: message("header", wire.header)?,
        })
    }
}

impl ToWire for OutputChange {
    type Message = pb::OutputChange;

    fn to_wire(&self) -> pb::OutputChange {
        use pb::output_change::Change;
        let change = match self {
            Self::Added(output) => Change::Added(output.to_wire()),
            Self::Removed(removal) => Change::Removed(removal.to_wire()),
            Self::Expired(expired) => Change::Expired(expired.to_wire()),
        };
        pb::OutputChange {
            change: Some(change),
        }
    }
}

impl FromWire for OutputChange {
    fn from_wire(wire: pb::OutputChange) -> Result<Self, WireError> {
        use pb::output_change::Change;
        match wire.change {
            Some(Change::Added(wire)) => TxAddOutput::from_wire(wire).map(Self::Added),
            Some(Change::Removed(wire)) => TxRemoveOutput::from_wire(wire).map(Self::Removed),
            Some(Change::Expired(wire)) => OutputExpired::from_wire(wire).map(Self::Expired),
            None => Err(WireError::here(WireReason::Missing).under("change")),
        }
    }
}

impl ToWire for WindowPart {
    type Message = pb::WindowPart;

    fn to_wire(&self) -> pb::WindowPart {
        let shares = self.shares.iter().flat_map(PackedShare::to_bytes);
        pb::WindowPart {
            window: self.window.0,
            terms: all(&self.terms),
            outputs: all(&self.outputs),
            first_share: self.first_share,
            shares: shares.collect::<Vec<u8>>().into(),
        }
    }
}

impl FromWire for WindowPart {
    fn from_wire(wire: pb::WindowPart) -> Result<Self, WireError> {
        let (shares, rest) = wire.shares.as_chunks::<PACKED_SHARE_SIZE>();
        let (got, limit) = (shares.len(), SHARES_OF_PART_LIMIT);
        if got > limit {
            return Err(WireError::here(WireReason::TooMany { got, limit }).under("shares"));
        }
        if !rest.is_empty() {
            let (got, want) = (wire.shares.len(), PACKED_SHARE_SIZE);
            return Err(WireError::here(WireReason::Length { got, want }).under("shares"));
        }
        Ok(Self {
            window: WindowSeq(wire.window),
            terms: messages("terms", wire.terms, TERMS_LIMIT)?,
            outputs: messages("outputs", wire.outputs, PAYEES_LIMIT)?,
            first_share: wire.first_share,
            shares: shares.iter().map(PackedShare::from_bytes).collect(),
        })
    }
}

impl ToWire for WindowEnd {
    type Message = pb::WindowEnd;

    fn to_wire(&self) -> pb::WindowEnd {
        pb::WindowEnd {
            record: Some(self.record.to_wire()),
            state: bytes(&self.state),
            head: Some(self.head.to_wire()),
        }
    }
}

impl FromWire for WindowEnd {
    fn from_wire(wire: pb::WindowEnd) -> Result<Self, WireError> {
        Ok(Self {
            record: message("record", wire.record)?,
            state: fixed("state", &wire.state)?,
            head: message("head", wire.head)?,
        })
    }
}

fn file_format(format: u32) -> Result<u32, WireError> {
    match format {
        FILE_FORMAT => Ok(format),
        _ => Err(WireError::here(WireReason::Format(format)).under("format")),
    }
}

impl ToWire for Segment {
    type Message = pb::Segment;

    fn to_wire(&self) -> pb::Segment {
        pb::Segment {
            format: FILE_FORMAT,
            pool: Some(self.pool.to_wire()),
            parts: all(&self.parts),
            end: Some(self.end.to_wire()),
        }
    }
}

impl FromWire for Segment {
    fn from_wire(wire: pb::Segment) -> Result<Self, WireError> {
        file_format(wire.format)?;
        Ok(Self {
            pool: message("pool", wire.pool)?,
            parts: messages("parts", wire.parts, PARTS_LIMIT)?,
            end: message("end", wire.end)?,
        })
    }
}

impl ToWire for SignedRound {
    type Message = pb::SignedRound;

    fn to_wire(&self) -> pb::SignedRound {
        pb::SignedRound {
            terms: Some(self.terms.to_wire()),
            payout: serialize(&self.payout).into(),
        }
    }
}

impl FromWire for SignedRound {
    fn from_wire(wire: pb::SignedRound) -> Result<Self, WireError> {
        let transaction = || WireError::here(WireReason::Undecodable).under("payout");
        let (got, limit) = (wire.payout.len(), PAYOUT_BYTES_LIMIT);
        if got > limit {
            return Err(WireError::here(WireReason::TooLong { got, limit }).under("payout"));
        }
        Ok(Self {
            terms: message("terms", wire.terms)?,
            payout: deserialize(&wire.payout).map_err(|_| transaction())?,
        })
    }
}

impl ToWire for Checkpoint {
    type Message = pb::Checkpoint;

    fn to_wire(&self) -> pb::Checkpoint {
        pb::Checkpoint {
            format: FILE_FORMAT,
            pool: Some(self.pool.to_wire()),
            ledger: Some(self.ledger.to_wire()),
            head: Some(self.head.to_wire()),
            outputs: all(&self.outputs),
            signed: self.signed.as_ref().map(ToWire::to_wire),
        }
    }
}

impl FromWire for Checkpoint {
    fn from_wire(wire: pb::Checkpoint) -> Result<Self, WireError> {
        file_format(wire.format)?;
        let signed = wire.signed.map(SignedRound::from_wire).transpose();
        Ok(Self {
            pool: message("pool", wire.pool)?,
            ledger: message("ledger", wire.ledger)?,
            head: message("head", wire.head)?,
            outputs: messages("outputs", wire.outputs, PAYEES_LIMIT)?,
            signed: signed.map_err(|error| error.under("signed"))?,
        })
    }
}
