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
    pub(super) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }
}
