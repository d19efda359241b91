//! What a fault of our own code ends: the process, whatever the thread.

use tutti_daemon::faults::{self, Ends};
use tutti_daemon::log::LogGuard;

use crate::news::{DaemonEvent, News};

/// Has a fault of any thread told in the log, and ends the process.
pub(crate) fn watch(log: &LogGuard) {
    faults::watch(log, |fault| {
        News::from(DaemonEvent::Fault(fault)).emit();
        Ends::Process
    });
}

#[cfg(test)]
mod tests {
    use std::process::{self, Command};
    use std::thread;

    use super::*;
    use crate::config::LogSettings;
    use crate::news;

    /// Set: this process is the one that fails.
    const FAILS: &str = "TUTTI_TEST_FAILS";

    /// Not a test by itself: what the test's other process does.
    #[test]
    fn a_thread_that_fails() {
        if std::env::var_os(FAILS).is_none() {
            return;
        }
        let log = news::start(LogSettings::default().or_json(true)).expect("a log");
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
