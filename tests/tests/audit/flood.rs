//! Files that hold more than their window, by somebody who wants an auditor's memory: nothing is made of
//! them.

use std::sync::Arc;

use tutti_proto::audit::{AuditError, Auditor};
use tutti_proto::follower::FollowError;
use tutti_proto::params::PoolParams;
use tutti_proto::segment::{PackedShare, Segment};
use tutti_proto::terms::{RoundTerms, TermsError};
use tutti_proto::window::LedgerError;
use tutti_tests::sim::Archive;

use super::pool::{direct_terms, options, pool};

/// As many as a window's shares can name.
const MANY: usize = 65_535;

fn honest() -> Archive {
    let (world, _) = pool(options());
    Archive::of(&world).unwrap()
}

fn busy(archive: &Archive) -> usize {
    let is_busy = |segment: &Segment| segment.end.record.tally.len() >= 2;
    archive.segments.iter().position(is_busy).unwrap()
}

/// Of 256 lanes; whoever looks at these terms sees that they do not name their round.
fn wide(terms: &RoundTerms) -> RoundTerms {
    let params = PoolParams {
        lanes: 256,
        nonces_per_slot: 256,
        ..PoolParams::clone(&terms.params)
    };
    RoundTerms {
        params: Arc::new(params),
        ..direct_terms(terms)
    }
}

/// Audits one window after those before it.
fn difference(archive: &Archive, place: usize) -> AuditError {
    let mut auditor = Auditor::new(archive.params.name());
    for segment in &archive.segments[..place] {
        auditor.segment(segment).unwrap();
    }
    auditor.segment(&archive.segments[place]).unwrap_err()
}

/// A file with very many terms, each of which a share names.
fn flooded() -> (Archive, usize) {
    let mut archive = honest();
    let place = busy(&archive);
    let part = &mut archive.segments[place].parts[0];
    let (terms, share) = (wide(&part.terms[0]), part.shares[0]);
    part.terms = vec![terms; MANY];
    let named = |terms| PackedShare {
        terms: u16::try_from(terms).unwrap(),
        ..share
    };
    part.shares = (0..MANY).map(named).collect();
    (archive, place)
}

#[test]
fn what_the_coordinator_did_not_sign_is_refused_before_anything_is_made_of_it() {
    let (mut archive, place) = flooded();
    let window = archive.segments[place].end.record.seq;
    archive.segments[place].end.head.signature[3] ^= 1;
    let unsigned = FollowError::UnsignedHead(window);
    assert_eq!(difference(&archive, place), unsigned.into());

    // A head that it did sign, of another record.
    let (mut archive, place) = flooded();
    archive.segments[place].end.record.shares = MANY as u64;
    let other = FollowError::Ledger(LedgerError::NotThisHead(window));
    assert_eq!(difference(&archive, place), other.into());

    // And of this record: its terms are looked at, one after the other.
    let (archive, place) = flooded();
    match difference(&archive, place) {
        AuditError::Follow(fault) => {
            let error = TermsError::Output(1);
            assert_eq!(*fault, FollowError::Terms { window, error });
        }
        other => panic!("{other}"),
    }
}

#[test]
fn terms_that_no_share_and_no_booking_names_are_refused_before_they_are_looked_at() {
    let mut archive = honest();
    let place = busy(&archive);
    let window = archive.segments[place].end.record.seq;
    let terms = &mut archive.segments[place].parts[0].terms;
    let unnamed = wide(&terms[0]);
    let round = unnamed.round();
    terms.resize(MANY, unnamed);
    assert_eq!(
        difference(&archive, place),
        AuditError::NotNamed { window, round }
    );

    // A booking names one, and no second.
    let mut archive = honest();
    let books = |segment: &Segment| !segment.end.record.bookings.is_empty();
    let place = archive.segments.iter().position(books).unwrap();
    let segment = &mut archive.segments[place];
    let (window, round) = (segment.end.record.seq, segment.end.record.bookings[0].round);
    let is_its = |terms: &&RoundTerms| terms.round() == round;
    let booked = segment.parts[0].terms.iter().find(is_its).unwrap().clone();
    segment.parts[0].terms.extend([booked.clone(), booked]);
    assert_eq!(
        difference(&archive, place),
        AuditError::NotNamed { window, round }
    );
}
