//! The event log on disk: what `Effects::save` wrote is there after kill -9 and power loss.
//!
//! One sled tree, so that one batch is one atomic write and one flush; and beside it, of each window, a file to which
//! shares are appended that come alone (see `share_file`). The tree's key spaces:
//!
//! | key                          | value                                             |
//! |------------------------------|---------------------------------------------------|
//! | `M` name                     | format version and chain of the store; the base's number |
//! | `L` number                   | replayed at start: payee set, windows, blocks     |
//! | `B` number, part             | what the log before that number adds up to; see `base` |
//! | `C` round's number, round    | committed payouts; not read at start              |
//! | `T` window, round, tip       | terms of a round's shares; not read at start      |
//! | `R` `J` `N` `A` `X` numbers  | live rounds and what they share; see `shelf`      |
//! | `Z` window, first index      | shares that came with anything else, of windows without a segment; at start those of the open window and of live rounds are read |
//!
//! Numbers are 64 bits, big-endian, so that keys sort as numbers. Every record is sealed with a
//! checksum over its key and itself. Compatibility: a field may be added to a message of `rows`;
//! whatever else changes raises [`FORMAT`]. A store of format 5, which had all shares in sled, is gone on with as it
//! is; of any other it is refused by name.
//!
//! sled does not tell a rotten log from a torn one: it drops what it cannot read. So what was acknowledged
//! is noted beside it (see `mark`), a store that was not closed is copied before sled opens it (see
//! `rescue`), and the copy stays until all was read.
//!
//! What is damaged is named. Where the ledger depends on it, the store is not used until it is whole
//! again. A damaged live round is given up, and so are the shares yet to come on rounds whose shares
//! so far cannot be read: nothing that was acknowledged is lost by it, and nothing counts twice.

mod base;
mod error;
mod key;
mod live;
mod mark;
mod opening;
mod reader;
mod record;
mod replay;
mod rescue;
mod rows;
mod share_file;
mod shelf;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use sled::{Batch, Tree};
use tutti_proto::coordinator::{Committed, Record};
use tutti_proto::id::{RoundId, RoundSeq, WindowSeq};
use tutti_proto::share::{SHARE_RECORD_SIZE, ShareRecord};

pub use base::Base;
pub use error::StoreError;
use key::Key;
use mark::{Mark, MarkFile};
pub use reader::Reader;
pub use record::RecordError;
pub use replay::Replayed;
use rescue::Rescue;
use share_file::Appender;
use shelf::Shelf;

/// sled's log.
const LOG: &str = "db";
/// Where sled keeps what is too large for its log.
const BLOBS: &str = "blobs";
/// Version of everything below.
pub const FORMAT: u32 = 6;
/// Shares of one record in sled. It copies a leaf of up to 16 records with every tenth insertion into it,
/// and makes a file of its own of what is beyond 128 kB: such a leaf must stay below that.
const SHARES_OF_RECORD: usize = 48;

/// Most shares that are appended at once; more go to sled.
pub(crate) const APPENDED_MAX: usize = share_file::SHARES_MAX;
/// How old what the disk has of the mark may be after a power loss, if anything was saved since.
const MARK_SPACING: Duration = Duration::from_secs(1);

/// The coordinator's disk.
pub struct Store {
    db: sled::Db,
    tree: Tree,
    /// sled's log, to make it durable: sled itself only waits for its pages to be written, without
    /// the file's length and without the disk's cache (`sync_file_range`).
    log: File,
    /// Files beside it that are durable.
    blobs: BTreeMap<OsString, u64>,
    path: PathBuf,
    appender: Appender,
    /// Number of the next record of the log.
    next: u64,
    shelf: Shelf,
    mark: Option<MarkFile>,
    /// What is durable.
    at: Mark,
    /// When that was noted on the disk.
    synced: Instant,
    /// Until all was read.
    rescue: Option<Rescue>,
    /// It names the format before ours, until something is saved.
    is_older: bool,
    /// What was written is durable; else nothing more is written.
    whole: bool,
}

