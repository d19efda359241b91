//! A participant for which the test speaks, in its own name or another's.

use rand::SeedableRng;
use rand::rngs::StdRng;
use tutti_proto::coordinator::Input;
use tutti_proto::id::{Identity, PeerId, SerialId};
use tutti_proto::message::{
    AnnouncedSlot, Join, Proposal, Slots, ToCoordinator, ToParticipant, TxAddOutput, TxSignatures,
    proposal_digest,
};
use tutti_proto::musig::{PartialSignature, PublicSlot, SigningSlot};
use tutti_proto::reject::{Reject, RejectCode};
use tutti_proto::wire::{FromWire, MESSAGE_LIMIT_TO_COORDINATOR};
use tutti_tests::sim::{World, identity_key, script};

use crate::pool::{AUX, Mark};

/// Key number of the stranger.
pub const STRANGER: u16 = 100;

pub fn coordinator() -> Identity {
    identity_key(0).identity()
}

/// A connection whose challenge is answered with this key.
pub fn joined(world: &mut World, key: u16) -> PeerId {
    let peer = world.connect_stranger();
    let mut told = world.told.iter().filter_map(|(to, message)| match message {
        ToParticipant::Challenge(challenge) if *to == peer => Some(challenge.clone()),
        _ => None,
    });
    let challenge = told.next_back().unwrap();
    let join = Join::sign(&identity_key(key), &challenge, 1, "stranger/1", &AUX);
    world.say(peer, ToCoordinator::Join(join));
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

/// Fresh slots, whose secrets nobody keeps.
pub fn fresh_slots(seed: u64, count: usize) -> Vec<PublicSlot> {
    let mut dice = StdRng::seed_from_u64(seed);
    let slots = (0..count).map(|_| SigningSlot::generate(&mut dice, 4).1);
    slots.collect()
}

/// These partial signatures as the answer of the holder of this key to a proposal.
pub fn answer(key: u16, attempt: &Proposal, partials: Vec<PartialSignature>) -> TxSignatures {
    let (round, nonces) = (attempt.plan.round, &attempt.plan.nonces);
    let proposal = proposal_digest(&attempt.plan.inputs, &round, nonces);
    TxSignatures::sign(&identity_key(key), round, proposal, partials, &AUX)
}

/// Slots as the holder of this key announces them.
pub fn announced(key: u16, slots: Vec<PublicSlot>) -> ToCoordinator {
    let sign = |slot| AnnouncedSlot::sign(&identity_key(key), &coordinator(), slot, &AUX);
    ToCoordinator::Slots(Slots {
        slots: slots.into_iter().map(sign).collect(),
    })
}

/// A stranger with an output and slots: it will be asked to sign.
pub fn signer(world: &mut World, key: u16) -> PeerId {
    let peer = joined(world, key);
    let serial = 2_001 + 2 * u64::from(key);
    world.say(peer, ToCoordinator::TxAddOutput(output(key, serial)));
    world.say(peer, announced(key, fresh_slots(u64::from(key), 4)));
    peer
}

/// Says it; this refusal is all that comes of it, to anyone.
#[track_caller]
pub fn refused(world: &mut World, peer: PeerId, message: ToCoordinator, code: RejectCode) {
    let mark = Mark::of(world);
    let (roster, records, told) = (
        world.coordinator.roster().clone(),
        world.records.len(),
        world.told.len(),
    );
    world.say(peer, message);
    assert_eq!(mark.rejects(world), [(peer, code)]);
    assert_eq!(
        world.told.len(),
        told + 1,
        "{code}: nobody else hears of it"
    );
    assert_eq!(world.coordinator.roster(), &roster, "{code}");
    assert_eq!(world.records.len(), records, "{code}");
}

/// Bytes from a connection, as the shell hands them in.
pub fn arrives(world: &mut World, peer: PeerId, bytes: &[u8]) {
    let oversized = Reject {
        code: RejectCode::Oversized,
        detail: format!("a message has at most {MESSAGE_LIMIT_TO_COORDINATOR} bytes"),
    };
    let input = if bytes.len() > MESSAGE_LIMIT_TO_COORDINATOR {
        Input::Unreadable {
            peer,
            reject: oversized,
        }
    } else {
        match ToCoordinator::decode(bytes) {
            Ok(message) => Input::Received { peer, message },
            Err(error) => Input::Unreadable {
                peer,
                reject: error.into(),
            },
        }
    };
    world.tell_coordinator(input);
}
