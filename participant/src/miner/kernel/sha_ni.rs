//! Four nonces at a time, with the SHA extensions: while one hash waits for its last instruction, the
//! others take their turns.

use std::arch::asm;
use std::arch::x86_64::*;
use std::array::from_fn;

use super::Nonces;
use super::sha256::{INITIAL_STATE, K, small0};
use super::work::{DIGEST_BITS, HEADER_BITS, PADDING, Work};

/// Hashes side by side.
const STREAMS: usize = 4;

/// The same of each stream.
type Streams<T> = [T; STREAMS];

/// A value of each stream `i`. Not by the arrays' own methods: those are not of this CPU's features, so
/// the compiler leaves calls to closures in the middle of a hash.
macro_rules! each {
    ($i:ident => $value:expr) => {
        [
            {
                let $i = 0;
                $value
            },
            {
                let $i = 1;
                $value
            },
            {
                let $i = 2;
                $value
            },
            {
                let $i = 3;
                $value
            },
        ]
    };
}

/// Four words of the schedule, the first one lowest.
type Words = __m128i;

/// The eight letters as the instructions want them.
#[derive(Clone, Copy)]
struct State {
    abef: __m128i,
    cdgh: __m128i,
}

#[target_feature(enable = "sse2")]
#[inline]
fn words(words: [u32; 4]) -> Words {
    let [a, b, c, d] = words.map(u32::cast_signed);
    _mm_setr_epi32(a, b, c, d)
}

#[target_feature(enable = "sse2")]
#[inline]
fn state([a, b, c, d, e, f, g, h]: [u32; 8]) -> State {
    State {
        abef: words([f, e, b, a]),
        cdgh: words([h, g, d, c]),
    }
}

/// The constants of the rounds `4 * quad` and the three after it.
#[target_feature(enable = "sse2")]
#[inline]
fn constants(quad: usize) -> Words {
    words([
        K[4 * quad],
        K[4 * quad + 1],
        K[4 * quad + 2],
        K[4 * quad + 3],
    ])
}

