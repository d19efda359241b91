//! One daemon per data directory.

use std::path::Path;

use tutti_daemon::lock::{self, Holder, LockedFile};

use super::StoreError;

const FILE_NAME: &str = "lock";

/// Held for the life of the process; the system releases it however the process ends.
pub struct DataLock {
    _file: LockedFile,
}

impl DataLock {
    /// Takes the lock and writes our pid into it.
    pub fn take(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join(FILE_NAME);
        let taken = lock::lock(&path).map_err(|source| StoreError::io("lock", &path, source))?;
        match taken {
            Ok(file) => Ok(Self { _file: file }),
            Err(Holder(holder)) => Err(StoreError::InUse {
                path: directory.to_owned(),
                holder,
            }),
        }
    }
}

/// Whether a daemon runs on this directory. Leaves no trace.
pub fn is_held(directory: &Path) -> bool {
    lock::is_held(&directory.join(FILE_NAME))
}
