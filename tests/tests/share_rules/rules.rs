//! What a share must be: each rule with its numbers.

use tutti_proto::coordinator::Event;
use tutti_proto::id::{JobId, LaneIndex};
use tutti_proto::lane::VERSION_MASK;
use tutti_proto::message::Share;
use tutti_proto::reject::RejectCode;
use tutti_proto::window::Tally;
use tutti_proto::work::Work;
use tutti_tests::sim::World;

use crate::pool::{BLOCK, Z, accepted, close_window, good, hash_from, pool, refused, zeros};

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
