//! Too much, too large, or no message at all. That a peer which never reads its stream is cut is the
//! shell's doing: `coordinator/tests/process/pool.rs: a_peer_that_never_reads_is_cut_and_the_others_go_on`.

use tutti_proto::coordinator::Settings;
use tutti_proto::id::{PeerId, RoundId};
use tutti_proto::message::{SLOTS_LIMIT, ToCoordinator, TxComplete, TxSignatures};
use tutti_proto::musig::PartialSignature;
use tutti_proto::params::NONCES_LIMIT;
use tutti_proto::reject::RejectCode;
use tutti_proto::wire::{MESSAGE_LIMIT_TO_COORDINATOR, ToWire};
use tutti_tests::sim::{World, identity_key};

use crate::pool::{AUX, MINERS, Mark, goes_on, open_attempt, pool, work};
use crate::stranger::{STRANGER, announced, answer, arrives, fresh_slots, joined, output};

fn complete() -> ToCoordinator {
    let round = RoundId([1; 32]);
    ToCoordinator::TxComplete(TxComplete { round })
}

/// While `flood` goes on, the others sign and commit a round as if nothing was.
fn the_others_go_on(world: &mut World, mut flood: impl FnMut(&mut World)) {
    let mark = Mark::of(world);
    world.new_tip();
    while mark.committed(world).is_empty() {
        flood(world);
        assert!(world.step());
        assert!(world.miners.iter().all(|miner| !miner.orders.is_empty()));
    }
    world.settle();
    assert_eq!(mark.failures(world), []);
    assert_eq!(mark.committed(world)[0].1, MINERS + 1);
    assert!(world.all_hash_last_round());
}

#[test]
fn floods_with_messages() {
    let mut world = pool();
    let peer = joined(&mut world, STRANGER);
    let mark = Mark::of(&world);
    let mut said = 0;
    the_others_go_on(&mut world, |world| {
        for _ in 0..100 {
            world.say(peer, complete());
            said += 1;
        }
    });
    let quota = Settings::default().quota as usize;
    let rejects = mark.rejects(&world);
    let limited =
        |(to, code): &&(PeerId, RejectCode)| *to == peer && *code == RejectCode::RateLimited;
    let limited = rejects.iter().filter(limited).count();
    assert!(
        said > 10 * quota && limited > 8 * quota,
        "{limited} of {said}"
    );
    assert_eq!(world.closed, [peer], "it cannot be listening");
    assert!(rejects.len() < 10 * quota, "and is not answered any more");
    goes_on(&mut world);
}

#[test]
fn floods_with_outputs() {
    let mut world = pool();
    let peer = joined(&mut world, STRANGER);
    let before = world.coordinator.roster().len();
    let mut serial = 10_001;
    the_others_go_on(&mut world, |world| {
        for _ in 0..100 {
            serial += 2;
            world.say(peer, ToCoordinator::TxAddOutput(output(STRANGER, serial)));
        }
    });
    assert_eq!(
        world.coordinator.roster().len(),
        before + 2,
        "two are its quota"
    );
    assert_eq!(world.closed, [peer]);
    goes_on(&mut world);
}

#[test]
fn floods_with_signatures_of_the_open_attempt() {
    let mut world = pool();
    let attempt = open_attempt(&mut world);
    let mark = Mark::of(&world);
    let peer = world.miners[0].peer.unwrap();
    let partials = vec![PartialSignature::parse(&[1; 32]).unwrap(); 2];
    let lie = answer(1, &attempt, partials);
    for _ in 0..10_000 {
        world.say(peer, ToCoordinator::TxSignatures(lie.clone()));
    }
    let rejects: Vec<RejectCode> = mark
        .rejects(&world)
        .into_iter()
        .map(|(_, code)| code)
        .collect();
    let (answered, limited) =
        rejects.split_at(rejects.partition_point(|c| *c == RejectCode::NotExpected));
    let quota = Settings::default().quota as usize;
    assert!(
        (quota..3 * quota + 64 * 3).contains(&answered.len()),
        "{}",
        answered.len()
    );
    assert!(limited.len() > 8 * quota, "{}", limited.len());
    assert!(limited.iter().all(|code| *code == RejectCode::RateLimited));
    assert_eq!(world.closed, [peer], "it cannot be listening");
    assert_eq!(mark.failures(&world), [], "what it signed first counts");
    goes_on(&mut world);
}

