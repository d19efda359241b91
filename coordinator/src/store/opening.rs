//! Opening the store: whose it is, and whether it has all that it acknowledged.

use std::any::Any;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::Instant;

use bitcoin::Network;
use sled::Batch;
use tutti_daemon::durable;
use tutti_proto::coordinator::Record;
use tutti_proto::id::WindowSeq;

use super::key::{self, Key};
use super::mark::{Found, Mark, MarkFile};
use super::record;
use super::rescue::Rescue;
use super::share_file::{Appender, Extent, ShareFiles};
use super::shelf::Shelf;
use super::{BLOBS, FORMAT, LOG, RecordError, Store, StoreError};
use crate::faults;

/// The format before shares had files beside sled: all of them are in sled, where they stay.
const WITHOUT_FILES: u32 = 5;
const FORMAT_KEY: Key = Key::Meta("format");
/// sled's parameters.
const CONF: &str = "conf";
/// How its snapshots' names begin.
const SNAPSHOT: &str = "snap.";

impl Store {
    /// Whether a directory has no store that was ever whole, so that one which is opened there begins anew.
    pub fn is_missing(path: &Path) -> Result<bool, StoreError> {
        let io = |source: io::Error| StoreError::of_sled(path, "read", source.into());
        let log = match fs::metadata(path.join(LOG)) {
            Ok(log) => log.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(io(error)),
        };
        Ok(match MarkFile::find(path).map_err(io)? {
            Found::None => log == 0,
            Found::Whole(mark) => mark.is_of_nothing(),
            Found::Damaged => false,
        })
    }

    /// Opens the store in a directory, or makes one for this chain.
    pub fn open(path: &Path, network: Network) -> Result<Self, StoreError> {
        let io = |source: io::Error| StoreError::of_sled(path, "open", source.into());
        if !path.is_dir() {
            fs::create_dir_all(path).map_err(io)?;
            durable::sync_entry(path).map_err(io)?;
        }
        let empty = fs::metadata(path.join(LOG)).map_or(true, |log| log.len() == 0);
        let files = ShareFiles::new(path);
        let found = MarkFile::find(path).map_err(io)?;
        let is_new = match &found {
            Found::Whole(mark) => mark.is_of_nothing(),
            Found::Damaged => false,
            Found::None => empty,
        };
        if is_new && !files.windows().map_err(io)?.is_empty() {
            return Err(StoreError::Emptied {
                path: path.to_owned(),
            });
        }
        let mark = match found {
            Found::Whole(mark) => Some(mark),
            Found::None if empty => Some(MarkFile::create(path, Mark::NOTHING).map_err(io)?),
            Found::None => None,
            Found::Damaged => {
                return Err(StoreError::Mark {
                    path: path.to_owned(),
                });
            }
        };
        if is_new {
            clear(path).map_err(io)?;
        }
        let closed = mark.as_ref().is_some_and(|mark| mark.noted.closed);
        let rescue = match empty || closed {
            true => Rescue::find(path),
            false => Rescue::take(path).map_err(|source| StoreError::Rescue {
                path: path.to_owned(),
                source,
            })?,
        };
        files.create().map_err(io)?;
        let opened = guarded(path, "open", || {
            let mut store = Self::of_sled(path, mark)?;
            let format = store.claim(network)?;
            store.find_end()?;
            // What it has is where this format has it, too.
            store.is_older = format < FORMAT;
            store.settle_mark()?;
            Ok(store)
        });
        match opened {
            Ok(mut store) => {
                store.rescue = rescue;
                Ok(store)
            }
            Err(error) => Err(error.with(rescue)),
        }
    }

    fn of_sled(path: &Path, mark: Option<MarkFile>) -> Result<Self, StoreError> {
        let failed = |source| StoreError::of_sled(path, "open", source);
        // Nothing is durable before `save` flushes, so a timer's flushes would only cost.
        let db = sled::Config::new()
            .path(path)
            .flush_every_ms(None)
            .open()
            .map_err(failed)?;
        let tree = db.open_tree("records").map_err(failed)?;
        let log = File::open(path.join(LOG)).map_err(|e| failed(e.into()))?;
        Ok(Self {
            db,
            tree,
            log,
            blobs: BTreeMap::new(),
            path: path.to_owned(),
            appender: Appender::new(ShareFiles::new(path)),
            next: 0,
            shelf: Shelf::default(),
            mark,
            at: Mark::NOTHING,
            synced: Instant::now(),
            rescue: None,
            is_older: false,
            whole: false,
        })
    }

