//! Shares that are blocks: they go to the node also where they count for nothing else.

use bitcoin::Block;
use bitcoin::consensus::deserialize;
use tutti_proto::coordinator::{Event, Record, Settings};
use tutti_proto::deadline::Millis;
use tutti_proto::id::{LaneIndex, WindowSeq};
use tutti_proto::message::{Share, ToCoordinator};
use tutti_proto::reject::RejectCode;
use tutti_tests::sim::{World, WorldOptions};

use crate::pool::{
    BLOCK, SECOND, Z, close_window, good, hash_from, pool, pool_with, refresh, refused,
};

/// A share of more zero bits than a block needs would hide blocks: whoever finds one would not send it.
#[test]
fn no_miner_however_fast_is_asked_for_more_than_a_block_has() {
    let ample = Settings {
        share_interval: Millis(1_000 << 24),
        z_max: 96,
        ..WorldOptions::default().settings
    };
    for (z_min, z) in [(3, BLOCK), (BLOCK + 1, BLOCK + 1)] {
        let world = pool_with(Settings { z_min, ..ample });
        let orders = world.miners.iter().flat_map(|miner| &miner.orders);
        assert!(orders.clone().count() > 0);
        assert!(orders.map(|order| order.z).all(|of| of == z));
    }
}

#[test]
fn a_block_on_any_round_of_the_height_goes_to_the_node_however_many_were_hashed_since() {
    let mut world = pool();
    let first = world.miners[0].orders[0];
    for _ in 0..4 {
        refresh(&mut world);
    }
    // Of such a round only blocks count, so its z does not matter, but its rules do.
    let block = hash_from(&first, 0, |zeros| zeros >= BLOCK);
    let elsewhere = Share {
        lane: LaneIndex(2),
        ..block
    };
    let version = elsewhere.version as u64;
    refused(
        &mut world,
        0,
        elsewhere,
        (RejectCode::NotYourSlice, version, 0),
    );
    let weak = hash_from(&first, 0, |zeros| zeros < Z);
    refused(&mut world, 0, weak, (RejectCode::Stale, 4, 1));
    assert_eq!(world.blocks.len(), 0);

    let peer = world.miners[0].peer.unwrap();
    world.say(peer, ToCoordinator::Share(block));
    assert_eq!(world.blocks.len(), 1);
    let accepted = world.events.iter().filter_map(|event| match event {
        Event::BlockAccepted(found) => Some((found.round, found.lane, found.finder)),
        _ => None,
    });
    let first_round = world.records.iter().find_map(|record| match record {
        Record::Committed(round) => Some(round.round),
        _ => None,
    });
    let expected = (
        first_round.unwrap(),
        first.slice.lane,
        world.miners[0].identity(),
    );
    assert_eq!(accepted.collect::<Vec<_>>(), [expected]);
    // It pays by its own lane's payout, which all hold since the first round.
    let coinbase = deserialize::<Block>(&world.blocks[0])
        .unwrap()
        .txdata
        .remove(0);
    for miner in &world.miners {
        let held = miner
            .held
            .iter()
            .find(|held| held.round == expected.0)
            .unwrap();
        let lane = &held.lanes[usize::from(first.slice.lane.0)];
        assert_eq!(lane.coinbase, coinbase);
        let spent = lane.payouts[0].input[0].previous_output.txid;
        assert_eq!(spent, coinbase.compute_txid());
    }
}

/// A competitor for the tip: the node says that it is not the best, and nothing is booked.
#[test]
fn a_block_of_the_height_before_is_submitted_and_booked_only_if_the_node_takes_it() {
    let mut world = pool();
    world.settle();
    let last = world.miners[0].orders[0];
    close_window(&mut world);
    world.run_until(SECOND, "a round on the tip", World::all_hash_last_round);
    world.settle();
    let block = hash_from(&last, 0, |zeros| zeros >= BLOCK);
    let peer = world.miners[0].peer.unwrap();
    world.say(peer, ToCoordinator::Share(block));
    assert_eq!(world.blocks.len(), 1);
    let refused =
        |event: &&Event| matches!(event, Event::BlockRefused { why, .. } if why == "inconclusive");
    assert_eq!(world.events.iter().filter(refused).count(), 1);
    let from = world.told.len();
    world.say(peer, ToCoordinator::Share(block));
    assert_eq!(world.share_rejects(from)[0].code, RejectCode::Duplicate);
    assert_eq!(
        world.blocks.len(),
        1,
        "one submission, whatever its verdict"
    );
    close_window(&mut world);
    let booked = world.records.iter().any(
        |record| matches!(record, Record::WindowClosed(closed) if !closed.record.bookings.is_empty()),
    );
    assert!(!booked);
}

