//! The arithmetic of a round on one core: what a participant does between proposal and partial
//! signatures, and the coordinator between the last partial signature and verified payouts.
//! Limit of the latter: adding all partial signatures and one verification per lane.

use std::hint::black_box;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tutti_benches::{Printer, Row, median};
use tutti_proto::musig::{
    AggregateKey, AggregateNonce, PartialSignature, PublicSlot, Session, SigningSlot, SlotKey,
};

struct Round {
    key: AggregateKey,
    sessions: Vec<Session>,
    sighashes: Vec<[u8; 32]>,
    partials: Vec<Vec<PartialSignature>>,
}

fn slots(rng: &mut StdRng, signers: usize, lanes: usize) -> Vec<(SigningSlot, PublicSlot)> {
    let mut slots: Vec<_> = (0..signers)
        .map(|_| SigningSlot::generate(rng, lanes))
        .collect();
    slots.sort_by_key(|(_, public)| public.key);
    slots
}

fn sessions(key: &AggregateKey, slots: &[PublicSlot], sighashes: &[[u8; 32]]) -> Vec<Session> {
    let session = |(lane, sighash): (usize, &[u8; 32])| {
        let nonce = AggregateNonce::sum(slots.iter().map(|slot| &slot.nonces[lane]));
        Session::new(key, &nonce.expect("there are signers"), sighash)
    };
    sighashes.iter().enumerate().map(session).collect()
}

fn round(signers: usize, lanes: usize) -> Round {
    let mut rng = StdRng::seed_from_u64(1);
    let (secret, public): (Vec<_>, Vec<_>) = slots(&mut rng, signers, lanes).into_iter().unzip();
    let keys: Vec<SlotKey> = public.iter().map(|slot| slot.key).collect();
    let key = AggregateKey::new(keys, &[3; 32]).expect("distinct keys");
    let sighashes: Vec<[u8; 32]> = (0..lanes).map(|lane| [lane as u8; 32]).collect();
    let sessions = sessions(&key, &public, &sighashes);
    let sign = |slot: SigningSlot| slot.sign(&key, &sessions).expect("a signer");
    let partials = secret.into_iter().map(sign).collect();
    Round {
        key,
        sessions,
        sighashes,
        partials,
    }
}

fn main() {
    let mut printer = Printer::new("round");
    for signers in [2usize, 10, 100, 250] {
        for lanes in [1usize, 4, 16] {
            let Round {
                key,
                sessions,
                sighashes,
                partials,
            } = round(signers, lanes);
            let parameters = vec![("signers", signers as u64), ("lanes", lanes as u64)];
            let combine = |lane: usize| {
                let of_lane = partials.iter().map(|partials| &partials[lane]);
                sessions[lane]
                    .combine(&key, &sighashes[lane], of_lane)
                    .expect("valid partials")
            };
            let value = median(
                || (),
                |()| {
                    (0..lanes).for_each(|lane| {
                        black_box(combine(lane));
                    });
                },
            );
            let signature = combine(0);
            let limit = median(
                || (),
                |()| {
                    for _ in 0..lanes {
                        black_box(key.verify(&sighashes[0], black_box(&signature)));
                    }
                },
            );
            let figure = "coordinator: combine, verify";
            printer.row(&Row {
                parameters: parameters.clone(),
                figure,
                value,
                limit: Some(limit),
            });

            let mut rng = StdRng::seed_from_u64(2);
            let keys = key.signers().to_vec();
            let own = || {
                let (slot, public) = SigningSlot::generate(&mut rng, lanes);
                let mut keys = keys[1..].to_vec();
                keys.push(public.key);
                keys.sort();
                (
                    slot,
                    keys,
                    AggregateNonce::sum(public.nonces.iter().take(1)).expect("one nonce"),
                )
            };
            let value = median(own, |(slot, keys, nonce)| {
                let key = AggregateKey::new(keys, &[3; 32]).expect("distinct keys");
                let sessions: Vec<Session> = sighashes
                    .iter()
                    .map(|sighash| Session::new(&key, &nonce, sighash))
                    .collect();
                black_box(slot.sign(&key, &sessions).expect("a signer"));
            });
            printer.row(&Row {
                parameters,
                figure: "participant: keys, sessions, sign",
                value,
                limit: None,
            });
        }
    }
}
