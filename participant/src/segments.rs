//! Kept files of closed windows: segments, and the checkpoints from which found blocks are explained.
//! Their names carry the CID of their bytes, so that damage shows and anyone may serve them on.

use std::fs;
use std::path::{Path, PathBuf};

use thiserror::Error;
use tutti_proto::id::WindowSeq;
use tutti_proto::segment::{Checkpoint, FileId, Segment};
use tutti_proto::wire::{FILE_LIMIT, FromWire, ToWire, WireError};

use crate::store::{Durability, StoreError, create_directory, write_bytes};

/// The files' place in a data directory.
pub const SEGMENTS: &str = "segments";
const SEGMENT: &str = ".segment";
const CHECKPOINT: &str = ".checkpoint";

/// What a file's name says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileName {
    /// A window's segment: `<window, 10 digits>-<cid>.segment`.
    Segment(WindowSeq, FileId),
    /// What a found block is explained from: `block-<hash>-<cid>.checkpoint`. The hash is in the byte
    /// order in which it is shown.
    Checkpoint([u8; 32], FileId),
}

/// A file that was read and is what its name says.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "read one at a time")]
pub enum Kept {
    /// A window's segment.
    Segment(Segment),
    /// A checkpoint.
    Checkpoint(Checkpoint),
}

/// Why a file is not what it is said to be.
#[derive(Debug, Error)]
pub enum FileError {
    #[error("cannot read {}: {source}", path.display())]
    Unreadable {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("{} has {bytes} bytes, more than any segment or checkpoint ({FILE_LIMIT})", path.display())]
    TooLarge { path: PathBuf, bytes: u64 },
    #[error("{} is not the file that its name says: its bytes have the CID {cid}", path.display())]
    OtherCid { path: PathBuf, cid: FileId },
    #[error("{} holds window {window}, its name says another", path.display())]
    OtherWindow { path: PathBuf, window: WindowSeq },
    #[error("{} is neither a segment nor a checkpoint: {error}", path.display())]
    Malformed { path: PathBuf, error: WireError },
}

impl FileName {
    /// Reads a file's name; none if it is no name of ours.
    pub fn parse(name: &str) -> Option<Self> {
        if let Some(stem) = name.strip_suffix(SEGMENT) {
            let (window, cid) = stem.split_once('-')?;
            let digits = window.len() >= 10 && window.bytes().all(|byte| byte.is_ascii_digit());
            let window = window.parse().ok().filter(|_| digits)?;
            let parsed = Self::Segment(WindowSeq(window), cid.parse().ok()?);
            return (parsed.to_string() == name).then_some(parsed);
        }
        let stem = name.strip_suffix(CHECKPOINT)?.strip_prefix("block-")?;
        let (block, cid) = stem.split_once('-')?;
        let block = hex::decode(block).ok()?.try_into().ok()?;
        let parsed = Self::Checkpoint(block, cid.parse().ok()?);
        (parsed.to_string() == name).then_some(parsed)
    }

    /// The name of its bytes.
    pub fn cid(&self) -> FileId {
        match self {
            Self::Segment(_, cid) | Self::Checkpoint(_, cid) => *cid,
        }
    }
}

impl std::fmt::Display for FileName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Segment(window, cid) => write!(f, "{:010}-{cid}{SEGMENT}", window.0),
            Self::Checkpoint(block, cid) => {
                write!(f, "block-{}-{cid}{CHECKPOINT}", hex::encode(block))
            }
        }
    }
}

/// Keeps a segment: its file is durable when this returns.
pub fn keep(directory: &Path, segment: &Segment) -> Result<FileId, StoreError> {
    let bytes = segment.encode();
    let cid = FileId::of(&bytes);
    keep_bytes(
        directory,
        &FileName::Segment(segment.end.record.seq, cid),
        &bytes,
    )?;
    Ok(cid)
}

/// Keeps the checkpoint of a found block, whose hash is given as it is shown.
pub fn keep_checkpoint(
    directory: &Path,
    block: [u8; 32],
    checkpoint: &Checkpoint,
) -> Result<FileId, StoreError> {
    let bytes = checkpoint.encode();
    let cid = FileId::of(&bytes);
    keep_bytes(directory, &FileName::Checkpoint(block, cid), &bytes)?;
    Ok(cid)
}

/// Keeps bytes under a name that is theirs.
pub fn keep_bytes(directory: &Path, name: &FileName, bytes: &[u8]) -> Result<(), StoreError> {
    if !directory.is_dir() {
        create_directory(directory)?;
    }
    let path = directory.join(name.to_string());
    // The name is that of the bytes: a file that is there and whole is this one.
    if fs::read(&path).is_ok_and(|there| FileId::of(&there) == name.cid()) {
        return Ok(());
    }
    write_bytes(&path, bytes, Durability::Durable)
}