#[test]
fn floods_with_connections() {
    let mut world = pool();
    let before = world.coordinator.joined();
    the_others_go_on(&mut world, |world| {
        for _ in 0..50 {
            world.connect_stranger();
        }
    });
    assert_eq!(world.coordinator.joined(), before, "none of them is anyone");
    goes_on(&mut world);
}

/// The session ends with this code, and nothing else happens.
fn ends_the_session(bytes: &[u8], code: RejectCode) {
    let mut world = pool();
    work(&mut world, 0, 1);
    let peer = joined(&mut world, STRANGER);
    let mark = Mark::of(&world);
    let roster = world.coordinator.roster().digest();
    arrives(&mut world, peer, bytes);
    assert_eq!(mark.rejects(&world), [(peer, code)]);
    assert_eq!(world.closed, [peer]);
    assert_eq!(world.coordinator.roster().digest(), roster);
    // What was still on its way is not even answered.
    arrives(&mut world, peer, &complete().encode());
    assert_eq!(mark.rejects(&world).len(), 1);
    goes_on(&mut world);
}

#[test]
fn sends_an_oversized_message() {
    let bytes = vec![0x0a; MESSAGE_LIMIT_TO_COORDINATOR + 1];
    ends_the_session(&bytes, RejectCode::Oversized);
}

#[test]
fn sends_more_slots_than_a_message_may_have() {
    let slots = announced(STRANGER, fresh_slots(7, SLOTS_LIMIT + 1));
    ends_the_session(&slots.encode(), RejectCode::Oversized);
}

#[test]
fn sends_more_nonces_than_a_slot_may_have() {
    let mut slots = fresh_slots(7, 1);
    let nonce = slots[0].nonces[0];
    slots[0].nonces = vec![nonce; usize::from(NONCES_LIMIT) + 1];
    ends_the_session(&announced(STRANGER, slots).encode(), RejectCode::Oversized);
}

#[test]
fn sends_more_partial_signatures_than_there_can_be_payouts() {
    let partials = vec![PartialSignature::parse(&[1; 32]).unwrap(); usize::from(NONCES_LIMIT) + 1];
    let (key, round) = (identity_key(STRANGER), RoundId([1; 32]));
    let lie = TxSignatures::sign(&key, round, [0; 32], partials, &AUX);
    let bytes = ToCoordinator::TxSignatures(lie).encode();
    ends_the_session(&bytes, RejectCode::Oversized);
}

#[test]
fn sends_what_is_no_message() {
    ends_the_session(&[0xff; 40], RejectCode::Malformed);
    ends_the_session(&[], RejectCode::Malformed);
}

#[test]
fn sends_half_a_message() {
    let whole = ToCoordinator::TxAddOutput(output(STRANGER, 9_001)).encode();
    ends_the_session(&whole[..whole.len() / 2], RejectCode::Malformed);
}

#[test]
fn sends_a_key_that_is_no_point() {
    let slots = announced(STRANGER, fresh_slots(7, 1));
    let mut bytes = slots.encode();
    let ToCoordinator::Slots(slots) = slots else {
        unreachable!("announced gives slots")
    };
    let key = slots.slots[0].slot.key.serialize();
    let at = bytes.windows(33).position(|window| window == key).unwrap();
    bytes[at + 1..at + 33].fill(0xff);
    ends_the_session(&bytes, RejectCode::Malformed);
}
