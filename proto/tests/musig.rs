//! MuSig2 with our slots alone, and in one session with the signers of another implementation.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use musig2::BinaryEncoding;
use musig2::secp::{MaybeScalar, Point, Scalar};
use support::seeded::Seeded;
use tutti_proto::musig::{
    AggregateKey, AggregateNonce, MusigError, PartialSignature, PublicNonce, PublicSlot, Session,
    SigningSlot, SlotKey,
};

/// BIP340 by the other copy of the library, which knows nothing of MuSig2.
fn verify(key: &[u8; 32], sighash: &[u8; 32], signature: &[u8; 64]) -> bool {
    use bitcoin::secp256k1::{Message, Secp256k1, XOnlyPublicKey, schnorr};
    let key = XOnlyPublicKey::from_slice(key).unwrap();
    let signature = schnorr::Signature::from_slice(signature).unwrap();
    Secp256k1::verification_only()
        .verify_schnorr(&signature, &Message::from_digest(*sighash), &key)
        .is_ok()
}

const MERKLE_ROOT: [u8; 32] = [0x5a; 32];

/// Slots in key order, as a round has them.
fn slots(rng: &mut Seeded, signers: usize, sessions: usize) -> Vec<(SigningSlot, PublicSlot)> {
    let mut slots: Vec<_> = (0..signers)
        .map(|_| SigningSlot::generate(rng, sessions))
        .collect();
    slots.sort_by_key(|(_, public)| public.key);
    slots
}

fn aggregate(slots: &[(SigningSlot, PublicSlot)]) -> AggregateKey {
    let keys = slots.iter().map(|(_, public)| public.key).collect();
    AggregateKey::new(keys, &MERKLE_ROOT).unwrap()
}

fn sessions(
    key: &AggregateKey,
    slots: &[(SigningSlot, PublicSlot)],
    sighashes: &[[u8; 32]],
) -> Vec<Session> {
    let nonce = |place: usize| {
        AggregateNonce::sum(slots.iter().map(|(_, public)| &public.nonces[place])).unwrap()
    };
    sighashes
        .iter()
        .enumerate()
        .map(|(place, sighash)| Session::new(key, &nonce(place), sighash))
        .collect()
}

#[test]
fn three_five_and_sixteen_signers_sign_all_sessions_of_an_attempt() {
    for signers in [1, 3, 5, 16] {
        let mut rng = Seeded::new("sign");
        let sighashes = [rng.bytes32(), rng.bytes32(), rng.bytes32()];
        // One nonce more than needed: it is erased unused.
        let slots = slots(&mut rng, signers, sighashes.len() + 1);
        let key = aggregate(&slots);
        let sessions = sessions(&key, &slots, &sighashes);
        let partials: Vec<Vec<PartialSignature>> = slots
            .into_iter()
            .map(|(secret, _)| secret.sign(&key, &sessions).unwrap())
            .collect();
        for (place, sighash) in sighashes.iter().enumerate() {
            let of_session = partials.iter().map(|of_signer| &of_signer[place]);
            let signature = sessions[place].combine(&key, sighash, of_session).unwrap();
            assert!(key.verify(sighash, &signature));
            assert!(verify(&key.output_key(), sighash, &signature));
            assert!(!verify(&key.internal(), sighash, &signature));
            assert!(!verify(&key.output_key(), &[0; 32], &signature));
        }
    }
}

#[test]
fn one_wrong_partial_spoils_the_sum_and_is_the_only_one_blamed() {
    let mut rng = Seeded::new("blame");
    let sighash = rng.bytes32();
    let slots = slots(&mut rng, 5, 1);
    let key = aggregate(&slots);
    let session = sessions(&key, &slots, &[sighash])[0];
    let public: Vec<PublicSlot> = slots.iter().map(|(_, public)| public.clone()).collect();
    let mut partials: Vec<PartialSignature> = slots
        .into_iter()
        .map(|(secret, _)| secret.sign(&key, &[session]).unwrap()[0])
        .collect();
    let blamed = |partials: &[PartialSignature]| -> Vec<usize> {
        (0..public.len())
            .filter(|n| {
                let PublicSlot { key: slot, nonces } = &public[*n];
                !session.partial_is_valid(&key, &partials[*n], &nonces[0], slot)
            })
            .collect()
    };
    assert_eq!(blamed(&partials), [0usize; 0]);
    let mut wrong = partials[3].serialize();
    wrong[31] ^= 1;
    partials[3] = PartialSignature::parse(&wrong).unwrap();
    assert_eq!(
        session.combine(&key, &sighash, partials.iter()),
        Err(MusigError::BadAggregate)
    );
    assert_eq!(blamed(&partials), [3]);
    // One missing spoils it as well.
    assert_eq!(
        session.combine(&key, &sighash, partials[..4].iter()),
        Err(MusigError::BadAggregate)
    );
}

