//! What makes a share count: every rule with its numbers, and what is left of an accepted share.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use bitcoin::Block;
use bitcoin::consensus::deserialize;
use bitcoin::hashes::Hash;
use tutti_proto::coordinator::{Event, Record};
use tutti_proto::deadline::Millis;
use tutti_proto::header::HeaderFields;
use tutti_proto::id::{JobId, LaneIndex, RoundId};
use tutti_proto::lane::VERSION_MASK;
use tutti_proto::message::{Share, ShareReject, ToCoordinator, ToParticipant};
use tutti_proto::participant::Order;
use tutti_proto::reject::RejectCode;
use tutti_proto::share::{ShareRecord, ShareTree};
use tutti_proto::window::Tally;
use tutti_proto::work::{Work, header_hash, leading_zero_bits};
use tutti_tests::sim::{Mood, World, WorldOptions};

const SECOND: Millis = Millis(1_000);
const Z: u8 = 3;
/// Leading zero bits of a block in the simulator.
const BLOCK: u8 = 16;

fn pool() -> World {
    let mut world = World::new(WorldOptions {
        miners: 3,
        ..WorldOptions::default()
    });
    for miner in 0..3 {
        world.connect(miner);
    }
    world.new_tip();
    world.run_until(SECOND, "the first round", World::all_hash_last_round);
    world
}

fn header(order: &Order, share: &Share) -> [u8; 80] {
    HeaderFields {
        version: share.version,
        previous_block: order.previous_block,
        merkle_root: order.merkle_root,
        time: share.time,
        bits: order.bits,
        nonce: share.nonce,
    }
    .serialize()
}

fn zeros(order: &Order, share: &Share) -> u8 {
    leading_zero_bits(&header_hash(&header(order, share)))
}

/// Hashes from `nonce` on, until the number of zero bits pleases.
fn hash_from(order: &Order, nonce: u32, pleases: impl Fn(u8) -> bool) -> Share {
    let mut share = Share {
        seq: u64::from(nonce) + 1_000_000,
        job: order.job,
        lane: order.slice.lane,
        version: order.slice.first_version(order.version),
        time: order.time_min,
        nonce,
    };
    while !pleases(zeros(order, &share)) {
        share.nonce += 1;
    }
    share
}

/// A share that is no block.
fn good(order: &Order, nonce: u32) -> Share {
    hash_from(order, nonce, |zeros| (Z..BLOCK).contains(&zeros))
}

fn shares(world: &World) -> Vec<ShareRecord> {
    let records = world.records.iter().filter_map(|record| match record {
        Record::Share { share, .. } => Some(*share),
        _ => None,
    });
    records.collect()
}

fn rejects(world: &World, from: usize) -> Vec<ShareReject> {
    let told = world.told[from..].iter();
    told.filter_map(|(_, message)| match message {
        ToParticipant::ShareReject(reject) => Some(*reject),
        _ => None,
    })
    .collect()
}

/// Submits in a miner's name; the refusal with its numbers is all that comes of it.
fn refused(world: &mut World, miner: usize, share: Share, expected: (RejectCode, u64, u64)) {
    let (records, from) = (world.records.len(), world.told.len());
    let peer = world.miners[miner].peer.unwrap();
    world.say(peer, ToCoordinator::Share(share));
    let (code, got, want) = expected;
    let reject = ShareReject {
        seq: share.seq,
        code,
        got,
        want,
    };
    assert_eq!(rejects(world, from), [reject]);
    assert_eq!(world.told[from..].len(), 1, "{code}: no second answer");
    assert_eq!(world.records.len(), records, "{code}: nothing is stored");
}

fn accepted(world: &mut World, miner: usize, share: Share) {
    let (before, from) = (shares(world).len(), world.told.len());
    let peer = world.miners[miner].peer.unwrap();
    world.say(peer, ToCoordinator::Share(share));
    assert_eq!(rejects(world, from), []);
    assert_eq!(shares(world).len(), before + 1);
}

fn round_of(world: &World) -> RoundId {
    world.coordinator.last_committed().unwrap().0
}

