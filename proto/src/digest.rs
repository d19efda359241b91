//! The one way Tutti hashes a structure: BIP340 tagged hashes over a canonical encoding.
//!
//! Integers are little-endian and of fixed width; a byte string is preceded by its length as a
//! `u32`; an optional value by one byte 0 or 1; a list by its number of elements as a `u32`.
//! SPEC.md ("Encoding") is the text of this file.

use bitcoin::hashes::{Hash, HashEngine, sha256};

/// Builds one tagged hash, field by field.
pub struct Digest(sha256::HashEngine);

impl Digest {
    /// Starts `SHA256(SHA256(tag) || SHA256(tag) || ...)` as BIP340 defines it.
    pub fn new(tag: &str) -> Self {
        let tag_hash = sha256::Hash::hash(tag.as_bytes());
        let mut engine = sha256::Hash::engine();
        engine.input(tag_hash.as_byte_array());
        engine.input(tag_hash.as_byte_array());
        Self(engine)
    }

    /// The same engine again, for a tag under which so much is hashed that its two blocks count.
    pub fn again(&self) -> Self {
        Self(self.0.clone())
    }

    /// Appends bytes whose length the field itself fixes.
    pub fn fixed(mut self, bytes: &[u8]) -> Self {
        self.0.input(bytes);
        self
    }

    /// Appends a byte string with its length.
    pub fn bytes(self, bytes: &[u8]) -> Self {
        self.count(bytes.len()).fixed(bytes)
    }

    /// Appends the number of elements of what follows.
    pub fn count(self, n: usize) -> Self {
        // A count beyond u32 cannot come from a message: those are bounded far below it.
        self.u32(u32::try_from(n).unwrap_or(u32::MAX))
    }

    /// Appends one byte.
    pub fn u8(self, v: u8) -> Self {
        self.fixed(&[v])
    }

    /// Appends a 16-bit integer.
    pub fn u16(self, v: u16) -> Self {
        self.fixed(&v.to_le_bytes())
    }

    /// Appends a 32-bit integer.
    pub fn u32(self, v: u32) -> Self {
        self.fixed(&v.to_le_bytes())
    }

    /// Appends a 64-bit integer.
    pub fn u64(self, v: u64) -> Self {
        self.fixed(&v.to_le_bytes())
    }

    /// Appends a signed 64-bit integer (two's complement).
    pub fn i64(self, v: i64) -> Self {
        self.fixed(&v.to_le_bytes())
    }

    /// Appends a 128-bit integer.
    pub fn u128(self, v: u128) -> Self {
        self.fixed(&v.to_le_bytes())
    }

    /// Appends an optional 32-byte value.
    pub fn option32(self, v: Option<&[u8; 32]>) -> Self {
        match v {
            None => self.u8(0),
            Some(bytes) => self.u8(1).fixed(bytes),
        }
    }

    /// The 32-byte result.
    pub fn finish(self) -> [u8; 32] {
        sha256::Hash::from_engine(self.0).to_byte_array()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tagged_hash_is_bip340s() {
        let tag = sha256::Hash::hash(b"TapLeaf");
        let mut all = Vec::new();
        all.extend_from_slice(tag.as_byte_array());
        all.extend_from_slice(tag.as_byte_array());
        all.extend_from_slice(&[1, 2, 0, 0, 0]);
        let ours = Digest::new("TapLeaf").u8(1).u32(2).finish();
        assert_eq!(ours, sha256::Hash::hash(&all).to_byte_array());
    }

    #[test]
    fn neighbouring_byte_strings_do_not_run_together() {
        let a = Digest::new("t").bytes(b"ab").bytes(b"c").finish();
        let b = Digest::new("t").bytes(b"a").bytes(b"bc").finish();
        assert_ne!(a, b);
    }
}
