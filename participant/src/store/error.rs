//! What can go wrong with the data directory.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why a file of the data directory was not read or written.
#[derive(Debug, Error)]
pub enum StoreError {
    #[error("cannot {action} {}: {source}; check the disk's space, rights and health", path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(
        "{} is damaged ({reason}); put back a backup of it, or move it away",
        path.display()
    )]
    Damaged { path: PathBuf, reason: String },
    #[error(
        "the data directory {} is in use by {holder}; stop that one, or give this participant a data_dir of its own",
        path.display()
    )]
    InUse { path: PathBuf, holder: String },
}

impl StoreError {
    /// What it is about.
    pub fn path(&self) -> &Path {
        match self {
            Self::Io { path, .. } | Self::Damaged { path, .. } | Self::InUse { path, .. } => path,
        }
    }

    /// What is wrong there, without what it is about.
    pub fn reason(&self) -> String {
        match self {
            Self::Io { source, .. } => source.to_string(),
            Self::Damaged { reason, .. } => reason.clone(),
            Self::InUse { holder, .. } => format!("in use by {holder}"),
        }
    }

    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }
}
