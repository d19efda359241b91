//! The double hash on one vector of nonces, whatever the vector is.
//!
//! A macro and not a generic function, since the vectors' operations may only be called from functions
//! that have the CPU's feature enabled, and a trait's methods cannot say that. Where it is expanded
//! there are a type `V` and the functions `splat`, `add`, `big0`, `big1`, `small0`, `small1`, `ch` and
//! `maj` on it.
//!
//! Left out is what the last word of the outcome does not need: the outer hash's rounds 61 to 63, `a`
//! from round 57 on, and whatever [`Work`](super::work::Work) holds.

/// The letter of round `i`, 0 for `a` to 7 for `h`. The letters move by one place a round, so that the
/// words need not.
macro_rules! at {
    ($s:ident $letter:literal $i:literal) => {
        $s[($letter + 64 - $i) % 8]
    };
}

/// One round, where `t` is `h + K + W`.
macro_rules! round {
    (whole $s:ident $i:literal $t:expr) => {
        let (a, b, c) = (at!($s 0 $i), at!($s 1 $i), at!($s 2 $i));
        let t = round!(e $s $i $t);
        at!($s 7 $i) = add(t, add(big0(a), maj(a, b, c)));
    };
    // Without the new `a`.
    (e $s:ident $i:literal $t:expr) => {{
        let (e, f, g) = (at!($s 4 $i), at!($s 5 $i), at!($s 6 $i));
        let t = add(add($t, big1(e)), ch(e, f, g));
        at!($s 3 $i) = add(at!($s 3 $i), t);
        t
    }};
}

/// Rounds whose words are the same for all nonces.
macro_rules! fixed_rounds {
    ($s:ident $($i:literal $w:expr),+) => {
        $(
            round!(whole $s $i add(at!($s 7 $i), splat(K[$i].wrapping_add($w))));
        )+
    };
}

/// Rounds with words of `w`, given or already there.
macro_rules! rounds {
    ($s:ident $w:ident $($i:literal $word:expr),+) => {
        $(
            $w[$i % 16] = $word;
            rounds!(whole $s $w $i);
        )+
    };
    ($kind:ident $s:ident $w:ident $($i:literal)+) => {
        $(
            round!($kind $s $i add(at!($s 7 $i), add($w[$i % 16], splat(K[$i]))));
        )+
    };
}

/// The schedule's next word.
macro_rules! word {
    ($w:ident $i:literal) => {
        add(
            add(small1($w[($i + 14) % 16]), $w[($i + 9) % 16]),
            add(small0($w[($i + 1) % 16]), $w[$i % 16]),
        )
    };
}

/// Rounds with words made of the 16 before.
macro_rules! scheduled_rounds {
    ($kind:ident $s:ident $w:ident $($i:literal)+) => {
        $(
            $w[$i % 16] = word!($w $i);
            rounds!($kind $s $w $i);
        )+
    };
}

/// The digest of the inner hash, by words; `nonce` is the word of the header.
macro_rules! inner_hash {
    ($work:expr, $nonce:expr) => {{
        let (work, nonce): (&Work, V) = ($work, $nonce);
        let [a, b, c, _, e, f, g, _] = work.after_2.map(|word| splat(word));
        let (new_a, new_e) = (add(nonce, splat(work.a3)), add(nonce, splat(work.e3)));
        // As round 4 wants them.
        let mut s = [new_e, e, f, g, new_a, a, b, c];
        round!(whole s 4 splat(work.hkw[0]));
        round!(whole s 5 splat(work.hkw[1]));
        round!(whole s 6 splat(work.hkw[2]));
        fixed_rounds!(s 7 0, 8 0, 9 0, 10 0, 11 0, 12 0, 13 0, 14 0, 15 HEADER_BITS);
        fixed_rounds!(s 16 work.w16, 17 work.w17);
        let mut w = [splat(0); 16];
        rounds!(s w
            18 add(small0(nonce), splat(work.c18)),
            19 add(nonce, splat(work.c19)),
            20 add(small1(w[2]), splat(PADDING)),
            21 small1(w[3]),
            22 add(small1(w[4]), splat(HEADER_BITS)),
            23 add(small1(w[5]), splat(work.w16)),
            24 add(small1(w[6]), splat(work.w17)),
            25 add(small1(w[7]), w[2]),
            26 add(small1(w[8]), w[3]),
            27 add(small1(w[9]), w[4]),
            28 add(small1(w[10]), w[5]),
            29 add(small1(w[11]), w[6]),
            30 add(add(small1(w[12]), w[7]), splat(sha256::small0(HEADER_BITS))),
            31 add(add(small1(w[13]), w[8]), splat(work.c31)),
            32 add(add(small1(w[14]), w[9]), splat(work.c32)),
            33 add(add(small1(w[15]), w[10]), add(small0(w[2]), splat(work.w17)))
        );
        scheduled_rounds!(whole s w
            34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63);
        let [a, b, c, d, e, f, g, h] = s;
        let [ma, mb, mc, md, me, mf, mg, mh] = work.midstate.map(|word| splat(word));
        [
            add(a, ma),
            add(b, mb),
            add(c, mc),
            add(d, md),
            add(e, me),
            add(f, mf),
            add(g, mg),
            add(h, mh),
        ]
    }};
}

