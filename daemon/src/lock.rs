//! Files that one process at a time holds.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

const FILE_MODE: u32 = 0o600;
/// More than a process id has.
const PID_BYTES: u64 = 20;

/// Held as long as it lives; the kernel takes it back from a dead process.
#[derive(Debug)]
pub struct LockedFile {
    _file: Flock<File>,
}

/// Who holds a lock, in words: "process 4711".
#[derive(Debug)]
pub struct Holder(pub String);

/// Locks a file, making it where there is none, and writes our process id into it; or says who holds it.
pub fn lock(path: &Path) -> io::Result<Result<LockedFile, Holder>> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(FILE_MODE)
        .open(path)?;
    let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(file) => file,
        Err((file, Errno::EWOULDBLOCK)) => return Ok(Err(holder(file))),
        Err((_, errno)) => return Err(errno.into()),
    };
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())?;
    Ok(Ok(LockedFile { _file: file }))
}

/// Whether somebody holds this file, as far as it can be read. Leaves no trace.
pub fn is_held(path: &Path) -> bool {
    held_by(path).is_ok_and(|holder| holder.is_some())
}

/// Who holds this file, if there is one and somebody does. Leaves no trace.
pub fn held_by(path: &Path) -> io::Result<Option<Holder>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    // A shared lock, so that two who ask at once do not take each other for the holder.
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Ok(_) => Ok(None),
        Err((file, Errno::EWOULDBLOCK)) => Ok(Some(holder(file))),
        Err((_, errno)) => Err(errno.into()),
    }
}

fn holder(file: File) -> Holder {
    let mut text = String::new();
    // What cannot be read names nobody.
    let _ = file.take(PID_BYTES).read_to_string(&mut text);
    Holder(match text.trim().parse::<u32>() {
        Ok(pid) => format!("process {pid}"),
        Err(_) => "another process".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locked_file_names_its_holder_and_is_free_again_when_that_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        assert!(!is_held(&path));
        let held = lock(&path).unwrap().unwrap();
        assert!(is_held(&path));
        let Holder(holder) = lock(&path).unwrap().unwrap_err();
        assert_eq!(holder, format!("process {}", std::process::id()));
        drop(held);
        assert!(!is_held(&path));
        drop(lock(&path).unwrap().unwrap());
    }
}
