//! Messages in anyone's name, right and wrong.

use rand::SeedableRng;
use rand::rngs::StdRng;
use tutti_proto::id::{Identity, PeerId, RoundId, SerialId};
use tutti_proto::message::{
    AbortReason, AnnouncedSlot, Challenge, Join, Slots, ToCoordinator, ToParticipant, TxAbort,
    TxAddOutput, TxRemoveOutput, TxSignatures,
};
use tutti_proto::musig::{PartialSignature, PublicSlot, SigningSlot};
use tutti_tests::sim::{World, identity_key, script};

pub const AUX: [u8; 32] = [5; 32];
/// Key number of the participant for which the tests speak; the world's miners have 1 to 3.
pub const STRANGER: u16 = 100;
pub const NOWHERE: RoundId = RoundId([0xee; 32]);

pub fn coordinator() -> Identity {
    identity_key(0).identity()
}

pub fn challenge_to(world: &World, peer: PeerId) -> Challenge {
    let mut challenges = world.told.iter().filter_map(|(to, message)| match message {
        ToParticipant::Challenge(challenge) if *to == peer => Some(challenge.clone()),
        _ => None,
    });
    challenges.next_back().unwrap()
}

pub fn join(world: &World, peer: PeerId, key: u16) -> ToCoordinator {
    let challenge = challenge_to(world, peer);
    let join = Join::sign(&identity_key(key), &challenge, 1, "stranger/1", &AUX);
    ToCoordinator::Join(join)
}

pub fn joined_stranger(world: &mut World) -> PeerId {
    let peer = world.connect_stranger();
    let message = join(world, peer, STRANGER);
    world.say(peer, message);
    peer
}

pub fn output(key: u16, serial: u64) -> TxAddOutput {
    TxAddOutput::sign(
        &identity_key(key),
        &coordinator(),
        SerialId(serial),
        script(key),
        &AUX,
    )
}

pub fn add(key: u16, serial: u64) -> ToCoordinator {
    ToCoordinator::TxAddOutput(output(key, serial))
}

pub fn removal(key: u16, serial: u64) -> TxRemoveOutput {
    TxRemoveOutput::sign(&identity_key(key), &coordinator(), SerialId(serial), &AUX)
}

pub fn serial_of(world: &World, miner: usize) -> u64 {
    let identity = world.miners[miner].identity();
    world.coordinator.roster().active(&identity).unwrap().0.0
}

pub fn public_slots(count: usize, nonces: usize) -> Vec<PublicSlot> {
    let mut rng = StdRng::seed_from_u64(77);
    (0..count)
        .map(|_| SigningSlot::generate(&mut rng, nonces).1)
        .collect()
}

pub fn announced(key: u16, slot: PublicSlot) -> AnnouncedSlot {
    AnnouncedSlot::sign(&identity_key(key), &coordinator(), slot, &AUX)
}

pub fn slots(key: u16, slots: Vec<PublicSlot>) -> ToCoordinator {
    let slots = slots.into_iter().map(|slot| announced(key, slot)).collect();
    ToCoordinator::Slots(Slots { slots })
}

pub fn signatures(key: u16, round: RoundId, count: usize) -> ToCoordinator {
    let partials = vec![PartialSignature::parse(&[1; 32]).unwrap(); count];
    ToCoordinator::TxSignatures(TxSignatures::sign(
        &identity_key(key),
        round,
        partials,
        &AUX,
    ))
}

pub fn abort(key: u16, round: RoundId) -> ToCoordinator {
    let reason = AbortReason::Policy;
    ToCoordinator::TxAbort(TxAbort::sign(&identity_key(key), round, reason, &AUX))
}
