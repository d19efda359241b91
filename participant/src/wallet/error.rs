//! What is wrong with a wallet's file, and why a transaction was not signed.

use std::io;
use std::path::{Path, PathBuf};

use bdk_wallet::{CreateWithPersistError, LoadError, LoadMismatch, LoadWithPersistError, rusqlite};
use bitcoin::Network;
use thiserror::Error;

/// Why the wallet was not opened or an address not given out.
#[derive(Debug, Error)]
pub enum WalletError {
    #[error(
        "the wallet {} was made for {stored}, but this participant is set to {wanted}; use another data directory for each network",
        path.display()
    )]
    WrongNetwork {
        path: PathBuf,
        stored: Network,
        wanted: Network,
    },
    #[error(
        "the wallet {} was made from another seed; put back the seed it belongs to, or use another data directory",
        path.display()
    )]
    OtherSeed { path: PathBuf },
    #[error(
        "the wallet {} is damaged ({reason}); move it away and start again: its addresses come back from the seed, its coins with `tutti-participant wallet rescan`",
        path.display()
    )]
    Damaged { path: PathBuf, reason: String },
    #[error("cannot create the wallet {}: {source}", path.display())]
    Create { path: PathBuf, source: io::Error },
    #[error("cannot {action} the wallet {}: {source}", path.display())]
    Database {
        action: &'static str,
        path: PathBuf,
        source: rusqlite::Error,
    },
    #[error(
        "the wallet is in use by {holder} for longer than any command needs ({}); let it end, and try again",
        path.display()
    )]
    InUse { path: PathBuf, holder: String },
}

/// Why a transaction was not signed.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum SignError {
    #[error("input {input} spends an output that is not this wallet's")]
    NotOurs { input: usize },
    #[error("the value and script that input {input} spends are unknown")]
    MissingOutput { input: usize },
    #[error(
        "this wallet has an xpub and no keys; spend with the wallet that the xpub was taken from"
    )]
    NoKeys,
    #[error("the transaction cannot be signed: {reason}")]
    Unsignable { reason: String },
    #[error("the signed child has {found} vB instead of the planned {planned}")]
    UnexpectedSize { planned: u64, found: u64 },
}

impl WalletError {
    pub(super) fn load(path: &Path, error: LoadWithPersistError<rusqlite::Error>) -> Self {
        let path = path.to_owned();
        match error {
            LoadWithPersistError::Persist(source) => Self::Database {
                action: "read",
                path,
                source,
            },
            LoadWithPersistError::InvalidChangeSet(LoadError::Mismatch(mismatch)) => match mismatch
            {
                LoadMismatch::Network { loaded, expected } => Self::WrongNetwork {
                    path,
                    stored: loaded,
                    wanted: expected,
                },
                LoadMismatch::Descriptor { .. } => Self::OtherSeed { path },
                LoadMismatch::Genesis { .. } => Self::Damaged {
                    path,
                    reason: mismatch.to_string(),
                },
            },
            LoadWithPersistError::InvalidChangeSet(error) => Self::Damaged {
                path,
                reason: error.to_string(),
            },
        }
    }

    pub(super) fn create(path: &Path, error: CreateWithPersistError<rusqlite::Error>) -> Self {
        let path = path.to_owned();
        match error {
            CreateWithPersistError::Persist(source) => Self::Database {
                action: "write",
                path,
                source,
            },
            CreateWithPersistError::DataAlreadyExists(_) => Self::Damaged {
                path,
                reason: "it holds data but no descriptor".to_owned(),
            },
            CreateWithPersistError::Descriptor(error) => Self::Damaged {
                path,
                reason: error.to_string(),
            },
        }
    }
}
