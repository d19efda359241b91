//! `[log]`: how the log is written, and what it says.

use serde::Deserialize;

/// The section.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogSettings {
    /// How it is written.
    pub format: LogFormat,
    /// What it says.
    pub level: LogLevel,
}

impl LogSettings {
    /// These, or JSON whatever they say where that was asked for.
    pub fn or_json(self, json: bool) -> Self {
        match json {
            true => Self {
                format: LogFormat::Json,
                ..self
            },
            false => self,
        }
    }
}

/// How the log is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// Lines for programs.
    Json,
}

/// What the log says: this and everything more severe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What needs whoever runs the daemon.
    Error,
    /// What may need them.
    Warn,
    /// What the daemon does.
    #[default]
    Info,
    /// What comes by often.
    Debug,
    /// All there is.
    Trace,
}

impl LogLevel {
    /// Its name in filters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}
