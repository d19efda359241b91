//! Dates for persons.

/// Seconds since 1970 as `2026-11-20 09:30 UTC`.
pub fn utc(seconds: u64) -> String {
    let (days, minutes) = (seconds / 86_400, seconds % 86_400 / 60);
    // Years from March on, so that a leap day is the last of its year: days since 0000-03-01.
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    let year = 400 * era + year_of_era + carry;
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02} UTC",
        minutes / 60,
        minutes % 60
    )
}

/// `2026-01-31` as the seconds since 1970 at which that day began.
pub fn parse(text: &str) -> Option<u64> {
    let mut parts = text.split('-');
    let mut part = |digits: usize| {
        let part = parts.next().filter(|part| part.len() == digits)?;
        part.parse::<u64>().ok()
    };
    let (year, month, day) = (part(4)?, part(2)?, part(2)?);
    if year < 1970 || parts.next().is_some() {
        return None;
    }
    let (from_march, year) = match month {
        3..=12 => (month - 3, year),
        1 | 2 => (month + 9, year - 1),
        _ => return None,
    };
    let days = 365 * year + year / 4 - year / 100 + year / 400;
    let day_of_year = (153 * from_march + 2) / 5 + day.checked_sub(1)?;
    let seconds = (days + day_of_year)
        .checked_sub(719_468)?
        .checked_mul(86_400)?;
    // A day that the month does not have comes back as another.
    utc(seconds).starts_with(text).then_some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_moments_have_their_dates() {
        for (seconds, date) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_868_799, "2000-02-29 23:59 UTC"),
            (951_868_800, "2000-03-01 00:00 UTC"),
            (1_231_006_505, "2009-01-03 18:15 UTC"),
            (1_798_720_496, "2026-12-31 12:34 UTC"),
            (4_107_542_400, "2100-03-01 00:00 UTC"),
        ] {
            assert_eq!(utc(seconds), date);
        }
    }

    #[test]
    fn days_are_read_as_they_are_written() {
        for seconds in (0..2_000).map(|day| day * 86_400 * 11) {
            let text = utc(seconds);
            assert_eq!(parse(&text[..10]), Some(seconds), "{text}");
        }
        for text in [
            "2026-02-29",
            "2026-13-01",
            "2026-1-1",
            "1969-12-31",
            "2026",
            "2026-01-00",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
