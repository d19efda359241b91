//! What the store had at least when something was last acknowledged, beside sled's own files.
//!
//! sled takes what it cannot read near its log's end for a write that a power loss cut short, and
//! goes on without it. So each save, once it is durable, is noted here: the log's end, the open window
//! and how many shares it has. A store that has less has lost what was acknowledged, and is not used.
//!
//! The note is written in place, in turns to one of two pages, so that one is whole whenever the
//! machine stops, and is synced when a window closes and once a second: what the disk has of it is never ahead of
//! the store, only behind. It begins before the store does. So a store without it is one that somebody
//! took it from, or that an earlier version wrote: what is there is believed. One in which neither page
//! is whole is damaged itself, and the store is refused until the file is removed.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use tutti_daemon::durable;
use tutti_proto::coordinator::Record;
use tutti_proto::id::WindowSeq;

use super::key::Key;
use super::record::{kind, of_kind, seal_content, unseal};

pub(super) const NAME: &str = "mark";
/// Nothing that is written at once reaches into another.
const PAGE: usize = 4_096;
const CONTENT: usize = 33;
const KEY: Key = Key::Meta(NAME);

/// What is there at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    /// Number of the next record of the log.
    pub(super) log_end: u64,
    /// The open window; 0 before the store was ours.
    pub(super) window: WindowSeq,
    /// Its shares.
    pub(super) shares: u64,
    /// Nobody has written since.
    pub(super) closed: bool,
}

impl Mark {
    /// Before there is a store.
    pub(super) const NOTHING: Mark = Mark {
        log_end: 0,
        window: WindowSeq(0),
        shares: 0,
        closed: true,
    };

    /// What is there with this record.
    pub(super) fn take(&mut self, record: &Record) {
        match record {
            Record::Share { window, index, .. } if *window == self.window => {
                self.shares = self.shares.max(index.saturating_add(1));
            }
            Record::WindowClosed(end) => {
                (self.window, self.shares) = (end.record.seq.next(), 0);
            }
            _ => {}
        }
    }

    fn page(&self, turn: u64) -> Vec<u8> {
        let numbers = [turn, self.log_end, self.window.0, self.shares];
        let mut content: Vec<u8> = numbers.iter().flat_map(|n| n.to_be_bytes()).collect();
        content.push(u8::from(self.closed));
        seal_content(&KEY, kind::MARK, &content)
    }

    fn read(page: &[u8]) -> Option<(u64, Self)> {
        let sealed = page.get(..super::record::SEAL_SIZE + CONTENT)?;
        let content = of_kind(kind::MARK, unseal(&KEY, sealed).ok()?).ok()?;
        let (numbers, closed) = content.as_chunks::<8>();
        let [turn, log_end, window, shares] = *numbers else {
            return None;
        };
        let mark = Self {
            log_end: u64::from_be_bytes(log_end),
            window: WindowSeq(u64::from_be_bytes(window)),
            shares: u64::from_be_bytes(shares),
            closed: *closed == [1],
        };
        Some((u64::from_be_bytes(turn), mark))
    }
}

/// The file of it.
pub(super) struct MarkFile {
    file: File,
    turn: u64,
    /// What was noted last.
    pub(super) noted: Mark,
}

/// What a directory has of it.
pub(super) enum Found {
    Whole(MarkFile),
    Damaged,
    None,
}

impl MarkFile {
    pub(super) fn find(store: &Path) -> io::Result<Found> {
        let path = store.join(NAME);
        let content = match std::fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::None),
            content => content?,
        };
        let pages = content.chunks(PAGE).take(2).filter_map(Mark::read);
        let Some((turn, noted)) = pages.max_by_key(|(turn, _)| *turn) else {
            return Ok(Found::Damaged);
        };
        let file = OpenOptions::new().write(true).open(&path)?;
        Ok(Found::Whole(Self { file, turn, noted }))
    }

    /// A new one, on disk when this returns.
    pub(super) fn create(store: &Path, noted: Mark) -> io::Result<Self> {
        let path = store.join(NAME);
        let mut pages = noted.page(0);
        pages.resize(2 * PAGE, 0);
        durable::write(&path, &pages)?;
        let file = OpenOptions::new().write(true).open(&path)?;
        Ok(Self {
            file,
            turn: 0,
            noted,
        })
    }

    /// Whether there was no store yet: nothing was ever saved.
    pub(super) fn is_of_nothing(&self) -> bool {
        self.noted.window == WindowSeq(0)
    }

    /// Notes what is durable.
    pub(super) fn note(&mut self, mark: Mark) -> io::Result<()> {
        if mark == self.noted {
            return Ok(());
        }
        let turn = self.turn.saturating_add(1);
        let place = (turn % 2) * PAGE as u64;
        self.file.write_all_at(&mark.page(turn), place)?;
        (self.turn, self.noted) = (turn, mark);
        Ok(())
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(n: u64) -> Mark {
        Mark {
            log_end: n,
            window: WindowSeq(n + 1),
            shares: n + 2,
            closed: n.is_multiple_of(2),
        }
    }

    fn found(dir: &Path) -> Option<Mark> {
        match MarkFile::find(dir).unwrap() {
            Found::Whole(file) => Some(file.noted),
            Found::Damaged => None,
            Found::None => panic!("it is there"),
        }
    }

    #[test]
    fn the_last_note_counts_and_a_torn_one_leaves_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(MarkFile::find(dir.path()), Ok(Found::None)));
        let mut file = MarkFile::create(dir.path(), mark(0)).unwrap();
        assert_eq!(found(dir.path()), Some(mark(0)));
        let path = dir.path().join(NAME);
        for n in 1..9 {
            file.note(mark(n)).unwrap();
            assert_eq!(found(dir.path()), Some(mark(n)));
            let whole = std::fs::read(&path).unwrap();
            let at = usize::try_from(n % 2).unwrap() * PAGE;
            for byte in 0..super::super::record::SEAL_SIZE + CONTENT {
                let mut torn = whole.clone();
                torn[at + byte] ^= 1;
                std::fs::write(&path, &torn).unwrap();
                assert_eq!(found(dir.path()), Some(mark(n - 1)), "byte {byte}");
                torn[PAGE - at] ^= 1;
                std::fs::write(&path, &torn).unwrap();
                assert_eq!(found(dir.path()), None, "both");
            }
            std::fs::write(&path, whole).unwrap();
        }
    }
}
