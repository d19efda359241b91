//! The store for those who read beside its owner, and forget for it what lasts elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sled::{IVec, Tree};
use tutti_proto::coordinator::{Committed, Record};
use tutti_proto::follower::ROUND_WINDOWS;
use tutti_proto::id::{RoundId, RoundSeq, WindowSeq};
use tutti_proto::share::ShareRecord;
use tutti_proto::terms::RoundTerms;
use tutti_proto::window::REMEMBERED;

use super::key::{self, Key};
use super::share_file::{Extent, ShareFile, ShareFiles};
use super::{RecordError, StoreError, record};

/// Records of shares that are removed between two pauses.
const FORGOTTEN_AT_ONCE: u64 = 32;
const FORGET_SPACING: Duration = Duration::from_millis(5);

/// Reads the store from another thread than its owner's. It may see what is not durable yet: whoever
/// acts on the log asks the owner how far it is.
#[derive(Clone)]
pub struct Reader {
    tree: Tree,
    files: ShareFiles,
    path: PathBuf,
}

impl Reader {
    pub(super) fn new(tree: Tree, path: PathBuf) -> Self {
        let files = ShareFiles::new(&path);
        Self { tree, files, path }
    }

    pub(super) fn tree(&self) -> &Tree {
        &self.tree
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes durable what was written.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        let flushed = self.tree.flush().map(drop);
        let blobs = || super::sync_blobs(&self.path, &BTreeMap::new()).map(drop);
        let log = || File::open(self.path.join(super::LOG))?.sync_data();
        flushed
            .and_then(|()| blobs().map_err(sled::Error::from))
            .and_then(|()| log().map_err(sled::Error::from))
            .map_err(|e| self.sled("write", e))
    }

    /// A record of the log.
    pub fn log(&self, number: u64) -> Result<Record, StoreError> {
        let key = Key::Log(number);
        let missing = || self.damaged(&key, RecordError::Missing);
        let value = self.value(&key)?.ok_or_else(missing)?;
        record::open_log(&key, &value).map_err(|e| self.damaged(&key, e))
    }

    /// Number of the first record, of those below `end`, after the one that closed this window, or one
    /// before it, last.
    pub fn after_closing(&self, window: WindowSeq, end: u64) -> Result<u64, StoreError> {
        let first = self.base_number()?;
        for number in (first..end).rev() {
            if let Record::WindowClosed(closed) = self.log(number)?
                && closed.record.seq <= window
            {
                return Ok(number.saturating_add(1));
            }
        }
        Ok(first)
    }

    /// The shares of a window, in their order.
    pub fn shares(
        &self,
        window: WindowSeq,
        mut take: impl FnMut(ShareRecord),
    ) -> Result<(), StoreError> {
        self.each_share(window, |_, _, share| {
            take(share);
            Ok(())
        })
    }

    /// The same, with the key of each share's record and its place in the window.
    pub(super) fn each_share(
        &self,
        window: WindowSeq,
        mut take: impl FnMut(&Key, u64, ShareRecord) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let read = |e: io::Error| self.sled("read", e.into());
        let mut rows = self.tree.scan_prefix(Key::shares_of(window));
        let mut next_row = || rows.next().transpose().map_err(|e| self.sled("read", e));
        let mut file = self.files.read(window).map_err(read)?;
        let mut next_run = || {
            file.as_mut()
                .map_or(Ok(None), ShareFile::next)
                .map_err(read)
        };
        let (mut row, mut run) = (next_row()?, next_run()?);
        let (mut next, mut known) = (0, BTreeMap::new());
        loop {
            let key = Key::Share(window, next);
            let is_next = |(found, _): &(IVec, IVec)| *found == key.to_bytes();
            let shares = match (row.take_if(|row| is_next(row)), run.take()) {
                (Some((_, value)), of_file) => {
                    (row, run) = (next_row()?, of_file);
                    record::open_shares(&key, &value, &mut known)
                }
                (None, Some(Ok(found))) if found.first == next => {
                    run = next_run()?;
                    record::open_shares(&key, &found.sealed, &mut known)
                }
                (None, Some(Err(error))) => Err(error),
                (None, None) if row.is_none() => return Ok(()),
                _ => Err(RecordError::Missing),
            };
            for share in shares.map_err(|e| self.damaged(&key, e))? {
                take(&key, next, share)?;
                next += 1;
            }
        }
    }

    /// What a window's file has.
    pub(super) fn extent(&self, window: WindowSeq) -> Result<Extent, StoreError> {
        let extent = self.files.extent(window);
        extent.map_err(|e| self.sled("read", e.into()))
    }

    /// Makes the open window's file durable as it is read, without what was cut short from there on.
    pub(super) fn settle(&self, window: WindowSeq, torn: Option<u64>) -> Result<(), StoreError> {
        let settled = self.files.settle(window, torn);
        settled.map_err(|e| self.sled("write", e.into()))
    }

