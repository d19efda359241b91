//! What can be wrong with the store.

use std::io;
use std::path::{Path, PathBuf};

use bitcoin::Network;
use thiserror::Error;
use tutti_proto::coordinator::RestoreError;
use tutti_proto::id::WindowSeq;
use tutti_proto::segment::CheckpointError;

use super::key::Key;
use super::rescue::Rescue;
use super::{FORMAT, RecordError};

/// What whoever reads of damage wants to do first is the one thing that makes it worse.
const NOT_A_COPY: &str = "do not go on from an older copy: the pool would sign windows a second time, which proves to everybody that it equivocates; \"A damaged store\" in SECURITY.md says what to do";

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
        "cannot {doing} the store in {}: its files are damaged ({why}); {NOT_A_COPY}",
        path.display()
    )]
    Unreadable {
        path: PathBuf,
        doing: &'static str,
        why: String,
    },
    #[error(
        "the log in {} is not shortened: what its first part adds up to could not be read back ({source}); nothing is lost, but each start takes longer than the one before",
        path.display()
    )]
    Uncut { path: PathBuf, source: RecordError },
    #[error(
        "the store in {} was not empty, but nothing of this pool can be found in it; {NOT_A_COPY}",
        path.display()
    )]
    Emptied { path: PathBuf },
    #[error(
        "the store in {} has lost records that were acknowledged: {key} is the first, and {missing} of the {of} shares of window {window} are missing; {NOT_A_COPY}",
        path.display()
    )]
    Lost {
        path: PathBuf,
        key: String,
        window: WindowSeq,
        missing: u64,
        of: u64,
    },
    #[error(
        "the file mark of the store in {} is damaged, so it cannot be told whether the store has all that was acknowledged; if everything else on this disk is healthy, remove that file and start again, and the store is believed",
        path.display()
    )]
    Mark { path: PathBuf },
    #[error(
        "cannot copy the store in {} before it is opened: {source}; it was not closed, and opening it without a copy may destroy what could be rescued; give the coordinator's user the rights to read all of it and to write beside it, check the disk's health and the user's file size limit (ulimit -f), and start again",
        path.display()
    )]
    Rescue { path: PathBuf, source: io::Error },
    #[error(
        "the store in {} has format {found}, which this version of tutti-coordinator, of format {FORMAT}, cannot read or convert; go on with the older version that wrote it",
        path.display()
    )]
    OlderFormat { path: PathBuf, found: u32 },
    #[error(
        "the store in {} has format {found}, which is later than {FORMAT}, the one that this version of tutti-coordinator reads; go on with the later version that wrote it",
        path.display()
    )]
    LaterFormat { path: PathBuf, found: u32 },
    #[error(
        "the store in {} is not of network {network}; correct network or data_dir in the config",
        path.display()
    )]
    OtherChain { path: PathBuf, network: Network },
    #[error(
        "record {key} of the store in {} is damaged: {source}; {NOT_A_COPY}",
        path.display()
    )]
    Damaged {
        path: PathBuf,
        key: String,
        source: RecordError,
    },
    #[error(
        "record {key} of the store in {} contradicts those before it: {source}; was identity.key replaced? If not, {NOT_A_COPY}",
        path.display()
    )]
    Contradiction {
        path: PathBuf,
        key: String,
        source: RestoreError,
    },
    #[error(
        "the state from which the log of the store in {} goes on is not what the pool signed: {source}; was identity.key replaced? If not, {NOT_A_COPY}",
        path.display()
    )]
    Base {
        path: PathBuf,
        source: CheckpointError,
    },
    #[error("{source}; the files as they were before this start are in {}", copy.display())]
    Kept {
        source: Box<StoreError>,
        copy: PathBuf,
    },
}

impl StoreError {
    /// Names the copy of the files, where it may be of use; else removes it.
    pub(super) fn with(self, rescue: Option<Rescue>) -> Self {
        let Some(rescue) = rescue else { return self };
        let held = |error: &io::Error| error.to_string().contains("could not acquire lock");
        let whole = match &self {
            Self::OlderFormat { .. } | Self::LaterFormat { .. } | Self::OtherChain { .. } => true,
            Self::Sled {
                source: sled::Error::Io(error),
                ..
            } => held(error),
            _ => false,
        };
        if whole && rescue.is_of_this_start() {
            // One that stays is taken for that of a start that failed; so it is.
            let _ = rescue.remove();
            return self;
        }
        Self::Kept {
            source: Box::new(self),
            copy: rescue.path().to_owned(),
        }
    }

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
        let path = path.to_owned();
        match source {
            sled::Error::Corruption { .. } | sled::Error::ReportableBug(_) => Self::Unreadable {
                path,
                doing,
                why: source.to_string(),
            },
            _ => Self::Sled {
                path,
                doing,
                source,
            },
        }
    }
}
