//! Amounts for persons.

use bitcoin::{Amount, Denomination};

/// `1234567` as `1 234 567`.
pub fn grouped(number: impl ToString) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// `1234567` as `1 234 567 sat`.
pub fn sats(sat: u64) -> String {
    format!("{} sat", grouped(sat))
}

/// `1234567` as `0.01234567 BTC`.
pub fn btc(sat: u64) -> String {
    format!("{}.{:08} BTC", sat / 100_000_000, sat % 100_000_000)
}

/// `1234567` as `1 234 567 sat = 0.01234567 BTC`.
pub fn both(sat: u64) -> String {
    format!("{} = {}", sats(sat), btc(sat))
}

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
    fn a_sat_is_the_eighth_decimal_of_a_bitcoin() {
        assert_eq!(btc(1), "0.00000001 BTC");
        assert_eq!(btc(312_500_000), "3.12500000 BTC");
    }

    #[test]
    fn digits_are_grouped_from_the_right() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1 000"),
            (312_500_000, "312 500 000"),
        ] {
            assert_eq!(grouped(number), text);
        }
    }

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
