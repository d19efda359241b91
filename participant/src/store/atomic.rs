//! Whole files, replaced at once.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;
use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use tutti_daemon::durable;

use super::StoreError;

/// Whether a file must survive a power failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// On disk when the call returns.
    Durable,
    /// After a power failure perhaps an older one, or on some file systems empty: [`read_lazy`] reads it.
    Lazy,
}

/// Replaces the file by `value`.
pub fn write_json<T: Serialize>(
    path: &Path,
    value: &T,
    durability: Durability,
) -> Result<(), StoreError> {
    let failed = |source| StoreError::io("write", path, source);
    let mut bytes =
        serde_json::to_vec_pretty(value).map_err(|error| failed(io::Error::other(error)))?;
    bytes.push(b'\n');
    write_bytes(path, &bytes, durability)
}

/// Replaces the file by these bytes.
pub fn write_bytes(path: &Path, bytes: &[u8], durability: Durability) -> Result<(), StoreError> {
    let written = match durability {
        Durability::Durable => durable::write(path, bytes),
        Durability::Lazy => durable::write_lazily(path, bytes),
    };
    written.map_err(|source| StoreError::io("write", path, source))
}

/// Reads a file; `None` where there is none.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StoreError> {
    let bytes = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        bytes => bytes.map_err(|source| StoreError::io("read", path, source))?,
    };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| StoreError::Damaged {
            path: path.to_owned(),
            reason: error.to_string(),
        })
}

/// Reads a file that is written lazily; `None` as well where a power failure left no whole one.
pub fn read_lazy<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StoreError> {
    match fs::read(path) {
        Ok(bytes) if serde_json::from_slice::<IgnoredAny>(&bytes).is_err() => Ok(None),
        _ => read_json(path),
    }
}

/// Reads a file that may come from anywhere: one that is no file, or larger than `limit`, is not read.
pub(super) fn read_json_within<T: DeserializeOwned>(
    path: &Path,
    limit: u64,
) -> Result<Option<T>, StoreError> {
    let failed = |source| StoreError::io("read", path, source);
    let damaged = |reason: String| StoreError::Damaged {
        path: path.to_owned(),
        reason,
    };
    let Some(file) = open_file(path)? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    let mut start = file.take(limit.saturating_add(1));
    start.read_to_end(&mut bytes).map_err(failed)?;
    if !u64::try_from(bytes.len()).is_ok_and(|length| length <= limit) {
        return Err(damaged(format!("it has more than {limit} bytes")));
    }
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|error| damaged(error.to_string()))
}

/// Reads of a file that may come from anywhere what `T` takes, as it comes: it is never in memory as a whole.
pub(crate) fn read_json_in_part<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StoreError> {
    let Some(file) = open_file(path)? else {
        return Ok(None);
    };
    serde_json::from_reader(BufReader::new(file))
        .map(Some)
        .map_err(|error| StoreError::Damaged {
            path: path.to_owned(),
            reason: error.to_string(),
        })
}

/// Opens what is a file: a device or a pipe might never end, or never begin.
fn open_file(path: &Path) -> Result<Option<File>, StoreError> {
    let failed = |source| StoreError::io("read", path, source);
    let opened = OpenOptions::new()
        .read(true)
        // Whoever opens a pipe to read would wait for a writer.
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path);
    let file = match opened {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    // Asked of what is open, so that it cannot be exchanged in between.
    match file.metadata().map_err(failed)?.is_file() {
        true => Ok(Some(file)),
        false => Err(StoreError::Damaged {
            path: path.to_owned(),
            reason: "it is not a file".to_owned(),
        }),
    }
}

/// Removes what a crash left half written of files whose names end so. A directory that is not there has none.
pub(super) fn remove_temporary(directory: &Path, ending: &str) -> Result<(), StoreError> {
    let failed = |source| StoreError::io("read", directory, source);
    let ending = format!("{ending}{}", durable::UNFINISHED);
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(failed)?,
    };
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path.to_str().is_some_and(|path| path.ends_with(&ending)) {
            match fs::remove_file(&path) {
                // An import beside us was just done with it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed.map_err(|source| StoreError::io("remove", &path, source))?,
            }
        }
    }
    Ok(())
}
