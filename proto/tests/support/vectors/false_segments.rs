//! Segments that are none, or false, made of true ones.

use bitcoin::{Amount, Network};
use tutti_proto::id::{RoundId, WindowSeq};
use tutti_proto::segment::{OutputChange, PackedShare, Segment, WindowPart};
use tutti_proto::terms::RoundTerms;
use tutti_proto::window::WindowRecord;
use tutti_proto::wire::ToWire;

use super::super::archive::{Archive, end, signed_end};
use super::segments::Changed;
use super::{false_rounds, false_terms, undecodable};

/// How a true file of the window at this place is falsified; nobody signs it anew.
type Lie = fn(&mut Segment);
/// How its record is falsified; the coordinator signs it.
type SignedLie = fn(&mut WindowRecord);

pub fn terms(segment: &mut Segment) -> &mut RoundTerms {
    &mut segment.parts[0].terms[0]
}

fn share(segment: &mut Segment) -> &mut PackedShare {
    &mut segment.parts[0].shares[0]
}

/// Of which window, from 0.
const UNSIGNED: &[(&str, usize, Lie)] = &[
    ("of another network", 1, |s| {
        s.pool.network = Network::Signet
    }),
    ("a signature of the head that is none", 1, |s| {
        s.end.head.signature[0] ^= 1
    }),
    ("a state that is not the head's", 1, |s| s.end.state[0] ^= 1),
    ("a record that is not the head's", 1, |s| {
        s.end.record.height += 1
    }),
    ("terms that nothing names", 1, |s| {
        let again = terms(s).clone();
        s.parts[0].terms.push(again);
    }),
    ("its part is of another window", 1, |s| {
        s.parts[0].window = WindowSeq(3)
    }),
    ("its first share is the second", 1, |s| {
        s.parts[0].first_share = 1
    }),
    ("a share of terms that are not there", 1, |s| {
        share(s).terms = 1
    }),
    ("a share of an owner who is not there", 1, |s| {
        share(s).owner = 4
    }),
    (
        "a share with a bit of the version that may not be rolled",
        1,
        |s| {
            share(s).rolled.version ^= 1;
        },
    ),
    ("a share of another's slice", 1, |s| {
        let other = s.parts[0].shares[1].owner;
        share(s).owner = other;
    }),
    ("a share a second too late", 1, |s| {
        share(s).rolled.time = s.parts[0].terms[0].header.time_max + 1;
    }),
    ("a share with too few zeros", 1, |s| {
        share(s).rolled.nonce += 1
    }),
    ("a share twice", 1, |s| s.parts[0].shares[2] = *share(s)),
    ("a share left out", 1, |s| {
        s.parts[0].shares.remove(2);
    }),
    ("two shares in another order", 1, |s| {
        s.parts[0].shares.swap(0, 2)
    }),
    (
        "terms with other assignments than the transcript's",
        1,
        |s| {
            terms(s).assignments = Default::default();
        },
    ),
    ("terms with outputs worth a sat less", 1, |s| {
        terms(s).outputs[0].1 -= Amount::ONE_SAT;
    }),
    ("terms with an output to others than the signers", 1, |s| {
        terms(s).outputs[0].0 = bitcoin::ScriptBuf::new();
    }),
    ("terms with other bits than the transcript's", 1, |s| {
        terms(s).header.bits -= 1
    }),
    ("terms with times that are no range", 1, |s| {
        terms(s).header.time_max = terms(s).header.time_min - 1;
    }),
    ("a booking's header that hashes to another block", 1, |s| {
        s.end.record.bookings[0].header[79] ^= 1;
    }),
    ("the terms of a booking's round left out", 2, |s| {
        s.parts[0].terms.clear()
    }),
    ("its shares in two parts", 1, |s| {
        let shares = s.parts[0].shares.split_off(2);
        s.parts.push(WindowPart {
            window: WindowSeq(2),
            first_share: 2,
            shares,
            ..WindowPart::default()
        });
    }),
    ("a part with nothing", 2, |s| {
        let window = WindowSeq(3);
        s.parts.push(WindowPart {
            window,
            ..WindowPart::default()
        });
    }),
    ("an output added twice", 0, |s| {
        let again = s.parts[0].outputs[0].clone();
        s.parts[0].outputs.push(again);
    }),
    ("an output of one who has work expires", 2, |s| {
        let serial_id = tutti_proto::id::SerialId(11);
        let expired = tutti_proto::message::OutputExpired { serial_id };
        s.parts[0].outputs.push(OutputChange::Expired(expired));
    }),
    ("an output removed without its owner's signature", 1, |s| {
        if let OutputChange::Removed(removal) = &mut s.parts[0].outputs[2] {
            removal.signature[0] ^= 1;
        }
    }),
];

