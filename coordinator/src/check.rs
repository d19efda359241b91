//! Whether `run` would start: all that it asks before it takes the first participant.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};
use tutti_proto::id::Identity;

use crate::chain::{CALL_TIMEOUT, Node};
use crate::config::Config;
use crate::daemon::{self, DaemonError};
use crate::lock::{DataDirLock, LockError};

/// What was found.
pub struct Checked {
    /// The pool's identity, once there is one.
    pub identity: Option<Identity>,
    /// Who runs on the data directory now; its addresses are taken, by it.
    pub runs: Option<String>,
}

/// Asks for it all, and leaves everything as it was.
pub fn check(config: &Config) -> Result<Checked, DaemonError> {
    let (_held, runs) = match lock(&config.data_dir) {
        Ok(held) => (held, None),
        Err(LockError::InUse { holder, .. }) => (None, Some(holder)),
        Err(error) => return Err(error.into()),
    };
    let identity = daemon::known_identity(config)?.map(|key| key.identity());
    if runs.is_none() {
        listen(config)?;
    }
    Node::connect(&config.node, CALL_TIMEOUT)?.check_template()?;
    Ok(Checked { identity, runs })
}

/// Locks the data directory; one that is not there yet can be made.
fn lock(data_dir: &Path) -> Result<Option<DataDirLock>, LockError> {
    if data_dir.exists() {
        return DataDirLock::take(data_dir).map(Some);
    }
    let parent = |path: &PathBuf| path.parent().map(Path::to_owned);
    let mut above = std::iter::successors(Some(data_dir.to_owned()), parent);
    let made_in = above.find(|path| path.exists());
    // A relative path's last parent is the empty one: here.
    let made_in = made_in.unwrap_or_else(|| PathBuf::from("."));
    let may = access(&made_in, AccessFlags::W_OK | AccessFlags::X_OK);
    may.map(|()| None).map_err(|errno| LockError::Io {
        data_dir: data_dir.to_owned(),
        source: errno.into(),
    })
}

/// Takes all addresses together, so that two of them that are the same are told, too.
fn listen(config: &Config) -> Result<(), DaemonError> {
    let take = |address: SocketAddr| {
        let taken = TcpListener::bind(address);
        taken.map_err(|source| DaemonError::Listen { address, source })
    };
    let addresses = [Some(config.listen), config.metrics];
    let taken: Vec<TcpListener> = addresses
        .into_iter()
        .flatten()
        .map(take)
        .collect::<Result<_, _>>()?;
    drop(taken);
    Ok(())
}
