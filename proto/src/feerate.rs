//! Feerates, in the unit in which Bitcoin Core reports them.

use std::fmt;

/// A feerate in sat per 1,000 virtual bytes (Core's sat/kvB).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FeeRate(u64);

/// The feerate is outside 1..=1,000 sat/vB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("feerate {0} sat/kvB is outside {min}..={max}", min = FeeRate::FLOOR.0, max = FeeRate::CEILING.0)]
pub struct FeeRateOutOfRange(pub u64);

impl FeeRate {
    /// 1 sat/vB: what every Core from 28 on relays alone and keeps over a mempool restart.
    pub const FLOOR: FeeRate = FeeRate(1_000);
    /// 1,000 sat/vB. Above it the number is a mistake, not a market.
    pub const CEILING: FeeRate = FeeRate(1_000_000);

    /// Checks the bounds.
    pub fn from_sat_per_kvb(rate: u64) -> Result<Self, FeeRateOutOfRange> {
        if (Self::FLOOR.0..=Self::CEILING.0).contains(&rate) {
            Ok(Self(rate))
        } else {
            Err(FeeRateOutOfRange(rate))
        }
    }

    /// Sat per 1,000 vB.
    pub fn sat_per_kvb(self) -> u64 {
        self.0
    }

    /// The fee of `vsize` virtual bytes, rounded up to the sat.
    pub fn fee(self, vsize: u64) -> u64 {
        // At most 10^6 sat/kvB times the 10^7 vB of all shards together: far inside u64.
        self.0.saturating_mul(vsize).div_ceil(1_000)
    }
}

impl fmt::Display for FeeRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03} sat/vB", self.0 / 1_000, self.0 % 1_000)
    }
}
