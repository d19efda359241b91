//! Which files there are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bitcoin::BlockHash;
use tutti_proto::id::WindowSeq;
use tutti_proto::segment::FileId;

use super::Difference;
use crate::segments::{FileName, Kept, check, list, read_bytes};
use crate::store::StoreError;

/// A window's file.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) window: WindowSeq,
    cid: FileId,
    pub(super) path: PathBuf,
}

/// All files that were named.
#[derive(Clone, Debug, Default)]
pub(super) struct Sources {
    pub(super) segments: BTreeMap<WindowSeq, Source>,
    pub(super) checkpoints: Vec<PathBuf>,
    of_blocks: BTreeMap<BlockHash, PathBuf>,
}

/// Why there is nothing to audit.
pub(super) enum CollectError {
    Store(StoreError),
    Difference(Box<Difference>),
}

impl From<Difference> for CollectError {
    fn from(difference: Difference) -> Self {
        Self::Difference(Box::new(difference))
    }
}

impl Sources {
    /// Looks at files by name; at one whose name is none of ours, by its contents.
    pub(super) fn collect(paths: &[PathBuf]) -> Result<Self, CollectError> {
        let mut sources = Self::default();
        for path in paths {
            if path.is_dir() {
                for (name, path) in list(path).map_err(CollectError::Store)? {
                    sources.add(name, path)?;
                }
                continue;
            }
            let name = path.file_name().and_then(|name| name.to_str());
            match name.and_then(FileName::parse) {
                Some(name) => sources.add(name, path.clone())?,
                None => sources.add_unnamed(path)?,
            }
        }
        Ok(sources)
    }

    fn add_unnamed(&mut self, path: &Path) -> Result<(), Difference> {
        let bytes = read_bytes(path)?;
        match check(path, None, &bytes)? {
            Kept::Checkpoint(_) => self.checkpoints.push(path.to_owned()),
            Kept::Segment(segment) => {
                let window = segment.end.record.seq;
                let name = FileName::Segment(window, FileId::of(&bytes));
                self.add(name, path.to_owned())?;
            }
        }
        Ok(())
    }

    fn add(&mut self, name: FileName, path: PathBuf) -> Result<(), Difference> {
        match name {
            FileName::Checkpoint(block, _) => {
                self.of_blocks.insert(block, path.clone());
                self.checkpoints.push(path);
            }
            FileName::Segment(window, cid) => {
                let source = Source { window, cid, path };
                let known = self.segments.get(&window);
                if let Some(known) = known.filter(|known| known.cid != cid) {
                    return Err(Difference::TwoSegments {
                        window,
                        first: known.path.clone(),
                        second: source.path,
                    });
                }
                self.segments.insert(window, source);
            }
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty() && self.checkpoints.is_empty()
    }

    pub(super) fn checkpoint_of(&self, block: &BlockHash) -> Option<&PathBuf> {
        self.of_blocks.get(block)
    }
}
