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
