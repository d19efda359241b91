//! CPU times out of /proc.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

/// USER_HZ, the unit of times in /proc: 100 on every architecture that Bitcoin Core runs on.
pub const TICK: Duration = Duration::from_millis(10);

/// Ticks that a process has used, all threads, user and system.
pub fn of_process(pid: u32) -> Result<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the name in parentheses and may hold spaces.
    let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
    let mut times = fields.split_whitespace().skip(11).map(str::parse::<u32>);
    let mut next = || times.next().context("too few fields in stat");
    Ok(next()?? + next()??)
}

/// CPU time that this process has used.
pub fn own() -> Result<Duration> {
    Ok(TICK * of_process(std::process::id())?)
}

/// Ticks of all cores: in all, and busy with other programs.
#[derive(Clone, Copy, Debug)]
pub struct Others {
    all: u64,
    busy: u64,
}

impl Others {
    /// So far; these processes are not others.
    pub fn now(ours: impl Iterator<Item = u32>) -> Result<Others> {
        let stat = fs::read_to_string("/proc/stat")?;
        let line = stat.lines().next().context("an empty /proc/stat")?;
        // user nice system idle iowait irq softirq steal; guest times are in user's already.
        let fields = line
            .split_whitespace()
            .skip(1)
            .take(8)
            .map(str::parse::<u64>);
        let fields = fields.collect::<Result<Vec<u64>, _>>()?;
        let all: u64 = fields.iter().sum();
        let idle: u64 = fields.iter().skip(3).take(2).sum();
        let ours = ours.map(of_process).sum::<Result<u32>>()?;
        Ok(Others {
            all,
            busy: (all - idle).saturating_sub(u64::from(ours)),
        })
    }

    /// Part of the machine that others took since then, in percent: with much of it, times say
    /// little.
    pub fn since(self, earlier: Others) -> f64 {
        let busy = self.busy.saturating_sub(earlier.busy);
        100.0 * busy as f64 / (self.all - earlier.all).max(1) as f64
    }
}
