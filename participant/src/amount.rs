//! Amounts for persons.

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
}
