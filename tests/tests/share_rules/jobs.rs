//! The jobs that a share may be for: how long after, and whose.

use tutti_proto::coordinator::Event;
use tutti_proto::deadline::Millis;
use tutti_proto::message::ToCoordinator;
use tutti_proto::reject::RejectCode;
use tutti_proto::window::Tally;
use tutti_tests::sim::{Mood, World, WorldOptions};

use crate::pool::{BLOCK, SECOND, accepted, close_window, good, hash_from, pool, refresh, refused};

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
