//! What can go wrong with a node under test.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::bitcoind::LocateError;

#[derive(Debug, Error)]
pub enum NodeError {
    #[error(transparent)]
    Locate(#[from] LocateError),

    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },

    #[error(
        "bitcoind in {} ended ({status}) before it answered: {said}\n\
         Its log: {}",
        data_dir.display(),
        data_dir.join("regtest/debug.log").display()
    )]
    Ended {
        status: String,
        said: String,
        data_dir: PathBuf,
    },

    #[error(
        "bitcoind in {} did not {what} within {} s (last answer: {last}).\n\
         Its log: {}",
        data_dir.display(),
        within.as_secs(),
        data_dir.join("regtest/debug.log").display()
    )]
    Deadline {
        what: String,
        within: Duration,
        last: String,
        data_dir: PathBuf,
    },

    #[error("cannot use bitcoind's RPC at {url}: {source}")]
    Connect {
        url: String,
        source: bitcoincore_rpc::Error,
    },

    #[error("bitcoind's RPC `{method}` failed: {source}")]
    Rpc {
        method: &'static str,
        source: bitcoincore_rpc::Error,
    },

    #[error("the node does not run; start it again with restart()")]
    NotRunning,

    #[error("the node has no peer-to-peer port; start it with NodeOptions {{ p2p: true, .. }}")]
    NoP2pPort,
}

impl NodeError {
    /// Another process took the port between our choice and bitcoind's start: choose again.
    pub(super) fn is_lost_port(&self) -> bool {
        let NodeError::Ended { said, .. } = self else {
            return false;
        };
        [
            "Unable to start HTTP server",
            "Unable to bind",
            "already in use",
        ]
        .iter()
        .any(|text| said.contains(text))
    }
}
