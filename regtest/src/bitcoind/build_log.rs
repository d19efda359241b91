//! The log of a build: kept after failure and success, and quoted in errors.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use super::error::LocateError;

/// As many lines as fit a terminal next to the error that quotes them.
const TAIL_LINES: usize = 15;

pub struct BuildLog {
    path: PathBuf,
}

impl BuildLog {
    /// Starts an empty log at `path`.
    pub fn create(path: PathBuf) -> Result<Self, LocateError> {
        File::create(&path).map_err(|source| LocateError::Cache {
            doing: "write",
            path: path.clone(),
            source,
        })?;
        Ok(BuildLog { path })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A handle for a child process's output.
    pub fn append(&self) -> Result<File, LocateError> {
        OpenOptions::new()
            .append(true)
            .open(&self.path)
            .map_err(|source| LocateError::Cache {
                doing: "write",
                path: self.path.clone(),
                source,
            })
    }

    /// The last lines, for an error's text.
    pub fn tail(&self) -> String {
        // Compilers may print anything.
        let bytes = std::fs::read(&self.path).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }
}
