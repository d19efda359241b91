//! The log on stderr, as sentences or as one JSON object a line. A thread writes it: a terminal that is stopped,
//! or a pipe that nobody reads, holds up no signature.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::{Map, Value};
use thiserror::Error;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::config::{LogFormat, LogSettings};

/// Lines that wait to be written; beyond them lines are left out.
const WAITING_LINES: usize = 4_096;

/// The log cannot be started.
#[derive(Debug, Error)]
pub enum LogError {
    /// `RUST_LOG` is none.
    #[error("the environment's RUST_LOG is no filter ({0}); write it as RUST_LOG=info or unset it")]
    Filter(String),
}

/// The log's end: what was said is written when this is dropped.
#[must_use]
pub struct LogGuard(Arc<Mutex<Option<WorkerGuard>>>);

impl Drop for LogGuard {
    fn drop(&mut self) {
        end(&self.0);
    }
}

impl LogGuard {
    /// Ends the log before: what was said is written, what is said after it is not.
    pub(crate) fn ender(&self) -> impl Fn() + Send + Sync + 'static {
        let guard = self.0.clone();
        move || end(&guard)
    }
}

fn end(guard: &Mutex<Option<WorkerGuard>>) {
    drop(guard.lock().unwrap_or_else(PoisonError::into_inner).take());
}

/// Starts logging, which lasts as long as the guard. The file's level is for our own lines, libraries only warn;
/// the environment's `RUST_LOG` wins over both.
pub fn start(settings: LogSettings) -> Result<LogGuard, LogError> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(filter) if !filter.is_empty() => {
            EnvFilter::try_new(filter).map_err(|error| LogError::Filter(error.to_string()))?
        }
        _ => {
            let level = settings.level.as_str();
            EnvFilter::new(format!("warn,tutti_participant={level}"))
        }
    };
    let (writer, guard) = NonBlockingBuilder::default()
        .buffered_lines_limit(WAITING_LINES)
        .thread_name("log")
        .finish(std::io::stderr());
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .event_format(Lines(settings.format))
        .finish();
    // A second start in one process, as in tests, changes nothing.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(LogGuard(Arc::new(Mutex::new(Some(guard)))))
}

struct Lines(LogFormat);

/// What an event carries: ours by name, others' by their fields.
#[derive(Default)]
struct Parts {
    news: Option<String>,
    text: String,
    fields: Map<String, Value>,
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut out: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut parts = Parts::default();
        event.record(&mut parts);
        let level = *event.metadata().level();
        match self.0 {
            LogFormat::Text => parts.write_text(&mut out, level),
            LogFormat::Json => parts.write_json(&mut out, level, event.metadata().target()),
        }
    }
}

impl Parts {
    fn write_text(self, out: &mut Writer<'_>, level: Level) -> fmt::Result {
        SystemTime.format_time(out)?;
        write!(out, " {level:<5} {}", self.text)?;
        match self.news {
            // By which the documents call it.
            Some(name) if level <= Level::WARN => write!(out, " [{name}]")?,
            Some(_) => {}
            // A library's: its fields are the message.
            None => {
                for (key, value) in &self.fields {
                    write!(out, " {key}={value}")?;
                }
            }
        }
        writeln!(out)
    }

    fn write_json(mut self, out: &mut Writer<'_>, level: Level, target: &str) -> fmt::Result {
        write!(out, "{{\"ts\":\"")?;
        SystemTime.format_time(out)?;
        let level = level.as_str().to_ascii_lowercase();
        let name = match self.news {
            Some(name) => name,
            None => {
                self.fields.insert("target".to_owned(), target.into());
                self.fields.insert("message".to_owned(), self.text.into());
                "log".to_owned()
            }
        };
        write!(out, "\",\"level\":\"{level}\",\"event\":\"{name}\"")?;
        for (key, value) in self.fields {
            write!(out, ",{}:{value}", Value::String(key))?;
        }
        writeln!(out, "}}")
    }
}

impl Visit for Parts {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "news" => self.news = Some(value.to_owned()),
            "fields" => {
                if let Ok(Value::Object(fields)) = serde_json::from_str(value) {
                    self.fields = fields;
                }
            }
            "message" => self.text = value.to_owned(),
            name => {
                self.fields.insert(name.to_owned(), value.into());
            }
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}