/// The last word of the double hash: the first 32 bits of the block hash as it is displayed, with its
/// bytes the other way round.
macro_rules! last_word {
    ($work:expr, $nonce:expr) => {{
        const H: [u32; 8] = INITIAL_STATE;
        const LESS_W0: [u32; 8] = sha256::round(H, K[0], 0);
        let digest = inner_hash!($work, $nonce);
        let [b, c, d, f, g, h] = [H[0], H[1], H[2], H[4], H[5], H[6]].map(|word| splat(word));
        let (a, e) = (add(digest[0], splat(LESS_W0[0])), add(digest[0], splat(LESS_W0[4])));
        // As round 1 wants them; the `h` of the rounds 1 to 3 is part of their constants.
        let mut s = [b, c, d, e, f, g, h, a];
        round!(whole s 1 add(digest[1], splat(K[1].wrapping_add(H[6]))));
        round!(whole s 2 add(digest[2], splat(K[2].wrapping_add(H[5]))));
        round!(whole s 3 add(digest[3], splat(K[3].wrapping_add(H[4]))));
        let zero = splat(0);
        let [d0, d1, d2, d3, d4, d5, d6, d7] = digest;
        let mut w = [d0, d1, d2, d3, d4, d5, d6, d7, zero, zero, zero, zero, zero, zero, zero, zero];
        rounds!(whole s w 4 5 6 7);
        fixed_rounds!(s 8 PADDING, 9 0, 10 0, 11 0, 12 0, 13 0, 14 0, 15 DIGEST_BITS);
        rounds!(s w
            16 add(small0(w[1]), w[0]),
            17 add(add(small0(w[2]), w[1]), splat(sha256::small1(DIGEST_BITS))),
            18 add(add(small1(w[0]), small0(w[3])), w[2]),
            19 add(add(small1(w[1]), small0(w[4])), w[3]),
            20 add(add(small1(w[2]), small0(w[5])), w[4]),
            21 add(add(small1(w[3]), small0(w[6])), w[5]),
            22 add(add(small1(w[4]), small0(w[7])), add(w[6], splat(DIGEST_BITS))),
            23 add(add(small1(w[5]), w[0]), add(w[7], splat(sha256::small0(PADDING)))),
            24 add(add(small1(w[6]), w[1]), splat(PADDING)),
            25 add(small1(w[7]), w[2]),
            26 add(small1(w[8]), w[3]),
            27 add(small1(w[9]), w[4]),
            28 add(small1(w[10]), w[5]),
            29 add(small1(w[11]), w[6]),
            30 add(add(small1(w[12]), w[7]), splat(sha256::small0(DIGEST_BITS))),
            31 add(add(small1(w[13]), w[8]), add(small0(w[0]), splat(DIGEST_BITS)))
        );
        scheduled_rounds!(whole s w
            32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56);
        scheduled_rounds!(e s w 57 58 59);
        let last = add(word!(w 60), splat(K[60].wrapping_add(H[7])));
        round!(e s 60 add(at!(s 7 60), last));
        // Three rounds later this `e` would be `h`.
        at!(s 3 60)
    }};
}

/// Twelve additions that wait for each other as little as possible: how fast the CPU does its simplest
/// instruction.
macro_rules! adds {
    ($x:ident) => {
        adds!($x 0 1 2 3 4 5 6 7 8 9 10 11);
    };
    ($x:ident $($i:literal)+) => {
        $( $x[$i] = add($x[$i], $x[($i + 1) % 12]); )+
    };
}

/// Twelve times three rotations, combined so that the compiler leaves them as they are.
macro_rules! turns {
    ($x:ident) => {
        turns!($x 0 1 2 3 4 5 6 7 8 9 10 11);
    };
    ($x:ident $($i:literal)+) => {
        $( $x[$i] = big0($x[$i]); )+
    };
}

pub(super) use {
    adds, at, fixed_rounds, inner_hash, last_word, round, rounds, scheduled_rounds, turns, word,
};