#[test]
fn a_partial_of_another_attempt_is_invalid() {
    let mut rng = Seeded::new("other attempt");
    let sighash = rng.bytes32();
    let (first, second) = (slots(&mut rng, 3, 1), slots(&mut rng, 3, 1));
    let (first_key, second_key) = (aggregate(&first), aggregate(&second));
    let first_session = sessions(&first_key, &first, &[sighash])[0];
    let second_session = sessions(&second_key, &second, &[sighash])[0];
    let PublicSlot { key, nonces } = first[0].1.clone();
    let partial = first.into_iter().next().unwrap().0;
    let partial = partial.sign(&first_key, &[first_session]).unwrap()[0];
    assert!(first_session.partial_is_valid(&first_key, &partial, &nonces[0], &key));
    let PublicSlot { key, nonces } = &second[0].1;
    assert!(!second_session.partial_is_valid(&second_key, &partial, &nonces[0], key));
}

#[test]
fn a_slot_that_does_not_fit_its_round_signs_nothing() {
    let mut rng = Seeded::new("misfit");
    let slots = slots(&mut rng, 3, 1);
    let key = aggregate(&slots);
    let session = sessions(&key, &slots, &[[1; 32]])[0];
    let (stranger, _) = SigningSlot::generate(&mut rng, 1);
    assert_eq!(stranger.sign(&key, &[session]), Err(MusigError::NotASigner));
    let (member, _) = slots.into_iter().next().unwrap();
    assert_eq!(
        member.sign(&key, &[session, session]),
        Err(MusigError::TooFewNonces { have: 1, need: 2 })
    );
}

#[test]
fn keys_must_be_there_sorted_and_distinct() {
    let mut rng = Seeded::new("keys");
    let slots = slots(&mut rng, 3, 1);
    let keys: Vec<SlotKey> = slots.iter().map(|(_, public)| public.key).collect();
    let refused = |keys: Vec<SlotKey>| AggregateKey::new(keys, &MERKLE_ROOT).unwrap_err();
    assert_eq!(refused(vec![]), MusigError::NoSigners);
    assert_eq!(
        refused(vec![keys[0], keys[1], keys[1]]),
        MusigError::DuplicateKey
    );
    assert_eq!(refused(vec![keys[1], keys[0]]), MusigError::DuplicateKey);
    assert_eq!(
        AggregateNonce::sum(std::iter::empty()),
        Err(MusigError::NoSigners)
    );
    let key = AggregateKey::new(keys, &MERKLE_ROOT).unwrap();
    let session = sessions(&key, &slots, &[[1; 32]])[0];
    assert_eq!(
        session.combine(&key, &[1; 32], std::iter::empty()),
        Err(MusigError::NoSigners)
    );
}

#[test]
fn bytes_that_are_no_keys_nonces_or_partials_are_refused() {
    assert_eq!(SlotKey::parse(&[2; 33]).map(|_| ()), Ok(()));
    for bytes in [[0u8; 33], [4; 33], [0xff; 33]] {
        assert_eq!(SlotKey::parse(&bytes), Err(MusigError::Key));
    }
    for bytes in [[0u8; 66], [4; 66], [0xff; 66]] {
        assert_eq!(PublicNonce::parse(&bytes), Err(MusigError::Nonce));
    }
    // Only a sum of nonces may be the point at infinity, which BIP327 writes as zeros.
    assert!(AggregateNonce::parse(&[0; 66]).is_ok());
    assert_eq!(AggregateNonce::parse(&[4; 66]), Err(MusigError::Nonce));
    assert_eq!(
        PartialSignature::parse(&[0xff; 32]),
        Err(MusigError::Partial)
    );
}

#[test]
fn nonces_that_cancel_out_are_a_session_that_fails_and_no_crash() {
    // A signer announces the negation of another's nonce: the sum is infinity, encoded as zeros.
    let mut rng = Seeded::new("infinity");
    let (secret, public) = SigningSlot::generate(&mut rng, 1);
    let honest = public.nonces[0].serialize();
    let mut negated = honest;
    negated[0] ^= 1;
    negated[33] ^= 1;
    let negated = PublicNonce::parse(&negated).unwrap();
    let sum = AggregateNonce::sum([&public.nonces[0], &negated].into_iter()).unwrap();
    assert_eq!(sum.serialize(), [0; 66]);
    assert_eq!(AggregateNonce::parse(&[0; 66]).unwrap(), sum);
    let (_, liar) = SigningSlot::generate(&mut rng, 1);
    let mut keys = vec![public.key, liar.key];
    keys.sort();
    let key = AggregateKey::new(keys, &MERKLE_ROOT).unwrap();
    let session = Session::new(&key, &sum, &[1; 32]);
    let partial = secret.sign(&key, &[session]).unwrap()[0];
    assert!(session.partial_is_valid(&key, &partial, &public.nonces[0], &public.key));
    assert_eq!(
        session.combine(&key, &[1; 32], [&partial].into_iter()),
        Err(MusigError::BadAggregate)
    );
}

/// One signer of the other implementation.
struct Foreign {
    secret: Scalar,
    nonce: musig2::SecNonce,
}

impl Foreign {
    fn generate(rng: &mut Seeded) -> Self {
        let secret = Scalar::from_slice(&rng.bytes32()).unwrap();
        let nonce = musig2::SecNonce::build_with_seckey(rng.bytes32(), secret).build();
        Self { secret, nonce }
    }

