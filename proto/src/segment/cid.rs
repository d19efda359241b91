//! The name of a file: a CID (version 1, codec raw, SHA2-256) of its bytes. Whoever knows it need not
//! trust whoever sends the bytes.

use std::fmt;
use std::str::FromStr;

use bitcoin::hashes::{Hash, sha256};
use cid::multihash::Multihash;

/// Multicodec `raw`.
const RAW: u64 = 0x55;
/// Multihash `sha2-256`.
const SHA2_256: u64 = 0x12;

/// A file's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileId([u8; 32]);

/// The text names no file of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a CID (version 1, raw, SHA2-256), such as bafkrei...")]
pub struct BadFileId;

impl FileId {
    /// The name of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(sha256::Hash::hash(bytes).to_byte_array())
    }

    /// The name of the bytes that hash to this, by SHA2-256.
    pub fn from_digest(digest: [u8; 32]) -> Self {
        Self(digest)
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hash = Multihash::<64>::wrap(SHA2_256, &self.0).map_err(|_| fmt::Error)?;
        cid::Cid::new_v1(RAW, hash).fmt(f)
    }
}

impl FromStr for FileId {
    type Err = BadFileId;

    fn from_str(text: &str) -> Result<Self, BadFileId> {
        let cid = cid::Cid::try_from(text).map_err(|_| BadFileId)?;
        let digest = <[u8; 32]>::try_from(cid.hash().digest()).map_err(|_| BadFileId)?;
        let id = Self(digest);
        // Other encodings of the same digest are other names.
        (id.to_string() == text).then_some(id).ok_or(BadFileId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_that_of_other_tools_and_is_read_back() {
        // Of the eleven bytes "hello world": base32 of 01 55 12 20 and their SHA-256.
        let name = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e";
        let id = FileId::of(b"hello world");
        assert_eq!(id.to_string(), name);
        assert_eq!(name.parse(), Ok(id));
        let upper = name.to_uppercase();
        for bad in [
            "",
            "bafk",
            &name[1..],
            "QmT78zSuBmuS4z925WZfrqQ1qHaJ56DQaTfyMUF7F8ff5o",
            &upper,
        ] {
            assert_eq!(bad.parse::<FileId>(), Err(BadFileId), "{bad}");
        }
    }
}
