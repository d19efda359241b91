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

#[cfg(test)]
mod tests {
    use super::*;

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
