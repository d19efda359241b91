//! Windows that the coordinator signed although they are not what an honest one makes, and some that only
//! look so.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use support::archive::{Archive, end, signed_end};
use support::bump::record;
use tutti_proto::audit::{AuditError, Auditor};
use tutti_proto::follower::FollowError;
use tutti_proto::id::WindowSeq;
use tutti_proto::segment::Segment;
use tutti_proto::window::WindowRecord;

/// Participants compare the changes of a booking by their hash: whoever checks it by the shares must
/// come to the same verdict.
#[test]
fn a_booking_that_lists_somebody_whose_carry_it_does_not_change_is_refused() {
    let archive = Archive::new();
    let [first, second, _] = &archive.segments[..] else {
        panic!("three windows")
    };
    let mut lie = second.clone();
    let mut record = lie.end.record.clone();
    let who = archive.pool.identity(3);
    let booking = &mut record.bookings[0];
    let block = booking.block;
    assert_eq!(
        booking.carry.insert(who, 0),
        None,
        "it owes nothing to them"
    );
    lie.end = end(&archive.pool, &archive.ledgers[1], record, [0; 32]);

    let mut auditor = Auditor::new(archive.pool.params.name());
    auditor.segment(first).unwrap();
    let window = WindowSeq(2);
    let expected = AuditError::NoChange { window, block, who };
    assert_eq!(auditor.segment(&lie).map(|_| ()), Err(expected));
}

/// The block was found at 1,000 windows, say, lost, and found again: an auditor who has only the later files
/// cannot tell, and one who has the state can.
#[test]
fn a_block_that_may_have_been_booked_before_is_taken_late_where_the_state_is_not_known() {
    let archive = Archive::new();
    let late = WindowSeq(1_026);
    let mut segment = archive.segments[2].clone();
    segment.parts[0].window = late;
    let booked = WindowRecord {
        seq: late,
        bookings: archive.segments[1].end.record.bookings.clone(),
        ..segment.end.record.clone()
    };
    let (round, state) = (booked.bookings[0].round, segment.end.state);
    segment.end = signed_end(&archive.pool, booked.clone(), state);
    let name = archive.pool.params.name();
    let report = Auditor::new(name).segment(&segment).unwrap();
    assert!(!report.state && !report.bookings[0].checked);

    // After the first window none but empty ones: the ledger has never had the block.
    let mut auditor = Auditor::new(name);
    auditor.segment(&archive.segments[0]).unwrap();
    let mut ledger = archive.ledgers[1].clone();
    while ledger.seq().next() < late {
        let record = record(&ledger, Vec::new(), Vec::new());
        let end = end(&archive.pool, &ledger, record.clone(), [0; 32]);
        let empty = Segment::new(name, &[], Vec::new(), &[], end).unwrap();
        auditor.segment(&empty).unwrap();
        ledger.append(&record).unwrap();
    }
    let booked = WindowRecord {
        previous: ledger.head().hash,
        ..booked
    };
    segment.end = end(&archive.pool, &ledger, booked, [0; 32]);
    let expected = FollowError::OldRound {
        window: late,
        round,
    };
    assert_eq!(auditor.segment(&segment).map(|_| ()), Err(expected.into()));
}
