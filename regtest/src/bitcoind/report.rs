//! What a person sees while a bitcoind is found or built. Written to stderr only: stdout belongs
//! to results.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// A log file gets a line at every such step instead of one per percent.
const STEP_WITHOUT_TERMINAL: u8 = 10;

/// Receives notes and the progress of a build.
pub trait Report {
    fn note(&mut self, text: &str);
    fn percent(&mut self, percent: u8);
}

/// The report of the command line: one live line on a terminal, a line every 10 % elsewhere.
///
/// It writes to the stream itself, because the test harness captures `eprintln!` and would leave
/// the first `cargo test` silent for minutes.
pub struct StderrReport {
    terminal: bool,
    started: Option<Instant>,
    shown: Option<u8>,
}

impl StderrReport {
    pub fn new() -> Self {
        StderrReport {
            terminal: io::stderr().is_terminal(),
            started: None,
            shown: None,
        }
    }

    fn write(&self, text: &str) {
        let mut stderr = io::stderr().lock();
        // Progress that cannot be shown is no reason to stop.
        let _ = stderr.write_all(text.as_bytes());
        let _ = stderr.flush();
    }
}

impl Default for StderrReport {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for StderrReport {
    fn drop(&mut self) {
        // A build that failed leaves its live line unfinished, and the error comes next.
        if self.terminal && self.shown.is_some_and(|percent| percent < 100) {
            self.write("\n");
        }
    }
}

impl Report for StderrReport {
    fn note(&mut self, text: &str) {
        let clear = if self.terminal { "\r\x1b[K" } else { "" };
        self.write(&format!("{clear}tutti: {text}\n"));
    }

    fn percent(&mut self, percent: u8) {
        let elapsed = self.started.get_or_insert_with(Instant::now).elapsed();
        if !is_due(self.terminal, self.shown, percent) {
            return;
        }
        self.shown = Some(percent);
        let line = format!(
            "tutti: building bitcoind: {percent:3} % after {}",
            minutes_and_seconds(elapsed)
        );
        if !self.terminal {
            self.write(&format!("{line}\n"));
        } else if percent >= 100 {
            self.write(&format!("\r\x1b[K{line}\n"));
        } else {
            self.write(&format!("\r\x1b[K{line}"));
        }
    }
}

fn is_due(terminal: bool, shown: Option<u8>, percent: u8) -> bool {
    match shown {
        None => true,
        Some(shown) if terminal => percent > shown,
        Some(shown) => percent / STEP_WITHOUT_TERMINAL > shown / STEP_WITHOUT_TERMINAL,
    }
}

pub(super) fn minutes_and_seconds(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds / 60 {
        0 => format!("{seconds} s"),
        minutes => format!("{minutes} min {} s", seconds % 60),
    }
}

/// Percentage in a line of `cmake --build`: "[ 42%] Building ..." from make, "[12/300] ..." from
/// ninja.
pub(super) fn percent_of_line(line: &str) -> Option<u8> {
    let (inside, _) = line.trim_start().strip_prefix('[')?.split_once(']')?;
    if let Some(percent) = inside.strip_suffix('%') {
        return percent.trim().parse().ok().filter(|p| *p <= 100);
    }
    let (done, total) = inside.split_once('/')?;
    let (done, total): (u32, u32) = (done.trim().parse().ok()?, total.trim().parse().ok()?);
    u8::try_from(done.checked_mul(100)?.checked_div(total)?)
        .ok()
        .filter(|p| *p <= 100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_is_read_from_make_and_from_ninja() {
        assert_eq!(percent_of_line("[ 42%] Building CXX object a.o"), Some(42));
        assert_eq!(percent_of_line("[100%] Built target bitcoind"), Some(100));
        assert_eq!(percent_of_line("[12/300] Building a.o"), Some(4));
        assert_eq!(percent_of_line("[1/0] nonsense"), None);
        assert_eq!(percent_of_line("-- Configuring done"), None);
        assert_eq!(percent_of_line("warning: [-Wall]"), None);
    }

    #[test]
    fn without_a_terminal_one_line_per_ten_percent() {
        let mut shown = None;
        let mut lines = Vec::new();
        for percent in 0..=100 {
            if is_due(false, shown, percent) {
                shown = Some(percent);
                lines.push(percent);
            }
        }
        assert_eq!(lines, [0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100]);
    }

    #[test]
    fn durations_read_like_speech() {
        assert_eq!(minutes_and_seconds(Duration::from_secs(9)), "9 s");
        assert_eq!(minutes_and_seconds(Duration::from_secs(184)), "3 min 4 s");
    }
}
