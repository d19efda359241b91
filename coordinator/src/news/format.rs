//! Lines of the log on stderr, as text or as JSON; of our news and of what libraries say.

use std::fmt::{self, Write};

use serde_json::Value;
use thiserror::Error;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;
use tutti_proto::amount::both;

use super::News;
use super::sentence::sentence;
use super::writer::{LogGuard, LogWriter};
use crate::config::{LogFormat, LogLevel};

/// Our own lines, in filters.
pub(super) const TARGET: &str = "tutti_coordinator";
/// Lines of the store, in filters.
pub(super) const STORE: &str = "tutti_coordinator::store";

/// The log cannot be started.
#[derive(Debug, Error)]
pub enum LogError {
    #[error("the environment's RUST_LOG is no filter ({0}); write it as RUST_LOG=info or unset it")]
    Filter(String),
    #[error("the log was started before")]
    Started,
    #[error("cannot start the log's thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Starts the log of this process, which lasts as long as the guard. `RUST_LOG` overrides the
/// configured level.
pub fn start(format: LogFormat, level: LogLevel) -> Result<LogGuard, LogError> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(filter) if !filter.is_empty() => {
            EnvFilter::try_new(filter).map_err(|error| LogError::Filter(error.to_string()))?
        }
        // Libraries speak of trouble only.
        _ => EnvFilter::new(format!("warn,{TARGET}={}", level.name())),
    };
    let (writer, guard) = LogWriter::start(std::io::stderr())?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .event_format(Line(format))
        .try_init()
        .map_err(|_| LogError::Started)?;
    Ok(guard)
}

pub(super) struct Line(pub(super) LogFormat);

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = event.metadata().level();
        let body = match self.0 {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        };
        let mut visitor = BodyVisitor {
            body,
            found: None,
            other: String::new(),
        };
        event.record(&mut visitor);
        match self.0 {
            LogFormat::Text => {
                SystemTime.format_time(&mut writer)?;
                let body = visitor.found.unwrap_or(visitor.other);
                writeln!(writer, " {level:>5} {body}")
            }
            LogFormat::Json => {
                writer.write_str("{\"ts\":\"")?;
                SystemTime.format_time(&mut writer)?;
                let level = level.as_str().to_ascii_lowercase();
                let body = visitor.found.unwrap_or_else(|| {
                    let target = Value::from(event.metadata().target());
                    let message = Value::from(visitor.other);
                    format!("\"event\":\"log\",\"target\":{target},\"message\":{message}")
                });
                writeln!(writer, "\",\"level\":\"{level}\",{body}}}")
            }
        }
    }
}

/// Picks the rendering that is wanted; the other one is never made.
struct BodyVisitor {
    body: &'static str,
    found: Option<String>,
    other: String,
}

impl Visit for BodyVisitor {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            name if name == self.body => self.found = Some(format!("{value:?}")),
            "json" | "text" => {}
            "message" => {
                let _ = write!(self.other, "{value:?} ");
            }
            name => {
                let _ = write!(self.other, "{name}={value:?} ");
            }
        }
    }
}

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
