//! Eight nonces at a time, with AVX2.

use std::arch::x86_64::*;

use super::Nonces;
use super::lanes::*;
use super::limit::FIRST;
use super::sha256::{self, INITIAL_STATE, K};
use super::work::{DIGEST_BITS, HEADER_BITS, PADDING, Work};

type V = __m256i;

pub(super) const LANES: u32 = 8;

/// Instructions of `add`, `big`, `small`, `ch` and `maj`; the next `maj` uses one of this one's.
pub(super) const COSTS: [u32; 5] = [1, 11, 9, 3, 3];
/// Those of them that rotate or shift, which a CPU has fewer units for.
pub(super) const TURNS: [u32; 5] = [0, 6, 5, 0, 0];

#[target_feature(enable = "avx2")]
#[inline]
fn splat(word: u32) -> V {
    _mm256_set1_epi32(word.cast_signed())
}

#[target_feature(enable = "avx2")]
#[inline]
fn add(a: V, b: V) -> V {
    _mm256_add_epi32(a, b)
}

#[target_feature(enable = "avx2")]
#[inline]
fn xor(a: V, b: V) -> V {
    _mm256_xor_si256(a, b)
}

#[target_feature(enable = "avx2")]
#[inline]
fn and(a: V, b: V) -> V {
    _mm256_and_si256(a, b)
}

/// Rotates right by `R`, where `L` is 32 less that: AVX2 has no rotation.
#[target_feature(enable = "avx2")]
#[inline]
fn rotate<const R: i32, const L: i32>(x: V) -> V {
    xor(_mm256_srli_epi32::<R>(x), _mm256_slli_epi32::<L>(x))
}

#[target_feature(enable = "avx2")]
#[inline]
fn big0(x: V) -> V {
    xor(
        xor(rotate::<2, 30>(x), rotate::<13, 19>(x)),
        rotate::<22, 10>(x),
    )
}

#[target_feature(enable = "avx2")]
#[inline]
fn big1(x: V) -> V {
    xor(
        xor(rotate::<6, 26>(x), rotate::<11, 21>(x)),
        rotate::<25, 7>(x),
    )
}

#[target_feature(enable = "avx2")]
#[inline]
fn small0(x: V) -> V {
    xor(
        xor(rotate::<7, 25>(x), rotate::<18, 14>(x)),
        _mm256_srli_epi32::<3>(x),
    )
}

#[target_feature(enable = "avx2")]
#[inline]
fn small1(x: V) -> V {
    xor(
        xor(rotate::<17, 15>(x), rotate::<19, 13>(x)),
        _mm256_srli_epi32::<10>(x),
    )
}

#[target_feature(enable = "avx2")]
#[inline]
fn ch(e: V, f: V, g: V) -> V {
    xor(g, and(e, xor(f, g)))
}

#[target_feature(enable = "avx2")]
#[inline]
fn maj(a: V, b: V, c: V) -> V {
    xor(b, and(xor(a, b), xor(b, c)))
}

/// Tells of the nonces whose hash has none of `mask` in its last word.
#[target_feature(enable = "avx2")]
pub(super) fn search(work: &Work, nonces: Nonces, mask: u32, found: &mut dyn FnMut(u32)) {
    let places = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    // Within each word the other way round.
    let swap = _mm256_set_epi32(
        0x0c0d_0e0f,
        0x0809_0a0b,
        0x0405_0607,
        0x0001_0203,
        0x0c0d_0e0f,
        0x0809_0a0b,
        0x0405_0607,
        0x0001_0203,
    );
    let mask = splat(mask);
    for group in nonces.groups(LANES) {
        let words = _mm256_shuffle_epi8(add(splat(group.first), places), swap);
        let rest = and(last_word!(work, words), mask);
        let zeros = _mm256_cmpeq_epi32(rest, _mm256_setzero_si256());
        let hits = _mm256_movemask_ps(_mm256_castsi256_ps(zeros)).cast_unsigned();
        if hits != 0 {
            group.report(hits, found);
        }
    }
}

/// Twelve additions, this many times.
#[target_feature(enable = "avx2")]
pub(super) fn adds(times: u32, seed: u32) -> u32 {
    let mut x = FIRST.map(|place| splat(seed.wrapping_mul(place)));
    for _ in 0..times {
        adds!(x);
    }
    any_of(x)
}

/// Twelve times three rotations, this many times.
#[target_feature(enable = "avx2")]
pub(super) fn turns(times: u32, seed: u32) -> u32 {
    let mut x = FIRST.map(|place| splat(seed.wrapping_mul(place)));
    for _ in 0..times {
        turns!(x);
    }
    any_of(x)
}

/// Something that takes all of them to know.
#[target_feature(enable = "avx2")]
#[inline]
fn any_of(x: [V; 12]) -> u32 {
    let sum = x.into_iter().fold(splat(0), |sum, x| add(sum, x));
    _mm256_extract_epi32::<0>(sum).cast_unsigned()
}