/// The next round of the same tip.
fn refresh(world: &mut World) {
    let last = round_of(world);
    world.run_until(Millis(40_000), "a refreshed round", |w| {
        round_of(w) != last && w.all_hash_last_round()
    });
    world.settle();
}

/// Closes the open window; gives the record's tally, after checking it against the stored shares.
fn close_window(world: &mut World) -> Tally {
    let closes = |w: &World| {
        let all = w.records.iter().enumerate();
        all.filter(|(_, record)| matches!(record, Record::WindowClosed(_)))
            .map(|(place, _)| place)
            .collect::<Vec<_>>()
    };
    let before = *closes(world).last().unwrap();
    world.new_tip();
    let after = *closes(world).last().unwrap();
    let mut tally = Tally::new();
    let mut shares = Vec::new();
    for record in &world.records[before..after] {
        if let Record::Share { share, .. } = record {
            tally.entry(share.identity).or_insert(Work::ZERO).0 += share.work().0;
            shares.push(*share);
        }
    }
    let Record::WindowClosed(closed) = &world.records[after] else {
        unreachable!("the place is of such a record")
    };
    let closed = &closed.record;
    assert_eq!(closed.tally, tally, "the tally is the accepted shares'");
    assert_eq!(closed.shares, shares.len() as u64);
    assert_eq!(closed.shares_root, ShareTree::of(&shares).unwrap().root());
    tally
}

/// The lowest version that a miner may hash on a lane; 0: it may hash none.
fn first_version(world: &World, miner: usize, lane: LaneIndex) -> u64 {
    let orders = world.miners[miner].orders.iter();
    let of_lane = orders.filter(|order| order.slice.lane == lane);
    let versions = of_lane.map(|order| order.slice.first_version(order.version) as u32);
    versions.min().map_or(0, u64::from)
}

#[test]
fn every_rule_names_what_it_got_and_what_it_wants() {
    use RejectCode::*;
    let mut world = pool();
    let order = world.miners[0].orders[0];
    let other = world.miners[1].orders[0];
    let share = good(&order, 0);
    let newest = order.job.0;
    let with = |change: &dyn Fn(&mut Share)| {
        let mut changed = share;
        change(&mut changed);
        changed
    };
    let beyond = with(&|s| s.version ^= 0x2000_0001);
    let elsewhere = other.slice.first_version(other.version);
    let weak = hash_from(&order, 0, |zeros| zeros < Z);
    let weak_zeros = u64::from(zeros(&order, &weak));
    let (min, max) = (order.time_min, order.time_max);
    let cases = [
        (
            with(&|s| s.job = JobId(newest + 1)),
            (UnknownJob, newest + 1, newest),
        ),
        (with(&|s| s.job = JobId(9_999)), (UnknownJob, 9_999, newest)),
        // A number below the newest was a job once, or would have been.
        (with(&|s| s.job = JobId(newest - 1)), (Stale, 1, 1)),
        (with(&|s| s.job = JobId(0)), (Stale, 1, 1)),
        (
            with(&|s| (s.lane, s.version) = (other.slice.lane, elsewhere)),
            (
                NotYourSlice,
                elsewhere as u64,
                first_version(&world, 0, other.slice.lane),
            ),
        ),
        // Nobody has a slice of a lane that there is not.
        (
            with(&|s| s.lane = LaneIndex(2)),
            (NotYourSlice, share.version as u64, 0),
        ),
        (
            with(&|s| s.lane = LaneIndex(u16::MAX)),
            (NotYourSlice, share.version as u64, 0),
        ),
        (
            beyond,
            (VersionOutOfRange, 0x2000_0001, u64::from(VERSION_MASK)),
        ),
        (
            with(&|s| s.time = min - 1),
            (TimeOutOfRange, u64::from(min - 1), u64::from(min)),
        ),
        (
            with(&|s| s.time = max + 1),
            (TimeOutOfRange, u64::from(max + 1), u64::from(max)),
        ),
        (weak, (LowDifficulty, weak_zeros, u64::from(Z))),
    ];
    for (share, expected) in cases {
        refused(&mut world, 0, share, expected);
    }
    accepted(&mut world, 0, share);
    let open = world.coordinator.ledger().seq().0 + 1;
    refused(&mut world, 0, share, (Duplicate, open, open));
    let renumbered = with(&|s| s.seq += 1);
    refused(&mut world, 0, renumbered, (Duplicate, open, open));
    // Another miner cannot have it either.
    let theirs = first_version(&world, 1, share.lane);
    let theirs = (NotYourSlice, share.version as u64, theirs);
    refused(&mut world, 1, share, theirs);

    // Nor can anyone leave its part of a lane: the other half of it is somebody else's.
    let mut split =
        (0..3).flat_map(|miner| world.miners[miner].orders.iter().map(move |o| (miner, *o)));
    let (miner, order) = split.find(|(_, o)| o.slice.prefix_len > 0).unwrap();
    drop(split);
    let mut beside = good(&order, 0);
    beside.version ^= 1 << 28;
    let own = order.slice.first_version(order.version) as u64;
    refused(
        &mut world,
        miner,
        beside,
        (NotYourSlice, beside.version as u64, own),
    );

    let told = world.events.iter();
    let told = told.filter(|event| matches!(event, Event::ShareRefused { .. }));
    assert_eq!(told.count(), 15);
    let first = world.miners[0].identity();
    assert_eq!(close_window(&mut world), Tally::from([(first, Work(8))]));
}

