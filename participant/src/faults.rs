//! What a fault of our own code ends: the process. A daemon that lacks one of its threads only looks alive: it
//! hashes nothing any more, or broadcasts no payout, and nobody sees it. Whatever looks after it starts it again,
//! and what it was to keep is on the disk.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{self, PanicHookInfo};
use std::{process, thread};

use crate::log::LogGuard;
use crate::news::{DaemonEvent, News};

/// Has a fault of any thread told in the log, and ends the process.
pub(crate) fn watch(log: &LogGuard) {
    let end = log.ender();
    panic::set_hook(Box::new(move |fault| {
        told(fault).emit();
        end();
        process::exit(1);
    }));
}

fn told(fault: &PanicHookInfo<'_>) -> News {
    let thread = thread::current();
    let place = fault.location().map(ToString::to_string);
    let news = News::from(DaemonEvent::Fault {
        thread: thread.name().unwrap_or("unnamed"),
        why: why(fault),
        place: place.as_deref().unwrap_or("an unknown place"),
    });
    let trace = Backtrace::capture();
    match trace.status() {
        BacktraceStatus::Captured => news.with("backtrace", trace.to_string()),
        _ => news,
    }
}

/// What a panic says.
fn why<'a>(fault: &'a PanicHookInfo<'_>) -> &'a str {
    let said = fault.payload();
    let text = said.downcast_ref::<String>().map(String::as_str);
    let text = text.or(said.downcast_ref::<&str>().copied());
    text.unwrap_or("no reason given")
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::config::{LogFormat, LogLevel, LogSettings};
    use crate::log;

    /// Set: this process is the one that fails.
    const FAILS: &str = "TUTTI_TEST_FAILS";

    /// Not a test by itself: what the test's other process does.
    #[test]
    fn a_thread_that_fails() {
        if std::env::var_os(FAILS).is_none() {
            return;
        }
        let settings = LogSettings {
            format: LogFormat::Json,
            level: LogLevel::Info,
        };
        let log = log::start(settings).expect("a log");
        watch(&log);
        let thread = thread::Builder::new().name("settler".to_owned());
        let thread = thread.spawn(|| panic!("a defect")).expect("a thread");
        let _ = thread.join();
        process::exit(0);
    }

    #[test]
    fn a_fault_of_any_thread_ends_the_process_and_is_told() {
        let run = Command::new(std::env::current_exe().expect("this program"))
            .args([
                "--exact",
                "faults::tests::a_thread_that_fails",
                "--nocapture",
            ])
            .env(FAILS, "1")
            .env_remove("RUST_LOG")
            .output()
            .expect("run");
        let said = String::from_utf8(run.stderr).expect("text");
        assert_eq!(run.status.code(), Some(1), "{said}");
        let lines = said.lines().filter(|line| line.starts_with('{'));
        let lines: Vec<serde_json::Value> = lines
            .map(|line| serde_json::from_str(line).expect("JSON"))
            .collect();
        let [line] = &lines[..] else {
            panic!("one line: {said}");
        };
        assert_eq!(line["event"], "fault");
        assert_eq!(line["level"], "error");
        assert_eq!(line["thread"], "settler");
        assert_eq!(line["why"], "a defect");
    }
}
