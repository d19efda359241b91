//! What a pool fixes for everybody: known before joining, hashed into every transcript.

use bitcoin::Network;

use crate::digest::Digest;
use crate::id::{Identity, WindowSeq};
use crate::window::{Ledger, Scoring, Tally};
use crate::work::{Work, WorkOverflow};

/// Version of the protocol, in the join challenge and in every transcript.
pub const PROTOCOL_VERSION: u32 = 1;

/// Most lanes of one round. Sixteen bits on the wire; 256 lanes already carry 72 PH per nTime second.
pub const LANES_LIMIT: u16 = 256;
/// Most nonces of one slot: lanes times shards.
pub const NONCES_LIMIT: u16 = 1_024;
/// Most payees of a direct coinbase: what fits the weight that Core reserves for a coinbase by
/// default (8,000), with outputs of the largest standard type.
pub const DIRECT_PAYEES_LIMIT: u16 = 39;
/// Furthest a miner may roll nTime past the job's, seconds: Core's MAX_FUTURE_BLOCK_TIME.
pub const NTIME_ROLL_LIMIT: u32 = 7_200;
/// Most that a pool credits for a bump, sat.
pub const BUMP_CREDIT_LIMIT: u32 = 1_000_000;
/// Most blocks that a pool waits until bumps are credited: a week.
pub const BUMP_CREDIT_AFTER_LIMIT: u16 = 1_000;
/// A coinbase's scriptSig holds 100 bytes; the rest of ours takes 16.
pub const TAG_LIMIT: usize = 32;

/// The pool's parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolParams {
    /// Chain.
    pub network: Network,
    /// Identity key of the coordinator.
    pub coordinator: Identity,
    /// ASCII text in every coinbase's scriptSig, 1 to 32 bytes.
    pub tag: String,
    /// Operator's part of the reward, parts per million, rounded down.
    pub operator_fee_ppm: u32,
    /// Lanes of a template (V).
    pub lanes: u16,
    /// Public nonces in each slot; at least lanes times the shards of a round.
    pub nonces_per_slot: u16,
    /// Most payees of a direct round's coinbase; 0: this pool has no direct rounds.
    pub direct_payees: u16,
    /// Whose work a block pays.
    pub scoring: Scoring,
    /// PPLNS depth N, in multiples of the expected hashes of the template's target.
    pub pplns_depth: u32,
    /// How far a miner may roll nTime past the job's, seconds.
    pub ntime_roll: u32,
    /// Regtest only: leading zero bits that Tutti asks before it calls a share a block.
    pub block_zero_bits: Option<u8>,
    /// Most that a bump of a payout is credited, sat; 0: this pool credits none.
    pub bump_credit: u32,
    /// Blocks that must have passed a ripe payout by before a bump of it is credited: whoever mines the
    /// very next ones could pay itself.
    pub bump_credit_after: u16,
}

/// Which parameter is out of its range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParamsError {
    /// `tag` is empty, too long, or not printable ASCII.
    #[error("tag must be 1 to {TAG_LIMIT} printable ASCII characters")]
    Tag,
    /// More than the whole reward.
    #[error("operator_fee_ppm is {0}, above 1,000,000")]
    OperatorFee(u32),
    /// No lanes, or too many.
    #[error("lanes is {0}, outside 1..={LANES_LIMIT}")]
    Lanes(u16),
    /// Fewer nonces than lanes, or too many.
    #[error("nonces_per_slot is {0}, outside lanes..={NONCES_LIMIT}")]
    NoncesPerSlot(u16),
    /// More outputs than a coinbase has room for.
    #[error("direct_payees is {0}, above {DIRECT_PAYEES_LIMIT}")]
    DirectPayees(u16),
    /// A depth of zero would pay for no work.
    #[error("pplns_depth is {0}, outside 1..=1,000")]
    PplnsDepth(u32),
    /// Further than nodes accept.
    #[error("ntime_roll is {0} s, above {NTIME_ROLL_LIMIT} s")]
    NtimeRoll(u32),
    /// The regtest setting on another network, or out of 1..=64.
    #[error("block_zero_bits is for regtest only, 1..=64")]
    BlockZeroBits,
    /// More for a bump than any may cost.
    #[error("bump_credit is {0} sat, above 1,000,000")]
    BumpCredit(u32),
    /// At once, or never.
    #[error("bump_credit_after is {0}, outside 1..=1,000")]
    BumpCreditAfter(u16),
}