#[test]
fn a_block_on_a_stale_lane_goes_to_the_node_once_and_is_booked_once() {
    let mut world = pool();
    let order = world.miners[0].orders[0];
    for _ in 0..2 {
        refresh(&mut world);
    }
    let block = hash_from(&order, 0, |zeros| zeros >= BLOCK);
    let peer = world.miners[0].peer.unwrap();
    let from = world.told.len();
    for _ in 0..3 {
        world.say(peer, ToCoordinator::Share(block));
    }
    let codes: Vec<_> = world.share_rejects(from).iter().map(|r| r.code).collect();
    assert_eq!(
        codes,
        [
            RejectCode::Stale,
            RejectCode::Duplicate,
            RejectCode::Duplicate
        ]
    );
    assert_eq!(world.blocks.len(), 1, "one block, one submission");
    close_window(&mut world);
    let booked = world.records.iter().filter_map(|record| match record {
        Record::WindowClosed(closed) => Some(closed.record.bookings.len()),
        _ => None,
    });
    assert_eq!(booked.sum::<usize>(), 1);
    world.run_until(
        SECOND,
        "a round after the block",
        World::all_hash_last_round,
    );
}

/// Whoever holds a round for hours cannot make the others dispute its block's booking: it is taken
/// while all remember the round, and no longer.
#[test]
fn a_block_on_a_round_too_old_to_be_booked_is_not_taken() {
    let mut world = World::new(WorldOptions {
        miners: 1,
        lanes: 1,
        ..WorldOptions::default()
    });
    world.connect(0);
    world.new_tip();
    world.run_until(SECOND, "the first round", World::all_hash_last_round);
    let order = world.miners[0].orders[0];
    let window = world.coordinator.ledger().seq().0;
    let early = hash_from(&order, 0, |zeros| zeros >= BLOCK);
    let late = hash_from(&order, early.nonce + 1, |zeros| zeros >= BLOCK);
    let peer = world.miners[0].peer.unwrap();
    for (until, block) in [(window + 990, early), (window + 1_030, late)] {
        while world.coordinator.ledger().seq().0 < until {
            world.told.clear();
            assert!(world.step());
        }
        world.settle();
        world.say(peer, ToCoordinator::Share(block));
        // The first is booked by the next window, and nobody disputes it.
        assert_eq!(world.blocks.len(), 1);
        assert_eq!(world.miners[0].peer, Some(peer));
    }
    let booked = world.records.iter().filter_map(|record| match record {
        Record::WindowClosed(closed) => Some(closed.record.bookings.len()),
        _ => None,
    });
    assert_eq!(booked.sum::<usize>(), 1);
}

/// What was accepted on it before is unknown, so no share of it counts any more.
#[test]
fn a_block_on_a_round_whose_shares_are_distrusted_goes_to_the_node() {
    let mut world = pool();
    let order = world.miners[0].orders[0];
    let mut restored = world.restored().unwrap();
    let stale = restored.distrust(WindowSeq(u64::MAX));
    assert!(!stale.is_empty());
    world.records.extend(stale);
    world.restart_coordinator(restored);
    for miner in 0..3 {
        world.connect(miner);
    }
    world.settle();
    refused(&mut world, 0, good(&order, 0), (RejectCode::Stale, 2, 1));
    let block = hash_from(&order, 0, |zeros| zeros >= BLOCK);
    let peer = world.miners[0].peer.unwrap();
    world.say(peer, ToCoordinator::Share(block));
    assert_eq!(world.blocks.len(), 1);
}
