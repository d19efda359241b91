//! Where a built bitcoind is kept: outside the checkout, so that clones and `cargo clean` share it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::build::built_program;
use super::error::LocateError;
use super::pin::Pin;
use super::report::Report;

const BITCOIND: &str = "bitcoind";
const BITCOIN_CLI: &str = "bitcoin-cli";

/// `$TUTTI_CACHE_DIR`, else `$XDG_CACHE_HOME/tutti`, else `~/.cache/tutti`.
pub fn cache_root(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let directory = |name: &str| {
        variable(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    directory("TUTTI_CACHE_DIR")
        .or_else(|| directory("XDG_CACHE_HOME").map(|dir| dir.join("tutti")))
        .or_else(|| directory("HOME").map(|dir| dir.join(".cache").join("tutti")))
}

/// The place of one pin's bitcoind in the cache.
pub struct Slot {
    root: PathBuf,
    name: String,
}

/// The exclusive right to build into a slot, given up when dropped or when the process dies.
pub struct SlotLock {
    _lock: Flock<File>,
    /// Another process held it when we asked.
    pub waited: bool,
}

impl Slot {
    pub fn new(root: PathBuf, pin: &Pin) -> Self {
        Slot {
            root,
            name: pin.cache_name(),
        }
    }

    pub fn bitcoind(&self) -> PathBuf {
        self.dir().join(BITCOIND)
    }

    pub fn log_path(&self) -> PathBuf {
        self.beside("log")
    }

    fn dir(&self) -> PathBuf {
        self.root.join(&self.name)
    }

    fn beside(&self, extension: &str) -> PathBuf {
        self.root.join(format!("{}.{extension}", self.name))
    }

    /// Takes the lock, waiting for a build that runs elsewhere.
    pub fn lock(&self, report: &mut dyn Report) -> Result<SlotLock, LocateError> {
        fs::create_dir_all(&self.root).map_err(failure("create", &self.root))?;
        let path = self.beside("lock");
        let file = File::create(&path).map_err(failure("write", &path))?;
        let (file, errno) = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => {
                return Ok(SlotLock {
                    _lock: lock,
                    waited: false,
                });
            }
            Err(refused) => refused,
        };
        let failed = |errno: Errno| failure("lock", &path)(io::Error::from(errno));
        if errno != Errno::EWOULDBLOCK {
            return Err(failed(errno));
        }
        report.note(&format!(
            "another process is building bitcoind; waiting for it (progress: tail -f {})",
            self.log_path().display()
        ));
        Flock::lock(file, FlockArg::LockExclusive)
            .map(|lock| SlotLock {
                _lock: lock,
                waited: true,
            })
            .map_err(|(_, errno)| failed(errno))
    }

    /// Removes what a killed build left behind. Only for the holder of the lock.
    pub fn remove_leftovers(&self) -> Result<(), LocateError> {
        let prefix = self.build_dir_prefix();
        let entries = fs::read_dir(&self.root).map_err(failure("read", &self.root))?;
        for entry in entries.flatten() {
            if entry.file_name().to_string_lossy().starts_with(&prefix) {
                // A compiler of the killed build may still write there; the next build tries again.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        Ok(())
    }

    fn build_dir_prefix(&self) -> String {
        format!(".{}.building-", self.name)
    }

    /// A directory on the same file system, so that the result can be renamed into place. Named
    /// by process, because the compilers of a killed build may still be writing into theirs.
    pub fn create_build_dir(&self) -> Result<PathBuf, LocateError> {
        let name = format!("{}{}", self.build_dir_prefix(), std::process::id());
        let dir = self.root.join(name);
        fs::create_dir_all(&dir).map_err(failure("create", &dir))?;
        Ok(dir)
    }

    /// Moves the programs built in `tree` into the slot: all of them or none.
    pub fn move_in(&self, tree: &Path) -> Result<(), LocateError> {
        let staging = tree.join("staging");
        fs::create_dir(&staging).map_err(failure("create", &staging))?;
        for program in [BITCOIND, BITCOIN_CLI] {
            let built = built_program(tree, program);
            fs::rename(&built, staging.join(program)).map_err(failure("move", &built))?;
        }
        let dir = self.dir();
        if dir.exists() {
            // It was tried, and does not start any more.
            fs::remove_dir_all(&dir).map_err(failure("remove", &dir))?;
        }
        fs::rename(&staging, &dir).map_err(failure("create", &dir))
    }

    /// Leaves word for the processes that wait for this build.
    pub fn record_failure(&self, error: &LocateError) {
        // Without the word they only try for themselves.
        let _ = fs::write(self.beside("failure"), error.to_string());
    }

    /// What the build said for which this process waited, if it failed.
    pub fn recorded_failure(&self) -> Option<String> {
        fs::read_to_string(self.beside("failure")).ok()
    }

    /// A new build speaks for itself.
    pub fn forget_failure(&self) {
        // Usually there is none.
        let _ = fs::remove_file(self.beside("failure"));
    }
}

fn failure(doing: &'static str, path: &Path) -> impl Fn(io::Error) -> LocateError {
    move |source| LocateError::Cache {
        doing,
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn root_with(variables: &[(&str, &str)]) -> Option<PathBuf> {
        cache_root(|name| {
            variables
                .iter()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| value.into())
        })
    }

    #[test]
    fn own_variable_wins_over_the_desktop_standard_and_home() {
        let home = ("HOME", "/home/a");
        let xdg = ("XDG_CACHE_HOME", "/var/cache/a");
        assert_eq!(
            root_with(&[home, xdg, ("TUTTI_CACHE_DIR", "/c")]),
            Some("/c".into())
        );
        assert_eq!(root_with(&[home, xdg]), Some("/var/cache/a/tutti".into()));
        assert_eq!(root_with(&[home]), Some("/home/a/.cache/tutti".into()));
        assert_eq!(root_with(&[("HOME", "")]), None);
    }
}
