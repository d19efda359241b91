//! The wire: every message survives it, and nothing malformed gets through it.

#[allow(
    dead_code,
    clippy::unwrap_used,
    reason = "other tests use the rest; a sample that cannot be made fails its test"
)]
#[path = "support/bump.rs"]
mod bump;
#[path = "wire/lengths.rs"]
mod lengths;
#[path = "wire/lists.rs"]
mod lists;
#[path = "wire/malformed.rs"]
mod malformed;
#[allow(
    clippy::unwrap_used,
    reason = "a sample that cannot be made fails its test"
)]
#[path = "wire/sample.rs"]
mod sample;

use std::fmt::Debug;

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tutti_proto::message::{
    AbortReason, Evidence, SLOTS_LIMIT, ToCoordinator, ToParticipant, Welcome,
};
use tutti_proto::params::NONCES_LIMIT;
use tutti_proto::reject::{Reject, RejectCode};
use tutti_proto::roster::PAYEES_LIMIT;
use tutti_proto::window::{Credit, CreditProof};
use tutti_proto::wire::{self, FromWire, PoolInfo, ToWire, WireReason, pb};

fn survives<T: FromWire + PartialEq + Debug>(value: &T) {
    let bytes = value.encode();
    let back = T::decode(&bytes).unwrap_or_else(|error| panic!("{error} in {value:?}"));
    assert_eq!(&back, value);
    assert_eq!(back.encode(), bytes);
}

macro_rules! round_trips {
    ($($name:ident)*) => {
        /// One test per message.
        mod round_trip {
            $(
                #[test]
                fn $name() {
                    use rand::SeedableRng;
                    for seed in 0..8 {
                        super::survives(&super::sample::$name(&mut rand::rngs::StdRng::seed_from_u64(seed)));
                    }
                }
            )*
        }
    };
}

