//! A line of news, as text or as JSON.

use std::fmt;

use serde_json::Value;
use tracing::Level;
use tutti_proto::amount::both;

use super::News;
use super::sentence::sentence;

/// Fields that are amounts: a person reads them in sat and in bitcoins.
const AMOUNTS: [&str; 2] = ["fee", "sat"];

/// The part of a JSON object that the news is.
pub(super) struct Json<'a>(pub(super) &'a News);

impl fmt::Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"event\":\"{}\"", self.0.name)?;
        self.0
            .fields
            .iter()
            .try_for_each(|(key, value)| write!(f, ",\"{key}\":{value}"))
    }
}

/// The news for a person.
pub(super) struct Text<'a>(pub(super) &'a News);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<16}", self.0.name)?;
        for (key, value) in &self.0.fields {
            match value {
                Value::Null => {}
                Value::Number(sat) if AMOUNTS.contains(key) => match sat.as_u64() {
                    Some(sat) => write!(f, " {key}=\"{}\"", both(sat))?,
                    None => write!(f, " {key}={sat}")?,
                },
                Value::String(text) if is_word(text) => write!(f, " {key}={text}")?,
                // Quoted and escaped: it may hold what a stranger sent.
                other => write!(f, " {key}={other}")?,
            }
        }
        // Errors are the lowest.
        match sentence(self.0.name).filter(|_| self.0.level <= Level::WARN) {
            Some(sentence) => write!(f, ": {sentence}"),
            None => Ok(()),
        }
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'"')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn news() -> News {
        News::new(Level::INFO, "round_done")
            .with("seq", 3)
            .with("peer", Value::Null)
            .with("why", "two words\n\u{1b}[31m")
            .with("code", "not-you")
    }

    #[test]
    fn a_line_for_programs_is_json() {
        let line: Value = serde_json::from_str(&format!("{{{}}}", Json(&news()))).unwrap();
        assert_eq!(line["event"], "round_done");
        assert_eq!(line["seq"], 3);
        assert_eq!(line["why"], "two words\n\u{1b}[31m");
    }

    #[test]
    fn amounts_are_plain_for_programs_and_in_both_units_for_people() {
        let news = News::new(Level::INFO, "payout_bumped").with("fee", 1_234_567);
        assert_eq!(
            Json(&news).to_string(),
            "\"event\":\"payout_bumped\",\"fee\":1234567"
        );
        let text = Text(&news).to_string();
        assert!(
            text.ends_with(" fee=\"1 234 567 sat = 0.01234567 BTC\""),
            "{text}"
        );
    }

    #[test]
    fn people_are_told_what_to_do_about_trouble_and_programs_get_what_they_had() {
        let at = |level| News::new(level, "no_signers").with("seq", 3);
        let (warning, info) = (at(Level::WARN), at(Level::INFO));
        let text = Text(&warning).to_string();
        let sentence = text.strip_prefix("no_signers       seq=3: no participant can sign");
        assert!(
            sentence.is_some_and(|it| it.contains("look at why")),
            "{text}"
        );
        assert_eq!(Text(&info).to_string(), "no_signers       seq=3");
        assert_eq!(
            Json(&warning).to_string(),
            "\"event\":\"no_signers\",\"seq\":3"
        );
    }

    #[test]
    fn a_line_for_people_is_one_line_and_cannot_steer_the_terminal() {
        assert_eq!(
            Text(&news()).to_string(),
            "round_done       seq=3 why=\"two words\\n\\u001b[31m\" code=not-you"
        );
    }
}
