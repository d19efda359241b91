//! The bitcoind process: never outlives the process that started it.

use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Below the range from which systems take ports for outgoing connections, so that none of those
/// occupies a stopped node's port before its restart.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
const PORT_TRIES: usize = 200;
const POLL: Duration = Duration::from_millis(10);

/// Waits for its standard input to end, which happens at the latest when our process dies, however
/// it dies, and then kills the process it was told.
const WATCHDOG: &str = r#"read -r _; kill -KILL "$1" 2>/dev/null"#;

pub(super) struct Process {
    bitcoind: Child,
    watchdog: Child,
}

impl Process {
    /// Starts `command` with its output in `output`. Both children get process groups of their
    /// own: Ctrl-C on a terminal is for the program that runs the node, which may still need it.
    pub fn spawn(mut command: Command, output: &Path) -> io::Result<Process> {
        let output = File::create(output)?;
        let mut bitcoind = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()?;
        let watchdog = Command::new("sh")
            .args(["-c", WATCHDOG, "watchdog", &bitcoind.id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        match watchdog {
            Ok(watchdog) => Ok(Process { bitcoind, watchdog }),
            Err(error) => {
                // Not started unguarded; the error below is what matters.
                let _ = bitcoind.kill();
                let _ = bitcoind.wait();
                Err(error)
            }
        }
    }

    pub fn pid(&self) -> u32 {
        self.bitcoind.id()
    }

    pub fn exit_status(&mut self) -> io::Result<Option<ExitStatus>> {
        self.bitcoind.try_wait()
    }

    /// Asks bitcoind to stop and waits for it. `None` if it still runs at the deadline.
    pub fn terminate(&mut self, within: Duration) -> io::Result<Option<ExitStatus>> {
        if let Some(status) = self.exit_status()? {
            return Ok(Some(status));
        }
        let pid = i32::try_from(self.pid()).map_err(io::Error::other)?;
        kill(Pid::from_raw(pid), Signal::SIGTERM)?;
        let deadline = Instant::now() + within;
        while Instant::now() < deadline {
            if let Some(status) = self.exit_status()? {
                return Ok(Some(status));
            }
            std::thread::sleep(POLL);
        }
        Ok(None)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The watchdog first: it must not live to kill a later process of the same id. Both may be
        // gone already.
        let _ = self.watchdog.kill();
        let _ = self.watchdog.wait();
        let _ = self.bitcoind.kill();
        let _ = self.bitcoind.wait();
    }
}

/// A local port that nobody listens on at this moment.
pub(super) fn free_port() -> io::Result<u16> {
    // A fresh RandomState is seeded by the system, so parallel test processes rarely meet.
    let mut candidate = RandomState::new().build_hasher().finish();
    for _ in 0..PORT_TRIES {
        let span = u64::from(PORTS.end - PORTS.start);
        let offset = u16::try_from(candidate % span).map_err(io::Error::other)?;
        let port = PORTS.start + offset;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
        candidate = candidate.wrapping_add(1);
    }
    Err(io::Error::new(
        io::ErrorKind::AddrInUse,
        format!("{PORT_TRIES} ports from {} on are all taken", PORTS.start),
    ))
}
