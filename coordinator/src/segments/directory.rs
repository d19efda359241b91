//! The files' directory, and what is in it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use tutti_daemon::durable;
use tutti_proto::id::WindowSeq;
use tutti_proto::segment::{FileId, Segment};
use tutti_proto::wire::FromWire;

use super::SegmentError;

/// What a file is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Name {
    /// A closed window.
    Window(WindowSeq),
    /// What the amounts of a found block were computed from.
    Block([u8; 32]),
}

/// What is in the directory.
#[derive(Clone, Debug, Default)]
pub struct Index {
    windows: BTreeMap<WindowSeq, FileId>,
    blocks: BTreeMap<[u8; 32], FileId>,
    names: BTreeMap<FileId, Name>,
    /// Windows of which no segment can be made.
    refused: BTreeSet<WindowSeq>,
    /// The last window that was dealt with: it has a segment, or none can be made of it.
    pub dealt_with: WindowSeq,
}

impl Index {
    /// The file of a name.
    pub fn file(&self, name: &Name) -> Option<FileId> {
        match name {
            Name::Window(window) => self.windows.get(window).copied(),
            Name::Block(hash) => self.blocks.get(hash).copied(),
        }
    }

    /// The name of a file.
    pub fn name(&self, id: &FileId) -> Option<Name> {
        self.names.get(id).copied()
    }

    /// Windows that have a segment, oldest first.
    pub fn windows(&self) -> impl Iterator<Item = WindowSeq> + '_ {
        self.windows.keys().copied()
    }

    /// The segments of windows before this one.
    pub(super) fn before(&self, window: WindowSeq) -> Vec<(WindowSeq, FileId)> {
        let older = self.windows.range(..window);
        older.map(|(window, id)| (*window, *id)).collect()
    }

    /// Whether this window has no segment though nobody let it go: the oldest ones go first.
    pub fn is_lost(&self, window: WindowSeq) -> bool {
        let has_older = self.windows.range(..window).next().is_some();
        let is_kept = has_older || self.refused.contains(&window);
        is_kept && window <= self.dealt_with && !self.windows.contains_key(&window)
    }

    /// No segment can be made of this window.
    pub(super) fn refuse(&mut self, window: WindowSeq) {
        self.refused.insert(window);
        self.dealt_with = self.dealt_with.max(window);
    }

    /// Nobody needs the windows before this one any more.
    pub(super) fn let_go(&mut self, before: WindowSeq) {
        self.refused = self.refused.split_off(&before);
    }

    pub(super) fn add(&mut self, name: Name, id: FileId) {
        match name {
            Name::Window(window) => {
                self.windows.insert(window, id);
                self.dealt_with = self.dealt_with.max(window);
            }
            Name::Block(hash) => drop(self.blocks.insert(hash, id)),
        }
        self.names.insert(id, name);
    }

    pub(super) fn remove(&mut self, name: &Name) {
        let id = match name {
            Name::Window(window) => self.windows.remove(window),
            Name::Block(hash) => self.blocks.remove(hash),
        };
        if let Some(id) = id {
            self.names.remove(&id);
        }
    }
}

/// `segments` in the data directory.
#[derive(Clone, Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// The directory of this path, made if need be, and what is in it. What a crash left unfinished is
    /// removed.
    pub fn open(path: &Path) -> Result<(Self, Index), SegmentError> {
        let directory = Self(path.to_owned());
        let failed = |doing| move |source| Self::io(path, doing, source);
        if !path.is_dir() {
            fs::create_dir_all(path).map_err(failed("make"))?;
            durable::sync_entry(path).map_err(failed("make"))?;
        }
        let (index, unfinished) = list(path).map_err(failed("list"))?;
        for file in unfinished {
            fs::remove_file(file).map_err(failed("tidy"))?;
        }
        Ok((directory, index))
    }

    /// What is in the directory of this path, which another process may be writing to: nothing is changed.
    pub fn look(path: &Path) -> Result<(Self, Index), SegmentError> {
        let index = match list(path) {
            Ok((index, _)) => index,
            // There is none before the first window is closed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Index::default(),
            Err(source) => return Err(Self::io(path, "list", source)),
        };
        Ok((Self(path.to_owned()), index))
    }

    /// Where a file is.
    pub fn path(&self, name: &Name, id: &FileId) -> PathBuf {
        self.0.join(match name {
            Name::Window(window) => format!("{:010}-{id}.segment", window.0),
            Name::Block(hash) => format!("block-{}-{id}.checkpoint", display(hash)),
        })
    }

    /// Opens a file.
    pub fn file(&self, name: &Name, id: &FileId) -> io::Result<File> {
        File::open(self.path(name, id))
    }

    /// Writes a file; it is on disk when this returns.
    pub(super) fn write(&self, name: Name, bytes: &[u8]) -> Result<FileId, SegmentError> {
        let id = FileId::of(bytes);
        let path = self.path(&name, &id);
        durable::write(&path, bytes).map_err(|source| Self::io(&path, "write", source))?;
        Ok(id)
    }

    pub(super) fn remove(&self, name: &Name, id: &FileId) -> Result<(), SegmentError> {
        let path = self.path(name, id);
        fs::remove_file(&path).map_err(|source| Self::io(&path, "remove", source))
    }

    /// Reads a file whole.
    pub fn read(&self, name: &Name, id: &FileId) -> Result<Vec<u8>, SegmentError> {
        let path = self.path(name, id);
        fs::read(&path).map_err(|source| Self::io(&path, "read", source))
    }

    /// Reads a window's segment.
    pub fn segment(&self, window: WindowSeq, id: &FileId) -> Result<Segment, SegmentError> {
        let name = Name::Window(window);
        let path = self.path(&name, id);
        let segment = Segment::decode(&self.read(&name, id)?);
        segment.map_err(|source| SegmentError::Wire { path, source })
    }

    fn io(path: &Path, doing: &'static str, source: io::Error) -> SegmentError {
        SegmentError::Io {
            path: path.to_owned(),
            doing,
            source,
        }
    }
}

/// What is in a directory, and the files that a crash left unfinished.
fn list(path: &Path) -> io::Result<(Index, Vec<PathBuf>)> {
    let mut index = Index::default();
    let mut unfinished = Vec::new();
    for entry in fs::read_dir(path)? {
        let file = entry?.file_name();
        let Some(file) = file.to_str() else { continue };
        if file.ends_with(durable::UNFINISHED) {
            unfinished.push(path.join(file));
        } else if let Some((name, id)) = parse(file) {
            index.add(name, id);
        }
    }
    Ok((index, unfinished))
}

/// A block's hash as people write it.
fn display(hash: &[u8; 32]) -> BlockHash {
    BlockHash::from_byte_array(*hash)
}

/// What a file's name says that it is.
fn parse(file: &str) -> Option<(Name, FileId)> {
    if let Some(rest) = file.strip_suffix(".segment") {
        let (window, id) = rest.split_once('-')?;
        return Some((
            Name::Window(WindowSeq(window.parse().ok()?)),
            id.parse().ok()?,
        ));
    }
    let rest = file.strip_prefix("block-")?.strip_suffix(".checkpoint")?;
    let (hash, id) = rest.split_once('-')?;
    let hash: BlockHash = hash.parse().ok()?;
    Some((Name::Block(hash.to_byte_array()), id.parse().ok()?))
}
