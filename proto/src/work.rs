//! Work: expected hashes. Share targets are whole leading zero bits, so weights add exactly.

use std::fmt;

use bitcoin::hashes::{Hash, sha256d};
use bitcoin::{CompactTarget, Target};

/// Most zero bits a share may be asked for: weight 2^96 is a second of 10^10 EH/s.
pub const ZERO_BITS_LIMIT: u8 = 96;

/// An amount of work, in expected hashes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Work(pub u128);

/// A sum of work beyond 2^128 hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("work beyond 2^128 hashes")]
pub struct WorkOverflow;

impl Work {
    /// No work.
    pub const ZERO: Work = Work(0);

    /// Weight of one share of `z` leading zero bits: 2^z.
    pub fn of_zero_bits(z: u8) -> Work {
        Work(1u128.checked_shl(u32::from(z)).unwrap_or(u128::MAX))
    }

    /// Expected hashes under the compact target `bits`, `floor(2^256 / (target + 1))`, saturated at 2^128 - 1.
    pub fn of_target(bits: u32) -> Work {
        let work = target(bits).to_work().to_be_bytes();
        let (high, low) = work.split_at(16);
        match <[u8; 16]>::try_from(low) {
            Ok(low) if high.iter().all(|b| *b == 0) => Work(u128::from_be_bytes(low)),
            _ => Work(u128::MAX),
        }
    }

    /// The sum, if it has one.
    pub fn checked_add(self, other: Work) -> Result<Work, WorkOverflow> {
        self.0.checked_add(other.0).map(Work).ok_or(WorkOverflow)
    }
}

impl fmt::Display for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Double SHA-256 of an 80-byte block header, in the byte order in which it is hashed.
pub fn header_hash(header: &[u8; 80]) -> [u8; 32] {
    sha256d::Hash::hash(header).to_byte_array()
}

/// Leading zero bits of a header hash, read as the big-endian number that targets are compared with.
pub fn leading_zero_bits(hash: &[u8; 32]) -> u8 {
    let mut bits = 0u8;
    for byte in hash.iter().rev() {
        if *byte != 0 {
            // At most 31 * 8 + 7 = 255.
            return bits.saturating_add(byte.leading_zeros() as u8);
        }
        bits = bits.saturating_add(8);
    }
    u8::MAX
}

/// Whether a header hash meets the compact target `bits`.
pub fn meets_target(hash: &[u8; 32], bits: u32) -> bool {
    target(bits).is_met_by(bitcoin::BlockHash::from_byte_array(*hash))
}

/// Leading zero bits that each hash under the compact target `bits` has, and no more.
pub fn zero_bits_of_target(bits: u32) -> u8 {
    leading_zero_bits(&target(bits).to_le_bytes())
}

/// The target that compact `bits` stand for. From exponent 35 on nothing is left of it in 256 bits, where the library
/// shifts by the distance modulo 256.
pub(crate) fn target(bits: u32) -> Target {
    match bits >> 24 {
        0..=34 => Target::from_compact(CompactTarget::from_consensus(bits)),
        _ => Target::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_of_known_targets() {
        assert_eq!(Work::of_target(0x207fffff), Work(2));
        assert_eq!(Work::of_target(0x1d00ffff), Work(0x1_0001_0001));
        assert_eq!(Work::of_zero_bits(10), Work(1024));
    }

    #[test]
    fn a_target_is_met_by_as_many_zero_bits_or_more() {
        for (bits, zeros) in [(0x207fffff, 1), (0x1d00ffff, 32), (0x2100ffff, 0), (0, 255)] {
            assert_eq!(zero_bits_of_target(bits), zeros, "{bits:#x}");
        }
    }

    #[test]
    fn zero_bits_are_counted_from_the_most_significant_end() {
        let mut hash = [0xffu8; 32];
        assert_eq!(leading_zero_bits(&hash), 0);
        hash[31] = 0;
        hash[30] = 0x10;
        assert_eq!(leading_zero_bits(&hash), 11);
        assert_eq!(leading_zero_bits(&[0; 32]), 255);
    }
}
