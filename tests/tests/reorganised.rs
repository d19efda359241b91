//! Found blocks that leave the best chain, and come back: what was booked is taken back to the sat.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::BTreeMap;

use tutti_proto::coordinator::{Event, Fate, Input, Record};
use tutti_proto::deadline::Millis;
use tutti_proto::id::{Identity, RoundSeq};
use tutti_proto::participant;
use tutti_tests::sim::{World, WorldOptions, empty_windows};

const SECOND: Millis = Millis(1_000);
/// Zero bits of a block.
const BLOCK: u8 = 8;

/// A pool of which one miner's part is below its dust limit, so that blocks leave carries; and the hash
/// of a block that it found.
fn pool_with_a_block() -> (World, [u8; 32]) {
    pool_with_a_block_after(0)
}

/// And with so many windows before its first.
fn pool_with_a_block_after(windows: u64) -> (World, [u8; 32]) {
    let mut world = World::new(WorldOptions {
        block_zero_bits: BLOCK,
        // So that all the work ever done counts.
        pplns_depth: 1_000,
        // After nineteen halvings a block pays 9,536 sat and fees.
        height: 150 * 19 + 10,
        ..WorldOptions::default()
    });
    world.restore(empty_windows(windows).unwrap());
    for miner in 0..4 {
        world.connect(miner);
    }
    world.new_tip();
    world.run_until(SECOND, "the first round", World::all_hash_last_round);
    for _ in 0..60 {
        world.share(0);
        world.settle();
    }
    for miner in 1..4 {
        world.share(miner);
        world.settle();
    }
    world.next_round();
    let hash = world.find_block(0).unwrap().hash;
    (world, hash)
}

fn carries(world: &World) -> BTreeMap<Identity, i64> {
    world.coordinator.ledger().carries().clone()
}

/// Bookings and unbookings of a block, in the order of their windows.
fn bookings(world: &World, hash: &[u8; 32]) -> Vec<bool> {
    let records = world.records.iter().filter_map(|record| match record {
        Record::WindowClosed(window) => Some(&window.record.bookings),
        _ => None,
    });
    let of = records.flatten().filter(|booking| booking.block == *hash);
    of.map(|booking| !booking.undone).collect()
}

fn becomes(world: &mut World, hash: [u8; 32], fate: Fate) {
    world.tell_coordinator(Input::BlockFate { hash, fate });
}

/// Nobody had a reason to leave.
fn nobody_left(world: &World) {
    assert!(world.miners.iter().all(|miner| miner.peer.is_some()));
    for miner in &world.miners {
        let joined =
            |event: &&participant::Event| matches!(event, participant::Event::Joined { .. });
        assert_eq!(miner.events.iter().filter(joined).count(), 1);
    }
}

#[test]
fn a_block_is_booked_unbooked_and_booked_again() {
    let (mut world, hash) = pool_with_a_block();
    let before = carries(&world);
    world.next_round();
    let booked = carries(&world);
    assert_ne!(booked, before, "the block leaves something owed");
    for turn in 1..=3 {
        becomes(&mut world, hash, Fate::Lost);
        // Said twice: nothing more comes of it.
        becomes(&mut world, hash, Fate::Lost);
        world.next_round();
        assert_eq!(carries(&world), before);
        becomes(&mut world, hash, Fate::Back);
        world.next_round();
        assert_eq!(carries(&world), booked);
        assert_eq!(bookings(&world, &hash).len(), 1 + 2 * turn);
    }
    assert!(
        bookings(&world, &hash)
            .windows(2)
            .all(|two| two[0] != two[1])
    );
    nobody_left(&world);
}

#[test]
fn a_block_that_is_lost_and_back_within_a_window_is_no_news_for_the_ledger() {
    let (mut world, hash) = pool_with_a_block();
    becomes(&mut world, hash, Fate::Lost);
    becomes(&mut world, hash, Fate::Back);
    world.next_round();
    becomes(&mut world, hash, Fate::Lost);
    becomes(&mut world, hash, Fate::Back);
    world.next_round();
    assert_eq!(bookings(&world, &hash), [true]);
    nobody_left(&world);
}

#[test]
fn a_restart_forgets_no_fate() {
    for restart_after in 0..3 {
        let (mut world, hash) = pool_with_a_block();
        let before = carries(&world);
        world.next_round();
        let booked = carries(&world);
        let restart = |world: &mut World| {
            world.kill_coordinator();
            for miner in 0..4 {
                world.connect(miner);
            }
            world.settle();
        };
        becomes(&mut world, hash, Fate::Lost);
        if restart_after == 0 {
            restart(&mut world);
        }
        world.next_round();
        assert_eq!(carries(&world), before);
        if restart_after == 1 {
            restart(&mut world);
        }
        becomes(&mut world, hash, Fate::Back);
        if restart_after == 2 {
            restart(&mut world);
        }
        world.next_round();
        assert_eq!(carries(&world), booked);
        assert_eq!(bookings(&world, &hash), [true, false, true]);
    }
}

