//! One lie each of shares and of records, and the difference that it makes.

use std::sync::Arc;

use tutti_proto::audit::AuditError;
use tutti_proto::follower::FollowError;
use tutti_proto::id::{Identity, WindowSeq};
use tutti_proto::reject::RejectCode;
use tutti_proto::segment::{Segment, WindowPart};
use tutti_proto::terms::{Refusal, TermsError};
use tutti_proto::window::LedgerError;
use tutti_proto::work::Work;
use tutti_tests::sim::{Archive, identity_key};

use super::pool::{audit, options, pool, shares_of, sign_again};

pub fn honest() -> Archive {
    let (world, _) = pool(options());
    Archive::of(&world).unwrap()
}

pub fn difference(archive: &Archive) -> AuditError {
    match audit(archive) {
        Err(difference) => difference,
        Ok((totals, _)) => panic!("the lie was not found: {totals:?}"),
    }
}

/// The place of the first segment that has shares of at least two owners, and the part.
pub fn busy(archive: &mut Archive) -> (usize, &mut WindowPart) {
    let is_busy = |segment: &Segment| segment.end.record.tally.len() >= 2;
    let place = archive.segments.iter().position(is_busy).unwrap();
    (place, &mut archive.segments[place].parts[0])
}

pub fn booked(archive: &Archive) -> usize {
    let books = |segment: &Segment| !segment.end.record.bookings.is_empty();
    archive.segments.iter().position(books).unwrap()
}

pub fn window(place: usize) -> WindowSeq {
    WindowSeq(place as u64 + 1)
}

pub fn owner_of(archive: &Archive, place: usize, share: usize) -> Identity {
    let segment = &archive.segments[place];
    let packed = shares_of(segment)[share];
    let terms = segment.parts[0].terms[usize::from(packed.terms)].clone();
    terms.check(&archive.params.name()).unwrap().owners()[packed.owner as usize]
}

#[test]
fn a_share_that_is_given_to_another() {
    let mut archive = honest();
    let (place, part) = busy(&mut archive);
    let other = part
        .shares
        .iter()
        .map(|share| share.owner)
        .find(|owner| *owner != part.shares[0].owner);
    part.shares[0].owner = other.unwrap();
    let version = part.shares[0].rolled.version;
    let lane = part.shares[0].rolled.lane;
    let owner = owner_of(&archive, place, 0);
    let refusal = Refusal {
        code: RejectCode::NotYourSlice,
        got: u64::from(version as u32),
        want: u64::from(lane.0),
    };
    let expected = FollowError::Share {
        window: window(place),
        share: 0,
        owner,
        refusal,
    };
    assert_eq!(difference(&archive), AuditError::from(expected));
}

#[test]
fn a_share_without_its_work() {
    let mut archive = honest();
    let (place, _) = busy(&mut archive);
    let owner = owner_of(&archive, place, 1);
    let segment = &mut archive.segments[place];
    let part = &mut segment.parts[0];
    let terms = part.terms[usize::from(part.shares[1].terms)].clone();
    let terms = terms.check(&segment.pool).unwrap();
    let refusal = loop {
        part.shares[1].rolled.nonce ^= 0x8000_0000;
        part.shares[1].rolled.nonce += 1;
        if let Err(refusal) = terms.judge(&owner, &part.shares[1].rolled) {
            break refusal;
        }
    };
    assert_eq!((refusal.code, refusal.want), (RejectCode::LowDifficulty, 3));
    let expected = FollowError::Share {
        window: window(place),
        share: 1,
        owner,
        refusal,
    };
    assert_eq!(difference(&archive), AuditError::from(expected));
}

#[test]
fn a_share_that_is_told_twice() {
    let mut archive = honest();
    let (place, part) = busy(&mut archive);
    part.shares[5] = part.shares[2];
    let expected = FollowError::Duplicate {
        window: window(place),
        share: 5,
    };
    assert_eq!(difference(&archive), AuditError::from(expected));
}

