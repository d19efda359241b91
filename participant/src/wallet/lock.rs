//! One owner of a wallet file at a time. A wallet in memory goes stale as soon as another process gives
//! out an address, so nobody keeps one: it is opened, used and closed under this lock.

use std::path::Path;
use std::time::{Duration, Instant};

use tutti_daemon::lock::{Holder, LockedFile, lock};

use super::WalletError;

const FILE_NAME: &str = "wallet.lock";
/// Longer than any holder needs: a signature, a handful of calls to the node, a write.
const WAIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(10);

/// Held while a wallet is open; the system releases it however the process ends.
pub(super) struct WalletLock {
    _file: LockedFile,
}

impl WalletLock {
    pub(super) fn take(directory: &Path) -> Result<Self, WalletError> {
        let path = directory.join(FILE_NAME);
        let deadline = Instant::now() + WAIT;
        loop {
            let taken = lock(&path).map_err(|source| WalletError::Create {
                path: path.clone(),
                source,
            })?;
            match taken {
                Ok(file) => return Ok(Self { _file: file }),
                Err(Holder(holder)) if Instant::now() >= deadline => {
                    return Err(WalletError::InUse { path, holder });
                }
                Err(_) => std::thread::sleep(POLL),
            }
        }
    }
}
