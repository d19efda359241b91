//! One line of the log, as text or as JSON; of a daemon's news and of what libraries say.

use std::fmt::{self, Write};

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::config::LogFormat;

/// Formats events. A daemon's own have a field `text`, which is the line after its level, and a field `json`, which
/// is the inside of an object.
pub struct Line(pub LogFormat);

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
