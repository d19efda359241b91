//! The coordinator's identity key: a file in the data directory, made at the first start once the store is there.
//!
//! An identity whose store is gone must not begin another: it would sign its windows a second time. So the store
//! comes first. A store without an identity in which nothing was ever saved is one whose first start was cut short.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rand::TryRngCore;
use rand::rngs::OsRng;
use thiserror::Error;
use tutti_daemon::durable;
use tutti_proto::identity::IdentityKey;
use zeroize::Zeroizing;

const FILE_NAME: &str = "identity.key";

/// Why there is no identity.
#[derive(Debug, Error)]
pub enum IdentityError {
    #[error("cannot {doing} {}: {source}", path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(
        "{} holds no identity key (64 hexadecimal digits); restore it from a copy: a new one would be a new pool",
        .0.display()
    )]
    Malformed(PathBuf),
    #[error(
        "others may read {} (mode {mode:o}); keep it to yourself: chmod 600 {0}",
        path.display()
    )]
    Exposed { path: PathBuf, mode: u32 },
    #[error(
        "{} is missing, but the store beside it is a pool's; restore it from a copy: a new one would be a new pool, which needs another data_dir",
        .0.display()
    )]
    Missing(PathBuf),
    #[error("the operating system gave no randomness for a new identity: {0}")]
    Randomness(rand::rand_core::OsError),
}

/// The identity key of a data directory, if it has one.
pub fn read(data_dir: &Path) -> Result<Option<IdentityKey>, IdentityError> {
    let path = data_dir.join(FILE_NAME);
    let io = |source| IdentityError::Io {
        doing: "read",
        path: path.clone(),
        source,
    };
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    let mode = file.metadata().map_err(io)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(IdentityError::Exposed { path, mode });
    }
    // Room for one byte more than there may be, so that the buffer is never moved.
    let mut text = Zeroizing::new(String::with_capacity(128));
    (&mut file)
        .take(127)
        .read_to_string(&mut text)
        .map_err(io)?;
    let mut secret = Zeroizing::new([0u8; 32]);
    let malformed = || IdentityError::Malformed(path.clone());
    hex::decode_to_slice(text.trim(), secret.as_mut_slice()).map_err(|_| malformed())?;
    let key = IdentityKey::from_bytes(&mut secret).map_err(|_| malformed())?;
    Ok(Some(key))
}

/// The error of a data directory whose identity key is gone.
pub fn missing(data_dir: &Path) -> IdentityError {
    IdentityError::Missing(data_dir.join(FILE_NAME))
}

/// Gives a data directory that has none an identity key. It has its store already: an identity without one has
/// lost it.
pub fn create(data_dir: &Path) -> Result<IdentityKey, IdentityError> {
    let mut secret = Zeroizing::new([0u8; 32]);
    let key = loop {
        OsRng
            .try_fill_bytes(secret.as_mut_slice())
            .map_err(IdentityError::Randomness)?;
        let mut copy = Zeroizing::new(*secret);
        // All but one in 2^128 numbers are keys.
        if let Ok(key) = IdentityKey::from_bytes(&mut copy) {
            break key;
        }
    };
    let path = data_dir.join(FILE_NAME);
    write(&path, &secret).map_err(|source| IdentityError::Io {
        doing: "write",
        path,
        source,
    })?;
    Ok(key)
}

/// Durable before anything is signed with it, and never half a file.
fn write(path: &Path, secret: &[u8; 32]) -> io::Result<()> {
    let mut text = Zeroizing::new([0u8; 65]);
    hex::encode_to_slice(secret, &mut text[..64]).map_err(io::Error::other)?;
    text[64] = b'\n';
    durable::write(path, text.as_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_identity_is_made_once_and_is_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        assert!(read(dir.path()).unwrap().is_none());
        let made = create(dir.path()).unwrap().identity();
        let again = read(dir.path()).unwrap().unwrap().identity();
        assert_eq!(made, again);
        let path = dir.path().join(FILE_NAME);
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(
            read(dir.path()),
            Err(IdentityError::Exposed { mode: 0o644, .. })
        ));
    }

    #[test]
    fn what_is_no_key_is_refused_and_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        let zero = "00".repeat(32);
        let long = "11".repeat(40);
        for text in ["", "abc", zero.as_str(), long.as_str()] {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
            assert!(matches!(read(dir.path()), Err(IdentityError::Malformed(_))));
            assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        }
    }
}
