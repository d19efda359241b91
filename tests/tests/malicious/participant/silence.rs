//! Saying nothing, at each moment at which something is owed. It costs one attempt of two seconds,
//! and no honest miner a hash.

use tutti_proto::deadline::Millis;
use tutti_proto::message::{AbortReason, ToCoordinator, TxComplete};
use tutti_tests::sim::{Mood, World};

use crate::pool::{MINERS, Mark, goes_on, open_attempt, pool, work};
use crate::stranger::{STRANGER, joined, signer};

/// The next round is committed without the silent one, after one attempt that waited for it.
fn costs_one_attempt(world: &mut World, mark: &Mark, silent: tutti_proto::id::Identity) {
    let asked_at = world.now;
    let before: Vec<_> = world.miners.iter().map(|m| m.orders.clone()).collect();
    assert!(before.iter().all(|orders| !orders.is_empty()));
    world.run_until(Millis(2_500), "a round without the silent one", |w| {
        !mark.committed(w).is_empty()
    });
    assert!(world.now.since(asked_at) >= Millis(1_900));
    world.settle();
    assert!(world.all_hash_last_round());
    assert_eq!(mark.failures(world), [(AbortReason::Timeout, vec![silent])]);
}

#[test]
fn is_silent_once_it_is_asked_to_sign() {
    let mut world = pool();
    work(&mut world, MINERS - 1, 1);
    goes_on(&mut world);
    let mark = Mark::of(&world);
    open_attempt(&mut world);
    let silent = world.miners[MINERS - 1].identity();
    costs_one_attempt(&mut world, &mark, silent);
    // It is left out of signing, not of the pay for its work.
    let held = world.miners[0].hashed().unwrap();
    assert!(
        held.payees
            .iter()
            .any(|payee| payee.identity == silent && payee.sat > 0)
    );
    assert_eq!(mark.committed(&world)[0].1, MINERS);
    goes_on(&mut world);
}

#[test]
fn agrees_and_then_does_not_sign() {
    let mut world = pool();
    let mark = Mark::of(&world);
    let round = open_attempt(&mut world).plan.round;
    let (silent, peer) = (
        world.miners[MINERS - 1].identity(),
        world.miners[MINERS - 1].peer.unwrap(),
    );
    world.say(peer, ToCoordinator::TxComplete(TxComplete { round }));
    costs_one_attempt(&mut world, &mark, silent);
    assert_eq!(mark.rejects(&world), [], "the word itself was in order");
    goes_on(&mut world);
}

#[test]
fn is_silent_before_any_proposal() {
    let mut world = pool();
    let mark = Mark::of(&world);
    // One never answers its challenge, one has only joined: neither is waited for.
    world.connect_stranger();
    joined(&mut world, STRANGER);
    world.new_tip();
    world.settle();
    assert_eq!(mark.committed(&world).last().map(|c| c.1), Some(MINERS + 1));
    assert_eq!(mark.failures(&world), []);
    assert!(world.miners.iter().all(|miner| !miner.orders.is_empty()));
    goes_on(&mut world);
}

#[test]
fn announces_slots_that_it_never_uses() {
    let mut world = pool();
    for miner in 0..MINERS {
        work(&mut world, miner, 1);
    }
    let silent = tutti_tests::sim::identity_key(STRANGER).identity();
    signer(&mut world, STRANGER);
    let mark = Mark::of(&world);
    world.new_tip();
    costs_one_attempt(&mut world, &mark, silent);
    assert_eq!(
        mark.committed(&world)[0].1,
        MINERS + 1,
        "all the others sign"
    );
    // And not the next one: it backs off.
    let mark = Mark::of(&world);
    world.new_tip();
    world.settle();
    assert_eq!(mark.failures(&world), []);
    assert_eq!(mark.committed(&world).len(), 1);
    goes_on(&mut world);
}

#[test]
fn is_silent_again_and_again() {
    let mut world = pool();
    for miner in 0..MINERS {
        work(&mut world, miner, 1);
    }
    goes_on(&mut world);
    world.miners[MINERS - 1].mood = Mood::SilentSigner;
    let mark = Mark::of(&world);
    // Ten minutes of refreshes, of which it spoils ever fewer: its back-off doubles.
    let end = world.now.after(Millis(600_000));
    while world.now < end {
        assert!(world.step());
        assert!(world.miners.iter().all(|miner| !miner.orders.is_empty()));
    }
    world.assert_sound();
    let (failed, committed) = (mark.failures(&world).len(), mark.committed(&world).len());
    assert!(
        (3..=7).contains(&failed),
        "{failed} attempts of {committed} rounds"
    );
    assert!(committed >= 19, "{committed} rounds in ten minutes");
    world.miners[MINERS - 1].mood = Mood::Honest;
}