    /// Checks whose store this is, and says which format it has; makes a new one ours.
    fn claim(&mut self, network: Network) -> Result<u32, StoreError> {
        let chain = Key::Meta("chain");
        let path = self.path.clone();
        let Some(found) = self.value(&FORMAT_KEY)? else {
            if !self.mark.as_ref().is_some_and(MarkFile::is_of_nothing) {
                return Err(StoreError::Emptied { path });
            }
            let mut batch = Self::named_ours();
            batch.insert(chain.to_bytes(), network.magic().to_bytes().to_vec());
            self.write(batch)?;
            let named = self.sync_names();
            named.map_err(|e| self.sled("write", e.into()))?;
            return Ok(FORMAT);
        };
        let found = <[u8; 4]>::try_from(found.as_ref()).map(u32::from_be_bytes);
        let found = match found {
            Ok(found @ WITHOUT_FILES..=FORMAT) => found,
            Ok(found) if found < FORMAT => return Err(StoreError::OlderFormat { path, found }),
            Ok(found) => return Err(StoreError::LaterFormat { path, found }),
            Err(_) => return Err(self.damaged(&FORMAT_KEY, RecordError::Length)),
        };
        let of_chain = self.value(&chain)?;
        if of_chain.as_deref() != Some(network.magic().to_bytes().as_slice()) {
            return Err(StoreError::OtherChain { path, network });
        }
        Ok(found)
    }

    /// Names our format.
    pub(super) fn named_ours() -> Batch {
        let mut batch = Batch::default();
        batch.insert(FORMAT_KEY.to_bytes(), FORMAT.to_be_bytes().to_vec());
        batch
    }

    /// sled makes its files, but not their names durable.
    fn sync_names(&self) -> io::Result<()> {
        File::open(self.path.join(CONF))?.sync_all()?;
        File::open(self.path.join(BLOBS))?.sync_all()?;
        File::open(&self.path)?.sync_all()
    }

    /// Where log and open window end.
    fn find_end(&mut self) -> Result<(), StoreError> {
        self.shelf = self.kept()?.0;
        self.next = match self.tree.scan_prefix(Key::LOG).next_back() {
            None => self.reader().base_number()?,
            Some(last) => {
                let (key, _) = last.map_err(|e| self.sled("read", e))?;
                self.number(&key)?.saturating_add(1)
            }
        };
        let noted = self.mark.as_ref().map(|mark| mark.noted);
        if let Some(noted) = noted.filter(|noted| noted.window > WindowSeq(0)) {
            self.check(&noted)?;
        }
        let window = self.open_window(noted)?;
        // In one that was closed nothing is cut short, nor before a share that is there.
        let closed = noted.is_some_and(|noted| noted.closed);
        let of_file = self.reader().extent(window)?;
        let end = self.end_with(window, &of_file)?;
        let whole = self.readable(window, &of_file)? == end;
        let torn = of_file.torn.filter(|_| whole && !closed);
        self.reader().settle(window, torn)?;
        // The same of what sled found, and does not always make durable itself.
        let synced = self.sync_blobs().and_then(|()| self.log.sync_data());
        synced.map_err(|e| self.sled("write", e.into()))?;
        self.at = Mark {
            log_end: self.next,
            window,
            shares: end,
            closed: false,
        };
        Ok(())
    }

    /// Whether everything is there that was.
    fn check(&self, noted: &Mark) -> Result<(), StoreError> {
        if self.next < noted.log_end {
            return Err(self.lost(Key::Log(self.next).to_string(), noted.window, noted.shares)?);
        }
        let end = match self.closed_since(noted)?.remove(&noted.window) {
            // Its shares may be in its segment by now.
            Some(shares) => shares,
            None => self.shares_end(noted.window)?,
        };
        if end < noted.shares {
            let key = Key::Share(noted.window, end);
            return Err(self.lost(key.to_string(), noted.window, noted.shares)?);
        }
        Ok(())
    }

