//! What the configuration files of both daemons share: how one is read, how it says what is wrong, and the values
//! that both have.

mod error;
mod log;
mod network;
mod node;
mod number;
mod password;

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

pub use error::ConfigError;
pub use log::{LogFormat, LogLevel, LogSettings};
pub use network::network;
pub use node::NodeSection;
pub use number::{AtLeast, Bounded, LARGEST, Whole};
pub use password::Password;

/// The file that is being read and checked, by its path.
#[derive(Clone, Copy, Debug)]
pub struct ConfigFile<'a>(pub &'a Path);

impl ConfigFile<'_> {
    /// Its text. If there is none, the error names an `example` in contrib/examples.
    pub fn read(self, example: &'static str) -> Result<String, ConfigError> {
        std::fs::read_to_string(self.0).map_err(|source| ConfigError::Read {
            path: self.0.to_owned(),
            source,
            example,
        })
    }

    /// The keys and values of its text.
    pub fn parse<T: DeserializeOwned>(self, text: &str) -> Result<T, ConfigError> {
        toml::from_str(text).map_err(|error| ConfigError::from_toml(self.0, text, &error))
    }

    /// An error of a key, as the end of a sentence that begins with the key.
    pub fn wrong(self, key: &'static str, problem: impl Into<String>) -> ConfigError {
        ConfigError::Value {
            path: self.0.to_owned(),
            key,
            problem: problem.into(),
        }
    }

    /// A relative path is relative to the file's own directory.
    pub fn beside(self, path: &Path) -> PathBuf {
        self.0.parent().unwrap_or(Path::new("")).join(path)
    }
}
