//! Windows that the coordinator signed although they are not what an honest one makes.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use support::archive::{Archive, end};
use tutti_proto::audit::{AuditError, Auditor};
use tutti_proto::id::WindowSeq;

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
