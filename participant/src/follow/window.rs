//! The open window as it was told, for the file that is kept of it.

use std::path::PathBuf;
use std::sync::Arc;

use tutti_proto::id::WindowSeq;
use tutti_proto::params::PoolName;
use tutti_proto::segment::{OutputChange, PackedShare, Segment, WindowEnd, WindowPart};
use tutti_proto::terms::CheckedTerms;

use crate::segments;

/// Where closed windows are kept, and how many.
#[derive(Clone, Debug)]
pub struct Keep {
    /// The directory.
    pub directory: PathBuf,
    /// The newest so many.
    pub windows: u64,
}

/// What was told of the open window.
pub(super) struct OpenWindow {
    pool: PoolName,
    keep: Option<Keep>,
    /// The window's terms; a stream that begins anew may tell them in another order.
    terms: Vec<Arc<CheckedTerms>>,
    /// Their places by those of the stream.
    places: Vec<u16>,
    outputs: Vec<OutputChange>,
    shares: Vec<PackedShare>,
}

impl OpenWindow {
    pub(super) fn new(pool: PoolName, keep: Option<Keep>) -> Self {
        Self {
            pool,
            keep,
            terms: Vec::new(),
            places: Vec::new(),
            outputs: Vec::new(),
            shares: Vec::new(),
        }
    }

    /// A new stream tells terms and changes from the window's beginning.
    pub(super) fn resume(&mut self) {
        self.places.clear();
        self.outputs.clear();
    }

    /// The check goes on with a later window.
    pub(super) fn restart(&mut self) {
        self.resume();
        self.terms.clear();
        self.shares.clear();
    }

    /// Notes a part that was checked, and the terms that it brought.
    pub(super) fn part(&mut self, part: WindowPart, terms: &[Arc<CheckedTerms>]) {
        if self.keep.is_none() {
            return;
        }
        for terms in terms {
            let same = |known: &Arc<CheckedTerms>| known.terms() == terms.terms();
            let place = self.terms.iter().position(same).unwrap_or_else(|| {
                self.terms.push(terms.clone());
                self.terms.len() - 1
            });
            self.places.push(u16::try_from(place).unwrap_or(u16::MAX));
        }
        self.outputs.extend(part.outputs);
        let places = &self.places;
        self.shares.extend(part.shares.into_iter().map(|share| {
            let place = places.get(usize::from(share.terms));
            PackedShare {
                terms: place.copied().unwrap_or(u16::MAX),
                ..share
            }
        }));
    }

    /// Keeps the closed window; says the file's name, if one was written, or why there is none.
    pub(super) async fn end(&mut self, end: WindowEnd) -> Result<Option<String>, String> {
        let Some(keep) = self.keep.clone() else {
            return Ok(None);
        };
        let terms = std::mem::take(&mut self.terms);
        let shares = std::mem::take(&mut self.shares);
        let outputs = std::mem::take(&mut self.outputs);
        self.places.clear();
        let (pool, window) = (self.pool, end.record.seq);
        let write = move || {
            let segment = Segment::new(pool, &terms, outputs, &shares, end);
            let segment = segment.map_err(|error| error.to_string())?;
            // First what makes room: a disk that was full for one window is not so for all after it.
            let oldest = WindowSeq(window.0.saturating_sub(keep.windows).saturating_add(1));
            segments::prune(&keep.directory, oldest).map_err(|error| error.to_string())?;
            let name = segments::keep(&keep.directory, &segment);
            let name = name.map_err(|error| error.to_string())?;
            Ok(Some(name.to_string()))
        };
        let written = tokio::task::spawn_blocking(write).await;
        written.unwrap_or_else(|error| Err(error.to_string()))
    }
}
