//! The data directory's lock: one process at a time.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use thiserror::Error;
use tutti_daemon::lock::{Holder, LockedFile, lock};

/// In the data directory.
pub(crate) const FILE_NAME: &str = "lock";

/// Why the data directory is not ours.
#[derive(Debug, Error)]
pub enum LockError {
    #[error(
        "the data directory {} is in use by {holder}; stop that process, or set another data_dir",
        data_dir.display()
    )]
    InUse { data_dir: PathBuf, holder: String },
    #[error("cannot use the data directory {}: {source}; correct data_dir or its rights", data_dir.display())]
    Io {
        data_dir: PathBuf,
        source: io::Error,
    },
}

/// Held as long as it lives; the kernel takes it back from a dead process.
#[derive(Debug)]
pub struct DataDirLock {
    _file: LockedFile,
}

impl DataDirLock {
    /// Makes the directory if there is none, and locks it.
    pub fn take(data_dir: &Path) -> Result<Self, LockError> {
        let io = |source| LockError::Io {
            data_dir: data_dir.to_owned(),
            source,
        };
        // Payees, their work and their payouts are nobody else's business.
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(data_dir)
            .map_err(io)?;
        match lock(&data_dir.join(FILE_NAME)).map_err(io)? {
            Ok(file) => Ok(Self { _file: file }),
            Err(Holder(holder)) => Err(LockError::InUse {
                data_dir: data_dir.to_owned(),
                holder,
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_data_directory_is_made_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let data_dir = dir.path().join("pool").join("data");
        let _held = DataDirLock::take(&data_dir).unwrap();
        let mode = std::fs::metadata(&data_dir).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
    }

    #[test]
    fn a_locked_directory_names_its_holder() {
        let dir = tempfile::tempdir().unwrap();
        let held = DataDirLock::take(dir.path()).unwrap();
        let error = DataDirLock::take(dir.path()).unwrap_err().to_string();
        let pid = std::process::id();
        assert!(
            error.contains(&format!("in use by process {pid};")),
            "{error}"
        );
        drop(held);
        DataDirLock::take(dir.path()).unwrap();
    }
}