/// Participants would dispute the booking: the operator is told that what it paid stays owed.
#[test]
fn a_block_that_comes_into_the_chain_too_late_is_not_booked_and_that_is_said() {
    for (age, by_verdict) in [(1_002, true), (1_002, false), (900, true), (900, false)] {
        let (mut world, hash) = pool_with_a_block_after(1_100);
        let before = carries(&world);
        if !by_verdict {
            becomes(&mut world, hash, Fate::Lost);
        }
        // As if its round had been proposed so much earlier.
        let next = world.coordinator.ledger().seq().0 + 1;
        world
            .records
            .retain(|r| !(by_verdict && matches!(r, Record::Verdict { .. })));
        for record in &mut world.records {
            if let Record::Candidate(found) = record {
                found.seq = RoundSeq(next - age);
            }
        }
        world.kill_coordinator();
        if !by_verdict {
            becomes(&mut world, hash, Fate::Back);
        }
        let is_its = |event: &&Event| matches!(event, Event::BlockNotBooked(f) if f.hash == hash);
        let told = world.events.iter().filter(is_its).count();
        let late = age > 1_000;
        assert_eq!(told, usize::from(late), "{age}");
        for miner in 0..4 {
            world.connect(miner);
        }
        world.settle();
        world.next_round();
        assert_eq!(bookings(&world, &hash).len(), usize::from(!late), "{age}");
        assert_eq!(carries(&world) == before, late, "{age}");
    }
}

#[test]
fn a_settled_block_is_followed_no_more() {
    let (mut world, hash) = pool_with_a_block();
    world.next_round();
    becomes(&mut world, hash, Fate::Settled);
    becomes(&mut world, hash, Fate::Lost);
    world.next_round();
    assert_eq!(bookings(&world, &hash), [true]);
    let fates = world.events.iter().filter_map(|event| match event {
        Event::BlockFate { fate, .. } => Some(*fate),
        _ => None,
    });
    assert_eq!(fates.collect::<Vec<_>>(), [Fate::Settled]);
}

#[test]
fn a_block_settled_before_its_booking_is_forgotten_once_that_is_made() {
    let settled = |world: &World| {
        let fates = world.events.iter().filter_map(|event| match event {
            Event::BlockFate { fate, .. } => Some(*fate),
            _ => None,
        });
        fates.collect::<Vec<_>>()
    };
    let recorded = |world: &World| {
        let is_settled = |record: &&Record| {
            matches!(
                record,
                Record::BlockFate {
                    fate: Fate::Settled,
                    ..
                }
            )
        };
        world.records.iter().filter(is_settled).count()
    };
    let (mut world, hash) = pool_with_a_block();
    // Its window is still open: a hundred blocks came within it.
    becomes(&mut world, hash, Fate::Settled);
    assert_eq!((settled(&world), recorded(&world)), (vec![], 0));
    world.next_round();
    assert_eq!(bookings(&world, &hash), [true]);
    assert_eq!(
        (settled(&world), recorded(&world)),
        (vec![Fate::Settled], 1)
    );
    let booked = carries(&world);
    becomes(&mut world, hash, Fate::Lost);
    world.next_round();
    assert_eq!(bookings(&world, &hash), [true]);
    assert_eq!(carries(&world), booked);
    // And no restart takes it up again.
    world.kill_coordinator();
    for miner in 0..4 {
        world.connect(miner);
    }
    world.settle();
    becomes(&mut world, hash, Fate::Lost);
    world.next_round();
    assert_eq!(bookings(&world, &hash), [true]);
    assert_eq!(carries(&world), booked);
    assert_eq!(recorded(&world), 1);
}

#[test]
fn another_block_of_the_same_round_takes_a_lost_ones_place() {
    let (mut world, first) = pool_with_a_block();
    let candidate = world.last_found();
    world.next_round();
    let booked = carries(&world);
    // The node took a rival of the same round, on another lane say, and drops ours.
    let rival = tutti_proto::coordinator::Found {
        hash: [0x77; 32],
        ..candidate.unwrap()
    };
    for record in [
        Record::Candidate(rival.clone()),
        Record::Verdict {
            hash: rival.hash,
            accepted: true,
        },
    ] {
        world.records.push(record);
    }
    let restored = world.restored().unwrap();
    world.restart_coordinator(restored);
    for miner in 0..4 {
        world.connect(miner);
    }
    world.settle();
    world.next_round();
    assert_eq!(bookings(&world, &rival.hash), [], "ours still counts");
    becomes(&mut world, first, Fate::Lost);
    world.next_round();
    assert_eq!(bookings(&world, &first), [true, false]);
    assert_eq!(bookings(&world, &rival.hash), [true]);
    assert_eq!(carries(&world), booked);
}
