//! One nonce at a time, on any CPU.

use super::Nonces;
use super::lanes::*;
use super::limit::FIRST;
use super::sha256::{self, INITIAL_STATE, K, big0, big1, ch, maj, small0, small1};
use super::work::{DIGEST_BITS, HEADER_BITS, PADDING, Work};

type V = u32;

/// Instructions of `add`, `big`, `small`, `ch` and `maj`; the next `maj` uses one of this one's.
pub(super) const COSTS: [u32; 5] = [1, 5, 5, 3, 3];
/// Those of them that rotate or shift, which a CPU has fewer units for.
pub(super) const TURNS: [u32; 5] = [0, 3, 3, 0, 0];

fn splat(word: u32) -> V {
    word
}

fn add(a: V, b: V) -> V {
    a.wrapping_add(b)
}

/// Tells of the nonces whose hash has none of `mask` in its last word.
pub(super) fn search(work: &Work, nonces: Nonces, mask: u32, found: &mut dyn FnMut(u32)) {
    for nonce in nonces.all() {
        if last_word!(work, nonce.swap_bytes()) & mask == 0 {
            found(nonce);
        }
    }
}

/// Twelve additions, this many times.
pub(super) fn adds(times: u32, seed: u32) -> u32 {
    let mut x = FIRST.map(|place| splat(seed.wrapping_mul(place)));
    for _ in 0..times {
        adds!(x);
    }
    x.into_iter().fold(0, add)
}

/// Twelve times three rotations, this many times.
pub(super) fn turns(times: u32, seed: u32) -> u32 {
    let mut x = FIRST.map(|place| splat(seed.wrapping_mul(place)));
    for _ in 0..times {
        turns!(x);
    }
    x.into_iter().fold(0, add)
}
