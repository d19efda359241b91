//! Why a file cannot be made or read.

use std::io;
use std::path::PathBuf;

use thiserror::Error;
use tutti_proto::follower::FollowError;
use tutti_proto::id::{RoundId, WindowSeq};
use tutti_proto::segment::{ChangeError, CheckpointError};
use tutti_proto::terms::TermsError;
use tutti_proto::window::LedgerError;
use tutti_proto::wire::WireError;

use super::PackError;
use crate::store::StoreError;

/// Why a segment or a checkpoint is not there.
#[derive(Debug, Error)]
pub enum SegmentError {
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        path: PathBuf,
        doing: &'static str,
        source: io::Error,
    },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the store has not the terms of round {0:.16}")]
    NoTerms(RoundId),
    #[error("the terms of round {round:.16}: {source}")]
    Terms { round: RoundId, source: TermsError },
    #[error("share {share} of window {window}: {source}")]
    Pack {
        window: WindowSeq,
        share: u64,
        source: PackError,
    },
    #[error("{0}")]
    Follow(#[from] FollowError),
    #[error("{}: {source}", path.display())]
    Wire { path: PathBuf, source: WireError },
    #[error("{0}")]
    Segment(#[from] tutti_proto::segment::SegmentError),
    #[error("the log does not lead to the state that round {0:.16} was computed from")]
    NoState(RoundId),
    #[error("the stored ledger: {0}")]
    Ledger(#[from] LedgerError),
    #[error("the stored payee set: {0}")]
    Roster(#[from] ChangeError),
    #[error("the checkpoint: {0}")]
    Checkpoint(#[from] CheckpointError),
}

impl SegmentError {
    /// Whether the same may succeed later: the disk was full, say.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Io { .. } | Self::Store(StoreError::Sled { .. }))
    }
}
