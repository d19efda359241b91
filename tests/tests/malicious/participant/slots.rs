//! Slots that are somebody else's, or no slots at all.

use tutti_proto::coordinator::Event;
use tutti_proto::deadline::Millis;
use tutti_proto::message::{AbortReason, AnnouncedSlot, Slots, ToCoordinator};
use tutti_proto::reject::RejectCode;
use tutti_tests::sim::{World, identity_key};

use crate::pool::{MINERS, Mark, goes_on, last_proposal, pool, slot_of, work};
use crate::stranger::{STRANGER, announced, fresh_slots, joined, output, refused};

/// A slot of the first miner that is announced and not used yet.
fn unused_slot(world: &World) -> AnnouncedSlot {
    let identity = world.miners[0].identity();
    let said = world
        .said
        .iter()
        .rev()
        .filter_map(|(who, said)| match said {
            ToCoordinator::Slots(slots) if *who == identity => slots.slots.last(),
            _ => None,
        });
    said.map(Clone::clone).next().unwrap()
}

#[test]
fn announces_anothers_slot() {
    let mut world = pool();
    let peer = joined(&mut world, STRANGER);
    let slot = unused_slot(&world);
    // In its own hand: the key is known.
    let own = announced(STRANGER, vec![slot.slot.clone()]);
    refused(&mut world, peer, own, RejectCode::DuplicateSlot);
    // With fresh nonces, it is still that key.
    let mut stolen = fresh_slots(7, 1);
    stolen[0].key = slot.slot.key;
    let own = announced(STRANGER, stolen);
    refused(&mut world, peer, own, RejectCode::DuplicateSlot);
    // Word by word: it is not the stranger's signature.
    let theirs = ToCoordinator::Slots(Slots { slots: vec![slot] });
    refused(&mut world, peer, theirs, RejectCode::BadSignature);
    goes_on(&mut world);
}

#[test]
fn announces_one_key_twice_in_one_message() {
    let mut world = pool();
    let peer = joined(&mut world, STRANGER);
    let mut twice = fresh_slots(7, 2);
    twice[1].key = twice[0].key;
    let twice = announced(STRANGER, twice);
    refused(&mut world, peer, twice, RejectCode::DuplicateSlot);
    // None of it was taken: the first alone is still fresh.
    let mark = Mark::of(&world);
    world.say(peer, announced(STRANGER, fresh_slots(7, 1)));
    assert_eq!(mark.rejects(&world), []);
    goes_on(&mut world);
}

/// A key that another has used up is nobody's any more: whoever announces it cannot sign with it, is
/// blamed for that, and the other is not.
#[test]
fn announces_a_slot_that_another_has_used() {
    let mut world = pool();
    for miner in 0..MINERS {
        work(&mut world, miner, 1);
    }
    let used = slot_of(&world, 0, &last_proposal(&world));
    let peer = joined(&mut world, STRANGER);
    world.say(peer, ToCoordinator::TxAddOutput(output(STRANGER, 9_001)));
    let mark = Mark::of(&world);
    world.say(peer, announced(STRANGER, vec![used.slot]));
    assert_eq!(mark.rejects(&world), []);
    world.new_tip();
    world.run_until(Millis(2_500), "a round without the thief", |w| {
        !mark.committed(w).is_empty()
    });
    let thief = identity_key(STRANGER).identity();
    assert_eq!(
        mark.failures(&world),
        [(AbortReason::Timeout, vec![thief])],
        "all miners signed, the one whose key it was among them"
    );
    assert_eq!(mark.committed(&world)[0].1, MINERS + 1);
    goes_on(&mut world);
}

#[test]
fn announces_more_slots_than_it_may_or_too_short_ones() {
    let mut world = pool();
    let peer = joined(&mut world, STRANGER);
    let many = announced(STRANGER, fresh_slots(7, 9));
    refused(&mut world, peer, many, RejectCode::SlotQuota);
    let mut short = fresh_slots(7, 1);
    short[0].nonces.pop();
    let short = announced(STRANGER, short);
    refused(&mut world, peer, short, RejectCode::SlotQuota);
    goes_on(&mut world);
}

/// One nonce in all sessions: with another's key this would be its end, with one's own it is just a
/// slot that nobody else suffers from.
#[test]
fn announces_one_nonce_for_all_payouts() {
    let mut world = pool();
    for miner in 0..MINERS {
        work(&mut world, miner, 1);
    }
    let peer = joined(&mut world, STRANGER);
    world.say(peer, ToCoordinator::TxAddOutput(output(STRANGER, 9_001)));
    let mut slots = fresh_slots(7, 1);
    let nonce = slots[0].nonces[0];
    slots[0].nonces.fill(nonce);
    let mark = Mark::of(&world);
    world.say(peer, announced(STRANGER, slots));
    world.new_tip();
    world.run_until(Millis(2_500), "a round without it", |w| {
        !mark.committed(w).is_empty()
    });
    let stranger = identity_key(STRANGER).identity();
    assert_eq!(
        mark.failures(&world),
        [(AbortReason::Timeout, vec![stranger])]
    );
    assert!(
        !mark
            .log(&world)
            .iter()
            .any(|event| matches!(event, Event::Unplannable { .. }))
    );
    goes_on(&mut world);
}
