//! How the daemon is doing: kept by `run`, shown by `status`.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::amount::grouped;
use crate::date;
use crate::store::{self, Durability, StoreError, WindowWork};

/// The hashrate is measured over this much of the past.
const MEASURED_OVER: Duration = Duration::from_secs(10);

/// A file that nothing changes is written again after this long, in seconds: that it is young says that its daemon
/// goes on.
const WRITTEN_EVERY: u64 = 30;
/// Of a running daemon no file is as old, in seconds.
const OLD: u64 = 4 * WRITTEN_EVERY;
/// Windows that are listed, the newest; JSON has all.
const WINDOWS_SHOWN: usize = 5;

/// The file, and what programs get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub identity: String,
    /// Whether a daemon runs. In the file: not stated; the lock says so.
    #[serde(default)]
    pub running: bool,
    /// When the file was written, seconds since 1970; none of a version that did not say.
    #[serde(default)]
    pub written_at: Option<u64>,
    /// Whether it has joined the pool.
    pub connected: bool,
    /// Identity of the coordinator that was joined last.
    pub coordinator: Option<String>,
    /// Where we are paid now.
    pub address: String,
    /// The round whose lanes are being hashed.
    pub hashing_round: Option<u64>,
    /// How the last daemon hashed.
    #[serde(default)]
    pub kernel: Option<String>,
    /// Hashes per second, measured.
    pub hashrate: u64,
    /// Since the daemon's start.
    pub shares_acknowledged: u64,
    /// The last window of the ledger whose shares were checked, all or a sample.
    #[serde(default)]
    pub checked_window: Option<u64>,
    /// Other miners' shares and ours that were checked, since the daemon's start.
    #[serde(default)]
    pub shares_checked: u64,
    pub own_work: Vec<WindowWork>,
    pub held_rounds: usize,
    /// What is wrong with the own node's view of the chain: stale, behind, other_branch.
    #[serde(default)]
    pub node_alarms: Vec<String>,
    /// What is known of the own node.
    #[serde(default)]
    pub node: OwnNode,
}

/// The own node, as it was seen last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum OwnNode {
    /// Nobody asked it yet.
    #[default]
    Unknown,
    /// The configuration has none.
    None,
    /// It does not answer.
    Away {
        /// Seconds since 1970.
        since: u64,
    },
    /// It answers.
    At {
        /// Of its tip.
        height: u32,
    },
}

impl Status {
    /// Before the first run.
    pub fn new(identity: String, address: String) -> Self {
        Self {
            identity,
            running: false,
            written_at: None,
            connected: false,
            coordinator: None,
            address,
            hashing_round: None,
            kernel: None,
            hashrate: 0,
            shares_acknowledged: 0,
            checked_window: None,
            shares_checked: 0,
            own_work: Vec::new(),
            held_rounds: 0,
            node_alarms: Vec::new(),
            node: OwnNode::Unknown,
        }
    }

    /// What the daemon wrote last; none before `init`, or where a power failure left no whole file.
    pub fn last(directory: &Path) -> Result<Option<Self>, StoreError> {
        store::read_lazy(&directory.join(store::STATUS))
    }

    /// Reads what the daemon wrote last. `None` before `init`.
    pub fn read(directory: &Path) -> Result<Option<Self>, StoreError> {
        let status: Option<Self> = store::read_json(&directory.join(store::STATUS))?;
        let Some(mut status) = status else {
            return Ok(None);
        };
        status.running = store::is_held(directory);
        status.held_rounds = store::held_names(directory)?.len();
        if !status.running {
            status.stop();
        }
        Ok(Some(status))
    }

    /// What is true of a daemon that does not run.
    fn stop(&mut self) {
        self.connected = false;
        self.hashing_round = None;
        self.hashrate = 0;
        self.node_alarms.clear();
        self.node = OwnNode::Unknown;
    }

    /// Without a node, or while it is away, nothing is said to be well.
    fn own_node(&self) -> String {
        let seen = match self.node {
            OwnNode::Unknown if self.running => "not asked yet".to_owned(),
            OwnNode::Unknown => "not asked: nothing runs".to_owned(),
            OwnNode::None => {
                "none configured: found blocks and payouts are not watched here".to_owned()
            }
            OwnNode::Away { since } => format!("AWAY since {}; see the log", date::utc(since)),
            OwnNode::At { height } => format!("at height {}", grouped(height)),
        };
        match (self.node_alarms.as_slice(), self.node) {
            ([], OwnNode::At { .. }) => format!("{seen}, no alarm"),
            ([], _) => seen,
            (alarms, _) => format!("{seen}; ALARM: {}; see the log", alarms.join(", ")),
        }
    }

