//! What can be wrong with the store.

use std::path::{Path, PathBuf};

use bitcoin::Network;
use thiserror::Error;
use tutti_proto::coordinator::RestoreError;
use tutti_proto::segment::CheckpointError;

use super::key::Key;
use super::{FORMAT, RecordError};

/// Why the store cannot be used.
#[derive(Debug, Error)]
pub enum StoreError {
    #[error("cannot {doing} the store in {}: {source}; check the disk's space, rights and health", path.display())]
    Sled {
        path: PathBuf,
        doing: &'static str,
        source: sled::Error,
    },
    #[error(
        "the store in {} has format {found}, but this version of tutti-coordinator reads format {FORMAT}; use the version that wrote it",
        path.display()
    )]
    Format { path: PathBuf, found: u32 },
    #[error(
        "the store in {} is not of network {network}; correct network or data_dir in the config",
        path.display()
    )]
    OtherChain { path: PathBuf, network: Network },
    #[error(
        "record {key} of the store in {} is damaged: {source}; restore the data directory from a copy",
        path.display()
    )]
    Damaged {
        path: PathBuf,
        key: String,
        source: RecordError,
    },
    #[error(
        "record {key} of the store in {} contradicts those before it: {source}; was identity.key replaced? Otherwise restore the data directory from a copy",
        path.display()
    )]
    Contradiction {
        path: PathBuf,
        key: String,
        source: RestoreError,
    },
    #[error(
        "the state from which the log of the store in {} goes on is not what the pool signed: {source}; was identity.key replaced? Otherwise restore the data directory from a copy",
        path.display()
    )]
    Base {
        path: PathBuf,
        source: CheckpointError,
    },
}

impl StoreError {
    pub(super) fn damaged(path: &Path, key: &Key, source: RecordError) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            key: key.to_string(),
            source,
        }
    }

    /// A key that is none of ours.
    pub(super) fn unreadable(path: &Path, key: &[u8]) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            key: hex::encode(key),
            source: RecordError::Key,
        }
    }

    pub(super) fn of_sled(path: &Path, doing: &'static str, source: sled::Error) -> Self {
        Self::Sled {
            path: path.to_owned(),
            doing,
            source,
        }
    }
}
