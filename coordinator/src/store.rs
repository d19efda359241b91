//! The event log on disk: what `Effects::save` wrote is there after kill -9 and power loss.
//!
//! One sled tree, so that one batch is one atomic write and one flush. Its key spaces:
//!
//! | key                          | value                                             |
//! |------------------------------|---------------------------------------------------|
//! | `M` name                     | format version and chain of the store; the base's number |
//! | `L` number                   | replayed at start: payee set, windows, blocks     |
//! | `B` number, part             | what the log before that number adds up to; see `base` |
//! | `S` window, first index      | shares of windows without a segment; at start those of the open window and of live rounds are read |
//! | `C` round's number, round    | committed payouts; not read at start              |
//! | `T` window, round, tip       | terms of a round's shares; not read at start      |
//! | `R` `J` `N` `A` `X` numbers  | live rounds and what they share; see `shelf`      |
//!
//! Numbers are 64 bits, big-endian, so that keys sort as numbers. Every record is sealed with a
//! checksum over its key and itself. Compatibility: a field may be added to a message of `record`;
//! whatever else changes raises [`FORMAT`]. A store of any other format is refused by name.
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
mod rescue;
mod shelf;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::path::PathBuf;

use sled::{Batch, Tree};
use tutti_proto::coordinator::{Committed, Record, Restored};
use tutti_proto::id::{Identity, RoundId, RoundSeq, WindowSeq};
use tutti_proto::segment::WindowEnd;
use tutti_proto::share::{SHARE_RECORD_SIZE, ShareRecord};

pub use base::Base;
pub use error::StoreError;
use key::Key;
use mark::{Mark, MarkFile};
use opening::guarded;
pub use reader::Reader;
pub use record::RecordError;
use rescue::Rescue;
use shelf::{Damage, Kept, Shelf};

/// sled's log.
const LOG: &str = "db";
/// Where sled keeps what is too large for its log.
const BLOBS: &str = "blobs";
/// Version of everything below.
pub const FORMAT: u32 = 4;
/// Shares of one record. sled copies a leaf of up to 16 records with every tenth insertion into it,
/// and makes a file of its own of what is beyond 128 kB: such a leaf must stay below that.
const SHARES_OF_RECORD: usize = 48;

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
    /// Number of the next record of the log.
    next: u64,
    shelf: Shelf,
    mark: Option<MarkFile>,
    /// What is durable.
    at: Mark,
    /// Until all was read.
    rescue: Option<Rescue>,
    /// What was written is durable; else nothing more is written.
    whole: bool,
}

/// What a replay found.
#[derive(Default)]
pub struct Replayed {
    /// State of the state machine.
    pub restored: Restored,
    /// The last committed round; 0 if there was none.
    pub last_round: RoundSeq,
    /// Records that were read.
    pub records: u64,
    /// What is damaged and was given up, because nothing acknowledged depends on it.
    pub given_up: Vec<StoreError>,
    /// Takes out what was given up; to be saved.
    pub repairs: Vec<Record>,
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
    fn kept(&self) -> Result<(Shelf, Kept), StoreError> {
        Shelf::load(&self.tree).map_err(|e| self.sled("read", e))
    }

    /// Reads everything the state machine needs; `progress` is told how far it is, in records.
    pub fn replay(
        &self,
        coordinator: &Identity,
        progress: impl FnMut(u64, u64),
    ) -> Result<Replayed, StoreError> {
        let read = guarded(&self.path, "read", || self.read_all(coordinator, progress));
        match (read, &self.rescue) {
            (Ok(replayed), rescue) => {
                self.forget_rescue(rescue)?;
                Ok(replayed)
            }
            (Err(error), _) => Err(error.with(Rescue::find(&self.path))),
        }
    }

    fn forget_rescue(&self, rescue: &Option<Rescue>) -> Result<(), StoreError> {
        let removed = rescue.as_ref().map_or(Ok(()), Rescue::remove);
        removed.map_err(|e| self.sled("tidy", e.into()))
    }