    /// How old what is shown is.
    fn age(&self, now: u64) -> String {
        let Some(at) = self.written_at else {
            return "unknown".to_owned();
        };
        // A clock that was put back since makes nothing older.
        let age = now.saturating_sub(at);
        let seen = format!("{} s ago", grouped(age));
        match self.running {
            true if age > OLD => format!(
                "{seen}: OLD; `run` writes it every {WRITTEN_EVERY} s, so it hangs and its log may say why, or `watch` runs here instead"
            ),
            true => seen,
            false => format!("{seen}, {}", date::utc(at)),
        }
    }

    /// All of it in one row, and the newest windows.
    fn work(&self) -> Vec<(String, String)> {
        // A sum that a file is wrong about is only shown.
        let works = self
            .own_work
            .iter()
            .filter_map(|entry| entry.work.parse().ok());
        let sum = works.fold(0u128, u128::saturating_add);
        let windows = self.own_work.len();
        let all = match windows {
            0 => "none".to_owned(),
            1 => format!("{} hashes in 1 window", grouped(sum)),
            more => format!(
                "{} hashes in the last {} windows",
                grouped(sum),
                grouped(more)
            ),
        };
        let newest = self.own_work.iter().rev().take(WINDOWS_SHOWN);
        let newest = newest.map(|entry| {
            let name = format!("  window {}", entry.window);
            (name, format!("{} hashes", grouped(&entry.work)))
        });
        [("own work".to_owned(), all)]
            .into_iter()
            .chain(newest)
            .collect()
    }

    /// For persons; `now` in seconds since 1970.
    pub fn table(&self, now: u64) -> String {
        let yes = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
        let none = || "none".to_owned();
        let rows = [
            ("identity", self.identity.clone()),
            ("running", yes(self.running)),
            ("as of", self.age(now)),
            ("connected", yes(self.connected)),
            ("coordinator", self.coordinator.clone().unwrap_or_else(none)),
            ("paid to", self.address.clone()),
            (
                "hashing round",
                self.hashing_round.map_or_else(none, |seq| seq.to_string()),
            ),
            ("kernel", self.kernel.clone().unwrap_or_else(none)),
            ("hashrate", format!("{} H/s", grouped(self.hashrate))),
            ("shares acknowledged", grouped(self.shares_acknowledged)),
            (
                "ledger checked to",
                self.checked_window
                    .map_or_else(none, |window| format!("window {window}")),
            ),
            ("shares checked", grouped(self.shares_checked)),
            ("rounds held", grouped(self.held_rounds)),
            ("own node", self.own_node()),
        ];
        let rows = rows.map(|(name, value)| (name.to_owned(), value));
        let rows = rows.into_iter().chain(self.work());
        rows.map(|(name, value)| format!("{name:<22}{value}\n"))
            .collect()
    }
}

/// The status file while the daemon runs.
pub struct Board {
    pub now: Status,
    written: Option<Status>,
    path: PathBuf,
    meter: Meter,
}

impl Board {
    pub fn new(directory: &Path, now: Status) -> Self {
        Self {
            now,
            written: None,
            path: directory.join(store::STATUS),
            meter: Meter::default(),
        }
    }

    /// Measures the hashrate from the count of all hashes.
    pub fn measure(&mut self, hashes: u64, at: Instant) {
        self.now.hashrate = self.meter.rate(hashes, at);
    }

    /// Writes the file if anything changed, or if it gets old.
    pub fn write(&mut self) -> Result<(), StoreError> {
        let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
        self.write_at(now.as_secs())
    }

    /// `now` in seconds since 1970.
    fn write_at(&mut self, now: u64) -> Result<(), StoreError> {
        let written = self.written.as_ref();
        let written_at = written.and_then(|written| written.written_at);
        self.now.written_at = written_at;
        let is_young = written_at.is_some_and(|at| now.abs_diff(at) < WRITTEN_EVERY);
        if is_young && written == Some(&self.now) {
            return Ok(());
        }
        self.now.written_at = Some(now);
        store::write_json(&self.path, &self.now, Durability::Lazy)?;
        self.written = Some(self.now.clone());
        Ok(())
    }

    /// Writes what is true after the end.
    pub fn stop(&mut self) -> Result<(), StoreError> {
        self.now.stop();
        self.write()
    }
}

/// Hashes counted at several moments.
#[derive(Default)]
struct Meter(VecDeque<(Instant, u64)>);

impl Meter {
    fn rate(&mut self, hashes: u64, at: Instant) -> u64 {
        self.0.push_back((at, hashes));
        // The second sample must stay old enough to measure from.
        while self
            .0
            .get(1)
            .is_some_and(|(then, _)| at.duration_since(*then) >= MEASURED_OVER)
        {
            self.0.pop_front();
        }
        let Some((then, before)) = self.0.front() else {
            return 0;
        };
        let millis = at.duration_since(*then).as_millis();
        let rate = (u128::from(hashes.saturating_sub(*before)) * 1_000)
            .checked_div(millis)
            .unwrap_or(0);
        three_digits(u64::try_from(rate).unwrap_or(u64::MAX))
    }
}

