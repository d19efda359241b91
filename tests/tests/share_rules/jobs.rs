//! The jobs that a share may be for: how long after, and whose.

use tutti_proto::coordinator::{Event, Settings};
use tutti_proto::deadline::Millis;
use tutti_proto::message::{Share, ToCoordinator};
use tutti_proto::reject::RejectCode;
use tutti_proto::window::Tally;
use tutti_proto::work::Work;
use tutti_tests::sim::{Mood, World, WorldOptions};

use crate::pool::{
    BLOCK, SECOND, Z, accepted, close_window, good, hash_from, hash_version, pool, pool_with,
    refresh, refused, shares,
};

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

/// What a share was hashed for is what its job said, whatever the pool made of its miner since.
#[test]
fn a_share_is_judged_by_the_z_and_the_slice_of_its_own_job() {
    let mut world = pool_with(Settings {
        z_min: Z,
        z_max: BLOCK - 1,
        ..Settings::default()
    });
    world.settle();
    let old = world.miners[0].orders.clone();
    assert_eq!(old[0].z, Z);
    // Both hash faster than they said, and the second by far.
    for (miner, found) in [(0, 30), (1, 200)] {
        for _ in 0..found {
            world.share(miner);
        }
    }
    world.settle();
    // Its pace is judged within the round; the next job will say so.
    let (weak, job) = (|zeros: u8| zeros == Z, old[0].job);
    let judged = world.now.after(Millis(15_000));
    while world.now < judged {
        assert!(world.step());
    }
    assert_eq!(world.miners[0].orders[0].job, job, "no other job yet");
    accepted(&mut world, 0, hash_from(&old[0], 1 << 20, weak));
    refresh(&mut world);
    let new = world.miners[0].orders.clone();
    assert!(new[0].job > job && new[0].z > Z, "{new:?}");
    // A part of its old slices that went to another.
    let is_lost = |lane, version| {
        let mut same = new.iter().filter(|order| order.slice.lane == lane);
        !same.any(|order| order.slice.contains(version, order.version))
    };
    let ends = old.iter().flat_map(|order| {
        let first = order.slice.first_version(order.version);
        [first, first | order.slice.free_mask() as i32].map(|version| (order, version))
    });
    let mut lost = ends.filter(|(order, version)| is_lost(order.slice.lane, *version));
    let (order, version) = lost.next().expect("its slices became smaller");

    let share = hash_version(order, version, 2 << 20, weak);
    accepted(&mut world, 0, share);
    let (identity, credited) = (world.miners[0].identity(), shares(&world));
    let credited = credited.last().unwrap();
    assert_eq!((credited.identity, credited.z), (identity, Z));
    // Neither is so for the new job.
    let weak = hash_from(&new[0], 0, weak);
    let is = (u64::from(Z), u64::from(new[0].z));
    refused(&mut world, 0, weak, (RejectCode::LowDifficulty, is.0, is.1));
    let beside = Share {
        job: new[0].job,
        ..share
    };
    let mut of_lane = new.iter().filter(|o| o.slice.lane == share.lane);
    let own = of_lane
        .next()
        .map_or(0, |o| o.slice.first_version(o.version) as u64);
    let expected = (RejectCode::NotYourSlice, version as u64, own);
    refused(&mut world, 0, beside, expected);
    let strong = hash_from(&new[0], 0, |zeros| (new[0].z..BLOCK).contains(&zeros));
    accepted(&mut world, 0, strong);
    assert_eq!(shares(&world).last().unwrap().z, new[0].z);
    // The window opened with the new round: it has one share at each z.
    let both = Work((1 << Z) + (1 << new[0].z));
    assert_eq!(close_window(&mut world), Tally::from([(identity, both)]));
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
    let refusal = world.share_rejects(from)[0];
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