    /// The terms of a round that a share of this window names, or of which a block is booked in it, under
    /// this previous block or under any.
    pub fn terms(
        &self,
        window: WindowSeq,
        round: &RoundId,
        tip: Option<[u8; 32]>,
    ) -> Result<Option<RoundTerms>, StoreError> {
        // A booking may be taken back long after the last share.
        let windows = REMEMBERED.saturating_add(ROUND_WINDOWS);
        let oldest = window.0.saturating_sub(windows);
        for proposed in (oldest..window.0).rev().map(WindowSeq) {
            for entry in self.tree.scan_prefix(Key::terms_of(proposed, round)) {
                let (key, value) = entry.map_err(|e| self.sled("read", e))?;
                let place = self.place(&key)?;
                if !matches!(place, Key::Terms(_, _, found) if tip.is_none_or(|tip| tip == found)) {
                    continue;
                }
                let terms = record::open_terms(&place, &value);
                return terms.map(Some).map_err(|e| self.damaged(&place, e));
            }
        }
        Ok(None)
    }

    /// The terms that are kept, newest first.
    pub fn terms_backwards(
        &self,
    ) -> impl Iterator<Item = Result<(RoundId, RoundTerms), StoreError>> + '_ {
        self.tree.scan_prefix(Key::TERMS).rev().map(|entry| {
            let (key, value) = entry.map_err(|e| self.sled("read", e))?;
            let place = self.place(&key)?;
            let Key::Terms(_, round, _) = place else {
                return Err(self.damaged(&place, RecordError::Key));
            };
            let terms = record::open_terms(&place, &value);
            terms
                .map(|terms| (round, terms))
                .map_err(|e| self.damaged(&place, e))
        })
    }

    /// A committed round's payouts.
    pub fn committed(
        &self,
        seq: RoundSeq,
        round: RoundId,
    ) -> Result<Option<Committed>, StoreError> {
        let key = Key::Committed(seq, round);
        let Some(value) = self.value(&key)? else {
            return Ok(None);
        };
        let committed = record::open_committed(&key, &value);
        committed.map(Some).map_err(|e| self.damaged(&key, e))
    }

    /// Windows before this one of which the store has shares.
    pub fn windows_with_shares(
        &self,
        before: WindowSeq,
    ) -> Result<BTreeSet<WindowSeq>, StoreError> {
        let of_files = self.files.windows();
        let of_files = of_files.map_err(|e| self.sled("read", e.into()))?;
        let of_files = of_files.into_iter().filter(|window| *window < before);
        let mut windows: BTreeSet<WindowSeq> = of_files.collect();
        let mut from = WindowSeq(0);
        let end = Key::shares_of(before);
        loop {
            let mut rows = self.tree.range(Key::shares_of(from)..end.clone());
            let Some(row) = rows.next() else {
                return Ok(windows);
            };
            let (key, _) = row.map_err(|e| self.sled("read", e))?;
            let (window, _) = key::numbers(&key).ok_or_else(|| self.unreadable(&key))?;
            windows.insert(WindowSeq(window));
            from = WindowSeq(window).next();
        }
    }

    /// Forgets a window's shares, which are in its segment. Whatever a crash brings back is forgotten
    /// after it.
    pub fn forget_shares(&self, window: WindowSeq) -> Result<(), StoreError> {
        let keys = self.tree.scan_prefix(Key::shares_of(window)).keys();
        for (count, key) in (1u64..).zip(keys) {
            let key = key.map_err(|e| self.sled("read", e))?;
            self.tree.remove(&key).map_err(|e| self.sled("write", e))?;
            if count.is_multiple_of(FORGOTTEN_AT_ONCE) {
                // Whoever flushes next writes all of it, and shares wait for that.
                std::thread::sleep(FORGET_SPACING);
            }
        }
        let removed = self.files.remove(window);
        removed.map_err(|e| self.sled("write", e.into()))?;
        // Shares that come alone flush nothing of sled: what it wrote in the place of what was there is to last.
        self.sync()
    }

    /// Forgets terms and payouts of rounds that were proposed before this window, but of these.
    pub fn forget_rounds(
        &self,
        before: WindowSeq,
        keep: &BTreeSet<RoundId>,
    ) -> Result<(), StoreError> {
        let old = |key: &Key| match key {
            Key::Terms(window, round, _) => *window < before && !keep.contains(round),
            Key::Committed(seq, round) => seq.0 < before.0 && !keep.contains(round),
            _ => false,
        };
        for space in [Key::TERMS, Key::COMMITTED] {
            let end = [space, &before.0.to_be_bytes()].concat();
            let keys = self.tree.range(space.to_vec()..end).keys();
            for key in keys {
                let key = key.map_err(|e| self.sled("read", e))?;
                if key::of_round(&key).as_ref().is_some_and(old) {
                    self.tree.remove(&key).map_err(|e| self.sled("write", e))?;
                }
            }
        }
        self.sync()
    }

    pub(super) fn value(&self, key: &Key) -> Result<Option<sled::IVec>, StoreError> {
        let value = self.tree.get(key.to_bytes());
        value.map_err(|e| self.sled("read", e))
    }

    fn place(&self, key: &[u8]) -> Result<Key, StoreError> {
        key::of_round(key).ok_or_else(|| self.unreadable(key))
    }

    fn unreadable(&self, key: &[u8]) -> StoreError {
        StoreError::unreadable(&self.path, key)
    }

    pub(super) fn damaged(&self, key: &Key, source: RecordError) -> StoreError {
        StoreError::damaged(&self.path, key, source)
    }

    pub(super) fn sled(&self, doing: &'static str, source: sled::Error) -> StoreError {
        StoreError::of_sled(&self.path, doing, source)
    }
}