/// Whose pool it is, on which chain: what never changes, whatever the pool's parameters become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolName {
    /// Chain.
    pub network: Network,
    /// Identity of the coordinator.
    pub coordinator: Identity,
}

impl PoolParams {
    /// Whose pool it is.
    pub fn name(&self) -> PoolName {
        PoolName {
            network: self.network,
            coordinator: self.coordinator,
        }
    }

    /// Checks every range.
    pub fn check(&self) -> Result<(), ParamsError> {
        let printable = self.tag.bytes().all(|b| (0x20..0x7f).contains(&b));
        if self.tag.is_empty() || self.tag.len() > TAG_LIMIT || !printable {
            return Err(ParamsError::Tag);
        }
        if self.operator_fee_ppm > 1_000_000 {
            return Err(ParamsError::OperatorFee(self.operator_fee_ppm));
        }
        if self.lanes == 0 || self.lanes > LANES_LIMIT {
            return Err(ParamsError::Lanes(self.lanes));
        }
        if self.nonces_per_slot < self.lanes || self.nonces_per_slot > NONCES_LIMIT {
            return Err(ParamsError::NoncesPerSlot(self.nonces_per_slot));
        }
        if self.direct_payees > DIRECT_PAYEES_LIMIT {
            return Err(ParamsError::DirectPayees(self.direct_payees));
        }
        if self.pplns_depth == 0 || self.pplns_depth > 1_000 {
            return Err(ParamsError::PplnsDepth(self.pplns_depth));
        }
        if self.ntime_roll > NTIME_ROLL_LIMIT {
            return Err(ParamsError::NtimeRoll(self.ntime_roll));
        }
        if self.bump_credit > BUMP_CREDIT_LIMIT {
            return Err(ParamsError::BumpCredit(self.bump_credit));
        }
        if self.bump_credit_after == 0 || self.bump_credit_after > BUMP_CREDIT_AFTER_LIMIT {
            return Err(ParamsError::BumpCreditAfter(self.bump_credit_after));
        }
        match self.block_zero_bits {
            Some(bits) if self.network != Network::Regtest || !(1..=64).contains(&bits) => {
                Err(ParamsError::BlockZeroBits)
            }
            _ => Ok(()),
        }
    }

    /// Hash of all parameters and of the protocol version.
    pub fn digest(&self) -> [u8; 32] {
        Digest::new("tutti/params")
            .u32(PROTOCOL_VERSION)
            .fixed(&self.network.magic().to_bytes())
            .fixed(self.coordinator.as_bytes())
            .bytes(self.tag.as_bytes())
            .u32(self.operator_fee_ppm)
            .u16(self.lanes)
            .u16(self.nonces_per_slot)
            .u16(self.direct_payees)
            .u32(self.pplns_depth)
            .u32(self.ntime_roll)
            .u8(self.block_zero_bits.unwrap_or(0))
            .u8(self.scoring as u8)
            .u32(self.bump_credit)
            .u16(self.bump_credit_after)
            .finish()
    }

    /// Most payout transactions of a lane: as many as a slot has nonces for.
    pub fn shards_max(&self) -> usize {
        usize::from(self.nonces_per_slot / self.lanes.max(1))
    }

    /// Expected hashes to find a block under the compact target `bits`.
    pub fn block_work(&self, bits: u32) -> Work {
        let by_target = Work::of_target(bits);
        match self.block_zero_bits {
            Some(zero_bits) => by_target.max(Work::of_zero_bits(zero_bits)),
            None => by_target,
        }
    }

    /// Weight of each identity in a round under the compact target `bits`.
    pub fn weights(&self, ledger: &Ledger, bits: u32) -> Result<Tally, WorkOverflow> {
        ledger.scored(self.scoring, self.scoring_depth(bits))
    }

    /// The first window whose work has a weight in a round under the compact target `bits`.
    pub fn counts_from(&self, ledger: &Ledger, bits: u32) -> Result<WindowSeq, WorkOverflow> {
        ledger.counts_from(self.scoring, self.scoring_depth(bits))
    }

    /// How much work, newest first, PPLNS covers.
    pub fn scoring_depth(&self, bits: u32) -> Work {
        Work(
            self.block_work(bits)
                .0
                .saturating_mul(u128::from(self.pplns_depth)),
        )
    }
}