const SIGNED: &[(&str, usize, SignedLie)] = &[
    ("signed: its previous head is another", 1, |r| {
        r.previous[0] ^= 1
    }),
    ("signed: another share counted", 1, |r| r.shares += 1),
    ("signed: an expected hash more", 1, |r| {
        r.tally.values_mut().next().unwrap().0 += 1;
    }),
    ("signed: another shares root", 1, |r| r.shares_root[0] ^= 1),
    (
        "signed: a booking of a block that is its header's no more",
        1,
        |r| {
            r.bookings[0].block[0] ^= 1;
        },
    ),
    ("signed: a booking of the other lane", 1, |r| {
        r.bookings[0].lane.0 ^= 1
    }),
    ("signed: a booking of a lane that there is not", 1, |r| {
        r.bookings[0].lane.0 = 2
    }),
    ("signed: a booking of a round without terms", 1, |r| {
        r.bookings[0].round = RoundId([9; 32]);
    }),
    ("signed: a booking with a sat more", 1, |r| {
        *r.bookings[0].carry.values_mut().next().unwrap() += 1;
    }),
    ("signed: a booking with other payouts", 1, |r| {
        r.bookings[0].payouts[0] ^= 1
    }),
    ("signed: the block is lost before it was found", 1, |r| {
        r.bookings[0] = r.bookings[0].undo().unwrap();
    }),
    ("signed: the block is found twice", 2, |r| {
        r.bookings[0] = r.bookings[0].undo().unwrap();
        r.bookings[0].undone = false;
    }),
    ("signed: another change lost than was found", 2, |r| {
        *r.bookings[0].carry.values_mut().next().unwrap() -= 1;
    }),
];

pub fn changed(what: &'static str, after: usize, file: usize, segment: &Segment) -> Changed {
    let bytes = segment.encode();
    Changed {
        what,
        after,
        file,
        bytes,
    }
}

/// The file of the window at this place with a false end that the coordinator signed.
pub fn signed_again(archive: &Archive, file: usize, lie: impl Fn(&mut WindowRecord)) -> Segment {
    let mut segment = archive.segments[file].clone();
    let mut record = segment.end.record.clone();
    lie(&mut record);
    let (before, state) = (&archive.ledgers[file], segment.end.state);
    segment.end = end(&archive.pool, before, record, state);
    segment
}

/// The second window, or the third with the block found in it, as if it were this one.
fn moved(archive: &Archive, file: usize, seq: u64) -> Segment {
    let mut segment = archive.segments[file].clone();
    segment.parts[0].window = WindowSeq(seq);
    let mut record = segment.end.record.clone();
    record.seq = WindowSeq(seq);
    if file == 2 {
        record.bookings = archive.segments[1].end.record.bookings.clone();
    }
    segment.end = signed_end(&archive.pool, record, segment.end.state);
    segment
}

/// What is right although it is not the archive's: without the windows before, these are any.
pub fn taken(archive: &Archive) -> Vec<Changed> {
    let what = [
        "shares in the 1,001st window after their round's, nothing known of those between",
        "a block found in the 1,024th window after its round's, nothing known of those between",
        "a block found in the 1,025th: it may have been found in one of those, and lost",
    ];
    let mut right = vec![
        changed(what[0], 0, 1, &moved(archive, 1, 1_002)),
        changed(what[1], 0, 2, &moved(archive, 2, 1_025)),
        changed(what[2], 0, 2, &moved(archive, 2, 1_026)),
    ];
    right.extend(false_terms::right(archive));
    right
}

pub fn refused(archive: &Archive) -> Vec<Changed> {
    let second = &archive.segments[1];
    let mut lies = Vec::new();
    for (what, bytes) in undecodable::all(second) {
        let (after, file) = (1, 1);
        lies.push(Changed {
            what,
            after,
            file,
            bytes,
        });
    }
    let mut cut = changed("the last byte is missing", 1, 1, second);
    cut.bytes.pop();
    lies.push(cut);
    for (what, file, lie) in UNSIGNED {
        let mut segment = archive.segments[*file].clone();
        lie(&mut segment);
        lies.push(changed(what, *file, *file, &segment));
    }
    let mut other = second.clone();
    other.pool.coordinator = archive.pool.identity(1);
    lies.push(changed("of another coordinator", 1, 1, &other));
    lies.push(changed(
        "window 3 after window 1",
        1,
        2,
        &archive.segments[2],
    ));
    for (what, file, lie) in SIGNED {
        let segment = signed_again(archive, *file, lie);
        lies.push(changed(what, *file, *file, &segment));
    }
    let mut state = second.clone();
    let record = state.end.record.clone();
    state.end = signed_end(&archive.pool, record, [7; 32]);
    lies.push(changed(
        "signed: another state than the record's",
        1,
        1,
        &state,
    ));
    lies.extend(false_rounds::all(archive));
    lies.extend(false_terms::all(archive));
    let what = "shares in the 1,002nd window after their round's";
    lies.push(changed(what, 0, 1, &moved(archive, 1, 1_003)));
    lies
}
