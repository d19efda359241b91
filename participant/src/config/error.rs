//! What is wrong with a configuration file, in one sentence with the file, the key and the values
//! allowed.

use std::fmt::Display;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::wallet::XpubError;

/// Why a configuration was not taken.
#[derive(Debug, Error)]
pub enum ConfigError {
    #[error(
        "cannot read the configuration file {} ({source}); name it with --config FILE, an example is contrib/examples/participant.toml",
        file.display()
    )]
    Read { file: PathBuf, source: io::Error },
    #[error("{}, line {line}{}: {reason}", file.display(), key_part(key.as_deref()))]
    Syntax {
        file: PathBuf,
        line: usize,
        key: Option<String>,
        reason: String,
    },
    #[error("{}, key {key}: {found} cannot be used; {allowed}", file.display())]
    Value {
        file: PathBuf,
        key: &'static str,
        found: String,
        allowed: String,
    },
    #[error(
        "{}: the key `coordinator` is missing; it is the pool's address, as http://host:port",
        file.display()
    )]
    NoCoordinator { file: PathBuf },
    #[error(
        "{}, section [node]: give either cookie_file, or both rpc_user and rpc_password",
        file.display()
    )]
    NodeLogin { file: PathBuf },
    #[error(
        "{}, section [wallet]: give xpub or address or neither, not both", file.display()
    )]
    PaidTwice { file: PathBuf },
    #[error("{}, key wallet.xpub: {reason}", file.display())]
    Xpub { file: PathBuf, reason: XpubError },
}

fn key_part(key: Option<&str>) -> String {
    key.map(|key| format!(", key {key}")).unwrap_or_default()
}

impl ConfigError {
    /// An error of the TOML reader. Its own text shows the line, which may hold a password.
    pub(super) fn syntax(file: &Path, text: &str, error: &toml::de::Error) -> Self {
        let start = error.span().map_or(0, |span| span.start).min(text.len());
        let before = text.get(..start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        // What is missing is in no line.
        let is_missing = error.message().starts_with("missing field");
        let key = text
            .lines()
            .nth(line - 1)
            .and_then(|line| line.split_once('='))
            .filter(|_| !is_missing)
            .map(|(key, _)| key.trim().to_owned());
        // The reason of a wrong type quotes the value.
        let secret = matches!(key.as_deref(), Some("rpc_password" | "xpub"));
        let reason = if secret {
            "expected a text in quotation marks".to_owned()
        } else {
            error.message().trim().replace('\n', "; ")
        };
        Self::Syntax {
            file: file.to_owned(),
            line,
            key,
            reason,
        }
    }
}

/// The file that is being checked.
#[derive(Clone, Copy)]
pub(super) struct Place<'a>(pub &'a Path);

impl Place<'_> {
    pub fn value(
        self,
        key: &'static str,
        found: impl Display,
        allowed: impl Into<String>,
    ) -> ConfigError {
        ConfigError::Value {
            file: self.0.to_owned(),
            key,
            found: found.to_string(),
            allowed: allowed.into(),
        }
    }

    pub fn paid_twice(self) -> ConfigError {
        ConfigError::PaidTwice {
            file: self.0.to_owned(),
        }
    }

    pub fn xpub(self, reason: XpubError) -> ConfigError {
        ConfigError::Xpub {
            file: self.0.to_owned(),
            reason,
        }
    }

    pub fn node_login(self) -> ConfigError {
        ConfigError::NodeLogin {
            file: self.0.to_owned(),
        }
    }
}