round_trips! {
    params challenge join welcome welcome_without_ledger tx_add_output tx_remove_output output_expired public_slot
    announced_slot slots holds tx_complete tx_signatures tx_abort tx_aborted commit window_closed assignments proposal direct_proposal job share share_ack
    share_reject block_found reject info
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_encoded_decodes_to_the_same(seed: u64) {
        let rng = &mut StdRng::seed_from_u64(seed);
        sample::to_coordinator(rng).iter().for_each(survives);
        sample::to_participant(rng).iter().for_each(survives);
    }

    /// Damage within a valid message gets deeper than random bytes do.
    #[test]
    fn damaged_messages_never_panic_the_decoder(seed: u64) {
        let rng = &mut StdRng::seed_from_u64(seed);
        for message in sample::to_coordinator(rng) {
            let bytes = damage(rng, message.encode());
            if let Ok(decoded) = ToCoordinator::decode(&bytes) {
                survives(&decoded);
            }
        }
        for message in sample::to_participant(rng) {
            let bytes = damage(rng, message.encode());
            if let Ok(decoded) = ToParticipant::decode(&bytes) {
                survives(&decoded);
            }
        }
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic_the_decoder(bytes in proptest::collection::vec(any::<u8>(), 0..512)) {
        let _ = ToCoordinator::decode(&bytes);
        let _ = ToParticipant::decode(&bytes);
        let _ = PoolInfo::decode(&bytes);
    }
}

fn damage(rng: &mut StdRng, mut bytes: Vec<u8>) -> Vec<u8> {
    for _ in 0..rng.random_range(1..4) {
        let place = rng.random_range(0..bytes.len());
        match rng.random_range(0..4) {
            0 => bytes[place] = rng.random(),
            1 => bytes[place] ^= 1 << rng.random_range(0..8),
            2 => bytes.insert(place, rng.random()),
            _ => bytes.truncate(place.max(1)),
        }
    }
    bytes
}

#[test]
fn the_largest_slots_blame_and_roster_fit_their_limits() {
    let rng = &mut StdRng::seed_from_u64(1);
    let mut slots = sample::slots(rng);
    let mut slot = slots.slots[0].clone();
    slot.slot.nonces = vec![slot.slot.nonces[0]; usize::from(NONCES_LIMIT)];
    slots.slots = vec![slot; SLOTS_LIMIT];
    let slots = ToCoordinator::Slots(slots);
    assert!(slots.encode().len() < wire::MESSAGE_LIMIT_TO_COORDINATOR);
    survives(&slots);

    // Sixty-four culprits are shown with all that they sent.
    let mut aborted = sample::tx_aborted(rng);
    let mut shown = aborted.blamed[1].clone();
    let Some(Evidence::BadPartial { slot, signatures }) = &mut shown.evidence else {
        unreachable!("the second is shown with its partial signatures")
    };
    slot.slot.nonces = vec![slot.slot.nonces[0]; usize::from(NONCES_LIMIT)];
    signatures.partials = vec![signatures.partials[0]; usize::from(NONCES_LIMIT)];
    aborted.blamed = vec![shown; 64];
    let silent = sample::tx_aborted(rng).blamed.remove(0);
    aborted.blamed.resize(wire::SIGNERS_LIMIT, silent);
    let aborted = ToParticipant::TxAborted(aborted);
    assert!(aborted.encode().len() < wire::MESSAGE_LIMIT_TO_PARTICIPANT / 2);
    survives(&aborted);

    let output = sample::tx_add_output(rng);
    let welcome = ToParticipant::Welcome(Welcome {
        outputs: vec![output; PAYEES_LIMIT],
        ..sample::welcome(rng)
    });
    assert!(welcome.encode().len() < wire::MESSAGE_LIMIT_TO_PARTICIPANT / 2);
}

#[test]
fn a_share_takes_less_than_forty_bytes() {
    let share = ToCoordinator::Share(tutti_proto::message::Share {
        seq: 1_000_000,
        job: tutti_proto::id::JobId(1_000_000),
        lane: tutti_proto::id::LaneIndex(99),
        version: 0x2fff_e000,
        time: 1_800_000_000,
        nonce: u32::MAX,
    });
    assert!(share.encode().len() < 40);
}

fn constant(prefix: &str, token: &str) -> String {
    format!("{prefix}_{}", token.replace('-', "_").to_uppercase())
}

#[test]
fn the_schemas_enums_are_the_domains() {
    for number in 0..1_000u32 {
        let ours = RejectCode::from_code(number).map(|code| constant("REJECT_CODE", code.token()));
        let schemas = pb::RejectCode::try_from(number as i32).ok();
        let schemas = schemas.filter(|code| *code != pb::RejectCode::Unspecified);
        assert_eq!(ours.as_deref(), schemas.map(|code| code.as_str_name()));

        let ours = AbortReason::from_code(number).map(|reason| format!("{reason:?}"));
        let schemas = pb::AbortReason::try_from(number as i32).ok();
        let schemas = schemas.filter(|reason| *reason != pb::AbortReason::Unspecified);
        assert_eq!(ours, schemas.map(|reason| format!("{reason:?}")));
    }
}

#[test]
fn every_code_survives_the_status_that_ends_a_call() {
    for code in RejectCode::ALL {
        let detail = "what happened\nand what to do".to_owned();
        let status = wire::status(&Reject {
            code: *code,
            detail,
        });
        assert_ne!(status.code(), tonic::Code::Ok);
        assert_ne!(status.code(), tonic::Code::Unknown);
        assert_eq!(wire::reject_code(&status), Some(*code));
        let message = format!("{}: what happened and what to do", code.token());
        assert_eq!(status.message(), message);
    }
    assert_eq!(wire::reject_code(&tonic::Status::unavailable("gone")), None);
}

#[test]
fn a_detail_is_cut_between_characters_and_made_harmless() {
    let reject = Reject {
        code: RejectCode::Malformed,
        detail: format!("\u{1b}[31m{}", "é".repeat(400)),
    };
    let sent = Reject::decode(&reject.encode()).unwrap();
    assert!(sent.detail.starts_with(" [31mé"));
    assert_eq!(sent.detail.len(), wire::DETAIL_LIMIT - 1);
}

#[test]
fn bytes_of_another_schema_are_malformed() {
    let error = ToCoordinator::decode(&[0x0a, 0xff]).unwrap_err();
    assert_eq!(error.reason, WireReason::Undecodable);
    assert_eq!(error.code(), RejectCode::Malformed);
    assert_eq!(
        error.to_string(),
        "message: not a protobuf message of this schema"
    );
}

#[test]
fn the_parts_of_a_proof_have_one_encoding_and_are_bounded() {
    let payees = [1, 2, 3].map(|n| sample::identity(&mut StdRng::seed_from_u64(n)));
    let bump = bump::Bump::new(&payees, &[1], 700);
    let credit = bump.credit().expect("right").expect("a bump");
    survives(&credit);
    let refused = |spoil: &dyn Fn(&mut CreditProof), path: &str| {
        let mut credit = credit.clone();
        spoil(&mut credit.proof);
        let error = Credit::decode(&credit.encode()).expect_err(path);
        assert_eq!(error.path, path);
    };
    refused(&|proof| proof.child = bump.child.clone(), "proof.child");
    // Its count of inputs, 0, is what begins a transaction with witness.
    refused(&|proof| proof.child.input.clear(), "proof.child");
    refused(&|proof| proof.payout = bump.payout.clone(), "proof.payout");
    let large = vec![bump::output(0); 2_000];
    refused(
        &|proof| proof.coinbase.output.clone_from(&large),
        "proof.coinbase",
    );
    let mut wire = credit.to_wire();
    let proof = wire.proof.as_mut().expect("it has one");
    proof.merkle_block = [&proof.merkle_block[..], &[0]].concat().into();
    let error = Credit::from_wire(wire).expect_err("a byte more");
    assert_eq!(error.path, "proof.merkle_block");
}
