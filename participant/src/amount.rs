//! Amounts for persons, as they are shown and as they are read.

use bitcoin::{Amount, Denomination};
pub use tutti_proto::amount::{both, btc, grouped, sats, signed};

/// Why a text is not an amount.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "{text:?} is not an amount: give sat as in 150000, or bitcoins with their unit as in 0.0015btc"
)]
pub struct AmountError {
    text: String,
}

/// Reads an amount as persons write it, and as it is shown: `150000`, `150 000 sat`, `0.0015 BTC`.
/// A decimal point needs the unit: it is a factor of a hundred million.
pub fn parse(text: &str) -> Result<Amount, AmountError> {
    let failed = || AmountError {
        text: text.to_owned(),
    };
    let lower = text.to_ascii_lowercase();
    let (number, denomination) = match (lower.strip_suffix("btc"), lower.strip_suffix("sat")) {
        (Some(number), _) => (number, Denomination::Bitcoin),
        (_, Some(number)) => (number, Denomination::Satoshi),
        (None, None) => (lower.as_str(), Denomination::Satoshi),
    };
    let digits: String = number
        .chars()
        .filter(|sign| !matches!(sign, ' ' | '_'))
        .collect();
    let plain = |digits: &str| digits.chars().all(|c| c.is_ascii_digit() || c == '.');
    if digits.is_empty() || !plain(&digits) {
        return Err(failed());
    }
    let amount = Amount::from_str_in(&digits, denomination).map_err(|_| failed())?;
    let positive = amount > Amount::ZERO && amount <= Amount::MAX_MONEY;
    positive.then_some(amount).ok_or_else(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_they_are_shown() {
        for sat in [1, 999, 1_000, 150_000, 312_500_000, 2_100_000_000_000_000] {
            let amount = Ok(Amount::from_sat(sat));
            for text in [sats(sat), btc(sat), sat.to_string(), grouped(sat)] {
                assert_eq!(parse(&text), amount, "{text}");
            }
        }
        assert_eq!(parse("0.0015btc"), Ok(Amount::from_sat(150_000)));
        assert_eq!(parse("150_000"), Ok(Amount::from_sat(150_000)));
    }

    #[test]
    fn what_is_no_amount_is_refused() {
        for text in [
            "",
            "0",
            "0btc",
            "-1",
            "+1",
            "0.5",
            "1.5 sat",
            "0.000000001 btc",
            "1e3",
            "1,5btc",
            "sat",
            "21000001 btc",
            "1 mbtc",
            "nan",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
