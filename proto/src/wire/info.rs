//! What a pool says of itself to anybody who asks.

use bitcoin::Network;

use super::error::{WireError, WireReason};
use super::field::{at_most, bytes, identity, network, printable_ascii};
use super::{FromWire, ToWire, pb};
use crate::id::{Identity, RoundSeq, WindowSeq};
use crate::params::{LANES_LIMIT, PoolParams, TAG_LIMIT};

/// What the pool is and how it is doing, as the coordinator says. Nothing is computed from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolInfo {
    /// Identity of the coordinator.
    pub coordinator: Identity,
    /// Chain.
    pub network: Network,
    /// The pool's tag.
    pub tag: String,
    /// The coordinator's protocol version.
    pub version: u32,
    /// Participants that are joined now.
    pub participants: u32,
    /// Signers of the last committed round, the coordinator among them; 0 before the first.
    pub signers: u32,
    /// Last committed round; 0 before the first.
    pub round: RoundSeq,
    /// Height of the block being mined.
    pub height: u32,
    /// The ledger's last closed window.
    pub window: WindowSeq,
    /// Operator's part of the reward, parts per million.
    pub operator_fee_ppm: u32,
    /// Lanes of a template.
    pub lanes: u16,
    /// Registered payout scripts.
    pub payees: u32,
    /// When the node made the newest template, seconds since 1970; 0 before the first.
    pub template_time: u32,
    /// The pool's parameters, if the coordinator tells them: what a miner's policy judges.
    pub params: Option<PoolParams>,
}

impl ToWire for PoolInfo {
    type Message = pb::InfoReply;

    fn to_wire(&self) -> pb::InfoReply {
        pb::InfoReply {
            coordinator: bytes(self.coordinator.as_bytes()),
            network: bytes(&self.network.magic().to_bytes()),
            tag: self.tag.clone(),
            version: self.version,
            participants: self.participants,
            signers: self.signers,
            round_seq: self.round.0,
            height: self.height,
            window_seq: self.window.0,
            operator_fee_ppm: self.operator_fee_ppm,
            lanes: u32::from(self.lanes),
            payees: self.payees,
            params: self.params.as_ref().map(ToWire::to_wire),
            template_time: self.template_time,
        }
    }
}

impl FromWire for PoolInfo {
    fn from_wire(wire: pb::InfoReply) -> Result<Self, WireError> {
        if wire.tag.is_empty() {
            return Err(WireError::here(WireReason::Missing).under("tag"));
        }
        if wire.lanes == 0 {
            return Err(WireError::here(WireReason::Missing).under("lanes"));
        }
        Ok(Self {
            coordinator: identity("coordinator", &wire.coordinator)?,
            network: network("network", &wire.network)?,
            tag: printable_ascii("tag", wire.tag, TAG_LIMIT)?,
            version: wire.version,
            participants: wire.participants,
            signers: wire.signers,
            round: RoundSeq(wire.round_seq),
            height: wire.height,
            window: WindowSeq(wire.window_seq),
            operator_fee_ppm: at_most("operator_fee_ppm", wire.operator_fee_ppm, 1_000_000)?,
            lanes: at_most("lanes", wire.lanes, u32::from(LANES_LIMIT))?,
            payees: wire.payees,
            template_time: wire.template_time,
            params: wire
                .params
                .map(PoolParams::from_wire)
                .transpose()
                .map_err(|error| error.under("params"))?,
        })
    }
}
