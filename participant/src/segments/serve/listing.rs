//! The directory as it was listed last. It is listed at most once in a while, however many ask.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bitcoin::BlockHash;
use bitcoin::hashes::{Hash, HashEngine, sha256};
use tonic::Status;
use tutti_proto::id::WindowSeq;
use tutti_proto::segment::FileId;
use tutti_proto::wire::FILE_LIMIT;

use super::super::{FileName, list};

/// A file that came since the directory was listed is found after so long.
const LIST_AGAIN: Duration = Duration::from_secs(1);
/// Bytes that are compared with their name at a time.
const COMPARED: usize = 64 << 10;

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wanted {
    Window(WindowSeq),
    Cid(FileId),
    Block(BlockHash),
}

/// The files of a directory.
pub(super) struct Listing {
    directory: PathBuf,
    listed: Mutex<Listed>,
}

#[derive(Default)]
struct Listed {
    at: Option<Instant>,
    files: BTreeMap<Wanted, Vec<FileName>>,
}

impl Listing {
    pub(super) fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            listed: Mutex::default(),
        }
    }

    /// Opens a file, and says how long it is; a damaged one is not handed on. Reads all of it.
    pub(super) fn open(&self, wanted: &Wanted) -> Result<(FileId, File, u64), Status> {
        let mut unserved = None;
        for name in self.names(wanted)? {
            let path = self.directory.join(name.to_string());
            match open(&path, &name.cid()) {
                Ok(Some((file, length))) => return Ok((name.cid(), file, length)),
                Ok(None) => unserved = Some(Status::data_loss(format!("{name} is damaged"))),
                // Removed since.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    let words = format!("cannot read {name}: {error}");
                    unserved = Some(Status::data_loss(words));
                }
            }
        }
        Err(unserved.unwrap_or_else(|| Status::not_found("no such file is kept here")))
    }

    fn names(&self, wanted: &Wanted) -> Result<Vec<FileName>, Status> {
        // It is whole, or of before, wherever somebody panicked.
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        let is_old = listed.at.is_none_or(|at| at.elapsed() >= LIST_AGAIN);
        if is_old && !listed.files.contains_key(wanted) {
            *listed = Listed::read(&self.directory)?;
        }
        Ok(listed.files.get(wanted).cloned().unwrap_or_default())
    }
}

impl Listed {
    fn read(directory: &Path) -> Result<Self, Status> {
        let names = list(directory).map_err(|error| Status::internal(error.to_string()))?;
        let mut files: BTreeMap<Wanted, Vec<FileName>> = BTreeMap::new();
        for (name, _) in names {
            let other = match name {
                FileName::Segment(window, _) => Wanted::Window(window),
                FileName::Checkpoint(block, _) => Wanted::Block(block),
            };
            for key in [other, Wanted::Cid(name.cid())] {
                files.entry(key).or_default().push(name);
            }
        }
        let at = Some(Instant::now());
        Ok(Self { at, files })
    }
}

/// None: its bytes are not those of its name.
fn open(path: &Path, cid: &FileId) -> io::Result<Option<(File, u64)>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    if length > FILE_LIMIT as u64 {
        return Ok(None);
    }
    let mut engine = sha256::Hash::engine();
    let mut buffer = vec![0; COMPARED];
    let mut left = file.by_ref().take(length);
    loop {
        match left.read(&mut buffer)? {
            0 => break,
            read => engine.input(&buffer[..read]),
        }
    }
    let digest = sha256::Hash::from_engine(engine).to_byte_array();
    file.rewind()?;
    Ok((FileId::from_digest(digest) == *cid).then_some((file, length)))
}

#[cfg(test)]
mod tests {
    use super::super::super::keep_bytes;
    use super::*;

    #[test]
    fn the_directory_is_not_listed_for_each_who_asks() {
        let directory = tempfile::tempdir().unwrap();
        let keep = |window, bytes: &[u8]| {
            let name = FileName::Segment(WindowSeq(window), FileId::of(bytes));
            keep_bytes(directory.path(), &name, bytes).unwrap();
        };
        keep(1, b"one");
        let listing = Listing::new(directory.path().to_owned());
        let code = |window| {
            let opened = listing.open(&Wanted::Window(WindowSeq(window)));
            opened.err().map(|status| status.code())
        };
        assert_eq!(code(1), None);
        keep(2, b"two");
        // An age that it does not reach while this runs.
        listing.listed.lock().unwrap().at = Some(Instant::now() + Duration::from_secs(3_600));
        assert_eq!(code(2), Some(tonic::Code::NotFound));
        listing.listed.lock().unwrap().at = None;
        assert_eq!(code(2), None);
        assert_eq!(code(1), None);
    }
}