/// Files of a directory whose names are ours, in order of their names; none of one that is not there.
pub fn list(directory: &Path) -> Result<Vec<(FileName, PathBuf)>, StoreError> {
    let failed = |source| StoreError::Io {
        action: "read",
        path: directory.to_owned(),
        source,
    };
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        let name = name.to_str().and_then(FileName::parse);
        found.extend(name.map(|name| (name, entry.path())));
    }
    found.sort_unstable();
    Ok(found)
}

/// Reads a file's bytes, of no more than any file of ours has.
pub fn read_bytes(path: &Path) -> Result<Vec<u8>, FileError> {
    let unreadable = |source| FileError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let bytes = fs::metadata(path).map_err(unreadable)?.len();
    if bytes > FILE_LIMIT as u64 {
        let path = path.to_owned();
        return Err(FileError::TooLarge { path, bytes });
    }
    fs::read(path).map_err(unreadable)
}

/// Reads a file and compares it with its name, if that is one of ours; a file of another name is taken
/// for whichever of the two it is.
pub fn read(path: &Path) -> Result<Kept, FileError> {
    let bytes = read_bytes(path)?;
    let name = path.file_name().and_then(|name| name.to_str());
    let name = name.and_then(FileName::parse);
    check(path, name.as_ref(), &bytes)
}

/// Compares bytes with the name that they are to have.
pub fn check(path: &Path, name: Option<&FileName>, bytes: &[u8]) -> Result<Kept, FileError> {
    let path = || path.to_owned();
    let cid = FileId::of(bytes);
    if name.is_some_and(|name| name.cid() != cid) {
        return Err(FileError::OtherCid { path: path(), cid });
    }
    let malformed = |error| FileError::Malformed {
        path: path(),
        error,
    };
    match name {
        Some(FileName::Checkpoint(..)) => Checkpoint::decode(bytes)
            .map(Kept::Checkpoint)
            .map_err(malformed),
        Some(FileName::Segment(seq, _)) => {
            let segment = Segment::decode(bytes).map_err(malformed)?;
            let window = segment.end.record.seq;
            match window == *seq {
                true => Ok(Kept::Segment(segment)),
                false => Err(FileError::OtherWindow {
                    path: path(),
                    window,
                }),
            }
        }
        None => Segment::decode(bytes)
            .map(Kept::Segment)
            .or_else(|_| Checkpoint::decode(bytes).map(Kept::Checkpoint))
            .map_err(malformed),
    }
}

/// Removes segments of windows before one; says how many. Checkpoints stay: their blocks are for
/// whoever keeps them to settle.
pub fn prune(directory: &Path, before: WindowSeq) -> Result<usize, StoreError> {
    let mut removed = 0;
    for (name, path) in list(directory)? {
        if matches!(name, FileName::Segment(window, _) if window < before) {
            let failed = |source| StoreError::Io {
                action: "remove",
                path: path.clone(),
                source,
            };
            fs::remove_file(&path).map_err(failed)?;
            removed += 1;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_others_are_none() {
        let cid = FileId::of(b"x");
        let segment = FileName::Segment(WindowSeq(7), cid);
        assert_eq!(segment.to_string(), format!("0000000007-{cid}.segment"));
        let checkpoint = FileName::Checkpoint([0xab; 32], cid);
        for name in [segment, checkpoint] {
            assert_eq!(FileName::parse(&name.to_string()), Some(name));
        }
        for other in [
            format!("7-{cid}.segment"),
            format!("0000000007-{cid}.segment.tmp"),
            format!("+000000007-{cid}.segment"),
            "0000000007-bafk.segment".to_owned(),
            format!("block-abab-{cid}.checkpoint"),
            format!("block-{}-{cid}.checkpoint", "AB".repeat(32)),
        ] {
            assert_eq!(FileName::parse(&other), None, "{other}");
        }
    }

    #[test]
    fn bytes_are_kept_whole_and_damage_is_found_and_mended() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().join("segments");
        let bytes = b"not a segment".to_vec();
        let name = FileName::Segment(WindowSeq(3), FileId::of(&bytes));
        keep_bytes(&directory, &name, &bytes).unwrap();
        let path = directory.join(name.to_string());
        assert_eq!(list(&directory).unwrap(), [(name, path.clone())]);
        assert!(matches!(read(&path), Err(FileError::Malformed { .. })));
        fs::write(&path, b"not a segmenT").unwrap();
        assert!(matches!(read(&path), Err(FileError::OtherCid { .. })));
        keep_bytes(&directory, &name, &bytes).unwrap();
        assert_eq!(fs::read(&path).unwrap(), bytes);
        assert_eq!(prune(&directory, WindowSeq(3)).unwrap(), 0);
        assert_eq!(prune(&directory, WindowSeq(4)).unwrap(), 1);
        assert_eq!(list(&directory).unwrap(), []);
    }
}