    fn public(&self) -> PublicSlot {
        let key = self.secret.base_point_mul().serialize();
        let nonce = PublicNonce::parse(&self.nonce.public_nonce().to_bytes()).unwrap();
        PublicSlot {
            key: SlotKey::parse(&key).unwrap(),
            nonces: vec![nonce],
        }
    }
}

enum Signer {
    Ours(SigningSlot, PublicSlot),
    Theirs(Foreign),
}

impl Signer {
    fn public(&self) -> PublicSlot {
        match self {
            Signer::Ours(_, public) => public.clone(),
            Signer::Theirs(foreign) => foreign.public(),
        }
    }
}

#[test]
fn our_signers_and_another_implementations_make_one_signature() {
    for signers in [2, 3, 5, 16] {
        let mut rng = Seeded::new(&format!("mixed {signers}"));
        mixed_session(&mut rng, signers);
    }
}

fn mixed_session(rng: &mut Seeded, signers: usize) {
    let sighash = rng.bytes32();
    let mut signers: Vec<Signer> = (0..signers)
        .map(|n| {
            if n % 2 == 0 {
                let (secret, public) = SigningSlot::generate(rng, 1);
                Signer::Ours(secret, public)
            } else {
                Signer::Theirs(Foreign::generate(rng))
            }
        })
        .collect();
    signers.sort_by_key(|signer| signer.public().key);
    let public: Vec<PublicSlot> = signers.iter().map(Signer::public).collect();

    let ours =
        AggregateKey::new(public.iter().map(|slot| slot.key).collect(), &MERKLE_ROOT).unwrap();
    let points = public
        .iter()
        .map(|slot| Point::from_slice(&slot.key.serialize()).unwrap());
    let theirs = musig2::KeyAggContext::new(points).unwrap();
    let internal: Point = theirs.aggregated_pubkey();
    assert_eq!(internal.serialize_xonly(), ours.internal());
    let theirs = theirs.with_taproot_tweak(&MERKLE_ROOT).unwrap();
    let output: Point = theirs.aggregated_pubkey();
    assert_eq!(output.serialize_xonly(), ours.output_key());

    let sum = AggregateNonce::sum(public.iter().map(|slot| &slot.nonces[0])).unwrap();
    let their_nonce =
        |slot: &PublicSlot| musig2::PubNonce::from_bytes(&slot.nonces[0].serialize()).unwrap();
    let their_sum = musig2::AggNonce::sum(public.iter().map(their_nonce));
    assert_eq!(their_sum.to_bytes(), sum.serialize());

    let session = Session::new(&ours, &sum, &sighash);
    let partials: Vec<PartialSignature> = signers
        .into_iter()
        .map(|signer| match signer {
            Signer::Ours(secret, _) => secret.sign(&ours, &[session]).unwrap()[0],
            Signer::Theirs(Foreign { secret, nonce }) => {
                let partial: MaybeScalar =
                    musig2::sign_partial(&theirs, secret, nonce, &their_sum, sighash).unwrap();
                PartialSignature::parse(&partial.serialize()).unwrap()
            }
        })
        .collect();
    let as_theirs: Vec<MaybeScalar> = partials
        .iter()
        .map(|partial| MaybeScalar::from_slice(&partial.serialize()).unwrap())
        .collect();
    for ((slot, partial), as_theirs) in public.iter().zip(&partials).zip(&as_theirs) {
        assert!(session.partial_is_valid(&ours, partial, &slot.nonces[0], &slot.key));
        let point = Point::from_slice(&slot.key.serialize()).unwrap();
        let nonce = their_nonce(slot);
        musig2::verify_partial(&theirs, *as_theirs, &their_sum, point, &nonce, sighash).unwrap();
    }
    let signature = session.combine(&ours, &sighash, partials.iter()).unwrap();
    let their_signature: musig2::CompactSignature =
        musig2::aggregate_partial_signatures(&theirs, &their_sum, as_theirs, sighash).unwrap();
    assert_eq!(their_signature.to_bytes(), signature);
}

/// Does not compile if the type implements the trait: two impls would then answer.
macro_rules! assert_not_implemented {
    ($type:ty: $($bound:path),+) => {$({
        trait Answers<Which> {
            fn answer() {}
        }
        struct Implemented;
        impl<T: ?Sized> Answers<()> for T {}
        impl<T: ?Sized + $bound> Answers<Implemented> for T {}
        <$type as Answers<_>>::answer();
    })+};
}

#[test]
fn a_signing_slot_cannot_be_copied_printed_or_compared() {
    assert_not_implemented!(SigningSlot: Clone, Copy, std::fmt::Debug, std::fmt::Display);
    assert_not_implemented!(SigningSlot: PartialEq, std::hash::Hash, AsRef<[u8]>, Default);
    assert_not_implemented!(SigningSlot: serde::Serialize);
    assert_not_implemented!(tutti_proto::identity::IdentityKey: Clone, Copy, std::fmt::Debug);
}
