//! What a bump by hand may cost: a feerate with a digit too many is not paid.

use bitcoin::Amount;
use thiserror::Error;
use tutti_proto::bump::Feerate;

use crate::amount::both;

/// The most that a person's bump pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeeLimit {
    /// What the configuration allows without being asked.
    Configured {
        /// Of the child.
        fee: Amount,
        /// Of payout and child together.
        feerate: Feerate,
    },
    /// The child's fee, as it was asked for: nothing else limits it.
    Asked(Amount),
}

/// Why a child is not made.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AboveLimit {
    #[error(
        "the child would pay a fee of {}, and bump.cost_max_sat in the configuration allows {}; if it is to be paid, give --max-fee {}",
        both(fee.to_sat()), both(most.to_sat()), fee.to_sat()
    )]
    Fee { fee: Amount, most: Amount },
    #[error(
        "payout and child would pay {feerate} with a child's fee of {}, and bump.feerate_max_sat_per_vb in the configuration allows {most}; if it is to be paid, give --max-fee {}",
        both(fee.to_sat()), fee.to_sat()
    )]
    Feerate {
        fee: Amount,
        feerate: Feerate,
        most: Feerate,
    },
    #[error(
        "the child would pay a fee of {}, and --max-fee allows {}; give a higher --max-fee, or a lower feerate",
        both(fee.to_sat()), both(most.to_sat())
    )]
    Asked { fee: Amount, most: Amount },
}

impl FeeLimit {
    /// Judges a child's fee, and the feerate of payout and child.
    pub(super) fn check(self, fee: Amount, feerate: Feerate) -> Result<(), AboveLimit> {
        match self {
            Self::Configured { fee: most, .. } if fee > most => Err(AboveLimit::Fee { fee, most }),
            Self::Configured { feerate: most, .. } if feerate > most => {
                Err(AboveLimit::Feerate { fee, feerate, most })
            }
            Self::Asked(most) if fee > most => Err(AboveLimit::Asked { fee, most }),
            Self::Configured { .. } | Self::Asked(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_sat_above_a_limit_is_refused_and_the_limit_asked_for_is_the_only_one() {
        let (sat, rate) = (Amount::from_sat, Feerate::from_sat_per_kvb);
        let configured = FeeLimit::Configured {
            fee: sat(20_000),
            feerate: rate(200_000),
        };
        assert_eq!(configured.check(sat(20_000), rate(200_000)), Ok(()));
        let said = configured.check(sat(20_001), rate(1)).unwrap_err();
        let said = said.to_string();
        for part in ["20 001 sat", "20 000 sat", "--max-fee 20001"] {
            assert!(said.contains(part), "{said}");
        }
        let said = configured.check(sat(15_000), rate(200_001)).unwrap_err();
        let said = said.to_string();
        for part in [
            "15 000 sat",
            "200.001 sat/vB",
            "200.000 sat/vB",
            "--max-fee 15000",
        ] {
            assert!(said.contains(part), "{said}");
        }
        let asked = FeeLimit::Asked(sat(30_000));
        assert_eq!(asked.check(sat(30_000), rate(9_000_000)), Ok(()));
        let said = asked.check(sat(30_001), rate(1)).unwrap_err().to_string();
        assert!(said.contains("--max-fee allows 30 000 sat"), "{said}");
    }
}