#[test]
fn both_ends_of_the_time_range_are_in_it() {
    let mut world = pool();
    let order = world.miners[0].orders[0];
    for time in [order.time_min, order.time_max] {
        let mut share = good(&order, 0);
        share.time = time;
        while !(Z..BLOCK).contains(&zeros(&order, &share)) {
            share.nonce += 1;
        }
        accepted(&mut world, 0, share);
    }
}

#[test]
fn a_share_of_the_previous_round_counts_and_of_the_one_before_no_longer() {
    let mut world = pool();
    let order = world.miners[0].orders[0];
    refresh(&mut world);
    assert_ne!(world.miners[0].orders[0].job, order.job);
    accepted(&mut world, 0, good(&order, 0));
    refresh(&mut world);
    refused(
        &mut world,
        0,
        good(&order, 10_000),
        (RejectCode::Stale, 2, 1),
    );
    refresh(&mut world);
    refused(
        &mut world,
        0,
        good(&order, 15_000),
        (RejectCode::Stale, 3, 1),
    );
}

#[test]
fn on_a_new_tip_the_last_share_counts_until_its_round_is_hashed() {
    let mut world = pool();
    world.settle();
    let last = world.miners[0].orders[0];
    assert_eq!(close_window(&mut world), Tally::new());
    // Everyone has the job that was signed ahead: the last round is one behind.
    accepted(&mut world, 0, good(&last, 0));
    world.settle();
    let next_height = world.miners[0].orders[0];
    assert!(next_height.job > last.job);
    // Then comes the full template's. The one between lasted a moment and makes nothing stale.
    accepted(&mut world, 0, good(&last, 10_000));
    world.run_until(SECOND, "the next height signed ahead", |w| {
        w.miners[0].held.len() >= 4
    });
    world.settle();
    // Two tips later its round is forgotten.
    close_window(&mut world);
    world.run_until(SECOND, "a round on the tip", World::all_hash_last_round);
    let from = world.told.len();
    let peer = world.miners[0].peer.unwrap();
    world.say(peer, ToCoordinator::Share(good(&last, 20_000)));
    let refusal = rejects(&world, from)[0];
    assert_eq!((refusal.code, refusal.want), (RejectCode::Stale, 1));
    let block = hash_from(&last, 0, |zeros| zeros >= BLOCK);
    world.say(peer, ToCoordinator::Share(block));
    assert_eq!(
        world.blocks.len(),
        0,
        "the block before the last is no news"
    );
}

