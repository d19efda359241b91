//! One lie each of what is owed and paid, and the difference that it makes.

use bitcoin::Amount;
use tutti_proto::audit::{AuditError, Auditor};
use tutti_proto::follower::FollowError;
use tutti_proto::id::{RoundId, WindowSeq};
use tutti_proto::segment::Segment;
use tutti_proto::terms::TermsError;
use tutti_proto::window::LedgerError;
use tutti_tests::sim::{Archive, identity_key};

use super::lies::{booked, busy, difference, honest, window};
use super::pool::{direct_pool, hash_again, run, sharded_pool, sign_again};

#[test]
fn a_carry_that_is_changed_in_the_file_and_one_that_the_coordinator_signed() {
    let mut archive = honest();
    let place = booked(&archive);
    let booking = &mut archive.segments[place].end.record.bookings[0];
    let block = booking.block;
    let (who, follows) = booking
        .carry
        .iter()
        .next()
        .map(|(who, sat)| (*who, *sat))
        .unwrap();
    booking.carry.insert(who, follows + 1);
    let forged = FollowError::Ledger(LedgerError::NotThisHead(window(place)));
    assert_eq!(difference(&archive), AuditError::from(forged));
    // Its undoing is the exact negative of what was booked.
    for segment in &mut archive.segments[place + 1..] {
        for booking in &mut segment.end.record.bookings {
            let sign = if booking.undone { -1 } else { 1 };
            booking.carry.insert(who, sign * (follows + 1));
        }
    }
    sign_again(&mut archive, place);
    let claimed = follows + 1;
    let expected = AuditError::Carry {
        window: window(place),
        block,
        who,
        claimed,
        follows,
    };
    assert_eq!(difference(&archive), expected);
}

#[test]
fn a_carry_for_somebody_whom_the_block_owes_nothing() {
    let mut archive = honest();
    let place = booked(&archive);
    let friend = identity_key(999).identity();
    for segment in &mut archive.segments[place..] {
        for booking in &mut segment.end.record.bookings {
            let sign = if booking.undone { -1 } else { 1 };
            booking.carry.insert(friend, sign * 5_000);
        }
    }
    let block = archive.segments[place].end.record.bookings[0].block;
    sign_again(&mut archive, place);
    let expected = AuditError::Carry {
        window: window(place),
        block,
        who: friend,
        claimed: 5_000,
        follows: 0,
    };
    assert_eq!(difference(&archive), expected);
}

#[test]
fn payouts_of_a_booked_block_that_do_not_follow() {
    let mut archive = honest();
    let place = booked(&archive);
    let (claimed, mut follows) = ([7; 32], [0; 32]);
    for segment in &mut archive.segments[place..] {
        for booking in &mut segment.end.record.bookings {
            follows = std::mem::replace(&mut booking.payouts, claimed);
        }
    }
    let block = archive.segments[place].end.record.bookings[0].block;
    sign_again(&mut archive, place);
    let expected = AuditError::Payees {
        window: window(place),
        block,
        claimed,
        follows,
    };
    assert_eq!(difference(&archive), expected);
}

#[test]
fn a_block_that_is_booked_of_another_round() {
    let mut archive = honest();
    let place = booked(&archive);
    let booking = &archive.segments[place].end.record.bookings[0];
    let (block, follows) = (booking.block, booking.round);
    let before = archive.segments[place].end.record.seq;
    let other = archive
        .terms
        .iter()
        .find(|terms| terms.round() != follows && terms.terms().inputs.ledger.seq < before)
        .unwrap();
    let (claimed, terms) = (other.round(), other.terms().clone());
    let segment = &mut archive.segments[place];
    segment.end.record.bookings[0].round = claimed;
    let told = |terms: &tutti_proto::terms::RoundTerms| terms.round();
    let kept = &mut segment.parts[0].terms;
    if !kept.iter().any(|terms| told(terms) == claimed) {
        kept.push(terms);
    }
    let named: Vec<u16> = segment.parts[0]
        .shares
        .iter()
        .map(|share| share.terms)
        .collect();
    let mut number = 0u16;
    segment.parts[0].terms.retain(|terms| {
        let keep = named.contains(&number) || terms.round() == claimed;
        number += 1;
        keep
    });
    let last = archive.segments.len();
    archive.segments.truncate(last.min(place + 1));
    sign_again(&mut archive, place);
    let expected = AuditError::BookedElsewhere {
        window: window(place),
        block,
        claimed,
        follows,
    };
    assert_eq!(difference(&archive), expected);
}

