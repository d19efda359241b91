//! What a fault of our own code ends: the process, but for what a peer's message does to its own call or
//! connection.

use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::thread;

use tutti_daemon::faults::{self, Ends};
use tutti_daemon::log::LogGuard;

use crate::news::News;

/// Name of the runtime's threads, which serve connections.
pub const CONNECTIONS: &str = "connections";
/// Name of the thread that checks slots.
pub(crate) const SLOTS: &str = "slots";

thread_local! {
    /// Whether whoever called answers for what fails here.
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// Does what may fail for its input: a fault is the result, and nothing else comes of it.
pub(crate) fn caught<T>(body: impl FnOnce() -> T) -> thread::Result<T> {
    let before = CAUGHT.replace(true);
    let result = panic::catch_unwind(AssertUnwindSafe(body));
    CAUGHT.set(before);
    result
}

/// Has every fault told in the log, and ends the process at one that is not only a peer's.
pub(crate) fn watch(log: &LogGuard) {
    faults::watch(log, |fault| {
        if CAUGHT.get() {
            return Ends::Call;
        }
        News::fault(fault).tell();
        match fault.thread {
            CONNECTIONS | SLOTS => Ends::Call,
            _ => Ends::Process,
        }
    });
}

#[cfg(test)]
mod tests {
    use std::process::{self, Command};
    use std::thread::Builder;

    use super::*;
    use crate::config::LogSettings;
    use crate::news;

    /// Set: this process is the one that fails, in the thread of this name.
    const FAILS: &str = "TUTTI_TEST_FAILS";

    /// Not a test by itself: what the test's other process does.
    #[test]
    fn a_thread_that_fails() {
        let Ok(name) = std::env::var(FAILS) else {
            return;
        };
        let log = news::start(LogSettings::default().or_json(true)).unwrap();
        watch(&log);
        assert!(caught(|| panic!("of what is read")).is_err());
        let thread = Builder::new().name(name).spawn(|| panic!("a defect"));
        assert!(thread.unwrap().join().is_err());
        drop(log);
        process::exit(0);
    }

    #[test]
    fn a_fault_ends_the_process_unless_it_is_a_call_s() {
        for (thread, code) in [("feed", 1), (CONNECTIONS, 0)] {
            let run = Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "faults::tests::a_thread_that_fails",
                    "--nocapture",
                ])
                .env(FAILS, thread)
                .env_remove("RUST_LOG")
                .output()
                .unwrap();
            let said = String::from_utf8(run.stderr).unwrap();
            assert_eq!(run.status.code(), Some(code), "{said}");
            let lines = said.lines().filter(|line| line.starts_with('{'));
            let lines: Vec<serde_json::Value> = lines
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
            let [line] = &lines[..] else {
                panic!("one line: {said}");
            };
            assert_eq!(line["event"], "fault");
            assert_eq!(line["level"], "error");
            assert_eq!(line["thread"], thread);
            assert_eq!(line["why"], "a defect");
            assert!(line["place"].as_str().unwrap().contains("faults.rs"));
        }
    }
}