/// More digits than these are noise, and would change the file all the time.
fn three_digits(rate: u64) -> u64 {
    let mut unit = 1u64;
    while rate / unit >= 1_000 {
        unit = unit.saturating_mul(10);
    }
    rate / unit * unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_is_not_there_is_not_said_to_be_well() {
        let mut status = Status::new("me".to_owned(), "address".to_owned());
        let mut row = |running, node, alarms: &[&str]| {
            status.running = running;
            status.node = node;
            status.node_alarms = alarms.iter().map(|alarm| (*alarm).to_owned()).collect();
            let table = status.table(0);
            let row = table.lines().find_map(|line| line.strip_prefix("own node"));
            row.expect("a row").trim().to_owned()
        };
        let (away, at) = (
            OwnNode::Away {
                since: 1_700_000_000,
            },
            OwnNode::At { height: 1_234 },
        );
        assert_eq!(row(false, OwnNode::Unknown, &[]), "not asked: nothing runs");
        assert_eq!(row(true, OwnNode::Unknown, &[]), "not asked yet");
        assert!(row(true, OwnNode::None, &[]).starts_with("none configured"));
        assert_eq!(
            row(true, away, &[]),
            "AWAY since 2023-11-14 22:13 UTC; see the log"
        );
        assert_eq!(row(true, at, &[]), "at height 1 234, no alarm");
        assert_eq!(
            row(true, at, &["stale"]),
            "at height 1 234; ALARM: stale; see the log"
        );
    }

    #[test]
    fn an_old_file_of_a_running_daemon_is_told() {
        let mut status = Status::new("me".to_owned(), "address".to_owned());
        let mut row = |running, written_at, now| {
            (status.running, status.written_at) = (running, written_at);
            let table = status.table(now);
            let row = table.lines().find_map(|line| line.strip_prefix("as of"));
            row.expect("a row").trim().to_owned()
        };
        let at = 1_700_000_000;
        assert_eq!(row(true, None, at), "unknown");
        assert_eq!(row(true, Some(at), at + 7), "7 s ago");
        assert_eq!(row(true, Some(at), at - 7), "0 s ago");
        assert!(!row(true, Some(at), at + OLD).contains("OLD"));
        let old = row(true, Some(at), at + OLD + 1_000);
        assert!(old.starts_with("1 120 s ago: OLD"), "{old}");
        let ended = row(false, Some(at), at + 9_000);
        assert_eq!(ended, "9 000 s ago, 2023-11-14 22:13 UTC");
    }

    #[test]
    fn a_file_that_nothing_changes_stays_young() {
        let directory = tempfile::tempdir().unwrap();
        let status = Status::new("me".to_owned(), "address".to_owned());
        let mut board = Board::new(directory.path(), status);
        let mut written_at = |now, rounds| {
            board.now.held_rounds = rounds;
            board.write_at(now).unwrap();
            let last = Status::last(directory.path()).unwrap();
            last.and_then(|status| status.written_at)
        };
        assert_eq!(written_at(1_000, 1), Some(1_000));
        assert_eq!(written_at(1_029, 1), Some(1_000));
        assert_eq!(written_at(1_030, 1), Some(1_030));
        assert_eq!(written_at(1_031, 2), Some(1_031));
        // The clock was put back.
        assert_eq!(written_at(900, 2), Some(900));
    }

    #[test]
    fn own_work_is_a_sum_and_the_newest_windows() {
        let mut status = Status::new("me".to_owned(), "address".to_owned());
        let shown = |status: &Status| -> Vec<String> {
            let table = status.table(0);
            let lines = table
                .lines()
                .skip_while(|line| !line.starts_with("own work"));
            lines.map(str::to_owned).collect()
        };
        assert_eq!(shown(&status), ["own work              none"]);
        let work = |window| WindowWork {
            window,
            work: (window * 1_000).to_string(),
        };
        status.own_work = (1..=40).map(work).collect();
        let lines = shown(&status);
        assert_eq!(lines.len(), 1 + WINDOWS_SHOWN);
        let row = "own work              820 000 hashes in the last 40 windows";
        assert_eq!(lines[0], row);
        assert_eq!(lines[1], "  window 40           40 000 hashes");
        assert_eq!(lines[5], "  window 36           36 000 hashes");
    }

    #[test]
    fn the_hashrate_follows_the_last_seconds() {
        let start = Instant::now();
        let mut meter = Meter::default();
        assert_eq!(meter.rate(0, start), 0);
        let at = |second: u64| start + Duration::from_secs(second);
        assert_eq!(meter.rate(20_000, at(1)), 20_000);
        for second in 2..40 {
            meter.rate(20_000 * second, at(second));
        }
        assert_eq!(meter.rate(20_000 * 39, at(44)), 10_000);
        assert_eq!(meter.rate(20_000 * 39, at(60)), 0);
    }
}
