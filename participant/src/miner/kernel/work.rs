//! What of a header's hash is the same for all its nonces, computed once.
//!
//! A header is two blocks. The first has no nonce, so its outcome (the midstate) is computed once per
//! version; of the second block, the nonce is the word 3: rounds 0 to 2, the schedule's words 16 and
//! 17, and parts of its later words do not depend on it.

use super::sha256::{K, round, small0, small1};

/// The first word of the padding after a message.
pub(super) const PADDING: u32 = 0x8000_0000;
/// The last word of a header's second block: its length in bits.
pub(super) const HEADER_BITS: u32 = 640;
/// The last word of a digest's block.
pub(super) const DIGEST_BITS: u32 = 256;

/// A header without its nonce.
#[derive(Clone, Debug)]
pub struct Work {
    /// The state after the first block.
    pub(super) midstate: [u32; 8],
    /// The second block's first three words: the end of the merkle root, the time, the bits.
    pub(super) tail: [u32; 3],
    /// The state of the second block after its rounds 0 and 1.
    pub(super) after_1: [u32; 8],
    /// The state after round 2.
    pub(super) after_2: [u32; 8],
    /// What round 3 makes of `a` and `e`, less the nonce.
    pub(super) a3: u32,
    pub(super) e3: u32,
    /// `h + K + W` of the rounds 4 to 6, whose `h` is older than the nonce.
    pub(super) hkw: [u32; 3],
    /// Words 16 and 17 of the schedule.
    pub(super) w16: u32,
    pub(super) w17: u32,
    /// The schedule's later words, less what depends on the nonce.
    pub(super) c18: u32,
    pub(super) c19: u32,
    pub(super) c31: u32,
    pub(super) c32: u32,
}

impl Work {
    /// From the state after the header's first 64 bytes and the three words that follow them.
    pub fn new(midstate: [u32; 8], tail: [u32; 3]) -> Self {
        let after_1 = round(round(midstate, K[0], tail[0]), K[1], tail[1]);
        let after_2 = round(after_1, K[2], tail[2]);
        let less_nonce = round(after_2, K[3], 0);
        let w16 = small0(tail[1]).wrapping_add(tail[0]);
        let w17 = small1(HEADER_BITS)
            .wrapping_add(small0(tail[2]))
            .wrapping_add(tail[1]);
        Self {
            midstate,
            tail,
            after_1,
            after_2,
            a3: less_nonce[0],
            e3: less_nonce[4],
            hkw: [
                less_nonce[7].wrapping_add(K[4]).wrapping_add(PADDING),
                less_nonce[6].wrapping_add(K[5]),
                less_nonce[5].wrapping_add(K[6]),
            ],
            w16,
            w17,
            c18: small1(w16).wrapping_add(tail[2]),
            c19: small1(w17).wrapping_add(small0(PADDING)),
            c31: small0(w16).wrapping_add(HEADER_BITS),
            c32: small0(w17).wrapping_add(w16),
        }
    }
}
