//! What is wrong with a configuration file.

use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why a configuration file is not taken. One sentence, with the file, the key and what is allowed.
#[derive(Debug, Error)]
pub enum ConfigError {
    #[error(
        "cannot read the config file {}: {source}; name one with --config FILE (there is an example in contrib/examples/{example})",
        path.display()
    )]
    Read {
        path: PathBuf,
        source: std::io::Error,
        example: &'static str,
    },
    #[error("{}, line {line}{}: {problem}", path.display(), named(key))]
    Syntax {
        path: PathBuf,
        line: usize,
        key: Option<String>,
        problem: String,
    },
    #[error("{}: {key} {problem}", path.display())]
    Value {
        path: PathBuf,
        key: &'static str,
        problem: String,
    },
}

impl ConfigError {
    pub(super) fn from_toml(path: &Path, text: &str, error: &toml::de::Error) -> Self {
        let start = error.span().map_or(0, |span| span.start).min(text.len());
        let before = text.get(..start).unwrap_or(text);
        // What is missing is in no line.
        let is_missing = error.message().starts_with("missing field");
        Self::Syntax {
            path: path.to_owned(),
            line: before.matches('\n').count() + 1,
            key: key_at(text, start).filter(|_| !is_missing),
            // Only the message: the library's own display quotes the line, passwords and all.
            problem: error.message().trim().replace('\n', ", "),
        }
    }
}

fn named(key: &Option<String>) -> String {
    key.as_ref()
        .map_or_else(String::new, |key| format!(", {key}"))
}

/// The key on the line at `start`, with its section.
fn key_at(text: &str, start: usize) -> Option<String> {
    let line_start = text
        .get(..start)?
        .rfind('\n')
        .map_or(0, |newline| newline + 1);
    let line = text.get(line_start..)?.lines().next()?;
    let (key, _) = line.split_once('=')?;
    let key = key.trim();
    let section = text
        .get(..line_start)?
        .lines()
        .rev()
        .map(str::trim)
        .find_map(|line| line.strip_prefix('[')?.split_once(']'))
        .map(|(section, _)| section.trim());
    match section {
        Some(section) => Some(format!("{section}.{key}")),
        None => Some(key.to_owned()),
    }
}