#[test]
fn a_booking_without_the_terms_that_explain_it() {
    let mut archive = honest();
    let place = booked(&archive);
    archive.segments[place].end.record.bookings[0].round = RoundId([9; 32]);
    archive.segments.truncate(place + 1);
    sign_again(&mut archive, place);
    let round = RoundId([9; 32]);
    assert_eq!(
        difference(&archive),
        AuditError::NoTerms {
            window: window(place),
            round
        }
    );
}

/// A coordinator that hashes false coinbases: their outputs are worth the reward, and not what follows.
fn false_coinbases(
    archive: &mut Archive,
    direct: bool,
    change: impl Fn(&mut [(bitcoin::ScriptBuf, Amount)]),
) -> (usize, RoundId) {
    let has = |segment: &Segment| {
        let mut terms = segment.parts[0].terms.iter();
        terms.any(|terms| terms.inputs.is_direct() == direct && terms.outputs.len() >= 2)
    };
    let place = archive.segments.iter().position(has).unwrap();
    let segment = &mut archive.segments[place];
    let terms = segment.parts[0].terms.iter_mut();
    let mut terms = terms.filter(|terms| terms.inputs.is_direct() == direct);
    let terms = terms.next().unwrap();
    change(&mut terms.outputs);
    let round = terms.round();
    hash_again(segment);
    segment.end.record.bookings.clear();
    archive.segments.truncate(place + 1);
    (place, round)
}

#[test]
fn a_sat_that_is_moved_between_two_payees() {
    let (world, _) = direct_pool();
    let mut archive = Archive::of(&world).unwrap();
    let (place, round) = false_coinbases(&mut archive, true, |outputs| {
        outputs[0].1 += Amount::from_sat(1);
        outputs[1].1 -= Amount::from_sat(1);
    });
    sign_again(&mut archive, place);
    match difference(&archive) {
        AuditError::Output {
            window: at,
            round: of,
            output: 0,
            claimed,
            follows,
        } => {
            assert_eq!((at, of), (window(place), round));
            let (claimed, follows) = (claimed.unwrap(), follows.unwrap());
            assert_eq!(claimed.0, follows.0);
            assert_eq!(claimed.1.to_sat(), follows.1.to_sat() + 1);
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_payee_whose_script_is_replaced() {
    let (world, _) = direct_pool();
    let mut archive = Archive::of(&world).unwrap();
    let thief = tutti_tests::sim::script(999).as_script().to_owned();
    let (place, round) = false_coinbases(&mut archive, true, |outputs| {
        outputs[1].0 = thief.clone();
    });
    sign_again(&mut archive, place);
    match difference(&archive) {
        AuditError::Output {
            window: at,
            round: of,
            output: 1,
            claimed,
            follows,
        } => {
            assert_eq!((at, of), (window(place), round));
            let (claimed, follows) = (claimed.unwrap(), follows.unwrap());
            assert_eq!(claimed.0, thief);
            assert_ne!(follows.0, thief);
            assert_eq!(claimed.1, follows.1);
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_coinbase_that_pays_a_script_that_is_not_the_signers() {
    let mut archive = honest();
    let thief = tutti_tests::sim::script(999).as_script().to_owned();
    let (place, part) = busy(&mut archive);
    part.terms[0].outputs[0].0 = thief;
    let expected = FollowError::Terms {
        window: window(place),
        error: TermsError::Output(0),
    };
    assert_eq!(difference(&archive), AuditError::from(expected));
}

#[test]
fn a_coinbase_that_is_worth_more_than_the_round_says() {
    let mut archive = honest();
    let (place, part) = busy(&mut archive);
    let reward = part.terms[0].inputs.reward;
    part.terms[0].outputs[0].1 += Amount::from_sat(1);
    let error = TermsError::Reward {
        sum: reward + 1,
        reward,
    };
    let expected = FollowError::Terms {
        window: window(place),
        error,
    };
    assert_eq!(difference(&archive), AuditError::from(expected));
}

#[test]
fn a_sat_that_is_moved_between_two_shards() {
    let (world, _) = sharded_pool();
    let mut archive = Archive::of(&world).unwrap();
    let (place, round) = false_coinbases(&mut archive, false, |outputs| {
        outputs[0].1 -= Amount::from_sat(1);
        outputs[1].1 += Amount::from_sat(1);
    });
    sign_again(&mut archive, place);
    let mut auditor = Auditor::new(archive.params.name());
    auditor
        .know(archive.checkpoint(WindowSeq(1)).unwrap())
        .unwrap();
    match run(auditor, &archive.segments[1..]) {
        Err(AuditError::Output {
            window: at,
            round: of,
            output: 0,
            claimed,
            follows,
        }) => {
            assert_eq!((at, of), (window(place), round));
            assert_eq!(claimed.unwrap().1.to_sat() + 1, follows.unwrap().1.to_sat());
        }
        other => panic!("{other:?}"),
    }
}