/// Shares that become one record: consecutive ones of a window.
#[derive(Default)]
struct Shares {
    first: Option<Key>,
    content: Vec<u8>,
}

impl Shares {
    fn add(&mut self, batch: &mut Batch, key: Key, share: &ShareRecord) {
        if self.content.len() >= SHARES_OF_RECORD * SHARE_RECORD_SIZE {
            self.end(batch);
        }
        self.first.get_or_insert(key);
        self.content.extend_from_slice(&share.to_bytes());
    }

    fn end(&mut self, batch: &mut Batch) {
        if let Some(key) = self.first.take() {
            batch.insert(key.to_bytes(), record::seal_shares(&key, &self.content));
            self.content.clear();
        }
    }
}

impl Store {
    /// Makes records durable: one batch, one flush.
    pub fn save(&mut self, records: &[Record]) -> Result<(), StoreError> {
        if !self.whole {
            let before = std::io::Error::other("an earlier write failed");
            return Err(self.sled("write", before.into()));
        }
        if self.is_older {
            self.write(Self::named_ours())?;
            self.is_older = false;
        }
        let mut at = self.at;
        records.iter().for_each(|record| at.take(record));
        match of_shares(records) {
            Some((window, first, shares)) => self.append(window, first, &shares)?,
            None => at.log_end = self.insert(records)?,
        }
        self.note(at)?;
        let rescue = self.rescue.take();
        self.forget_rescue(&rescue)
    }

    /// Shares and nothing else.
    fn append(
        &mut self,
        window: WindowSeq,
        first: u64,
        shares: &[&ShareRecord],
    ) -> Result<(), StoreError> {
        let appended = self.appender.append(window, first, shares);
        appended.map_err(|e| {
            self.whole = false;
            self.sled("write", e.into())
        })
    }

    /// Whatever comes, in sled; says where the log ends.
    fn insert(&mut self, records: &[Record]) -> Result<u64, StoreError> {
        let mut batch = Batch::default();
        let mut next = self.next;
        let mut shares = Shares::default();
        let mut shelved = false;
        for record in records {
            let key = match record {
                Record::Share {
                    window,
                    index,
                    share,
                } => {
                    shares.add(&mut batch, Key::Share(*window, *index), share);
                    continue;
                }
                Record::Committed(committed) => Key::Committed(committed.seq, committed.round),
                Record::Terms(round, terms) => Key::terms(*round, terms),
                live if self.shelf.add(&mut batch, live) => {
                    shelved = true;
                    continue;
                }
                _ => {
                    next += 1;
                    Key::Log(next - 1)
                }
            };
            // A window's shares come before the record that closes it.
            shares.end(&mut batch);
            batch.insert(key.to_bytes(), record::seal(&key, record));
        }
        shares.end(&mut batch);
        if shelved {
            self.shelf.sweep(&mut batch);
        }
        self.write(batch)?;
        self.next = next;
        Ok(next)
    }

    /// Notes what is durable; on disk at once where a window closed, and else from time to time.
    fn note(&mut self, at: Mark) -> Result<(), StoreError> {
        let is_due = self.synced.elapsed() >= MARK_SPACING;
        let sync = is_due || at.window != self.at.window || at.closed;
        if sync {
            self.synced = Instant::now();
        }
        self.at = at;
        let Some(mark) = self.mark.as_mut() else {
            return Ok(());
        };
        let noted = mark.note(at);
        let noted = noted.and_then(|()| if sync { mark.sync() } else { Ok(()) });
        noted.map_err(|e| {
            self.whole = false;
            self.sled("write", e.into())
        })
    }

    /// A committed round's payouts.
    pub fn committed(
        &self,
        seq: RoundSeq,
        round: RoundId,
    ) -> Result<Option<Committed>, StoreError> {
        self.reader().committed(seq, round)
    }