#[test]
fn a_share_that_is_told_again_in_a_later_window() {
    let mut archive = honest();
    let (place, _) = busy(&mut archive);
    let (share, terms) = {
        let part = &archive.segments[place].parts[0];
        (
            part.shares[0],
            part.terms[usize::from(part.shares[0].terms)].clone(),
        )
    };
    let later = &mut archive.segments[place + 1].parts[0];
    let mut share = share;
    share.terms = later.terms.len() as u16;
    later.terms.push(terms);
    let at = later.shares.len() as u64;
    later.shares.push(share);
    let expected = FollowError::Duplicate {
        window: window(place + 1),
        share: at,
    };
    assert_eq!(difference(&archive), AuditError::from(expected));
}

#[test]
fn a_share_that_is_left_out() {
    let mut archive = honest();
    let (place, part) = busy(&mut archive);
    part.shares.pop();
    let seen = part.shares.len() as u64;
    let expected = FollowError::Count {
        window: window(place),
        told: seen + 1,
        seen,
    };
    assert_eq!(difference(&archive), AuditError::from(expected));
}

#[test]
fn work_that_is_moved_in_the_record() {
    let mut archive = honest();
    let (place, _) = busy(&mut archive);
    let tally = &mut archive.segments[place].end.record.tally;
    let (who, work) = tally
        .iter()
        .next()
        .map(|(who, work)| (*who, *work))
        .unwrap();
    let told = Work(work.0 + 8);
    tally.insert(who, told);
    sign_again(&mut archive, place);
    let expected = FollowError::Work {
        window: window(place),
        who,
        told,
        work,
    };
    assert_eq!(difference(&archive), AuditError::from(expected));
}

#[test]
fn a_root_of_other_shares() {
    let mut archive = honest();
    let (place, _) = busy(&mut archive);
    archive.segments[place].end.record.shares_root[0] ^= 1;
    sign_again(&mut archive, place);
    assert_eq!(
        difference(&archive),
        AuditError::from(FollowError::Root(window(place)))
    );
}

#[test]
fn a_head_that_the_coordinator_did_not_sign() {
    let mut archive = honest();
    archive.segments[2].end.head.signature[9] ^= 1;
    let expected = FollowError::UnsignedHead(WindowSeq(3));
    assert_eq!(difference(&archive), AuditError::from(expected));
}

#[test]
fn a_head_of_another_state() {
    let mut archive = honest();
    let other = archive.segments[3].end.head.head;
    archive.segments[2].end.head = tutti_proto::message::SignedHead::sign(
        &identity_key(0),
        tutti_proto::window::LedgerHead {
            seq: WindowSeq(3),
            ..other
        },
        &[5; 32],
    );
    let expected = FollowError::Ledger(LedgerError::NotThisHead(WindowSeq(3)));
    assert_eq!(difference(&archive), AuditError::from(expected));
}

#[test]
fn a_window_of_another_chain() {
    let mut archive = honest();
    let (other, _) = pool(tutti_tests::sim::WorldOptions {
        seed: 77,
        ..options()
    });
    let other = Archive::of(&other).unwrap();
    archive.segments[4] = other.segments[4].clone();
    match difference(&archive) {
        AuditError::Follow(error) => {
            let forked = FollowError::Ledger(LedgerError::Forked(WindowSeq(5)));
            assert_eq!(*error, forked);
        }
        other => panic!("{other}"),
    }
}

#[test]
fn a_z_that_was_changed_after_the_fact() {
    let mut archive = honest();
    let (place, part) = busy(&mut archive);
    let terms = &mut part.terms[0];
    let mut slices: Vec<_> = terms.assignments.iter().collect();
    let owner = slices[0].owner;
    for slice in slices.iter_mut().filter(|slice| slice.owner == owner) {
        slice.z += 1;
    }
    let changed = tutti_proto::lane::Assignments::parse(slices, archive.params.lanes).unwrap();
    archive.segments[place].parts[0].terms[0].assignments = Arc::new(changed);
    let expected = FollowError::Terms {
        window: window(place),
        error: TermsError::Assignments,
    };
    assert_eq!(difference(&archive), AuditError::from(expected));
}
