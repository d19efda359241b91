//! Amounts for persons. Programs read plain integers.

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
pub fn both(sat: impl Into<u64>) -> String {
    let sat = sat.into();
    format!("{} = {}", sats(sat), btc(sat))
}

/// The same of what may be negative.
pub fn signed(sat: i64) -> String {
    let (sign, sat) = (if sat < 0 { "-" } else { "" }, sat.unsigned_abs());
    format!("{sign}{} = {sign}{}", sats(sat), btc(sat))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sat_is_the_eighth_decimal_of_a_bitcoin() {
        assert_eq!(btc(1), "0.00000001 BTC");
        assert_eq!(both(312_500_000u64), "312 500 000 sat = 3.12500000 BTC");
        assert_eq!(signed(-1_234), "-1 234 sat = -0.00001234 BTC");
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
}