#[test]
fn whoever_was_given_no_job_has_no_shares() {
    let mut world = World::new(WorldOptions {
        miners: 4,
        ..WorldOptions::default()
    });
    for miner in 0..3 {
        world.connect(miner);
    }
    world.new_tip();
    world.run_until(SECOND, "the first round", World::all_hash_last_round);
    world.settle();
    let order = world.miners[0].orders[0];
    world.connect(3);
    world.settle();
    assert!(world.miners[3].orders.is_empty());
    // It was given none.
    let none = (RejectCode::UnknownJob, order.job.0, 0);
    refused(&mut world, 3, good(&order, 0), none);
    accepted(&mut world, 0, good(&order, 0));
}

#[test]
fn a_job_that_went_to_others_only_is_refused_with_the_newest_one_that_was_given() {
    let mut world = pool();
    world.settle();
    let before = world.miners[1].orders[0].job;
    world.disconnect(1);
    refresh(&mut world);
    world.connect(1);
    world.settle();
    let order = world.miners[0].orders[0];
    assert!(order.job > before);
    let given = (RejectCode::UnknownJob, order.job.0, before.0);
    refused(&mut world, 1, good(&order, 0), given);
}

/// z is the round's, not the session's: a share that was on its way is paid.
#[test]
fn a_job_outlives_the_session_that_it_was_given_in() {
    let mut world = pool();
    world.settle();
    let order = world.miners[0].orders[0];
    world.disconnect(0);
    world.connect(0);
    world.settle();
    assert!(world.miners[0].ordered, "it goes on with its round");
    accepted(&mut world, 0, good(&order, 0));
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
    assert_eq!(rejects(&world, from)[0].code, RejectCode::Duplicate);
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
    let codes: Vec<_> = rejects(&world, from).iter().map(|r| r.code).collect();
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

/// Invariant 6: an accepted share can be checked by anyone, from what is stored.
#[test]
fn every_stored_share_hashes_to_its_zero_bits_on_a_committed_coinbase() {
    let mut world = pool();
    for turn in 0..12 {
        world.share(turn % 3);
        world.settle();
        if turn == 5 {
            refresh(&mut world);
        }
    }
    let stored = shares(&world);
    assert_eq!(stored.len(), 12);
    for share in stored {
        let header = share.header;
        assert!(leading_zero_bits(&header_hash(&header)) >= share.z);
        let round = world.records.iter().find_map(|record| match record {
            Record::Committed(round) if round.round == share.round => Some(round),
            _ => None,
        });
        let (coinbase, payouts) = &round.unwrap().lanes[usize::from(share.lane.0)];
        // Simulated templates hold no transactions but the coinbase: its txid is the root.
        assert_eq!(header[36..68], coinbase.compute_txid().to_byte_array());
        assert!(!payouts.is_empty());
    }
}

/// Nobody signs, so all hash a direct round; whoever was away when it was made gets it when it is
/// made again, and its shares count like the others'.
#[test]
fn a_share_of_a_direct_round_counts_whenever_its_job_was_given() {
    let mut world = World::new(WorldOptions {
        miners: 3,
        ..WorldOptions::default()
    });
    for miner in 0..3 {
        world.connect(miner);
        world.miners[miner].mood = Mood::SilentSigner;
    }
    world.new_tip();
    let proposed = |w: &World| w.events.iter().any(|e| matches!(e, Event::Proposed { .. }));
    world.run_until(SECOND, "a proposal", proposed);
    world.disconnect(1);
    let directs = |w: &World| {
        let events = w.events.iter();
        events.filter(|e| matches!(e, Event::Direct { .. })).count()
    };
    world.run_until(SECOND, "a direct round", |w| directs(w) == 1);
    world.connect(1);
    world.run_until(Millis(3_000), "a job for the third", |w| {
        !w.miners[1].orders.is_empty()
    });
    for miner in 0..3 {
        let order = world.miners[miner].orders[0];
        let share = good(&order, 0);
        accepted(&mut world, miner, share);
        let open = world.coordinator.ledger().seq().0 + 1;
        refused(
            &mut world,
            miner,
            share,
            (RejectCode::Duplicate, open, open),
        );
    }
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
