//! One daemon per data directory.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::StoreError;

const FILE_NAME: &str = "lock";
const FILE_MODE: u32 = 0o600;

/// Held for the life of the process; the system releases it however the process ends.
pub struct DataLock {
    _file: Flock<File>,
}

impl DataLock {
    /// Takes the lock and writes our pid into it.
    pub fn take(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join(FILE_NAME);
        let taken = lock(&path).map_err(|source| StoreError::io("lock", &path, source))?;
        match taken {
            Ok(file) => Ok(Self { _file: file }),
            Err(Holder(holder)) => Err(StoreError::InUse {
                path: directory.to_owned(),
                holder,
            }),
        }
    }
}

/// Who holds a lock, for persons.
pub(crate) struct Holder(pub String);

/// Locks a file, creating it where there is none, and writes our pid into it; or says who holds it.
pub(crate) fn lock(path: &Path) -> io::Result<Result<Flock<File>, Holder>> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(FILE_MODE)
        .open(path)?;
    let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(file) => file,
        Err((mut file, Errno::EWOULDBLOCK)) => {
            let pid = pid_in(&mut file);
            let holder = pid.map_or("another process".to_owned(), |pid| format!("process {pid}"));
            return Ok(Err(Holder(holder)));
        }
        Err((_, errno)) => return Err(errno.into()),
    };
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    writeln!(file, "{}", std::process::id())?;
    Ok(Ok(file))
}

/// Whether a daemon runs on this directory. Leaves no trace.
pub fn is_held(directory: &Path) -> bool {
    let Ok(file) = File::open(directory.join(FILE_NAME)) else {
        return false;
    };
    // A shared lock, so that two who ask at once do not take each other for the daemon.
    matches!(
        Flock::lock(file, FlockArg::LockSharedNonblock),
        Err((_, Errno::EWOULDBLOCK))
    )
}

fn pid_in(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(20).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
