//! Booking a found block with other carries than it leaves, or again, and taking back what was not booked.

use tutti_proto::coordinator::Record;
use tutti_proto::id::Identity;
use tutti_proto::participant::{Event, StateError};
use tutti_proto::window::{Booking, LedgerError, WindowRecord};
use tutti_tests::sim::{World, WorldOptions, identity_key};

use super::amounts::lie_in_windows;
use crate::pool::{MINERS, Mark, goes_on, pool_of};

/// A pool whose open window books a found block.
fn pool_with_a_found_block() -> World {
    pool_that_found_a_block(WorldOptions::default())
}

pub(super) fn pool_that_found_a_block(options: WorldOptions) -> World {
    let options = WorldOptions {
        block_zero_bits: 8,
        ..options
    };
    let mut world = pool_of(options, MINERS);
    world.find_block(0).unwrap();
    assert_eq!(world.blocks.len(), 1);
    world
}

/// Forges the window that books the block: everyone leaves over it.
fn everyone_leaves_over(
    forge: impl Fn(&mut WindowRecord) + 'static,
    lie: impl Fn(&Booking) -> Event,
) {
    let mut world = pool_with_a_found_block();
    let mark = Mark::of(&world);
    let window = world.coordinator.ledger().seq().next();
    lie_in_windows(&mut world, forge);
    world.new_tip();
    world.settle();
    let booking = world.records.iter().rev().find_map(|record| match record {
        Record::WindowClosed(closed) if closed.record.seq == window => {
            closed.record.bookings.first().cloned()
        }
        _ => None,
    });
    let lie = lie(&booking.unwrap());
    for miner in 0..MINERS {
        mark.names(&world, miner, &lie);
        assert_eq!(world.miners[miner].orders, []);
    }
    assert_eq!(mark.signed(&world), []);
    goes_on(&mut world);
}

fn owes_the_operator(booking: &mut Booking, operator: Identity) {
    booking.carry.insert(operator, 1_000_000_000);
}

#[test]
fn books_a_carry_for_itself() {
    let operator = identity_key(0).identity();
    everyone_leaves_over(
        move |record| {
            let bookings = record.bookings.iter_mut();
            bookings.for_each(|booking| owes_the_operator(booking, operator));
        },
        |booking| Event::WrongBooking {
            round: booking.round,
        },
    );
}

#[test]
fn books_a_block_with_other_payees_than_its_payouts_have() {
    everyone_leaves_over(
        |record| {
            let bookings = record.bookings.iter_mut();
            bookings.for_each(|booking| booking.payouts[0] ^= 1);
        },
        |booking| Event::WrongBooking {
            round: booking.round,
        },
    );
}

#[test]
fn books_a_block_twice() {
    everyone_leaves_over(
        |record| {
            let again = record.bookings.clone();
            record.bookings.extend(again);
        },
        |booking| Event::WrongBooking {
            round: booking.round,
        },
    );
}

#[test]
fn books_a_second_block_of_one_round() {
    everyone_leaves_over(
        |record| {
            let mut second = record.bookings.clone();
            second.iter_mut().for_each(|booking| booking.block[31] ^= 1);
            record.bookings.extend(second);
        },
        |booking| Event::WrongBooking {
            round: booking.round,
        },
    );
}

#[test]
fn books_a_block_again_in_a_later_window() {
    let mut world = pool_with_a_found_block();
    goes_on(&mut world);
    let bookings = world.records.iter().find_map(|record| match record {
        Record::WindowClosed(closed) => {
            Some(closed.record.bookings.clone()).filter(|bookings| !bookings.is_empty())
        }
        _ => None,
    });
    let bookings = bookings.unwrap();
    let (mark, round) = (Mark::of(&world), bookings[0].round);
    lie_in_windows(&mut world, move |record| {
        record.bookings.clone_from(&bookings)
    });
    world.new_tip();
    world.settle();
    for miner in 0..MINERS {
        mark.names(&world, miner, &Event::WrongBooking { round });
        assert_eq!(world.miners[miner].orders, []);
    }
    assert_eq!(mark.signed(&world), []);
    goes_on(&mut world);
}

/// A pool in which a found block was booked, and everyone told of it.
pub fn pool_with_a_booked_block() -> (World, Booking) {
    let mut world = pool_with_a_found_block();
    goes_on(&mut world);
    let booking = world.records.iter().find_map(|record| match record {
        Record::WindowClosed(closed) => closed.record.bookings.first().cloned(),
        _ => None,
    });
    (world, booking.unwrap())
}

#[test]
fn takes_back_another_amount_than_was_booked() {
    let operator = identity_key(0).identity();
    type Forge = fn(&mut Booking, Identity);
    let lies: [Forge; 3] = [
        |undo, operator| {
            *undo.carry.entry(operator).or_default() += 1_000_000;
        },
        |undo, _| {
            undo.lane.0 ^= 1;
        },
        |undo, operator| {
            undo.carry.insert(operator, i64::MIN);
        },
    ];
    for lie in lies {
        let (mut world, booking) = pool_with_a_booked_block();
        let mark = Mark::of(&world);
        let mut undo = booking.undo().unwrap();
        lie(&mut undo, operator);
        lie_in_windows(&mut world, move |record| {
            record.bookings = vec![undo.clone()];
        });
        world.new_tip();
        world.settle();
        for miner in 0..MINERS {
            let left = |event: &Event| {
                matches!(
                    event,
                    Event::BadState(StateError::Ledger(
                        LedgerError::OtherBooking(_) | LedgerError::Overflow
                    ))
                )
            };
            let news = mark.news(&world, miner);
            assert!(news.iter().any(left), "{news:?}");
            assert_eq!(world.miners[miner].orders, []);
        }
        assert_eq!(mark.signed(&world), []);
        goes_on(&mut world);
    }
}

#[test]
fn takes_back_a_block_that_was_not_booked() {
    let (mut world, booking) = pool_with_a_booked_block();
    let mark = Mark::of(&world);
    let mut undo = booking.undo().unwrap();
    undo.block[31] ^= 1;
    lie_in_windows(&mut world, move |record| {
        record.bookings = vec![undo.clone()];
    });
    let window = world.coordinator.ledger().seq().next();
    world.new_tip();
    world.settle();
    let error = StateError::Ledger(LedgerError::NotBooked(window));
    for miner in 0..MINERS {
        mark.names(&world, miner, &Event::BadState(error));
    }
    assert_eq!(mark.signed(&world), []);
    goes_on(&mut world);
}
