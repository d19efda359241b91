//! The pinned source: which release of which crate carries it, and where cargo unpacked it.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use super::error::LocateError;

const CRATE: &str = "libbitcoinkernel-sys";
const NEWEST_LOCK: &str = include_str!("../../../contrib/bitcoind/Cargo.lock");
const OLDER_LOCK: &str = include_str!("../../../contrib/bitcoind/29/Cargo.lock");
/// Enough of the hash to tell two pins apart in a directory name that a person still can read.
const CHECKSUM_CHARS_IN_NAME: usize = 16;

/// A Bitcoin Core that this harness can build.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Release {
    /// 29.99, for the tests against several versions.
    Core29,
    /// 31.99, which everything else runs on.
    #[default]
    Core31,
}

impl Release {
    pub const ALL: [Release; 2] = [Release::Core29, Release::Core31];

    /// As a person names it.
    pub fn name(self) -> &'static str {
        match self {
            Release::Core29 => "29",
            Release::Core31 => "31",
        }
    }

    /// The package that pins it.
    fn package(self) -> PathBuf {
        match self {
            Release::Core29 => contrib().join("29"),
            Release::Core31 => contrib(),
        }
    }

    fn lock_file(self) -> &'static str {
        match self {
            Release::Core29 => OLDER_LOCK,
            Release::Core31 => NEWEST_LOCK,
        }
    }
}

/// Version and hash of the crate, as cargo wrote them into the committed lock file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    pub version: String,
    pub checksum: String,
    release: Release,
}

impl Pin {
    /// The pin of a release that this harness was compiled with.
    pub fn committed(release: Release) -> Result<Pin, LocateError> {
        Pin::parse(release, release.lock_file())
    }

    fn parse(release: Release, lock_file: &str) -> Result<Pin, LocateError> {
        let field = |name: &str| {
            lock_file
                .split("[[package]]")
                .find(|package| value_of(package, "name") == Some(CRATE))
                .and_then(|package| value_of(package, name))
                .filter(|value| !value.is_empty())
                .map(str::to_owned)
                .ok_or(LocateError::Pin {
                    crate_name: CRATE,
                    field: name.to_owned(),
                })
        };
        Ok(Pin {
            version: field("version")?,
            checksum: field("checksum")?,
            release,
        })
    }

    /// Whether the build needs a library that later releases do without.
    pub fn needs_libevent(&self) -> bool {
        self.release == Release::Core29
    }

    /// Directory name in the cache. It carries version and hash, so a bitcoind built from another
    /// pin is never taken for this one.
    pub fn cache_name(&self) -> String {
        let checksum: String = self.checksum.chars().take(CHECKSUM_CHARS_IN_NAME).collect();
        format!("bitcoind-{CRATE}-{}-{checksum}", self.version)
    }
}

fn value_of<'a>(package: &'a str, field: &str) -> Option<&'a str> {
    package
        .lines()
        .filter_map(|line| line.split_once(" = "))
        .find(|(name, _)| *name == field)
        .map(|(_, value)| value.trim_matches('"'))
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    manifest_path: PathBuf,
}

/// Lets cargo download the crate, check its hash and unpack it. Returns Bitcoin Core's source tree.
pub fn fetch_source(pin: &Pin) -> Result<PathBuf, LocateError> {
    let manifest = pin.release.package().join("Cargo.toml");
    cargo(&manifest, &["fetch", "--locked"])?;
    let metadata = cargo(
        &manifest,
        &["metadata", "--locked", "--offline", "--format-version", "1"],
    )?;
    let metadata: Metadata =
        serde_json::from_slice(&metadata).map_err(|e| LocateError::Source {
            command: "cargo metadata".to_owned(),
            output: e.to_string(),
        })?;
    let package = metadata
        .packages
        .into_iter()
        .find(|package| package.name == CRATE && package.version == pin.version)
        .ok_or_else(|| LocateError::StalePin {
            manifest: manifest.clone(),
            version: pin.version.clone(),
        })?;
    Ok(package.manifest_path.with_file_name("bitcoin"))
}

/// `contrib/bitcoind` of the checkout this harness was compiled from.
pub(super) fn contrib() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .with_file_name("contrib")
        .join("bitcoind")
}

fn cargo(manifest: &Path, args: &[&str]) -> Result<Vec<u8>, LocateError> {
    // Inside `cargo run` and `cargo test` this is the very cargo that runs us.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let described = || {
        format!(
            "cargo {} --manifest-path {}",
            args.join(" "),
            manifest.display()
        )
    };
    let output = Command::new(cargo)
        .args(args)
        .arg("--manifest-path")
        .arg(manifest)
        .output()
        .map_err(|e| LocateError::Source {
            command: described(),
            output: format!("cargo cannot be started: {e}"),
        })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(LocateError::Source {
        command: described(),
        output: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_lock_files_pin_version_and_hash() {
        for (release, version) in [(Release::Core29, "0.0.17"), (Release::Core31, "0.4.1")] {
            let pin = Pin::committed(release).expect("the committed lock file is complete");
            assert_eq!(pin.version, version);
            assert_eq!(pin.checksum.len(), 64);
            assert!(pin.cache_name().contains(&pin.version));
            assert!(pin.cache_name().contains(&pin.checksum[..16]));
        }
    }

    #[test]
    fn another_hash_is_another_directory() {
        let pin = Pin::committed(Release::default()).expect("the committed lock file is complete");
        let other = Pin {
            checksum: "0".repeat(64),
            ..pin.clone()
        };
        assert_ne!(pin.cache_name(), other.cache_name());
    }

    #[test]
    fn a_lock_file_without_a_hash_is_refused() {
        let lock = "[[package]]\nname = \"libbitcoinkernel-sys\"\nversion = \"0.4.1\"\n";
        let error = Pin::parse(Release::default(), lock).expect_err("nothing pins the source");
        assert!(error.to_string().contains("checksum"), "{error}");
    }
}
