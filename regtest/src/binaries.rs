//! The daemons' binaries, built when they are not there or not up to date.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, anyhow, bail};

/// Names a directory with ready daemons, which are then not built.
pub const BIN_DIR_VARIABLE: &str = "TUTTI_BIN_DIR";

/// Where the daemons are, and how to tell progress to a person.
#[derive(Clone, Debug)]
pub struct Binaries {
    directory: PathBuf,
}

impl Binaries {
    /// Builds both daemons in the profile of the running program; once per process.
    pub fn ready() -> Result<Binaries> {
        static READY: OnceLock<Result<Binaries, String>> = OnceLock::new();
        let ready = READY.get_or_init(|| Self::provide().map_err(|error| format!("{error:#}")));
        ready.clone().map_err(|error| anyhow!(error))
    }

    fn provide() -> Result<Binaries> {
        if let Some(directory) = env::var_os(BIN_DIR_VARIABLE) {
            return Ok(Binaries {
                directory: directory.into(),
            });
        }
        let own = env::current_exe().context("cannot tell where this program is")?;
        // Programs lie in target/<profile>, tests in target/<profile>/deps.
        let folder = own.parent().context("this program lies in no directory")?;
        let is_test = folder.ends_with("deps");
        let directory = if is_test {
            folder.parent()
        } else {
            Some(folder)
        };
        let directory = directory.context("no target directory")?.to_owned();
        // What `cargo test --workspace` built is up to date for the same command; another one would
        // choose other features of our dependencies and build them anew.
        let what: &[&str] = if is_test {
            &["test", "--no-run"]
        } else {
            &["build", "--bins"]
        };
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .args(what)
            .args(["--locked", "--workspace", "--target-dir"])
            .arg(directory.parent().context("no target directory")?)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        if directory.ends_with("release") {
            command.arg("--release");
        }
        let status = command
            .status()
            .context("cannot run cargo to build the daemons")?;
        if !status.success() {
            bail!("cargo could not build the daemons ({status}); its errors are above");
        }
        let binaries = Binaries { directory };
        for binary in [binaries.coordinator(), binaries.participant()] {
            if !binary.is_file() {
                bail!(
                    "cargo built the daemons, but not to {}; set {BIN_DIR_VARIABLE} to the directory they are in",
                    binary.display()
                );
            }
        }
        Ok(binaries)
    }

    /// `tutti-coordinator`.
    pub fn coordinator(&self) -> PathBuf {
        self.directory.join("tutti-coordinator")
    }

    /// `tutti-participant`.
    pub fn participant(&self) -> PathBuf {
        self.directory.join("tutti-participant")
    }
}
