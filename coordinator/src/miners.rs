//! Who worked in the newest windows, and how much: from their segments on the disk, so nobody need be asked, and no
//! daemon need run.

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tutti_proto::id::{Identity, WindowSeq};
use tutti_proto::work::Work;

use crate::segments::{Directory, Index, Name, SegmentError};

/// Names of a thousand times as many hashes per second, each.
const UNITS: [&str; 7] = ["H/s", "kH/s", "MH/s", "GH/s", "TH/s", "PH/s", "EH/s"];

/// Everybody's work in some windows.
#[derive(Debug, Default)]
pub struct Miners {
    /// The windows' first and last.
    pub windows: Option<(WindowSeq, WindowSeq)>,
    /// From the close of the window before the first to the close of the last.
    pub lasted: Duration,
    /// Of all.
    pub work: Work,
    /// Most work first.
    pub miners: Vec<Miner>,
    /// Why a window is not among them.
    pub unread: Vec<SegmentError>,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Miner {
    /// Who.
    pub identity: Identity,
    /// Its accepted shares' work.
    pub work: Work,
    /// The last window in which it had work.
    pub last_window: WindowSeq,
    /// When that was closed.
    pub last_worked: SystemTime,
}

/// Hashes per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hashrate(pub u128);

impl Hashrate {
    /// What work in such a time comes from; none where the time is less than a second.
    pub fn of(work: Work, lasted: Duration) -> Option<Self> {
        work.0.checked_div(u128::from(lasted.as_secs())).map(Self)
    }
}

impl fmt::Display for Hashrate {
    /// Three digits and a unit: `1.23 PH/s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut whole = self.0;
        let mut thousandths = 0;
        let mut unit = 0;
        while whole >= 1_000 && unit + 1 < UNITS.len() {
            (whole, thousandths) = (whole / 1_000, whole % 1_000);
            unit += 1;
        }
        let name = UNITS[unit];
        match whole {
            _ if unit == 0 => write!(f, "{whole} {name}"),
            0..=9 => write!(f, "{whole}.{:02} {name}", thousandths / 10),
            10..=99 => write!(f, "{whole}.{} {name}", thousandths / 100),
            _ => write!(f, "{whole} {name}"),
        }
    }
}

impl Miners {
    /// Of the windows that were closed here after `since`, by the times of their files in this directory. The oldest
    /// of all that there are says only when the next one began.
    pub fn since(directory: &Path, since: SystemTime) -> Result<Self, SegmentError> {
        let (directory, index) = Directory::look(directory)?;
        let mut found = Self::default();
        let mut by: BTreeMap<Identity, Miner> = BTreeMap::new();
        let mut newest = None;
        // Closed, and to be added once it is known when it began.
        let mut next: Option<(WindowSeq, SystemTime)> = None;
        for window in index.windows().collect::<Vec<_>>().into_iter().rev() {
            let closed = match closed(&directory, &index, window) {
                Ok(Some(closed)) => closed,
                // It was let go just now, as all before it.
                Ok(None) => break,
                Err(error) => {
                    found.unread.push(error);
                    continue;
                }
            };
            if let Some(complete) = next.take()
                && let Err(error) = found.add(&directory, &index, complete, &mut by)
            {
                found.unread.push(error);
            }
            let newest = *newest.get_or_insert(closed);
            found.lasted = newest.duration_since(closed).unwrap_or_default();
            if closed < since {
                break;
            }
            next = Some((window, closed));
        }
        found.miners = by.into_values().collect();
        let most_first = |miner: &Miner| (std::cmp::Reverse(miner.work), miner.identity);
        found.miners.sort_by_key(most_first);
        Ok(found)
    }

    /// Adds a window; the newest is the first.
    fn add(
        &mut self,
        directory: &Directory,
        index: &Index,
        (window, closed): (WindowSeq, SystemTime),
        by: &mut BTreeMap<Identity, Miner>,
    ) -> Result<(), SegmentError> {
        let Some(id) = index.file(&Name::Window(window)) else {
            return Ok(());
        };
        let tally = directory.segment(window, &id)?.end.record.tally;
        for (identity, work) in &tally {
            let miner = by.entry(*identity).or_insert(Miner {
                identity: *identity,
                work: Work::ZERO,
                last_window: window,
                last_worked: closed,
            });
            miner.work = sum(miner.work, *work);
            self.work = sum(self.work, *work);
        }
        let last = self.windows.map_or(window, |(_, last)| last);
        self.windows = Some((window, last));
        Ok(())
    }
}

/// More than 2^128 hashes are not told apart.
fn sum(a: Work, b: Work) -> Work {
    a.checked_add(b).unwrap_or(Work(u128::MAX))
}

/// When a window was closed here; none if its file is there no more.
fn closed(
    directory: &Directory,
    index: &Index,
    window: WindowSeq,
) -> Result<Option<SystemTime>, SegmentError> {
    let name = Name::Window(window);
    let Some(id) = index.file(&name) else {
        return Ok(None);
    };
    let path = directory.path(&name, &id);
    let time = std::fs::metadata(&path).and_then(|metadata| metadata.modified());
    match time {
        Ok(time) => Ok(Some(time)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SegmentError::Io {
            path,
            doing: "read",
            source,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashrates_have_three_digits_and_a_unit() {
        let shown = |rate| Hashrate(rate).to_string();
        assert_eq!(shown(0), "0 H/s");
        assert_eq!(shown(999), "999 H/s");
        assert_eq!(shown(1_000), "1.00 kH/s");
        assert_eq!(shown(12_345_678), "12.3 MH/s");
        assert_eq!(shown(9_994_000_000_000), "9.99 TH/s");
        assert_eq!(shown(123_456_000_000_000_000_000_000), "123456 EH/s");
    }

    #[test]
    fn where_no_window_was_closed_nobody_worked() {
        let dir = tempfile::tempdir().unwrap();
        let none = Miners::since(&dir.path().join("segments"), SystemTime::UNIX_EPOCH).unwrap();
        assert!(none.miners.is_empty() && none.windows.is_none());
        assert!(!dir.path().join("segments").exists(), "nothing was made");
    }

    #[test]
    fn what_cannot_be_read_is_named_and_the_oldest_window_only_says_when_the_next_began() {
        let dir = tempfile::tempdir().unwrap();
        let id = tutti_proto::segment::FileId::of(b"no segment");
        let write = |window: u32| {
            let name = format!("{window:010}-{id}.segment");
            std::fs::write(dir.path().join(name), b"no segment").unwrap();
            Miners::since(dir.path(), SystemTime::UNIX_EPOCH).unwrap()
        };
        assert!(write(7).unread.is_empty());
        let found = write(8);
        assert!(found.windows.is_none());
        assert_eq!(found.unread.len(), 1);
        assert!(found.unread[0].to_string().contains("0000000008-"));
    }
}
