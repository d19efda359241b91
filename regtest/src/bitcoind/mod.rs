//! A real bitcoind for everyone: found, or built once from a pinned source.
//!
//! Looked for in this order: `BITCOIND_EXE`, the `PATH`, the cache, a build. `contrib/bitcoind/`
//! pins the source and has the words for users.

mod build;
mod build_log;
mod cache;
mod error;
mod pin;
mod report;
mod requirements;
mod version;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use build::Builder;
use cache::{Slot, SlotLock, cache_root};
use pin::Pin;

pub use error::LocateError;
pub use pin::Release;
pub use report::{Report, StderrReport};
pub use version::{OLDEST_SUPPORTED, ProbeError, Version, probe};

/// A bitcoind that answered `--version` and is new enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BitcoindExe {
    pub path: PathBuf,
    pub version: Version,
    pub origin: Origin,
}

/// Where a bitcoind came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// `BITCOIND_EXE`.
    Environment,
    Path,
    Cache,
    /// Built by this call.
    Built,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::Environment => "BITCOIND_EXE",
            Origin::Path => "PATH",
            Origin::Cache => "the cache",
            Origin::Built => "a build from source",
        })
    }
}

impl BitcoindExe {
    /// The `bitcoin-cli` beside it, if there is one.
    pub fn cli(&self) -> Option<PathBuf> {
        let cli = self.path.with_file_name("bitcoin-cli");
        cli.is_file().then_some(cli)
    }
}

/// Finds or provides a bitcoind; notes and progress go to stderr.
pub fn locate() -> Result<BitcoindExe, LocateError> {
    Search::from_environment().run(&mut StderrReport::new())
}

/// Provides one release, whatever else is installed: from the cache, or built; notes and progress go
/// to stderr.
pub fn provide(release: Release) -> Result<BitcoindExe, LocateError> {
    Search::from_environment().cached_or_built(release, &mut StderrReport::new())
}

/// What a search depends on, taken out of the environment so that it can be tested.
#[derive(Debug, Clone, Default)]
pub struct Search {
    /// `BITCOIND_EXE`.
    pub named: Option<PathBuf>,
    /// `PATH`: for bitcoind and for the programs of a build.
    pub path: OsString,
    pub cache_root: Option<PathBuf>,
    /// Missing Debian packages may be installed where that needs no password.
    pub may_install: bool,
}

impl Search {
    pub fn from_environment() -> Self {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        Search {
            named: set("BITCOIND_EXE").map(PathBuf::from),
            path: set("PATH").unwrap_or_default(),
            cache_root: cache_root(|name| std::env::var_os(name)),
            may_install: set("TUTTI_NO_INSTALL").is_none(),
        }
    }

    pub fn run(&self, report: &mut dyn Report) -> Result<BitcoindExe, LocateError> {
        if let Some(named) = &self.named {
            return match probe(named) {
                Ok(version) => Ok(exe(independent(named), version, Origin::Environment)),
                Err(why) => Err(LocateError::Environment {
                    path: named.clone(),
                    why,
                }),
            };
        }
        match self.on_path(report) {
            Some(found) => Ok(found),
            None => self.cached_or_built(Release::default(), report),
        }
    }

    fn on_path(&self, report: &mut dyn Report) -> Option<BitcoindExe> {
        requirements::programs(&self.path, "bitcoind").find_map(|path| match probe(&path) {
            Ok(version) => Some(exe(path, version, Origin::Path)),
            Err(why) => {
                report.note(&format!("skipping {} of the PATH: {why}", path.display()));
                None
            }
        })
    }

    fn cached_or_built(
        &self,
        release: Release,
        report: &mut dyn Report,
    ) -> Result<BitcoindExe, LocateError> {
        let pin = Pin::committed(release)?;
        let root = self.cache_root.clone().ok_or(LocateError::NoCacheDir)?;
        let slot = Slot::new(root, &pin);
        let path = slot.bitcoind();
        if let Ok(version) = probe(&path) {
            return Ok(exe(path, version, Origin::Cache));
        }
        let lock = slot.lock(report)?;
        // Somebody else may have built it since we looked, even if we did not have to wait.
        if let Some(cached) = cached(&path, report) {
            return Ok(cached);
        }
        if lock.waited
            && let Some(report) = slot.recorded_failure()
        {
            return Err(LocateError::ElsewhereFailed { report });
        }
        slot.forget_failure();
        self.build(&pin, &slot, &lock, report)
            .inspect_err(|error| slot.record_failure(error))
    }

    fn build(
        &self,
        pin: &Pin,
        slot: &Slot,
        _held: &SlotLock,
        report: &mut dyn Report,
    ) -> Result<BitcoindExe, LocateError> {
        let builder = Builder {
            path: &self.path,
            may_install: self.may_install,
        };
        builder.build(pin, slot, report)?;
        let path = slot.bitcoind();
        match probe(&path) {
            Ok(version) => Ok(exe(path, version, Origin::Built)),
            Err(why) => Err(LocateError::BuiltUnusable {
                why,
                log: slot.log_path(),
            }),
        }
    }
}

/// A cached program can stop working, for instance when the system's libraries are replaced.
fn cached(path: &Path, report: &mut dyn Report) -> Option<BitcoindExe> {
    if !path.exists() {
        return None;
    }
    match probe(path) {
        Ok(version) => Some(exe(path.to_owned(), version, Origin::Cache)),
        Err(why) => {
            report.note(&format!(
                "the cached {} cannot be used and is built again: {why}",
                path.display()
            ));
            None
        }
    }
}

/// A relative path keeps its meaning when the working directory changes. A bare name is left to
/// the `PATH`.
fn independent(path: &Path) -> PathBuf {
    if path.components().count() < 2 {
        return path.to_owned();
    }
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn exe(path: PathBuf, version: Version, origin: Origin) -> BitcoindExe {
    BitcoindExe {
        path,
        version,
        origin,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    struct Forward(mpsc::Sender<String>);

    impl Report for Forward {
        fn note(&mut self, text: &str) {
            self.0.send(text.to_owned()).expect("the test listens");
        }

        fn percent(&mut self, _: u8) {}
    }

    #[test]
    fn who_waited_for_a_build_that_failed_does_not_fail_again() {
        let dir = tempfile::tempdir().expect("a directory");
        let search = Search {
            cache_root: Some(dir.path().to_owned()),
            ..Search::default()
        };
        let pin = Pin::committed(Release::default()).expect("the committed pin");
        let slot = Slot::new(dir.path().to_owned(), &pin);
        let (notes, heard) = mpsc::channel();
        let lock = slot
            .lock(&mut Forward(notes.clone()))
            .expect("nobody holds it");
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| search.run(&mut Forward(notes)));
            let note = heard.recv().expect("it says that it waits");
            assert!(note.contains("another process is building"), "{note}");
            slot.record_failure(&LocateError::NoCacheDir);
            drop(lock);
            let error = waiting.join().expect("the thread").expect_err("it failed");
            assert!(matches!(error, LocateError::ElsewhereFailed { .. }));
            let first_cause = LocateError::NoCacheDir.to_string();
            assert!(error.to_string().contains(&first_cause), "{error}");
        });
        let error = search.run(&mut StderrReport::new()).expect_err("no tools");
        assert!(
            matches!(error, LocateError::MissingRequirements { .. }),
            "the next one tries for itself: {error}"
        );
    }
}
