//! A block that the chain loses very late: its round's terms are told again with each booking, also when
//! the state that it was proposed on is hardly remembered.

use std::sync::Arc;

use tutti_proto::audit::Auditor;
use tutti_proto::deadline::Millis;
use tutti_proto::id::WindowSeq;
use tutti_proto::segment::Segment;
use tutti_proto::terms::CheckedTerms;
use tutti_proto::window::{BOOKING_WINDOWS, Booking, Ledger, Tally};
use tutti_tests::sim::{Archive, World, close_window, empty_windows};

use super::pool::options;

/// A pool that books a block after so many windows without work; its windows up to the booking.
fn pool_after(windows: u64) -> (Archive, Ledger) {
    let mut world = World::new(options());
    world.restore(empty_windows(windows).unwrap());
    for miner in 0..4 {
        world.connect(miner);
    }
    world.new_tip();
    world.run_until(Millis(1_000), "the first round", World::all_hash_last_round);
    for miner in [0, 0, 0, 0, 0, 0, 0, 1, 2, 3] {
        world.share(miner);
        world.settle();
    }
    world.next_round();
    world.find_block(0).unwrap();
    world.next_round();
    let mut archive = Archive::of(&world).unwrap();
    let books = |segment: &Segment| !segment.end.record.bookings.is_empty();
    let booked = archive.segments.iter().position(books).unwrap();
    archive.segments.truncate(booked + 1);
    let mut ledger = Ledger::default();
    for segment in &archive.segments {
        ledger.append(&segment.end.record).unwrap();
    }
    (archive, ledger)
}

/// The other way round than the last time.
fn turned(booking: &Booking) -> Booking {
    Booking {
        undone: !booking.undone,
        carry: booking
            .carry
            .iter()
            .map(|(who, sat)| (*who, -sat))
            .collect(),
        ..booking.clone()
    }
}

/// Loses the block and finds it again in turn, from one age of its round to another, and audits all.
fn lose_and_find(windows: u64, ages: std::ops::RangeInclusive<u64>) {
    let (archive, mut ledger) = pool_after(windows);
    let mut segments = archive.segments.clone();
    let mut booking = segments.last().unwrap().end.record.bookings[0].clone();
    let is_its = |terms: &&Arc<CheckedTerms>| {
        let previous = terms.terms().header.previous_block;
        terms.round() == booking.round && previous == booking.previous_block()
    };
    let terms = archive.terms.iter().find(is_its).unwrap().clone();
    let proposed = terms.terms().inputs.ledger.seq.0;
    while ledger.seq().0 < proposed + ages.end() {
        let age = ledger.seq().0 + 1 - proposed;
        let bookings = match ages.contains(&age) {
            true => {
                booking = turned(&booking);
                vec![booking.clone()]
            }
            false => Vec::new(),
        };
        let told = if bookings.is_empty() {
            &[][..]
        } else {
            &[terms.clone()][..]
        };
        let end = close_window(&mut ledger, Tally::new(), bookings).unwrap();
        let segment = Segment::new(archive.params.name(), told, Vec::new(), &[], end);
        segments.push(segment.unwrap());
    }
    let mut auditor = Auditor::new(archive.params.name());
    let mut undone = 0;
    for segment in &segments {
        let window = segment.end.record.seq;
        let report = auditor.segment(segment).unwrap_or_else(|error| {
            panic!("at the age of {} windows: {error}", window.0 - proposed)
        });
        for booking in &report.bookings {
            let age = window.0 - proposed;
            assert!(booking.checked || age > BOOKING_WINDOWS, "age {age}");
            undone += u64::from(booking.undone);
        }
    }
    assert_eq!(undone, (ages.end() - ages.start() + 2) / 2);
    assert_eq!(
        auditor.head().unwrap().seq,
        WindowSeq(proposed + ages.end())
    );
}

#[test]
fn a_block_that_is_lost_at_any_age_is_no_difference_and_is_compared_as_long_as_it_may_be_booked() {
    // Payee sets are remembered by the window's number.
    for windows in [0, 60] {
        for from in [1_000, 1_001] {
            lose_and_find(windows, from..=1_070);
        }
    }
}
