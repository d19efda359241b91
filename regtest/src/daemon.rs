//! A daemon as a real process: its log as a stream of events, real signals, its exit status.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// One line of a daemon's JSON log, and whose.
#[derive(Clone, Debug)]
pub struct Line {
    /// The daemon's name.
    pub from: String,
    /// `event` and its fields.
    pub fields: Value,
}

impl Line {
    /// The event's name.
    pub fn event(&self) -> &str {
        self.fields["event"].as_str().unwrap_or("")
    }

    /// When the daemon said it, microseconds since 1970.
    pub fn micros(&self) -> Result<i64> {
        let said = self.text("ts")?;
        unix_micros(said).with_context(|| format!("{said} is no time of a log"))
    }

    /// A number of it.
    pub fn number(&self, field: &str) -> Result<u64> {
        let value = &self.fields[field];
        value
            .as_u64()
            .with_context(|| format!("{} of {} is no number: {value}", field, self.event()))
    }

    /// A text of it.
    pub fn text(&self, field: &str) -> Result<&str> {
        let value = &self.fields[field];
        value
            .as_str()
            .with_context(|| format!("{} of {} is no text: {value}", field, self.event()))
    }
}

/// Reads `2026-01-31T23:59:59.123456Z`.
fn unix_micros(said: &str) -> Option<i64> {
    let number = |from, to| said.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    // Years from March on, so that a leap day is the last of its year.
    let (year, month) = match month {
        3.. => (year, month - 3),
        _ => (year - 1, month + 9),
    };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    let days = days - 719_469; // 1970-01-01 counted in this way
    let minutes = (days * 24 + number(11, 13)?) * 60 + number(14, 16)?;
    Some((minutes * 60 + number(17, 19)?) * 1_000_000 + number(20, 26)?)
}

/// A running daemon. Dropping it kills the process.
pub struct Daemon {
    name: String,
    child: Child,
    lines: Receiver<Line>,
    seen: VecDeque<Line>,
    log: PathBuf,
}

impl Daemon {
    /// Starts a daemon; its log goes to `log` and, if wanted, to a second listener.
    pub fn spawn(
        name: &str,
        mut command: Command,
        log: &Path,
        listener: Option<Sender<Line>>,
    ) -> Result<Daemon> {
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let stderr = child.stderr.take().context("a piped stderr is there")?;
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        let (sender, lines) = channel();
        let from = name.to_owned();
        std::thread::spawn(move || {
            for text in BufReader::new(stderr).lines().map_while(Result::ok) {
                // A log that cannot be written must not stop the daemon.
                let _ = writeln!(file, "{text}");
                let Ok(fields) = serde_json::from_str::<Value>(&text) else {
                    continue;
                };
                let line = Line {
                    from: from.clone(),
                    fields,
                };
                if let Some(listener) = &listener {
                    let _ = listener.send(line.clone());
                }
                if sender.send(line).is_err() && listener.is_none() {
                    break;
                }
            }
        });
        Ok(Daemon {
            name: name.to_owned(),
            child,
            lines,
            seen: VecDeque::new(),
            log: log.to_owned(),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the next event for which `wanted` holds; earlier lines are passed over.
    pub fn wait_for(
        &mut self,
        what: &str,
        within: Duration,
        wanted: impl Fn(&Line) -> bool,
    ) -> Result<Line> {
        let deadline = Instant::now() + within;
        while let Some(line) = self.seen.pop_front() {
            if wanted(&line) {
                return Ok(line);
            }
        }
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if wanted(&line) => return Ok(line),
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => {
                    bail!(
                        "{}: no {what} within {within:?}; its log is {}",
                        self.name,
                        self.log.display()
                    )
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let status = self
                        .child
                        .wait()
                        .map_or_else(|e| e.to_string(), |s| s.to_string());
                    bail!(
                        "{} ended ({status}) before {what}; its log is {}",
                        self.name,
                        self.log.display()
                    )
                }
            }
        }
    }

    /// Waits for the next event of this name.
    pub fn wait_event(&mut self, event: &str, within: Duration) -> Result<Line> {
        self.wait_for(event, within, |line| line.event() == event)
    }

    /// Waits for an event of this name; what came before it may still be waited for.
    pub fn wait_and_keep(&mut self, event: &str, within: Duration) -> Result<Line> {
        let deadline = Instant::now() + within;
        let mut kept = VecDeque::new();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self.wait_for(event, left, |_| true)?;
            let came = line.event() == event;
            kept.push_back(line.clone());
            if came {
                kept.append(&mut self.seen);
                self.seen = kept;
                return Ok(line);
            }
        }
    }

    /// Whether an event of this name has come already; looks at all that came and keeps it. Of a
    /// process that has ended, all that it said has come.
    pub fn has_seen(&mut self, event: &str) -> bool {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            self.seen.extend(self.lines.iter());
        } else {
            self.seen.extend(self.lines.try_iter());
        }
        self.seen.iter().any(|line| line.event() == event)
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).context("a process id is an i32")?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("cannot signal {}", self.name))
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) -> Result<()> {
        self.child
            .kill()
            .with_context(|| format!("cannot kill {}", self.name))?;
        self.child
            .wait()
            .with_context(|| format!("cannot wait for {}", self.name))?;
        Ok(())
    }

    /// SIGTERM; gives the exit status, or an error if it is not gone in time.
    pub fn terminate(&mut self, within: Duration) -> Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        self.wait_exit(within)
    }

    /// Waits for the process to end by itself.
    pub fn wait_exit(&mut self, within: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!("{} has not ended within {within:?}", self.name);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logs_time_is_read_to_the_microsecond() {
        for (said, micros) in [
            ("1970-01-01T00:00:00.000000Z", 0),
            ("1970-01-01T00:00:00.000001Z", 1),
            ("2000-02-29T23:59:59.999999Z", 951_868_799_999_999),
            ("2000-03-01T00:00:00.000000Z", 951_868_800_000_000),
            ("2026-12-31T12:34:56.789012Z", 1_798_720_496_789_012),
        ] {
            assert_eq!(unix_micros(said), Some(micros), "{said}");
        }
        assert_eq!(unix_micros("yesterday"), None);
    }
}
