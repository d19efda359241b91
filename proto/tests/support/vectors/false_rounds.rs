//! Segments of rounds that nobody can have proposed honestly: their terms belong together, and their shares
//! are work for them.

use bitcoin::Amount;
use tutti_proto::id::{Attempt, WindowSeq};
use tutti_proto::musig::AggregateKey;
use tutti_proto::payout;
use tutti_proto::roster::Roster;
use tutti_proto::segment::Segment;
use tutti_proto::share::ShareTree;
use tutti_proto::terms::RoundTerms;
use tutti_proto::work::{leading_zero_bits, meets_target};

use super::super::archive::{Archive, end, mine};
use super::false_segments::{changed, terms};
use super::false_terms::found_by;
use super::segments::Changed;

/// How the terms of the second window's round are falsified; its shares are work for that.
type HashedLie = fn(&mut RoundTerms);

const HASHED: &[(&str, HashedLie)] = &[
    (
        "hashed and signed: a round whose coinbase has two outputs",
        |t| {
            let (script, sat) = t.outputs[0].clone();
            let first = Amount::from_sat(1_000);
            t.outputs = vec![(script.clone(), first), (script, sat - first)];
        },
    ),
    (
        "hashed and signed: a round whose coinbase has 33 outputs, as many as any may have",
        |t| {
            let (script, sat) = t.outputs[0].clone();
            let rest = sat - Amount::from_sat(32_000);
            t.outputs = vec![(script.clone(), Amount::from_sat(1_000)); 32];
            t.outputs.push((script, rest));
        },
    ),
    ("hashed and signed: a round on another ledger", |t| {
        t.inputs.ledger.hash[0] ^= 1
    }),
    (
        "hashed and signed: a round whose number is not its ledger's",
        |t| t.inputs.seq.0 += 1,
    ),
    ("hashed and signed: a round for another payee set", |t| {
        t.inputs.roster[0] ^= 1
    }),
    (
        "hashed and signed: a round on this window's own ledger",
        |t| {
            (t.inputs.ledger.seq, t.inputs.seq.0) = (WindowSeq(2), 2);
        },
    ),
    (
        "hashed and signed: a round for the payee set of a window before",
        |t| {
            t.inputs.roster = Roster::default().digest();
        },
    ),
    (
        "hashed and signed: a round worth a sat less than its height's subsidy",
        |t| {
            (t.inputs.reward, t.outputs[0].1) = (4_882_811, Amount::from_sat(4_882_811));
        },
    ),
    (
        "hashed and signed: a round that the coordinator does not sign",
        |t| {
            let coordinator = t.params.coordinator;
            t.inputs
                .signers
                .retain(|signer| signer.identity != coordinator);
        },
    ),
    (
        "hashed and signed: a round that nothing can be paid of",
        |t| {
            t.inputs.reward = 1;
            t.outputs[0].1 = Amount::ONE_SAT;
        },
    ),
];

/// The second window with one share of such a round.
fn hashed_again(archive: &Archive, lie: HashedLie) -> Segment {
    let mut segment = archive.segments[1].clone();
    let told = terms(&mut segment);
    lie(told);
    pay_signers(told);
    let told = told.clone().check(&segment.pool).unwrap();
    let (share, judged) = mine(&archive.pool, &told, 1, 0, 8);
    let tree = ShareTree::of([&judged.record]).unwrap();
    segment.parts[0].shares = vec![share];
    let mut record = segment.end.record.clone();
    record.bookings.clear();
    (record.shares, record.shares_root) = (tree.shares(), tree.root());
    record.tally = tree.tally();
    segment.end = end(&archive.pool, &archive.ledgers[1], record, [0; 32]);
    segment
}

/// Gives the outputs the script of the round's signers.
pub fn pay_signers(terms: &mut RoundTerms) {
    let keys = terms.inputs.signers.iter().map(|signer| signer.key);
    let leaf = payout::leaf_hash(&terms.round().0);
    let key = AggregateKey::new(keys.collect(), &leaf).unwrap();
    for (script, _) in &mut terms.outputs {
        *script = payout::output_script(&key.output_key());
    }
}

/// The second window, its block booked as that of another round, of which nothing was hashed.
fn elsewhere(archive: &Archive, lie: HashedLie) -> Segment {
    let mut segment = archive.segments[1].clone();
    let mut other = terms(&mut segment).clone();
    lie(&mut other);
    pay_signers(&mut other);
    let mut record = segment.end.record.clone();
    record.bookings[0].round = other.round();
    segment.parts[0].terms.push(other);
    segment.end = end(&archive.pool, &archive.ledgers[1], record, [0; 32]);
    segment
}

/// The second window, with a booking of a header that has the zero bits, but not the work of its round.
fn unmet(archive: &Archive) -> Segment {
    let mut segment = archive.segments[1].clone();
    let told = terms(&mut segment);
    (told.inputs.bits, told.header.bits) = (0x1f00_ffff, 0x1f00_ffff);
    pay_signers(told);
    let told = told.clone().check(&segment.pool).unwrap();
    let (share, judged) = mine(&archive.pool, &told, 1, 0, 8);
    let tree = ShareTree::of([&judged.record]).unwrap();
    segment.parts[0].shares = vec![share];
    let mut record = segment.end.record.clone();
    let booking = &mut record.bookings[0];
    (booking.round, booking.lane) = (told.round(), judged.record.lane);
    found_by(booking, judged.record.header, |hash| {
        leading_zero_bits(hash) >= 12 && !meets_target(hash, 0x1f00_ffff)
    });
    (record.shares, record.shares_root) = (tree.shares(), tree.root());
    record.tally = tree.tally();
    segment.end = end(&archive.pool, &archive.ledgers[1], record, [0; 32]);
    segment
}

pub fn all(archive: &Archive) -> Vec<Changed> {
    let mut lies = Vec::new();
    for (what, lie) in HASHED {
        let segment = hashed_again(archive, *lie);
        lies.push(changed(what, 1, 1, &segment));
    }
    let what = "signed: the block, which is a share, is booked as that of another attempt";
    lies.push(changed(
        what,
        1,
        1,
        &elsewhere(archive, |t| t.inputs.attempt = Attempt(1)),
    ));
    let what = "signed: the block is booked as that of a round on this window's own ledger";
    let own: HashedLie = |t| (t.inputs.ledger.seq, t.inputs.seq.0) = (WindowSeq(2), 2);
    lies.push(changed(what, 1, 1, &elsewhere(archive, own)));
    let what = "hashed and signed: a block that has the zero bits and not the work";
    lies.push(changed(what, 1, 1, &unmet(archive)));
    lies
}
