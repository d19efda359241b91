//! Why no bitcoind could be provided. Each text says what happened, why, and what to do next.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::version::ProbeError;

/// The way out that always exists; it ends most of the texts below.
const OR_BRING_YOUR_OWN: &str =
    "Or set BITCOIND_EXE to the path of a bitcoind, version 28 or newer.";

#[derive(Debug, Error)]
pub enum LocateError {
    #[error(
        "BITCOIND_EXE is set to {}, which cannot be used: {why}.\n\
         Set it to the path of a bitcoind, or unset it and Tutti looks for one itself.",
        path.display()
    )]
    Environment { path: PathBuf, why: ProbeError },

    #[error(
        "No directory to keep a built bitcoind in: HOME, XDG_CACHE_HOME and TUTTI_CACHE_DIR are \
         all unset.\nSet TUTTI_CACHE_DIR to a directory you can write to. {OR_BRING_YOUR_OWN}"
    )]
    NoCacheDir,

    #[error(
        "Cannot {doing} {}: {source}.\n\
         Make it writable, or set TUTTI_CACHE_DIR to another directory. {OR_BRING_YOUR_OWN}",
        path.display()
    )]
    Cache {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },

    #[error(
        "contrib/bitcoind/Cargo.lock does not pin {crate_name}: its {field} is missing.\n\
         Restore the file from the repository."
    )]
    Pin {
        crate_name: &'static str,
        field: String,
    },

    #[error(
        "{} no longer pins version {version}, with which this program was built.\n\
         Build this program again.",
        manifest.display()
    )]
    StalePin { manifest: PathBuf, version: String },

    #[error(
        "Cannot get Bitcoin Core's source through cargo: {output}\n\
         Check the network connection, then run: {command}\n{OR_BRING_YOUR_OWN}"
    )]
    Source { command: String, output: String },

    #[error(
        "bitcoind has to be built from source once, and this is missing for it: {}.\n\
         Tutti does not install it by itself: {why_not}.\n{}\n{OR_BRING_YOUR_OWN}",
        missing.join(", "),
        what_to_run(command)
    )]
    MissingRequirements {
        missing: Vec<&'static str>,
        why_not: &'static str,
        /// `None` where there is no apt-get, hence no command we know to be right.
        command: Option<String>,
    },

    #[error(
        "Installing the packages for building bitcoind failed. Its last lines:\n{tail}\n\
         The whole log: {}\nRun it yourself: {command}\n{OR_BRING_YOUR_OWN}",
        log.display()
    )]
    Install {
        command: String,
        tail: String,
        log: PathBuf,
    },

    #[error(
        "Building bitcoind failed: {step} ended with {status}. Its last lines:\n{tail}\n\
         The whole log: {}\n\
         Put right what it complains of and run the same command again. {OR_BRING_YOUR_OWN}",
        log.display()
    )]
    Build {
        step: &'static str,
        status: String,
        tail: String,
        log: PathBuf,
    },

    #[error(
        "bitcoind was built, but it cannot be used: {why}.\n\
         The build's log: {}\n{OR_BRING_YOUR_OWN}",
        log.display()
    )]
    BuiltUnusable { why: ProbeError, log: PathBuf },

    /// Another process failed while this one waited for it. Failing again would only take minutes.
    #[error("Another process tried to build bitcoind while this one waited, and failed:\n{report}")]
    ElsewhereFailed { report: String },
}

fn what_to_run(command: &Option<String>) -> String {
    match command {
        Some(command) => format!("Run: {command}"),
        None => "Install it with your system's package manager.".to_owned(),
    }
}
