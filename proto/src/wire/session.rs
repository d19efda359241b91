//! Opening a session: challenge, join, welcome.

use super::error::WireError;
use super::field::{
    all, at_most, bytes, fixed, identity, message, messages, network, optional, printable_ascii,
    scoring,
};
use super::{FromWire, ToWire, pb};
use crate::message::{Challenge, Join, USER_AGENT_LIMIT, Welcome};
use crate::params::{
    BUMP_CREDIT_AFTER_LIMIT, DIRECT_PAYEES_LIMIT, LANES_LIMIT, NONCES_LIMIT, ParamsError, PoolName,
    PoolParams, TAG_LIMIT,
};
use crate::roster::PAYEES_LIMIT;

impl ToWire for PoolName {
    type Message = pb::PoolName;

    fn to_wire(&self) -> pb::PoolName {
        pb::PoolName {
            network: bytes(&self.network.magic().to_bytes()),
            coordinator: bytes(self.coordinator.as_bytes()),
        }
    }
}

impl FromWire for PoolName {
    fn from_wire(wire: pb::PoolName) -> Result<Self, WireError> {
        Ok(Self {
            network: network("network", &wire.network)?,
            coordinator: identity("coordinator", &wire.coordinator)?,
        })
    }
}

impl ToWire for PoolParams {
    type Message = pb::PoolParams;

    fn to_wire(&self) -> pb::PoolParams {
        pb::PoolParams {
            network: bytes(&self.network.magic().to_bytes()),
            coordinator: bytes(self.coordinator.as_bytes()),
            tag: self.tag.clone(),
            operator_fee_ppm: self.operator_fee_ppm,
            lanes: u32::from(self.lanes),
            nonces_per_slot: u32::from(self.nonces_per_slot),
            pplns_depth: self.pplns_depth,
            ntime_roll: self.ntime_roll,
            block_zero_bits: self.block_zero_bits.map(u32::from),
            direct_payees: u32::from(self.direct_payees),
            scoring: self.scoring.code(),
            bump_credit: self.bump_credit,
            bump_credit_after: u32::from(self.bump_credit_after),
        }
    }
}

impl FromWire for PoolParams {
    fn from_wire(wire: pb::PoolParams) -> Result<Self, WireError> {
        let zero_bits = |bits| at_most::<u8>("block_zero_bits", bits, u32::from(u8::MAX));
        let params = Self {
            network: network("network", &wire.network)?,
            coordinator: identity("coordinator", &wire.coordinator)?,
            tag: printable_ascii("tag", wire.tag, TAG_LIMIT)?,
            operator_fee_ppm: wire.operator_fee_ppm,
            lanes: at_most("lanes", wire.lanes, u32::from(LANES_LIMIT))?,
            nonces_per_slot: at_most(
                "nonces_per_slot",
                wire.nonces_per_slot,
                u32::from(NONCES_LIMIT),
            )?,
            direct_payees: at_most(
                "direct_payees",
                wire.direct_payees,
                u32::from(DIRECT_PAYEES_LIMIT),
            )?,
            scoring: scoring("scoring", wire.scoring)?,
            pplns_depth: wire.pplns_depth,
            ntime_roll: wire.ntime_roll,
            block_zero_bits: wire.block_zero_bits.map(zero_bits).transpose()?,
            bump_credit: wire.bump_credit,
            bump_credit_after: at_most(
                "bump_credit_after",
                wire.bump_credit_after,
                u32::from(BUMP_CREDIT_AFTER_LIMIT),
            )?,
        };
        params.check().map_err(|error| {
            let field = field_of(&error);
            WireError::here(error).under(field)
        })?;
        Ok(params)
    }
}

fn field_of(error: &ParamsError) -> &'static str {
    match error {
        ParamsError::Tag => "tag",
        ParamsError::OperatorFee(_) => "operator_fee_ppm",
        ParamsError::Lanes(_) => "lanes",
        ParamsError::NoncesPerSlot(_) => "nonces_per_slot",
        ParamsError::DirectPayees(_) => "direct_payees",
        ParamsError::PplnsDepth(_) => "pplns_depth",
        ParamsError::NtimeRoll(_) => "ntime_roll",
        ParamsError::BlockZeroBits => "block_zero_bits",
        ParamsError::BumpCredit(_) => "bump_credit",
        ParamsError::BumpCreditAfter(_) => "bump_credit_after",
    }
}

impl ToWire for Challenge {
    type Message = pb::Challenge;

    fn to_wire(&self) -> pb::Challenge {
        pb::Challenge {
            version: self.version,
            nonce: bytes(&self.nonce),
            params: Some(self.params.to_wire()),
        }
    }
}

impl FromWire for Challenge {
    fn from_wire(wire: pb::Challenge) -> Result<Self, WireError> {
        Ok(Self {
            version: wire.version,
            nonce: fixed("nonce", &wire.nonce)?,
            params: message("params", wire.params)?,
        })
    }
}

impl ToWire for Join {
    type Message = pb::Join;

    fn to_wire(&self) -> pb::Join {
        pb::Join {
            identity: bytes(self.identity.as_bytes()),
            hashrate: self.hashrate,
            user_agent: self.user_agent.clone(),
            signature: bytes(&self.signature),
            head: self.head.as_ref().map(|head| bytes(head)),
        }
    }
}

impl FromWire for Join {
    fn from_wire(wire: pb::Join) -> Result<Self, WireError> {
        Ok(Self {
            identity: identity("identity", &wire.identity)?,
            hashrate: wire.hashrate,
            user_agent: printable_ascii("user_agent", wire.user_agent, USER_AGENT_LIMIT)?,
            signature: fixed("signature", &wire.signature)?,
            head: wire.head.map(|head| fixed("head", &head)).transpose()?,
        })
    }
}

impl ToWire for Welcome {
    type Message = pb::Welcome;

    fn to_wire(&self) -> pb::Welcome {
        pb::Welcome {
            outputs: all(&self.outputs),
            ledger: self.ledger.as_ref().map(ToWire::to_wire),
            head: Some(self.head.to_wire()),
        }
    }
}

impl FromWire for Welcome {
    fn from_wire(wire: pb::Welcome) -> Result<Self, WireError> {
        Ok(Self {
            outputs: messages("outputs", wire.outputs, PAYEES_LIMIT)?,
            ledger: optional("ledger", wire.ledger)?,
            head: message("head", wire.head)?,
        })
    }
}
