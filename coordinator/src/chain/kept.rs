//! Found blocks on disk, until the node has judged them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use bitcoin::hashes::Hash;
use bitcoin::{Block, BlockHash, consensus};
use thiserror::Error;
use tutti_daemon::durable;

/// A block's file could not be written, or cannot be used.
#[derive(Debug, Error)]
pub enum BlockError {
    #[error("cannot {doing} {}: {source}; correct its rights or the disk, and restart", path.display())]
    Io {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(
        "{} is damaged ({reason}); restore it from a copy and restart, or submit the block from elsewhere",
        path.display()
    )]
    Damaged { path: PathBuf, reason: String },
}

/// The directory of the found blocks.
#[derive(Clone)]
pub(super) struct KeptBlocks {
    directory: PathBuf,
}

impl KeptBlocks {
    /// Makes the directory if there is none.
    pub(super) fn open(directory: PathBuf) -> io::Result<Self> {
        durable::directory(&directory)?;
        Ok(Self { directory })
    }

    /// The block is on disk when this returns.
    pub(super) fn keep(&self, hash: &[u8; 32], block: &[u8]) -> Result<(), BlockError> {
        let path = self.path(hash);
        durable::write(&path, block).map_err(|source| BlockError::Io {
            doing: "write",
            path,
            source,
        })
    }

    /// The block, if it was kept. What the node would refuse for our disk's fault is an error.
    pub(super) fn load(&self, hash: &[u8; 32]) -> Result<Option<Vec<u8>>, BlockError> {
        let path = self.path(hash);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                let doing = "read";
                return Err(BlockError::Io {
                    doing,
                    path,
                    source,
                });
            }
        };
        match damage(hash, &bytes) {
            None => Ok(Some(bytes)),
            Some(reason) => Err(BlockError::Damaged { path, reason }),
        }
    }

    /// The block was judged.
    pub(super) fn forget(&self, hash: &[u8; 32]) {
        // If it stays, nobody asks for it any more.
        let _ = fs::remove_file(self.path(hash));
    }

    fn path(&self, hash: &[u8; 32]) -> PathBuf {
        let name = format!("{}.block", BlockHash::from_byte_array(*hash));
        Path::new(&self.directory).join(name)
    }
}

/// Why these bytes are not the block of this hash.
fn damage(hash: &[u8; 32], bytes: &[u8]) -> Option<String> {
    let block: Block = match consensus::deserialize(bytes) {
        Ok(block) => block,
        Err(error) => return Some(error.to_string()),
    };
    let whole = block.block_hash().to_byte_array() == *hash
        && block.check_merkle_root()
        && block.check_witness_commitment();
    (!whole).then(|| "its contents are not those of the block it is named after".to_owned())
}

#[cfg(test)]
mod tests {
    use bitcoin::Network;
    use bitcoin::constants::genesis_block;

    use super::*;

    #[test]
    fn a_kept_block_comes_back_and_a_damaged_one_is_named_and_stays() {
        let dir = tempfile::tempdir().unwrap();
        let kept = KeptBlocks::open(dir.path().join("blocks")).unwrap();
        let block = genesis_block(Network::Regtest);
        let hash = block.block_hash().to_byte_array();
        let bytes = consensus::serialize(&block);
        assert!(kept.load(&hash).unwrap().is_none());
        kept.keep(&hash, &bytes).unwrap();
        assert_eq!(kept.load(&hash).unwrap(), Some(bytes.clone()));

        let mut flipped = bytes.clone();
        *flipped.last_mut().unwrap() ^= 1; // The coinbase's lock time: the header stays as it was.
        for damaged in [&bytes[..0], &bytes[..100], &flipped] {
            fs::write(kept.path(&hash), damaged).unwrap();
            let error = kept.load(&hash).unwrap_err();
            assert!(matches!(error, BlockError::Damaged { .. }), "{error}");
            assert!(error.to_string().contains(&block.block_hash().to_string()));
            assert!(kept.path(&hash).exists());
        }
        kept.keep(&hash, &bytes).unwrap();
        kept.forget(&hash);
        assert!(kept.load(&hash).unwrap().is_none());
        assert_eq!(fs::read_dir(&kept.directory).unwrap().count(), 0);
    }
}
