//! Which files there are.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use bitcoin::BlockHash;
use thiserror::Error;
use tutti_proto::id::WindowSeq;
use tutti_proto::segment::{FileId, Segment};

use super::Difference;
use crate::segments::{FileError, FileName, Kept, check, list, read, read_bytes};
use crate::store::StoreError;

/// A file that is said to be a window's.
#[derive(Clone, Debug)]
struct Source {
    cid: FileId,
    path: PathBuf,
}

/// A file that is said to be a checkpoint, and after which block it is named.
#[derive(Clone, Debug)]
pub(super) struct CheckpointFile {
    pub(super) block: Option<BlockHash>,
    pub(super) path: PathBuf,
}

/// Why there is nothing to look at.
#[derive(Debug, Error)]
pub(super) enum CollectError {
    #[error("{0}; name files and directories that can be read")]
    File(#[from] FileError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// All files that were named.
#[derive(Debug, Default)]
pub(super) struct Sources {
    segments: BTreeMap<WindowSeq, Vec<Source>>,
    pub(super) checkpoints: Vec<CheckpointFile>,
    /// Files of other names, of which their contents do not say either what they are.
    pub(super) unknown: Vec<FileError>,
}

/// What a window's files hold.
pub(super) struct WindowFile {
    pub(super) path: PathBuf,
    pub(super) segment: Segment,
    /// Other files under its name that are not it.
    pub(super) others: Vec<FileError>,
}

impl Sources {
    /// Looks at files by name; at one whose name is none of ours, by its contents. That one which was named cannot
    /// be read says nothing of the pool.
    pub(super) fn collect(paths: &[PathBuf]) -> Result<Self, CollectError> {
        let mut sources = Self::default();
        for path in paths {
            if path.is_dir() {
                for (name, path) in list(path)? {
                    sources.add(name, path);
                }
                continue;
            }
            File::open(path).map_err(|source| FileError::Unreadable {
                path: path.clone(),
                source,
            })?;
            let name = path.file_name().and_then(|name| name.to_str());
            match name.and_then(FileName::parse) {
                Some(name) => sources.add(name, path.clone()),
                None => sources.add_unnamed(path),
            }
        }
        Ok(sources)
    }

    fn add_unnamed(&mut self, path: &Path) {
        let found = read_bytes(path).and_then(|bytes| {
            let kept = check(path, None, &bytes)?;
            Ok((kept, FileId::of(&bytes)))
        });
        match found {
            Err(error) => self.unknown.push(error),
            Ok((Kept::Checkpoint(_), _)) => self.checkpoints.push(CheckpointFile {
                block: None,
                path: path.to_owned(),
            }),
            Ok((Kept::Segment(segment), cid)) => {
                let window = segment.end.record.seq;
                self.add(FileName::Segment(window, cid), path.to_owned());
            }
        }
    }

    fn add(&mut self, name: FileName, path: PathBuf) {
        match name {
            FileName::Checkpoint(block, _) => {
                let block = Some(block);
                self.checkpoints.push(CheckpointFile { block, path });
            }
            FileName::Segment(window, cid) => {
                let of_window = self.segments.entry(window).or_default();
                if of_window.iter().all(|known| known.path != path) {
                    of_window.push(Source { cid, path });
                }
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty() && self.checkpoints.is_empty() && self.unknown.is_empty()
    }

    pub(super) fn windows(&self) -> impl DoubleEndedIterator<Item = WindowSeq> + '_ {
        self.segments.keys().copied()
    }

    /// Leaves the windows for which this holds. Says of which others there are two: nobody looks at them.
    pub(super) fn choose(&mut self, wanted: impl Fn(WindowSeq) -> bool) -> Vec<String> {
        let passed = self.segments.iter().filter(|(window, _)| !wanted(**window));
        let two = passed.filter_map(|(window, sources)| {
            let first = sources.first()?;
            let second = sources.iter().find(|other| other.cid != first.cid)?;
            let (first, second) = (first.path.display(), second.path.display());
            Some(format!(
                "window {window} has two files: {first} and {second}"
            ))
        });
        let two = two.collect();
        self.segments.retain(|window, _| wanted(*window));
        two
    }

    /// Reads a window's segment. A damaged file beside it is none; of two whole ones one is a lie.
    pub(super) fn read(&self, window: WindowSeq) -> Result<Option<WindowFile>, Difference> {
        let mut found: Option<(FileId, WindowFile)> = None;
        let mut others = Vec::new();
        for Source { cid, path } in self.segments.get(&window).into_iter().flatten() {
            let segment = match read(path) {
                Ok(Kept::Segment(segment)) => segment,
                Ok(Kept::Checkpoint(_)) => continue, // It was replaced meanwhile.
                Err(error) => {
                    others.push(error);
                    continue;
                }
            };
            match &found {
                Some((known, _)) if known == cid => {}
                Some((_, first)) => {
                    return Err(Difference::TwoSegments {
                        window,
                        first: first.path.clone(),
                        second: path.clone(),
                    });
                }
                None => {
                    let file = WindowFile {
                        path: path.clone(),
                        segment,
                        others: Vec::new(),
                    };
                    found = Some((*cid, file));
                }
            }
        }
        match found {
            Some((_, file)) => Ok(Some(WindowFile { others, ..file })),
            None => others
                .into_iter()
                .next()
                .map_or(Ok(None), |e| Err(e.into())),
        }
    }
}
