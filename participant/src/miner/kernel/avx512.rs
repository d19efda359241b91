//! Sixteen nonces at a time, with AVX-512: it rotates in one instruction, and has any function of three
//! bits in another.

use std::arch::x86_64::*;

use super::Nonces;
use super::lanes::*;
use super::limit::FIRST;
use super::sha256::{self, INITIAL_STATE, K};
use super::work::{DIGEST_BITS, HEADER_BITS, PADDING, Work};

type V = __m512i;

pub(super) const LANES: u32 = 16;

/// Instructions of `add`, `big`, `small`, `ch` and `maj`.
pub(super) const COSTS: [u32; 5] = [1, 4, 4, 1, 1];
/// Those of them that rotate or shift, which a CPU has fewer units for.
pub(super) const TURNS: [u32; 5] = [0, 3, 3, 0, 0];

/// Truth tables of three bits.
const XOR: i32 = 0x96;
const CHOOSE: i32 = 0xca;
const MAJORITY: i32 = 0xe8;

#[target_feature(enable = "avx512f")]
#[inline]
fn splat(word: u32) -> V {
    _mm512_set1_epi32(word.cast_signed())
}

#[target_feature(enable = "avx512f")]
#[inline]
fn add(a: V, b: V) -> V {
    _mm512_add_epi32(a, b)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn big0(x: V) -> V {
    let (p, q, r) = (
        _mm512_ror_epi32::<2>(x),
        _mm512_ror_epi32::<13>(x),
        _mm512_ror_epi32::<22>(x),
    );
    _mm512_ternarylogic_epi32::<XOR>(p, q, r)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn big1(x: V) -> V {
    let (p, q, r) = (
        _mm512_ror_epi32::<6>(x),
        _mm512_ror_epi32::<11>(x),
        _mm512_ror_epi32::<25>(x),
    );
    _mm512_ternarylogic_epi32::<XOR>(p, q, r)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn small0(x: V) -> V {
    let (p, q, r) = (
        _mm512_ror_epi32::<7>(x),
        _mm512_ror_epi32::<18>(x),
        _mm512_srli_epi32::<3>(x),
    );
    _mm512_ternarylogic_epi32::<XOR>(p, q, r)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn small1(x: V) -> V {
    let (p, q, r) = (
        _mm512_ror_epi32::<17>(x),
        _mm512_ror_epi32::<19>(x),
        _mm512_srli_epi32::<10>(x),
    );
    _mm512_ternarylogic_epi32::<XOR>(p, q, r)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn ch(e: V, f: V, g: V) -> V {
    _mm512_ternarylogic_epi32::<CHOOSE>(e, f, g)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn maj(a: V, b: V, c: V) -> V {
    _mm512_ternarylogic_epi32::<MAJORITY>(a, b, c)
}

/// The lanes' places.
#[target_feature(enable = "avx512f")]
#[inline]
fn places() -> V {
    _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15)
}

/// Tells of the nonces whose hash has none of `mask` in its last word.
#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn search(work: &Work, nonces: Nonces, mask: u32, found: &mut dyn FnMut(u32)) {
    // Within each word the other way round.
    let swap = _mm512_set4_epi32(0x0c0d_0e0f, 0x0809_0a0b, 0x0405_0607, 0x0001_0203);
    let mask = splat(mask);
    for group in nonces.groups(LANES) {
        let words = _mm512_shuffle_epi8(add(splat(group.first), places()), swap);
        let hits = _mm512_testn_epi32_mask(last_word!(work, words), mask);
        if hits != 0 {
            group.report(u32::from(hits), found);
        }
    }
}

/// Twelve additions, this many times.
#[target_feature(enable = "avx512f")]
pub(super) fn adds(times: u32, seed: u32) -> u32 {
    let mut x = FIRST.map(|place| splat(seed.wrapping_mul(place)));
    for _ in 0..times {
        adds!(x);
    }
    any_of(x)
}

/// Twelve times three rotations, this many times.
#[target_feature(enable = "avx512f")]
pub(super) fn turns(times: u32, seed: u32) -> u32 {
    let mut x = FIRST.map(|place| splat(seed.wrapping_mul(place)));
    for _ in 0..times {
        turns!(x);
    }
    any_of(x)
}

/// Something that takes all of them to know.
#[target_feature(enable = "avx512f")]
#[inline]
fn any_of(x: [V; 12]) -> u32 {
    let sum = x.into_iter().fold(splat(0), |sum, x| add(sum, x));
    _mm512_reduce_add_epi32(sum).cast_unsigned()
}
