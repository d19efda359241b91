//! The log on stderr: how much of it, in which form, and who writes it.

mod line;
mod writer;

use thiserror::Error;
use tracing_subscriber::EnvFilter;

use crate::config::LogSettings;
pub use line::Line;
pub use writer::LogGuard;
use writer::LogWriter;

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

/// Starts the log of this process, which lasts as long as the guard. The configured level is for lines of `target`;
/// the environment's `RUST_LOG` overrides it. `tell_left_out` says how many lines nobody was there to read.
pub fn start(
    settings: LogSettings,
    target: &str,
    tell_left_out: impl Fn(u64) + Send + 'static,
) -> Result<LogGuard, LogError> {
    let filter = match std::env::var("RUST_LOG") {
        Ok(filter) if !filter.is_empty() => {
            EnvFilter::try_new(filter).map_err(|error| LogError::Filter(error.to_string()))?
        }
        // Libraries speak of trouble only.
        _ => EnvFilter::new(format!("warn,{target}={}", settings.level.name())),
    };
    let (writer, guard) = LogWriter::start(std::io::stderr(), tell_left_out)?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .event_format(Line(settings.format))
        .try_init()
        .map_err(|_| LogError::Started)?;
    Ok(guard)
}
