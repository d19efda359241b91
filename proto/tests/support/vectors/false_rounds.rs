//! Segments of rounds that nobody can have proposed honestly: their terms belong together, and their shares
//! are work for them.

use bitcoin::Amount;
use tutti_proto::id::{Attempt, WindowSeq};
use tutti_proto::musig::AggregateKey;
use tutti_proto::payout;
use tutti_proto::segment::Segment;
use tutti_proto::share::ShareTree;
use tutti_proto::terms::RoundTerms;

use super::super::archive::{Archive, end, mine};
use super::false_segments::{changed, terms};
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
fn pay_signers(terms: &mut RoundTerms) {
    let keys = terms.inputs.signers.iter().map(|signer| signer.key);
    let leaf = payout::leaf_hash(&terms.round().0);
    let key = AggregateKey::new(keys.collect(), &leaf).unwrap();
    for (script, _) in &mut terms.outputs {
        *script = payout::output_script(&key.output_key());
    }
}

/// The second window, its block booked as that of another attempt of the round, of which nothing was hashed.
fn elsewhere(archive: &Archive) -> Segment {
    let mut segment = archive.segments[1].clone();
    let mut other = terms(&mut segment).clone();
    other.inputs.attempt = Attempt(1);
    pay_signers(&mut other);
    let mut record = segment.end.record.clone();
    record.bookings[0].round = other.round();
    segment.parts[0].terms.push(other);
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
    lies.push(changed(what, 1, 1, &elsewhere(archive)));
    lies
}
