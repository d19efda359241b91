//! Files that are whole after a power loss, or not there at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Bytes that are made durable at once: a file system that keeps its data in order writes them with the next
/// flush of any other file, and shares wait for those.
const PIECE: usize = 512 << 10;

/// Writes a file that only its owner may read; it is on disk when this returns.
pub(crate) fn write(path: &Path, contents: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    if let Err(error) = write_new(&unfinished, contents) {
        // What a full disk holds of it is room for nobody else.
        let _ = fs::remove_file(&unfinished);
        return Err(error);
    }
    fs::rename(&unfinished, path)?;
    sync_entry(path)
}

fn write_new(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    for piece in contents.chunks(PIECE) {
        file.write_all(piece)?;
        file.sync_data()?;
    }
    file.sync_all()
}

/// Makes a directory if there is none, and its name durable. An error says which.
pub(crate) fn directory(path: &Path) -> io::Result<()> {
    let made = fs::create_dir_all(path).and_then(|()| sync_entry(path));
    made.map_err(|error| named("make", path, &error))
}

/// The same error, of this file or directory.
pub(crate) fn named(doing: &str, path: &Path, error: &io::Error) -> io::Error {
    let words = format!("cannot {doing} {}: {error}", path.display());
    io::Error::new(error.kind(), words)
}

/// Makes a file's or directory's name durable: it belongs to the directory that it is in.
pub(crate) fn sync_entry(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => File::open(directory)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}
