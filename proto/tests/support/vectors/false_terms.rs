//! Segments with terms of other rounds and other windows than they may have; headers that prove no block.

use std::sync::Arc;

use bitcoin::{Amount, ScriptBuf};
use tutti_proto::id::WindowSeq;
use tutti_proto::message::SignedHead;
use tutti_proto::params::NTIME_ROLL_LIMIT;
use tutti_proto::segment::{PackedShare, Segment};
use tutti_proto::terms::RoundTerms;
use tutti_proto::window::{Booking, LedgerHead};
use tutti_proto::work::{header_hash, leading_zero_bits};

use super::super::archive::Archive;
use super::false_rounds::pay_signers;
use super::false_segments::{changed, signed_again, terms};
use super::segments::Changed;

/// Of the second window and the fourth, which has a direct round: how terms are falsified.
type Lie = fn(&mut RoundTerms);

const SIGNED: &[(&str, Lie)] = &[
    (
        "terms with 34 outputs, one more than any round may have",
        |t| {
            let (script, sat) = t.outputs[0].clone();
            let rest = sat - Amount::from_sat(33_000);
            t.outputs = vec![(script.clone(), Amount::from_sat(1_000)); 33];
            t.outputs.push((script, rest));
        },
    ),
    ("terms without outputs", |t| t.outputs.clear()),
    ("terms with times 7,201 s apart", |t| {
        t.header.time_max = t.header.time_min + NTIME_ROLL_LIMIT + 1;
    }),
    ("terms with a slice on a lane that the pool has not", |t| {
        Arc::make_mut(&mut t.params).lanes = 1;
        pay_signers(t);
    }),
    ("terms of a pool on another network", |t| {
        let params = Arc::make_mut(&mut t.params);
        (params.network, params.block_zero_bits) = (bitcoin::Network::Signet, None);
        pay_signers(t);
    }),
];

const DIRECT: &[(&str, Lie)] = &[
    ("a direct round whose coinbase does not name it", |t| {
        t.outputs.pop();
    }),
    ("a direct round whose coinbase names another", |t| {
        let (name, _) = t.outputs.last_mut().unwrap();
        let mut bytes = name.to_bytes();
        bytes[2] ^= 1;
        *name = ScriptBuf::from_bytes(bytes);
    }),
    ("a direct round whose name is worth a sat", |t| {
        t.outputs.last_mut().unwrap().1 = Amount::ONE_SAT;
        t.outputs[0].1 -= Amount::ONE_SAT;
    }),
    ("a direct round whose coinbase names it first", |t| {
        t.outputs.rotate_right(1);
    }),
];

/// The fourth window with this in its first part.
fn fourth(archive: &Archive, falsify: impl Fn(&mut Segment)) -> Segment {
    let mut segment = archive.segments[3].clone();
    falsify(&mut segment);
    segment
}

/// The first two of the fourth window's terms in another order; shares name them as before.
fn reordered(segment: &mut Segment) {
    let part = &mut segment.parts[0];
    part.terms.swap(0, 1);
    for share in &mut part.shares {
        share.terms = 1 - share.terms;
    }
}

/// What is booked as found by another header: the first that this says is one.
pub fn found_by(booking: &mut Booking, start: [u8; 80], is: impl Fn(&[u8; 32]) -> bool) {
    let mut header = start;
    let hash = (0u32..).find_map(|nonce| {
        header[76..].copy_from_slice(&nonce.to_le_bytes());
        let hash = header_hash(&header);
        is(&hash).then_some(hash)
    });
    (booking.block, booking.header) = (hash.unwrap(), header);
}

/// Headers of the second window's booking that prove no block, and the coordinator signs for them.
fn headers(archive: &Archive) -> Vec<Changed> {
    let found = |hash: &[u8; 32]| leading_zero_bits(hash) >= 12;
    let with = |what, falsify: &dyn Fn(&mut Booking, [u8; 80])| {
        let segment = signed_again(archive, 1, |record| {
            let header = record.bookings[0].header;
            falsify(&mut record.bookings[0], header);
        });
        changed(what, 1, 1, &segment)
    };
    vec![
        with(
            "signed: a block with 11 zero bits of 12",
            &|booking, header| {
                found_by(booking, header, |hash| leading_zero_bits(hash) == 11);
            },
        ),
        with(
            "signed: a block with other bits than its round's",
            &|booking, mut header| {
                header[72] ^= 1;
                found_by(booking, header, found);
            },
        ),
        with(
            "signed: a block with another merkle root",
            &|booking, mut header| {
                header[36] ^= 1;
                found_by(booking, header, found);
            },
        ),
        with(
            "signed: a block on another than its round's",
            &|booking, mut header| {
                header[4] ^= 1;
                found_by(booking, header, found);
            },
        ),
    ]
}

/// A head that the coordinator signed for another number.
fn renumbered(archive: &Archive) -> Segment {
    let mut segment = archive.segments[1].clone();
    let head = LedgerHead {
        seq: WindowSeq(3),
        ..segment.end.head.head
    };
    segment.end.head = SignedHead::sign(&archive.pool.keys[0], head, &[0; 32]);
    segment
}

/// The third window, which has the terms of the second's round, with the second's first share.
fn counted_again(archive: &Archive) -> Segment {
    let share: PackedShare = archive.segments[1].parts[0].shares[0];
    let mut segment = archive.segments[2].clone();
    segment.parts[0].shares.push(share);
    segment
}

/// Files that are right, too.
pub fn right(archive: &Archive) -> Vec<Changed> {
    let mut second = archive.segments[1].clone();
    let header = &mut terms(&mut second).header;
    header.time_max = header.time_min + NTIME_ROLL_LIMIT;
    vec![changed("terms with times 7,200 s apart", 1, 1, &second)]
}

pub fn all(archive: &Archive) -> Vec<Changed> {
    let mut lies = Vec::new();
    for (what, lie) in SIGNED {
        let mut segment = archive.segments[1].clone();
        lie(terms(&mut segment));
        lies.push(changed(what, 1, 1, &segment));
    }
    for (what, lie) in DIRECT {
        let segment = fourth(archive, |segment| lie(terms(segment)));
        lies.push(changed(what, 3, 3, &segment));
    }
    let what = "terms in another order than shares name them";
    lies.push(changed(what, 3, 3, &fourth(archive, reordered)));
    let what =
        "the changes of the payee set in another order: a round was for the set between them";
    let swapped = fourth(archive, |segment| segment.parts[0].outputs.swap(0, 1));
    lies.push(changed(what, 3, 3, &swapped));
    let what = "a share that counts in the window before";
    lies.push(changed(what, 2, 2, &counted_again(archive)));
    let what = "signed: the head of another window";
    lies.push(changed(what, 1, 1, &renumbered(archive)));
    lies.extend(headers(archive));
    lies
}
