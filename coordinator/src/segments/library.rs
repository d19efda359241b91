//! The files for those who are served them: none is before it was found to be what its name says.
//!
//! A rotten file would make whoever reads it take the pool for a liar, and leave it for good.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::SystemTime;

use bitcoin::hashes::{Hash, HashEngine, sha256};
use thiserror::Error;
use tokio::sync::watch;
use tutti_proto::segment::FileId;

use super::{Directory, Name};
use crate::news::News;

/// Bytes that are hashed at once.
const PIECE: usize = 256 << 10;

/// Why a file is not served.
#[derive(Debug, Error)]
pub enum Unserved {
    /// It was removed.
    #[error("{0}")]
    Gone(io::Error),
    /// It cannot be read, or is not what it was written as.
    #[error("the file is damaged here; others may have it")]
    Damaged,
}

/// Which file was hashed, and how it was: inode, length, and time of its last change.
type Stamp = (u64, u64, Option<SystemTime>);

#[derive(Clone, Copy, PartialEq, Eq)]
struct Hashed {
    stamp: Stamp,
    whole: bool,
}

/// Directory and what is known of its files.
#[derive(Clone)]
pub struct Library {
    directory: Directory,
    hashed: Arc<watch::Sender<BTreeMap<FileId, Hashed>>>,
}

impl Library {
    /// Of this directory.
    pub fn new(directory: Directory) -> Self {
        let hashed = Arc::new(watch::Sender::new(BTreeMap::new()));
        Self { directory, hashed }
    }

    /// Opens a file. The first time it is read whole; so this may take its time.
    pub fn open(&self, name: &Name, id: &FileId) -> Result<File, Unserved> {
        let mut file = self.directory.file(name, id).map_err(Unserved::Gone)?;
        let stamp = stamp(&file).map_err(Unserved::Gone)?;
        let known = self.hashed.borrow().get(id).copied();
        let whole = match known.filter(|known| known.stamp == stamp) {
            Some(known) => known.whole,
            None => self.hash(name, id, &file, stamp),
        };
        if !whole {
            return Err(Unserved::Damaged);
        }
        io::Seek::rewind(&mut file).map_err(Unserved::Gone)?;
        Ok(file)
    }

    fn hash(&self, name: &Name, id: &FileId, file: &File, stamp: Stamp) -> bool {
        let found = digest(file);
        let whole = found.as_ref().is_ok_and(|found| found == id);
        let fresh = self.hashed.send_if_modified(|hashed| {
            let now = Hashed { stamp, whole };
            hashed.insert(*id, now) != Some(now)
        });
        if fresh && !whole {
            let why = found.err().map_or_else(
                || "its bytes are not those of its name".to_owned(),
                |error| error.to_string(),
            );
            News::file_damaged(&self.directory.path(name, id), &why).tell();
        }
        whole
    }
}

fn stamp(file: &File) -> io::Result<Stamp> {
    let metadata = file.metadata()?;
    Ok((metadata.ino(), metadata.len(), metadata.modified().ok()))
}

fn digest(mut file: &File) -> io::Result<FileId> {
    let mut engine = sha256::Hash::engine();
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece) {
            Ok(0) => break,
            Ok(read) => engine.input(&piece[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let digest = sha256::Hash::from_engine(engine).to_byte_array();
    Ok(FileId::from_digest(digest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tutti_proto::id::WindowSeq;

    #[test]
    fn what_is_not_what_its_name_says_is_not_served_until_it_is_whole_again() {
        let dir = tempfile::tempdir().unwrap();
        let (directory, _) = Directory::open(dir.path()).unwrap();
        let library = Library::new(directory.clone());
        let name = Name::Window(WindowSeq(1));
        let bytes = vec![7; 3 * PIECE / 2];
        let id = directory.write(name, &bytes).unwrap();
        let served = |library: &Library| {
            let mut read = Vec::new();
            let mut file = library.open(&name, &id)?;
            file.read_to_end(&mut read).map_err(Unserved::Gone)?;
            Ok::<_, Unserved>(read)
        };
        assert_eq!(served(&library).unwrap(), bytes);
        assert_eq!(served(&library).unwrap(), bytes, "and again");
        let mut rotten = bytes.clone();
        rotten[PIECE + 5] ^= 1;
        std::fs::write(directory.path(&name, &id), &rotten).unwrap();
        let library = Library::new(directory.clone());
        for _ in 0..2 {
            assert!(matches!(served(&library), Err(Unserved::Damaged)));
        }
        directory.write(name, &bytes).unwrap();
        assert_eq!(served(&library).unwrap(), bytes);
        std::fs::remove_file(directory.path(&name, &id)).unwrap();
        assert!(matches!(served(&library), Err(Unserved::Gone(_))));
    }
}