    /// Reads beside us, from another thread.
    pub fn reader(&self) -> Reader {
        Reader::new(self.tree.clone(), self.path.clone())
    }

    /// Number of the next record of the log: those below it are durable.
    pub fn log_end(&self) -> u64 {
        self.next
    }

    fn value(&self, key: &Key) -> Result<Option<sled::IVec>, StoreError> {
        self.tree
            .get(key.to_bytes())
            .map_err(|e| self.sled("read", e))
    }

    fn write(&mut self, batch: Batch) -> Result<(), StoreError> {
        self.tree
            .apply_batch(batch)
            .and_then(|()| self.db.flush().map(drop))
            .and_then(|()| self.sync_blobs().map_err(sled::Error::from))
            .and_then(|()| self.log.sync_data().map_err(sled::Error::from))
            .map_err(|e| {
                self.whole = false;
                self.sled("write", e)
            })
    }

    /// What is too large for sled's log is a file of its own, which sled does not make durable. Without
    /// it the log would end where it names it.
    fn sync_blobs(&mut self) -> std::io::Result<()> {
        self.blobs = sync_blobs(&self.path, &self.blobs)?;
        Ok(())
    }

    fn number(&self, key: &[u8]) -> Result<u64, StoreError> {
        key::number(key).ok_or_else(|| self.unreadable(key))
    }

    fn unreadable(&self, key: &[u8]) -> StoreError {
        StoreError::unreadable(&self.path, key)
    }

    fn damaged(&self, key: &Key, source: RecordError) -> StoreError {
        StoreError::damaged(&self.path, key, source)
    }

    fn sled(&self, doing: &'static str, source: sled::Error) -> StoreError {
        StoreError::of_sled(&self.path, doing, source)
    }
}

impl Drop for Store {
    /// Notes that nothing was cut short, so that the next start need not copy it; but not where a copy was
    /// kept, since a start failed.
    fn drop(&mut self) {
        if self.whole
            && Rescue::find(&self.path).is_none()
            && self.db.flush().is_ok()
            && self.sync_blobs().is_ok()
            && self.log.sync_data().is_ok()
        {
            let closed = true;
            // Without it the next start copies the files.
            let _ = self.note(Mark { closed, ..self.at });
        }
    }
}

/// Makes durable what of sled's large values is not yet; says what is, by name and length.
fn sync_blobs(
    store: &Path,
    known: &BTreeMap<OsString, u64>,
) -> std::io::Result<BTreeMap<OsString, u64>> {
    let directory = store.join(BLOBS);
    let mut there = BTreeMap::new();
    let mut new = false;
    for entry in std::fs::read_dir(&directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let mut synced = || -> std::io::Result<u64> {
            // Another thread may be writing it: one that has grown since is made durable again.
            let length = entry.metadata()?.len();
            if known.get(&name) != Some(&length) {
                new = true;
                File::open(directory.join(&name))?.sync_all()?;
            }
            Ok(length)
        };
        match synced() {
            Ok(length) => drop(there.insert(name.clone(), length)),
            // It was replaced and is not needed any more.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    if new {
        File::open(&directory)?.sync_all()?;
    }
    Ok(there)
}

/// Consecutive shares of a window, as many as one record may have, if there is nothing else.
fn of_shares(records: &[Record]) -> Option<(WindowSeq, u64, Vec<&ShareRecord>)> {
    let Some(Record::Share {
        window: first_of,
        index: first,
        ..
    }) = records.first()
    else {
        return None;
    };
    if records.len() > APPENDED_MAX {
        return None;
    }
    let mut shares = Vec::with_capacity(records.len());
    for (place, record) in (*first..).zip(records) {
        match record {
            Record::Share {
                window,
                index,
                share,
            } if window == first_of && *index == place => shares.push(share),
            _ => return None,
        }
    }
    Some((*first_of, *first, shares))
}

#[cfg(test)]
mod tests;
