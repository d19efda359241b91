//! Whether `run` would start: all that it asks before it takes the first participant.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};
use tutti_daemon::lock::{Holder, held_by};
use tutti_proto::id::Identity;

use crate::chain::{CALL_TIMEOUT, Node};
use crate::config::Config;
use crate::daemon::{self, DaemonError};
use crate::lock::{self, LockError};

/// What was found.
pub struct Checked {
    /// The pool's identity, once there is one.
    pub identity: Option<Identity>,
    /// Whether the data directory can be used.
    pub data_dir: DataDir,
}

/// What a start would find of the data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataDir {
    /// It is there, and ours.
    Usable,
    /// It is not there yet.
    Missing {
        /// Whether this user may make it.
        may_be_made: bool,
    },
    /// Somebody runs on it; the addresses are taken, by them.
    InUse(String),
}

/// Asks for it all, and leaves everything as it was: a pool may run, or start, meanwhile.
pub fn check(config: &Config) -> Result<Checked, DaemonError> {
    let data_dir = data_dir(&config.data_dir).map_err(|source| LockError::Io {
        data_dir: config.data_dir.clone(),
        source,
    })?;
    let identity = daemon::known_identity(config)?.map(|key| key.identity());
    if !matches!(data_dir, DataDir::InUse(_)) {
        listen(config)?;
    }
    Node::connect(&config.node, CALL_TIMEOUT)?.check_template()?;
    Ok(Checked { identity, data_dir })
}

fn data_dir(path: &Path) -> io::Result<DataDir> {
    if !path.exists() {
        let may_be_made = may_write(&existing(path)).is_ok();
        return Ok(DataDir::Missing { may_be_made });
    }
    if let Some(Holder(holder)) = held_by(&path.join(lock::FILE_NAME))? {
        return Ok(DataDir::InUse(holder));
    }
    may_write(path)?;
    Ok(DataDir::Usable)
}

/// The directory in which the first that is missing would be made.
fn existing(path: &Path) -> PathBuf {
    let mut above = path.ancestors();
    // The last one of a relative path is empty: here.
    let found = above.find(|path| path.exists());
    found.unwrap_or(Path::new(".")).to_owned()
}

fn may_write(directory: &Path) -> io::Result<()> {
    Ok(access(directory, AccessFlags::W_OK | AccessFlags::X_OK)?)
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
