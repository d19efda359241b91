//! Files that are whole after a power loss, or not there at all. Only their owner may read them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Ends the name of a file that is being written; a crash leaves it there.
pub const UNFINISHED: &str = ".tmp";
/// Bytes that are made durable at once: a file system that keeps its data in order writes them with the next
/// flush of any other file, and shares wait for those.
const PIECE: usize = 512 << 10;
const FILE_MODE: u32 = 0o600;

/// Replaces a file, or makes it; it is on disk when this returns.
pub fn write(path: &Path, contents: &[u8]) -> io::Result<()> {
    replace(path, |file| {
        for piece in contents.chunks(PIECE) {
            file.write_all(piece)?;
            file.sync_data()?;
        }
        file.sync_all()
    })?;
    sync_entry(path)
}

/// Replaces a file, or makes it; after a power failure there is perhaps an older one, or on some file systems an
/// empty one.
pub fn write_lazily(path: &Path, contents: &[u8]) -> io::Result<()> {
    replace(path, |file| file.write_all(contents))
}

fn replace(path: &Path, fill: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let unfinished = unfinished(path);
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(&unfinished)?;
    let written = fill(&mut file).and_then(|()| fs::rename(&unfinished, path));
    if written.is_err() {
        // What a full disk holds of it is room for nobody else.
        let _ = fs::remove_file(&unfinished);
    }
    written
}

fn unfinished(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(UNFINISHED);
    name.into()
}

/// Makes a directory if there is none, and its name durable. An error says which.
pub fn directory(path: &Path) -> io::Result<()> {
    let made = fs::create_dir_all(path).and_then(|()| sync_entry(path));
    made.map_err(|error| named("make", path, &error))
}

/// The same error, of this file or directory.
pub fn named(doing: &str, path: &Path, error: &io::Error) -> io::Error {
    let words = format!("cannot {doing} {}: {error}", path.display());
    io::Error::new(error.kind(), words)
}

/// Makes a file's or directory's name durable: it belongs to the directory that it is in.
pub fn sync_entry(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => File::open(directory)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole_and_only_its_owner_s() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.json");
        for write in [write, write_lazily] {
            write(&path, b"one").unwrap();
            // Left by a crash.
            fs::write(unfinished(&path), b"something longer").unwrap();
            write(&path, b"two").unwrap();
            assert_eq!(fs::read(&path).unwrap(), b"two");
            assert!(!unfinished(&path).exists());
            let mode = fs::metadata(&path).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
            fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn what_could_not_be_written_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("taken");
        fs::create_dir_all(path.join("by something")).unwrap();
        assert!(write(&path, b"bytes").is_err());
        assert!(write_lazily(&path, b"bytes").is_err());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
