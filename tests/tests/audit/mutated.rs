//! Lies that nobody thought of: a segment's bytes changed in a few places of its protobuf.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tutti_proto::message::SignedHead;
use tutti_proto::segment::Segment;
use tutti_tests::sim::{Mutator, identity_key};

use super::lies::honest;
use super::pool::audit;

/// Changes of each kind that decode, and that say something else.
const CHANGES: usize = 500;

/// Without what nothing commits to: the times between which a header may have been found, as long as its shares'
/// are, and which of several changes of the payee set came first.
fn committed(segment: &Segment) -> Segment {
    let mut segment = segment.clone();
    for part in &mut segment.parts {
        for terms in &mut part.terms {
            (terms.header.time_min, terms.header.time_max) = (0, 0);
        }
        part.outputs.sort_by_key(|change| format!("{change:?}"));
    }
    segment
}

/// With the coordinator's signature on the head that a changed segment has, or without.
fn every_lie_is_found(seed: u64, signs: bool) {
    let mut archive = honest();
    let dice = &mut StdRng::seed_from_u64(seed);
    let (mut mutator, mut lies) = (Mutator::default(), 0);
    while lies < CHANGES {
        let place = dice.random_range(0..archive.segments.len());
        let truth = &archive.segments[place];
        let Some(mut lie) = mutator.mutate(dice, truth) else {
            continue;
        };
        let mut same = truth.clone();
        if signs {
            let head = lie.end.head.head;
            lie.end.head = SignedHead::sign(&identity_key(0), head, &[4; 32]);
            same.end.head.signature = lie.end.head.signature;
        }
        if committed(&lie) == committed(&same) {
            continue;
        }
        lies += 1;
        let truth = std::mem::replace(&mut archive.segments[place], lie);
        let found = audit(&archive).is_err();
        let lie = std::mem::replace(&mut archive.segments[place], truth);
        assert!(found, "seed {seed}, lie {lies}: {lie:?}");
    }
}

#[test]
fn every_change_of_a_segment_is_found() {
    every_lie_is_found(1, false);
}

#[test]
fn so_it_is_where_the_coordinator_signs_the_head_again() {
    every_lie_is_found(2, true);
}
