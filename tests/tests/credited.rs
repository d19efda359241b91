//! Bumps that are credited: once, whatever restarts between, and paid to the sat by the next round.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use tutti_proto::coordinator::{Event, Fate, Input, Record};
use tutti_proto::deadline::Millis;
use tutti_proto::id::Identity;
use tutti_proto::participant;
use tutti_proto::window::{Credit, CreditError};
use tutti_tests::sim::{World, WorldOptions};

const SECOND: Millis = Millis(1_000);
/// Zero bits of a block.
const BLOCK: u8 = 8;
/// 1,234 sat, and the anchor's, which cost nobody anything.
const FEE: u64 = 1_234 + tutti_proto::payout::ANCHOR_SAT;

/// A pool in which the first miner found a block that is not booked yet, and its bump of that payout.
fn pool_with_a_bump() -> (World, Credit) {
    let mut world = World::new(WorldOptions {
        block_zero_bits: BLOCK,
        ..WorldOptions::default()
    });
    for miner in 0..4 {
        world.connect(miner);
    }
    world.new_tip();
    world.run_until(SECOND, "the first round", World::all_hash_last_round);
    for miner in 0..4 {
        world.share(miner);
        world.settle();
    }
    let (found, who) = (world.find_block(0).unwrap(), world.miners[0].identity());
    let credit = world.bump(&found, &who, FEE, 3).unwrap();
    (world, credit)
}

fn give(world: &mut World, credit: &Credit) {
    world.tell_coordinator(Input::Credit(Box::new(credit.clone())));
}

/// The credits of all windows, in their order.
fn credited(world: &World) -> Vec<Credit> {
    let windows = world.records.iter().filter_map(|record| match record {
        Record::WindowClosed(window) => Some(&window.record.credits),
        _ => None,
    });
    windows.flatten().cloned().collect()
}

/// What each miner is paid by the round that it hashes, as it holds it.
fn paid(world: &World, who: &Identity) -> u64 {
    let held = world.miners[1].held.iter().max_by_key(|held| held.seq);
    let payees = held.unwrap().payees.iter();
    payees.filter(|p| p.identity == *who).map(|p| p.sat).sum()
}

fn refused(world: &World) -> Vec<CreditError> {
    let refused = world.events.iter().filter_map(|event| match event {
        Event::CreditRefused { error, .. } => Some(*error),
        _ => None,
    });
    refused.collect()
}

#[test]
fn a_bump_is_credited_by_the_next_window_and_paid_by_the_next_round() {
    let (mut world, credit) = pool_with_a_bump();
    let who = credit.identity;
    world.next_round();
    world.next_round();
    let before = paid(&world, &who);
    give(&mut world, &credit);
    // Once its block is booked, and not a second time.
    give(&mut world, &credit);
    assert_eq!(world.coordinator.ledger().carry(&who), 0);
    world.next_round();
    assert_eq!(credited(&world), std::slice::from_ref(&credit));
    assert_eq!(world.coordinator.ledger().carry(&who), 1_234);
    let all: u64 = 1_234;
    let more = paid(&world, &who) - before;
    // The others' parts pay for it, and its own does with them.
    assert!(more < all && more >= all / 2, "{more} sat more");
    let told = participant::Event::Credited {
        payout: credit.payout(),
        block: credit.block,
        sat: 1_234,
    };
    for (miner, times) in [(0, 1), (1, 0), (2, 0), (3, 0)] {
        let events = world.miners[miner].events.iter();
        assert_eq!(events.filter(|event| **event == told).count(), times);
    }
    give(&mut world, &credit);
    world.next_round();
    assert_eq!(credited(&world).len(), 1);
    let done = (credit.block, credit.shard);
    assert_eq!(world.credits_done, [done, done, done]);
    assert_eq!(refused(&world), []);
    assert_eq!(world.invariants.violations, Vec::<String>::new());
}

#[test]
fn a_credit_waits_for_the_booking_of_its_block() {
    let (mut world, credit) = pool_with_a_bump();
    give(&mut world, &credit);
    world.next_round();
    let windows = world.records.iter().filter_map(|record| match record {
        Record::WindowClosed(window) => Some(&window.record),
        _ => None,
    });
    let mut windows = windows.skip_while(|record| record.bookings.is_empty());
    assert_eq!(windows.next().unwrap().credits, [], "it books the block");
    assert_eq!(windows.next().unwrap().credits, [credit]);
    assert_eq!(refused(&world), []);
}

#[test]
fn a_credit_that_was_given_is_booked_whenever_the_coordinator_dies() {
    for deaths in 0..8u8 {
        let (mut world, credit) = pool_with_a_bump();
        world.next_round();
        let dies = |world: &mut World, n: u8| {
            if deaths & (1 << n) != 0 {
                world.kill_coordinator();
                for miner in 0..4 {
                    world.connect(miner);
                }
                world.settle();
            }
        };
        give(&mut world, &credit);
        dies(&mut world, 0);
        // Whoever did not hear that it is on disk gives it again.
        give(&mut world, &credit);
        dies(&mut world, 1);
        world.next_round();
        dies(&mut world, 2);
        give(&mut world, &credit);
        world.next_round();
        assert_eq!(credited(&world), [credit], "{deaths:#b}");
        assert_eq!(refused(&world), []);
        assert_eq!(world.invariants.violations, Vec::<String>::new());
    }
}

#[test]
fn what_is_not_credited_is_refused_with_its_reason_and_forgotten() {
    let (mut world, credit) = pool_with_a_bump();
    world.next_round();
    let mut lie = credit.clone();
    lie.sat += 1;
    give(&mut world, &lie);
    let mut stranger = credit.clone();
    stranger.block[0] ^= 1;
    give(&mut world, &stranger);
    let (claimed, follows) = (1_235, 1_234);
    let wrong = CreditError::OtherAmount { claimed, follows };
    assert_eq!(refused(&world), [wrong, CreditError::NotBooked]);
    assert_eq!(world.credits_done.len(), 2);
    let kept = |record: &&Record| matches!(record, Record::Credit(_));
    assert_eq!(world.records.iter().filter(kept).count(), 0);
    world.next_round();
    assert_eq!(credited(&world), []);
}

#[test]
fn a_window_that_takes_a_block_back_credits_nothing_of_it() {
    let (mut world, credit) = pool_with_a_bump();
    world.next_round();
    give(&mut world, &credit);
    let hash = credit.block;
    world.tell_coordinator(Input::BlockFate {
        hash,
        fate: Fate::Lost,
    });
    world.next_round();
    assert_eq!(credited(&world), []);
    assert_eq!(refused(&world), [CreditError::NotBooked]);
    assert_eq!(world.coordinator.ledger().carry(&credit.identity), 0);
}