/// Makes nothing go on before all of the streams are here. Left alone the compiler puts one stream's
/// rounds after the other's to spare registers, too far apart for the CPU to do them side by side.
#[target_feature(enable = "sse2")]
#[expect(unsafe_code, reason = "inline assembly, of no instructions")]
#[inline]
fn keep_step(s: &mut Streams<State>) {
    let [p, q, r, t] = s;
    // SAFETY: there is no instruction in it. It claims to change the eight registers, and leaves each
    // with the value it had.
    unsafe {
        asm!(
            "/* {} {} {} {} {} {} {} {} */",
            inout(xmm_reg) p.abef,
            inout(xmm_reg) q.abef,
            inout(xmm_reg) r.abef,
            inout(xmm_reg) t.abef,
            inout(xmm_reg) p.cdgh,
            inout(xmm_reg) q.cdgh,
            inout(xmm_reg) r.cdgh,
            inout(xmm_reg) t.cdgh,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
}

/// Two rounds, with `K + W` in the low half of `kw`.
#[target_feature(enable = "sha,sse2")]
#[inline]
fn two_rounds(state: &mut Streams<State>, kw: Streams<Words>) {
    for i in 0..STREAMS {
        state[i] = State {
            abef: _mm_sha256rnds2_epu32(state[i].cdgh, state[i].abef, kw[i]),
            cdgh: state[i].abef,
        };
    }
}

/// Four rounds, with `K + W` in `kw`.
#[target_feature(enable = "sha,sse2")]
#[inline]
fn four_rounds(state: &mut Streams<State>, kw: Streams<Words>) {
    two_rounds(state, kw);
    two_rounds(state, each!(i => _mm_shuffle_epi32::<0b00_00_11_10>(kw[i])));
    keep_step(state);
}

#[target_feature(enable = "sha,sse2")]
#[inline]
fn rounds(state: &mut Streams<State>, quad: usize, w: Streams<Words>) {
    four_rounds(state, each!(i => _mm_add_epi32(w[i], constants(quad))));
}

/// The schedule's next four words, from the 16 before.
#[target_feature(enable = "sha,ssse3")]
#[inline]
fn next_words(w: [Streams<Words>; 4]) -> Streams<Words> {
    each!(i => {
        let sigma0 = _mm_sha256msg1_epu32(w[0][i], w[1][i]);
        next_of(sigma0, [w[2][i], w[3][i]])
    })
}

/// The same, given the first two of its four terms.
#[target_feature(enable = "sha,ssse3")]
#[inline]
fn next_of(two_terms: Words, [before, last]: [Words; 2]) -> Words {
    let third = _mm_alignr_epi8::<4>(last, before);
    _mm_sha256msg2_epu32(_mm_add_epi32(two_terms, third), last)
}

/// The part of an inner hash that all nonces share.
#[derive(Clone, Copy)]
struct Shared {
    after_1: State,
    midstate: State,
    /// `K + W` of the rounds 2 and 3, less the nonce.
    kw_2: Words,
    /// Words 16 to 19, less what depends on the nonce.
    words_16: Words,
    /// Words 17 to 19 have no part in the first three terms of words 20 to 23.
    terms_20: Words,
    terms_24: Words,
    terms_28: Words,
}

impl Shared {
    #[target_feature(enable = "sha,ssse3")]
    #[inline]
    fn new(work: &Work) -> Self {
        let [w4, w8, w12] = padding();
        let words_16 = words([work.w16, work.w17, work.c18, work.c19]);
        Self {
            after_1: state(work.after_1),
            midstate: state(work.midstate),
            kw_2: words([K[2].wrapping_add(work.tail[2]), K[3], 0, 0]),
            words_16,
            terms_20: _mm_add_epi32(
                _mm_sha256msg1_epu32(w4, w8),
                _mm_alignr_epi8::<4>(words_16, w12),
            ),
            terms_24: _mm_sha256msg1_epu32(w8, w12),
            terms_28: _mm_sha256msg1_epu32(w12, words_16),
        }
    }
}

/// Words 4 to 15 of a header's second block.
#[target_feature(enable = "sse2")]
#[inline]
fn padding() -> [Words; 3] {
    [
        words([PADDING, 0, 0, 0]),
        words([0; 4]),
        words([0, 0, 0, HEADER_BITS]),
    ]
}

/// Rounds with words made of the 16 before.
macro_rules! scheduled {
    ($s:ident $w:ident $($quad:literal)+) => {
        $(
            $w[$quad % 4] = next_words([
                $w[$quad % 4],
                $w[($quad + 1) % 4],
                $w[($quad + 2) % 4],
                $w[($quad + 3) % 4],
            ]);
            rounds(&mut $s, $quad, $w[$quad % 4]);
        )+
    };
}

/// The digests of the inner hashes, as the first eight words of the outer ones.
#[target_feature(enable = "sha,sse4.1")]
#[inline]
fn inner(shared: &Shared, nonces: Streams<u32>) -> [Streams<Words>; 2] {
    let mut s = [shared.after_1; STREAMS];
    let kw_2 = each!(i => {
        let nonce = _mm_cvtsi64_si128((u64::from(nonces[i]) << 32).cast_signed());
        _mm_add_epi32(shared.kw_2, nonce)
    });
    two_rounds(&mut s, kw_2);
    for (quad, w) in (1..4).zip(padding()) {
        rounds(&mut s, quad, [w; STREAMS]);
    }
    let w16 = each!(i => {
        let terms = u64::from(nonces[i]) << 32 | u64::from(small0(nonces[i]));
        let terms = _mm_slli_si128::<8>(_mm_cvtsi64_si128(terms.cast_signed()));
        _mm_add_epi32(shared.words_16, terms)
    });
    rounds(&mut s, 4, w16);
    let w20 = each!(i => _mm_sha256msg2_epu32(shared.terms_20, w16[i]));
    rounds(&mut s, 5, w20);
    let w24 = each!(i => next_of(shared.terms_24, [w16[i], w20[i]]));
    rounds(&mut s, 6, w24);
    let w28 = each!(i => next_of(shared.terms_28, [w20[i], w24[i]]));
    rounds(&mut s, 7, w28);
    let mut w = [w16, w20, w24, w28];
    scheduled!(s w 8 9 10 11 12 13 14 15);
    let digests = each!(i => {
        let abef = _mm_add_epi32(s[i].abef, shared.midstate.abef);
        let cdgh = _mm_add_epi32(s[i].cdgh, shared.midstate.cdgh);
        let feba = _mm_shuffle_epi32::<0b00_01_10_11>(abef);
        let hgdc = _mm_shuffle_epi32::<0b00_01_10_11>(cdgh);
        (_mm_unpacklo_epi64(feba, hgdc), _mm_unpackhi_epi64(feba, hgdc))
    });
    [each!(i => digests[i].0), each!(i => digests[i].1)]
}

/// The last words of the double hashes.
#[target_feature(enable = "sha,sse4.1")]
#[inline]
fn last_words(shared: &Shared, nonces: Streams<u32>) -> Streams<u32> {
    let [w0, w4] = inner(shared, nonces);
    let w8 = words([PADDING, 0, 0, 0]);
    let w12 = words([0, 0, 0, DIGEST_BITS]);
    let mut s = [state(INITIAL_STATE); STREAMS];
    rounds(&mut s, 0, w0);
    rounds(&mut s, 1, w4);
    rounds(&mut s, 2, [w8; STREAMS]);
    rounds(&mut s, 3, [w12; STREAMS]);
    // Words 9 to 12, their third term, are 0.
    let w16 = each!(i => _mm_sha256msg2_epu32(_mm_sha256msg1_epu32(w0[i], w4[i]), w12));
    rounds(&mut s, 4, w16);
    let w20 = each!(i => next_of(_mm_sha256msg1_epu32(w4[i], w8), [w12, w16[i]]));
    rounds(&mut s, 5, w20);
    // The words 8 to 12 make of themselves what word 8 is.
    let w24 = each!(i => next_of(w8, [w16[i], w20[i]]));
    rounds(&mut s, 6, w24);
    let w28 = each!(i => next_of(_mm_sha256msg1_epu32(w12, w16[i]), [w20[i], w24[i]]));
    rounds(&mut s, 7, w28);
    let mut w = [w16, w20, w24, w28];
    scheduled!(s w 8 9 10 11 12 13 14);
    let w60 = next_words([w[3], w[0], w[1], w[2]]);
    two_rounds(&mut s, each!(i => _mm_add_epi32(w60[i], constants(15))));
    // Two rounds after round 60 its `e` would be `g`, now it is `f`; three after it, `h`.
    each!(i => {
        _mm_cvtsi128_si32(s[i].abef)
            .cast_unsigned()
            .wrapping_add(INITIAL_STATE[7])
    })
}

/// Tells of the nonces whose hash has none of `mask` in its last word.
#[target_feature(enable = "sha,sse4.1")]
pub(super) fn search(work: &Work, nonces: Nonces, mask: u32, found: &mut dyn FnMut(u32)) {
    let shared = Shared::new(work);
    for group in nonces.groups(STREAMS as u32) {
        let lanes = each!(i => group.first.wrapping_add(i as u32).swap_bytes());
        let words = last_words(&shared, lanes);
        let hits = words
            .iter()
            .enumerate()
            .fold(0, |hits, (i, word)| hits | u32::from(word & mask == 0) << i);
        if hits != 0 {
            group.report(hits, found);
        }
    }
}

/// Instructions of the SHA extensions in a double hash: rounds 2 to 63 and 0 to 61 by twos; the words
/// 20 to 63 and 16 to 63 by fours; and the first terms of those, where not all nonces share them.
pub(super) const ROUNDS_2: u32 = 31 + 31;
pub(super) const MSG_2: u32 = 11 + 12;
pub(super) const MSG_1: u32 = 8 + 11;

/// Twelve instructions of two rounds each, on words that depend on each other as little as possible, this
/// many times.
#[target_feature(enable = "sha,sse4.1")]
pub(super) fn rounds_alone(times: u32, seed: u32) -> u32 {
    let (mut x, y) = (any_words(seed), any_words(!seed));
    let kw = words([seed, !seed, 0, 0]);
    for _ in 0..times {
        for _ in 0..2 {
            for (x, y) in x.iter_mut().zip(&y) {
                *x = _mm_sha256rnds2_epu32(*x, *y, kw);
            }
        }
    }
    sum(x)
}

/// The same with eight instructions of the schedule after them, four of each, which is about the
/// proportion of a double hash.
#[target_feature(enable = "sha,sse4.1")]
pub(super) fn sha_alone(times: u32, seed: u32) -> u32 {
    let (mut x, mut y) = (any_words(seed), any_words(!seed));
    let kw = words([seed, !seed, 0, 0]);
    for _ in 0..times {
        for _ in 0..2 {
            for (x, y) in x.iter_mut().zip(&y) {
                *x = _mm_sha256rnds2_epu32(*x, *y, kw);
            }
            y[0] = _mm_sha256msg1_epu32(y[0], kw);
            y[1] = _mm_sha256msg2_epu32(y[1], kw);
            y[2] = _mm_sha256msg1_epu32(y[2], kw);
            y[3] = _mm_sha256msg2_epu32(y[3], kw);
        }
    }
    sum(x)
}

#[target_feature(enable = "sse2")]
#[inline]
fn any_words(seed: u32) -> [__m128i; 6] {
    from_fn(|i| words([seed, seed ^ i as u32, 1, 2]))
}

#[target_feature(enable = "sse2")]
#[inline]
fn sum(x: [__m128i; 6]) -> u32 {
    x.into_iter()
        .map(|x| _mm_cvtsi128_si32(x).cast_unsigned())
        .fold(0, u32::wrapping_add)
}