    fn read_all(
        &self,
        coordinator: &Identity,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Replayed, StoreError> {
        let mut replayed = Replayed::default();
        let mut window = WindowSeq(0);
        let reader = self.reader();
        let mut of = self.next;
        if let Some(base) = reader.base()? {
            of = of.saturating_sub(base.number);
            window = base.window();
            replayed.restored = base.restore(&reader, coordinator)?;
        }
        let mut closed_shares: BTreeMap<WindowSeq, u64> = BTreeMap::new();
        self.each_log(|key, record| {
            if let Record::WindowClosed(closed) = &record {
                window = closed.record.seq;
                closed_shares.insert(window, closed.record.shares);
            }
            self.apply(&mut replayed, coordinator, key, record)?;
            progress(replayed.records, of);
            Ok(())
        })?;
        self.replay_live(&mut replayed, coordinator)?;
        self.replay_credits(&mut replayed, coordinator, &closed_shares)?;
        let window = window.next();
        let mut read_to = 0;
        let read = self.each_share(window, |key, index, share| {
            read_to = index.saturating_add(1);
            let record = Record::Share {
                window,
                index,
                share,
            };
            self.apply(&mut replayed, coordinator, key, record)
        });
        match read {
            Err(StoreError::Damaged {
                key,
                source: RecordError::Missing,
                ..
            }) => return Err(self.lost(key, window, self.at.shares)?),
            // sled may find a last one, and what is before it not.
            Ok(()) if window == self.at.window && read_to < self.at.shares => {
                let key = Key::Share(window, read_to).to_string();
                return Err(self.lost(key, window, self.at.shares)?);
            }
            read => read?,
        }
        if let Some(entry) = self.tree.scan_prefix(Key::COMMITTED).next_back() {
            let (key, _) = entry.map_err(|e| self.sled("read", e))?;
            replayed.last_round = match key::of_round(&key) {
                Some(Key::Committed(seq, _)) => seq,
                // Of a time when the round was not in the key.
                _ => RoundSeq(self.number(&key)?),
            };
        }
        Ok(replayed)
    }

    /// The records of live rounds that are there, as a replay gives them.
    pub fn live_records(&self) -> Result<Vec<Record>, StoreError> {
        let (_, kept) = self.kept()?;
        Ok(kept.intact.into_records())
    }

    /// The live rounds and the jobs issued on them.
    fn replay_live(
        &self,
        replayed: &mut Replayed,
        coordinator: &Identity,
    ) -> Result<(), StoreError> {
        let (_, kept) = self.kept()?;
        let mut give_up = |record: Record, damage: Damage| {
            let (key, source) = *damage;
            replayed.given_up.push(self.damaged(&key, source));
            replayed.repairs.push(record);
        };
        // What is given up keeps its number: whatever of it is left belongs to no other round.
        let numbers = kept.intact.rounds.iter().map(|kept| kept.number);
        let last = numbers.chain(kept.damaged.keys().copied()).max();
        for (number, damage) in kept.damaged {
            give_up(Record::LiveForgotten(number), damage);
        }
        if let Some(damage) = kept.damaged_ahead {
            give_up(Record::KeptAhead(None), damage);
        }
        if let Some(last) = last {
            replayed.restored.number_after(last);
        }
        for record in kept.intact.into_records() {
            self.apply(replayed, coordinator, &Key::Meta("live"), record)?;
        }
        Ok(())
    }

    /// The shares that were accepted in closed windows on rounds whose shares count, so that none
    /// counts again.
    fn replay_credits(
        &self,
        replayed: &mut Replayed,
        coordinator: &Identity,
        closed: &BTreeMap<WindowSeq, u64>,
    ) -> Result<(), StoreError> {
        for (window, count) in closed.range(replayed.restored.credits_from()..) {
            let mut shares = Vec::new();
            let read = self.each_share(*window, |key, index, share| {
                shares.push((*key, index, share));
                Ok(())
            });
            let complete = read.and_then(|()| {
                if shares.len() as u64 == *count {
                    return Ok(());
                }
                let key = Key::Share(*window, shares.len() as u64);
                Err(self.damaged(&key, RecordError::Missing))
            });
            match complete {
                Ok(()) => {}
                Err(damaged @ StoreError::Damaged { .. }) => {
                    replayed.given_up.push(damaged);
                    replayed.restored.distrust(*window);
                    continue;
                }
                Err(error) => return Err(error),
            }
            let window = *window;
            for (key, index, share) in shares {
                let record = Record::Share {
                    window,
                    index,
                    share,
                };
                self.apply(replayed, coordinator, &key, record)?;
            }
        }
        Ok(())
    }

    fn each_log(
        &self,
        mut take: impl FnMut(&Key, Record) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let first = self.reader().base_number()?;
        let rows = self.tree.range(Key::Log(first).to_bytes()..);
        let rows =
            rows.take_while(|row| !matches!(row, Ok((key, _)) if !key.starts_with(Key::LOG)));
        for (expected, entry) in (first..).zip(rows) {
            let (key, value) = entry.map_err(|e| self.sled("read", e))?;
            let number = self.number(&key)?;
            let key = Key::Log(expected);
            if number != expected {
                return Err(self.damaged(&key, RecordError::Missing));
            }
            let record = record::open_log(&key, &value).map_err(|e| self.damaged(&key, e))?;
            take(&key, record)?;
        }
        Ok(())
    }

    fn each_share(
        &self,
        window: WindowSeq,
        mut take: impl FnMut(&Key, u64, ShareRecord) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let (mut next, mut known) = (0, BTreeMap::new());
        for entry in self.tree.scan_prefix(Key::shares_of(window)) {
            let key = Key::Share(window, next);
            let (found, value) = entry.map_err(|e| self.sled("read", e))?;
            if found != key.to_bytes() {
                return Err(self.damaged(&key, RecordError::Missing));
            }
            let shares = record::open_shares(&key, &value, &mut known);
            let shares = shares.map_err(|e| self.damaged(&key, e))?;
            for share in shares {
                take(&key, next, share)?;
                next += 1;
            }
        }
        Ok(())
    }

    fn apply(
        &self,
        replayed: &mut Replayed,
        coordinator: &Identity,
        key: &Key,
        record: Record,
    ) -> Result<(), StoreError> {
        replayed.records += 1;
        let applied = replayed.restored.apply(coordinator, record);
        applied.map_err(|source| StoreError::Contradiction {
            path: self.path.clone(),
            key: key.to_string(),
            source,
        })
    }

    /// Makes records durable: one batch, one flush.
    pub fn save(&mut self, records: &[Record]) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        let mut next = self.next;
        let mut shares = Shares::default();
        let mut shelved = false;
        let mut at = self.at;
        for record in records {
            at.take(record);
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
        at.log_end = next;
        self.note(at)?;
        let rescue = self.rescue.take();
        self.forget_rescue(&rescue)
    }

    /// Notes what is durable; on disk at once where a window closed.
    fn note(&mut self, at: Mark) -> Result<(), StoreError> {
        let sync = at.window != self.at.window || at.closed;
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

    /// The closed windows that the log has, in their order.
    pub fn windows(&self) -> Result<Vec<WindowEnd>, StoreError> {
        let mut windows = Vec::new();
        self.each_log(|_, record| {
            if let Record::WindowClosed(closed) = record {
                windows.push(closed);
            }
            Ok(())
        })?;
        Ok(windows)
    }

    /// The shares of a window, in their order.
    pub fn shares(&self, window: WindowSeq) -> Result<Vec<ShareRecord>, StoreError> {
        let mut shares = Vec::new();
        self.each_share(window, |_, _, share| {
            shares.push(share);
            Ok(())
        })?;
        Ok(shares)
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
        let directory = self.path.join(BLOBS);
        let mut there = BTreeMap::new();
        let mut new = false;
        for entry in std::fs::read_dir(&directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let mut synced = || -> std::io::Result<u64> {
                // Another thread may be writing it: one that has grown since is made durable again.
                let length = entry.metadata()?.len();
                if self.blobs.get(&name) != Some(&length) {
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
        self.blobs = there;
        if new {
            File::open(&directory)?.sync_all()?;
        }
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
    /// Notes that nothing was cut short, so that the next start need not copy it.
    fn drop(&mut self) {
        if self.whole
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

#[cfg(test)]
mod tests;