    /// The windows that closed after this, and their shares.
    fn closed_since(&self, noted: &Mark) -> Result<BTreeMap<WindowSeq, u64>, StoreError> {
        let reader = self.reader();
        let first = noted.log_end.max(reader.base_number()?);
        let mut closed = BTreeMap::new();
        for number in first..self.next {
            if let Record::WindowClosed(end) = reader.log(number)? {
                closed.insert(end.record.seq, end.record.shares);
            }
        }
        Ok(closed)
    }

    fn open_window(&self, noted: Option<Mark>) -> Result<WindowSeq, StoreError> {
        let noted = noted.unwrap_or(Mark::NOTHING);
        if let Some((last, _)) = self.closed_since(&noted)?.pop_last() {
            return Ok(last.next());
        }
        if noted.window > WindowSeq(0) {
            return Ok(noted.window);
        }
        let base = self.reader().base()?;
        Ok(base.map_or(WindowSeq(1), |base| base.window().next()))
    }

    /// Place after the last share of a window.
    fn shares_end(&self, window: WindowSeq) -> Result<u64, StoreError> {
        self.end_with(window, &self.reader().extent(window)?)
    }

    /// The same, where it is known what the window's file has.
    fn end_with(&self, window: WindowSeq, of_file: &Extent) -> Result<u64, StoreError> {
        let of_file = of_file.end;
        let mut rows = self.tree.scan_prefix(Key::shares_of(window));
        let Some(last) = rows.next_back() else {
            return Ok(of_file);
        };
        let (key, value) = last.map_err(|e| self.sled("read", e))?;
        let (_, first) = key::numbers(&key).ok_or_else(|| self.unreadable(&key))?;
        let shares = value.len().saturating_sub(record::SEAL_SIZE);
        let shares = shares / tutti_proto::share::SHARE_RECORD_SIZE;
        Ok(of_file.max(first.saturating_add(shares as u64)))
    }

    /// What of a window's shares is missing, beside this record.
    pub(super) fn lost(
        &self,
        first: String,
        window: WindowSeq,
        expected: u64,
    ) -> Result<StoreError, StoreError> {
        let of_file = self.reader().extent(window)?;
        let there = self.readable(window, &of_file)?;
        let expected = expected.max(self.end_with(window, &of_file)?);
        Ok(StoreError::Lost {
            path: self.path.clone(),
            key: first,
            window,
            missing: expected.saturating_sub(there),
            of: expected,
        })
    }

    /// Shares of a window that can be read.
    fn readable(&self, window: WindowSeq, of_file: &Extent) -> Result<u64, StoreError> {
        let (mut there, mut known) = (of_file.shares, BTreeMap::new());
        for row in self.tree.scan_prefix(Key::shares_of(window)) {
            let (key, value) = row.map_err(|e| self.sled("read", e))?;
            let Some((_, first)) = key::numbers(&key) else {
                continue;
            };
            let key = Key::Share(window, first);
            let shares = record::open_shares(&key, &value, &mut known);
            there = there.saturating_add(shares.map_or(0, |shares| shares.len() as u64));
        }
        Ok(there)
    }

    /// Notes what is there, and that somebody writes.
    fn settle_mark(&mut self) -> Result<(), StoreError> {
        let at = self.at;
        let noted = match self.mark.as_mut() {
            Some(mark) => mark.note(at).and_then(|()| mark.sync()),
            None => MarkFile::create(&self.path, at).map(|mark| self.mark = Some(mark)),
        };
        noted.map_err(|e| self.sled("write", e.into()))?;
        self.whole = true;
        Ok(())
    }
}

/// Removes what sled had made of a store that was never ours: we were stopped as we made it, and half of its
/// own files sled does not open.
fn clear(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == BLOBS {
            fs::remove_dir_all(entry.path())?;
        } else if name == CONF || name == LOG || name.to_string_lossy().starts_with(SNAPSHOT) {
            fs::remove_file(entry.path())?;
        }
    }
    File::open(path)?.sync_all()
}

/// sled panics on some damage; that is an answer like any.
pub(super) fn guarded<T>(
    path: &Path,
    doing: &'static str,
    read: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    let why = |panic: Box<dyn Any + Send>| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or(panic.downcast_ref::<&str>().copied());
        StoreError::Unreadable {
            path: path.to_owned(),
            doing,
            why: text.unwrap_or("it says nothing").to_owned(),
        }
    };
    faults::caught(read).unwrap_or_else(|panic| Err(why(panic)))
}
