//! Feerates as integers, in the unit Bitcoin Core computes with.

use std::fmt;
use std::str::FromStr;

use bitcoin::Amount;
use thiserror::Error;

/// A feerate in sat per 1,000 virtual bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Feerate(u64);

/// Why a feerate was not understood.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FeerateError {
    #[error(
        "{text:?} is not a feerate: give sat/vB as a positive number with at most three decimals, such as 12 or 2.5"
    )]
    Syntax { text: String },
}

impl Feerate {
    pub const fn from_sat_per_kvb(sat: u64) -> Self {
        Self(sat)
    }

    /// `None` where the unit conversion would overflow.
    pub fn from_sat_per_vb(sat: u64) -> Option<Self> {
        sat.checked_mul(1_000).map(Self)
    }

    /// What `fee` pays for `vsize`, rounded down: never more than is really paid.
    pub fn paid(fee: Amount, vsize: u64) -> Option<Self> {
        let rate = (u128::from(fee.to_sat()) * 1_000).checked_div(u128::from(vsize))?;
        u64::try_from(rate).ok().map(Self)
    }

    /// What a transaction pays with the fee and the virtual size of its child, or without them where that is more:
    /// miners leave a child that pays less than its parent.
    pub fn paid_with(fee: Amount, vsize: u64, child: Option<(Amount, u64)>) -> Option<Self> {
        let alone = Self::paid(fee, vsize)?;
        let Some((child_fee, child_vsize)) = child else {
            return Some(alone);
        };
        let (fee, vsize) = (fee.checked_add(child_fee)?, vsize.checked_add(child_vsize)?);
        Some(alone.max(Self::paid(fee, vsize)?))
    }

    pub const fn sat_per_kvb(self) -> u64 {
        self.0
    }

    /// Half as much again, rounded up.
    pub const fn half_more(self) -> Self {
        Self(self.0.saturating_add(self.0.div_ceil(2)))
    }

    /// The smallest fee that pays this feerate for `vsize`.
    pub fn fee(self, vsize: u64) -> Option<Amount> {
        let sat = (u128::from(self.0) * u128::from(vsize)).div_ceil(1_000);
        u64::try_from(sat).ok().map(Amount::from_sat)
    }
}

impl fmt::Display for Feerate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03} sat/vB", self.0 / 1_000, self.0 % 1_000)
    }
}

/// Reads sat/vB, as people write feerates: "12", "2.5".
impl FromStr for Feerate {
    type Err = FeerateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let syntax = || FeerateError::Syntax {
            text: text.to_owned(),
        };
        let (whole, fraction) = match text.split_once('.') {
            Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
            Some(_) => return Err(syntax()),
            None => (text, "0"),
        };
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(fraction) || fraction.len() > 3 {
            return Err(syntax());
        }
        let thousandths: u64 = format!("{fraction:0<3}").parse().map_err(|_| syntax())?;
        let sat_per_kvb = whole
            .parse::<u64>()
            .ok()
            .and_then(|sat| sat.checked_mul(1_000))
            .and_then(|sat| sat.checked_add(thousandths))
            .filter(|sat| *sat > 0)
            .ok_or_else(syntax)?;
        Ok(Self(sat_per_kvb))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_counts_where_it_pays_more_than_its_parent() {
        let paid = |fee, vsize| {
            let child = Some((Amount::from_sat(fee), vsize));
            Feerate::paid_with(Amount::from_sat(300), 300, child).unwrap()
        };
        assert_eq!(paid(1_500, 300), Feerate(3_000));
        // 1,000 vB at a tenth of what the parent pays.
        assert_eq!(paid(100, 1_000), Feerate(1_000));
        let alone = Feerate::paid_with(Amount::from_sat(300), 300, None);
        assert_eq!(alone, Some(Feerate(1_000)));
        let huge = Some((Amount::from_sat(u64::MAX), 1));
        assert_eq!(Feerate::paid_with(Amount::from_sat(1), 1, huge), None);
        assert_eq!(Feerate::paid_with(Amount::from_sat(1), 0, None), None);
    }
}
