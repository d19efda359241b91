//! Rounds that nobody can block: what was once seen to stop them, each with the moment that matters.

use tutti_proto::coordinator::{Event, RoundKind};
use tutti_proto::deadline::Millis;
use tutti_tests::sim::{Mood, World, WorldOptions};

const SECOND: Millis = Millis(1_000);

fn pool(miners: u16) -> World {
    started(WorldOptions {
        miners,
        ..WorldOptions::default()
    })
}

/// All hash, and the next height is signed.
fn started(options: WorldOptions) -> World {
    let miners = usize::from(options.miners);
    let mut world = World::new(options);
    (0..miners).for_each(|miner| world.connect(miner));
    world.new_tip();
    world.run_until(SECOND, "the first round", World::all_hash_last_round);
    world.settle();
    world
}

/// Present rounds that were committed: height and signers.
fn present(world: &World) -> Vec<(u32, usize)> {
    let rounds = world.events.iter().filter_map(|event| match event {
        Event::Committed {
            kind: RoundKind::Present,
            height,
            signers,
            ..
        } => Some((*height, *signers)),
        _ => None,
    });
    rounds.collect()
}

/// Runs until a round of the tip is committed and all who are there hash it.
fn signed_on_tip(world: &mut World, within: Millis) -> usize {
    let height = world.chain.height() + 1;
    world.run_until(within, "a signed round of the tip", |world| {
        present(world).last().is_some_and(|(of, _)| *of == height) && world.all_hash_last_round()
    });
    present(world).last().map_or(0, |(_, signers)| *signers)
}

fn backed_off(world: &World) -> bool {
    world.events.iter().any(|event| {
        matches!(
            event,
            Event::AttemptFailed {
                network_blamed: false,
                ..
            }
        )
    })
}

#[test]
fn a_crowd_that_leaves_at_once_is_the_networks_victim_and_stops_no_round() {
    let mut world = pool(12);
    world.new_tip();
    world.events.clear();
    // One by one, as a coordinator sees it: each is missed in another attempt.
    (0..5).for_each(|miner| world.disconnect(miner));
    assert_eq!(signed_on_tip(&mut world, SECOND), 1 + 7);
    world.settle();
    (0..5).for_each(|miner| world.connect(miner));
    world.settle();
    world.new_tip();
    assert_eq!(
        signed_on_tip(&mut world, SECOND),
        1 + 12,
        "nobody backs off"
    );
}

#[test]
fn after_a_moment_in_which_nobody_answered_a_round_is_tried_again_soon() {
    let mut world = pool(6);
    for miner in &mut world.miners {
        miner.mood = Mood::SilentSigner;
    }
    world.new_tip();
    let given_up = |world: &World| {
        let mut events = world.events.iter();
        events.any(|event| matches!(event, Event::NoSigners { .. }))
    };
    world.run_until(Millis(3_000), "a round that is given up", given_up);
    for miner in &mut world.miners {
        miner.mood = Mood::Honest;
    }
    assert_eq!(signed_on_tip(&mut world, SECOND), 1 + 6);
    assert!(!backed_off(&world), "all together: the network");
}

#[test]
fn a_tip_that_comes_with_the_last_signature_of_a_round_is_not_put_off() {
    let mut world = started(WorldOptions {
        batched: true,
        ..WorldOptions::default()
    });
    let before = present(&world).len();
    world.run_until(Millis(40_000), "a refreshed round", |world| {
        present(world).len() > before
    });
    // The next height is due at this moment, and so is the round of the tip.
    world.new_tip();
    signed_on_tip(&mut world, SECOND);
}

#[test]
fn who_comes_back_while_the_next_height_is_signed_has_a_job_soon() {
    let mut world = pool(4);
    world.new_tip();
    let height = world.chain.height() + 1;
    world.run_until(SECOND, "the round of the tip", |world| {
        present(world).last().is_some_and(|(of, _)| *of == height)
    });
    // The next height waits for one that has fallen silent; meanwhile another connects anew.
    world.miners[3].mood = Mood::SilentSigner;
    world.disconnect(0);
    world.connect(0);
    let hashes = |world: &World| !world.miners[0].orders.is_empty();
    world.run_until(Millis(9_000), "a job for the one that came back", hashes);
}

#[test]
fn identities_with_a_share_each_cannot_keep_the_workers_from_a_round() {
    let (honest, cheap) = (6u16, 18u16);
    let mut world = pool(honest + cheap);
    for miner in 0..usize::from(honest + cheap) {
        let shares = if miner < usize::from(honest) { 20 } else { 1 };
        (0..shares).for_each(|_| world.share(miner));
    }
    world.settle();
    world.new_tip();
    world.settle();
    for miner in usize::from(honest)..usize::from(honest + cheap) {
        world.miners[miner].mood = Mood::Refuser;
    }
    for _ in 0..6 {
        let away = world.now.after(Millis(20_000));
        world.run_until(Millis(60_000), "twenty seconds", |world| world.now >= away);
        world.new_tip();
        let signers = signed_on_tip(&mut world, Millis(4_000));
        assert!(signers > 3, "{signers} signers");
    }
}

#[test]
fn a_miner_that_outgrows_its_slice_gets_a_wider_one() {
    let mut options = WorldOptions {
        miners: 4,
        lanes: 1,
        ..WorldOptions::default()
    };
    options.settings.z_max = 12;
    let mut world = started(options);
    let width = |world: &World| world.miners[0].orders[0].slice.prefix_len;
    assert_eq!(width(&world), 2, "four alike share a lane");
    for _ in 0..4 {
        (0..40).for_each(|_| world.share(0));
        world.settle();
        let later = world.now.after(Millis(10_000));
        world.run_until(Millis(60_000), "the pace", |world| world.now >= later);
        world.new_tip();
        signed_on_tip(&mut world, Millis(3_000));
    }
    assert_eq!(
        width(&world),
        1,
        "half of the lane for the one that is faster"
    );
    let z = world.miners.iter().map(|miner| miner.orders[0].z);
    assert!(z.clone().max() > z.min(), "and harder shares");
}

#[test]
fn without_a_time_to_gather_a_newcomer_waits_for_a_silent_signer_and_nobody_for_ever() {
    let mut options = WorldOptions {
        miners: 4,
        ..WorldOptions::default()
    };
    options.settings.regroup = Millis(0);
    // Over while the silent signer is waited for.
    options.settings.refresh = SECOND;
    let mut world = World::new(options);
    (0..3).for_each(|miner| world.connect(miner));
    world.new_tip();
    let within = Millis(30_000);
    world.run_until(within, "the first round", World::all_hash_last_round);
    world.settle();
    world.miners[0].mood = Mood::SilentSigner;
    world.new_tip();
    world.connect(3);
    let signers = signed_on_tip(&mut world, within);
    assert!(signers >= 3, "{signers}");
    world.miners[0].mood = Mood::Honest;
    world.settle();
}
