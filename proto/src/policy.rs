//! What a participant accepts. Local, never sent: a plan beyond it is refused, not negotiated.

use bitcoin::Network;

use crate::feerate::FeeRate;

/// Limits of one participant's consent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Highest operator fee, parts per million.
    pub operator_fee_ppm_max: u32,
    /// Most that a bump of a payout may be credited, sat: everybody pays for it.
    pub bump_credit_max: u32,
    /// Highest feerate of a payout.
    pub feerate_max: FeeRate,
    /// Fewest signers of a round, this participant and the coordinator included.
    pub signers_min: u16,
    /// Hash only in rounds that this participant's own key signs.
    pub must_be_signer: bool,
    /// Do not hash on coinbases that pay the payees directly.
    pub refuse_direct: bool,
    /// Most that such a coinbase may leave owed to this participant, sat, while it pays others in advance: they may
    /// never return. What is below the dust limit is not asked.
    pub direct_owed_max: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            operator_fee_ppm_max: 20_000,
            bump_credit_max: 20_000,
            feerate_max: FeeRate::CEILING,
            // The coordinator alone is no covenant: it could sign the coinbase to itself.
            signers_min: 2,
            must_be_signer: false,
            refuse_direct: false,
            direct_owed_max: 0,
        }
    }
}

/// Block subsidy at a height, sat: the least that a coinbase can be worth.
pub fn subsidy(network: Network, height: u32) -> u64 {
    // Regtest halves every 150 blocks, every other network every 210,000.
    let interval = if network == Network::Regtest {
        150
    } else {
        210_000
    };
    5_000_000_000u64.checked_shr(height / interval).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subsidies_halve() {
        assert_eq!(subsidy(Network::Bitcoin, 209_999), 5_000_000_000);
        assert_eq!(subsidy(Network::Bitcoin, 840_000), 312_500_000);
        assert_eq!(subsidy(Network::Regtest, 150), 2_500_000_000);
        assert_eq!(subsidy(Network::Regtest, 150 * 64), 0);
    }
}
