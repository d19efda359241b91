//! Lists that are too long, or not in the one order that they have.

use tutti_proto::message::{HOLDS_LIMIT, SLOTS_LIMIT};
use tutti_proto::params::{LANES_LIMIT, NONCES_LIMIT};
use tutti_proto::reject::RejectCode::{Malformed, Oversized};
use tutti_proto::roster::PAYEES_LIMIT;
use tutti_proto::segment::{SignedRound, WindowPart};
use tutti_proto::window::CREDITS_LIMIT;
use tutti_proto::wire::*;

use crate::lengths::bad_partial_of;
use crate::malformed::{refused, rng};
use crate::sample;

#[test]
fn lists_beyond_their_limits_are_refused_unread() {
    let rng = &mut rng();
    fn too_many<T: Clone + Default>(limit: usize) -> Vec<T> {
        vec![T::default(); limit + 1]
    }
    let nonces = usize::from(NONCES_LIMIT);
    assert_eq!((nonces, usize::from(LANES_LIMIT)), (1_024, 256));
    refused(
        &sample::slots(rng),
        &[
            ("slots: 9 elements, at most 8 are allowed", Oversized, |m| {
                m.slots = too_many(SLOTS_LIMIT)
            }),
            (
                "slots[0].slot.nonces: 1025 elements, at most 1024 are allowed",
                Oversized,
                |m| m.slots[0].slot.as_mut().unwrap().nonces = too_many(1_024),
            ),
        ],
    );
    refused(
        &sample::holds(rng),
        &[(
            "rounds: 9 elements, at most 8 are allowed",
            Oversized,
            |m| m.rounds = too_many(HOLDS_LIMIT),
        )],
    );
    refused(
        &sample::tx_signatures(rng),
        &[(
            "partials: 1025 elements, at most 1024 are allowed",
            Oversized,
            |m| m.partials = too_many(1_024),
        )],
    );
    refused(
        &sample::commit(rng),
        &[(
            "signatures: 1025 elements, at most 1024 are allowed",
            Oversized,
            |m| m.signatures = too_many(1_024),
        )],
    );
    refused(
        &sample::tx_aborted(rng),
        &[
            (
                "blamed: 10001 elements, at most 10000 are allowed",
                Oversized,
                |m| m.blamed = too_many(SIGNERS_LIMIT),
            ),
            (
                "blamed[1].bad_partial.slot.slot.nonces: 1025 elements, at most 1024 are allowed",
                Oversized,
                |m| {
                    let slot = bad_partial_of(m).slot.as_mut().unwrap();
                    slot.slot.as_mut().unwrap().nonces = too_many(1_024)
                },
            ),
            (
                "blamed[1].bad_partial.signatures.partials: 1025 elements, at most 1024 are allowed",
                Oversized,
                |m| bad_partial_of(m).signatures.as_mut().unwrap().partials = too_many(1_024),
            ),
        ],
    );
    refused(
        &sample::proposal(rng).plan,
        &[
            (
                "coinbases: 257 elements, at most 256 are allowed",
                Oversized,
                |m| m.coinbases = too_many(256),
            ),
            (
                "nonces: 1025 elements, at most 1024 are allowed",
                Oversized,
                |m| m.nonces = too_many(1_024),
            ),
            (
                "inputs.signers: 10001 elements, at most 10000 are allowed",
                Oversized,
                |m| m.inputs.as_mut().unwrap().signers = too_many(SIGNERS_LIMIT),
            ),
        ],
    );
    refused(
        &sample::job(rng),
        &[(
            "header.merkle_path: 33 elements, at most 32 are allowed",
            Oversized,
            |m| m.header.as_mut().unwrap().merkle_path = too_many(32),
        )],
    );
    refused(
        &sample::share_ack(rng),
        &[(
            "seqs: 65537 elements, at most 65536 are allowed",
            Oversized,
            |m| m.seqs = too_many(SHARE_SEQS_LIMIT),
        )],
    );
    refused(
        &sample::assignments(rng),
        &[(
            "slices: 65537 elements, at most 65536 are allowed",
            Oversized,
            |m| m.slices = too_many(65_536),
        )],
    );
    refused(
        &sample::welcome(rng),
        &[
            (
                "outputs: 100001 elements, at most 100000 are allowed",
                Oversized,
                |m| m.outputs = too_many(PAYEES_LIMIT),
            ),
            (
                "ledger.spans: 1409 elements, at most 1408 are allowed",
                Oversized,
                |m| m.ledger.as_mut().unwrap().spans = too_many(SPANS_LIMIT),
            ),
            (
                "ledger.carry: 1000001 elements, at most 1000000 are allowed",
                Oversized,
                |m| m.ledger.as_mut().unwrap().carry = too_many(ENTRIES_LIMIT),
            ),
        ],
    );
    refused(
        &sample::window_closed(rng),
        &[(
            "skipped: 100001 elements, at most 100000 are allowed",
            Oversized,
            |m| {
                m.skipped = too_many(PAYEES_LIMIT);
                m.work = too_many(PAYEES_LIMIT);
            },
        )],
    );
    refused(
        &sample::window_closed(rng).record,
        &[
            (
                "bookings: 1025 elements, at most 1024 are allowed",
                Oversized,
                |m| m.bookings = too_many(BOOKINGS_LIMIT),
            ),
            (
                "credits: 17 elements, at most 16 are allowed",
                Oversized,
                |m| m.credits = too_many(CREDITS_LIMIT),
            ),
            (
                "credits[0].proof.shards: 1025 elements, at most 1024 are allowed",
                Oversized,
                |m| m.credits[0].proof.as_mut().unwrap().shards = too_many(SHARDS_LIMIT),
            ),
            (
                "credits[0].proof.payees: 1025 elements, at most 1024 are allowed",
                Oversized,
                |m| m.credits[0].proof.as_mut().unwrap().payees = too_many(PAYOUT_PAYEES_LIMIT),
            ),
            (
                "tally: 1000001 elements, at most 1000000 are allowed",
                Oversized,
                |m| m.tally = too_many(ENTRIES_LIMIT),
            ),
        ],
    );
}

/// A part and a payout of as many bytes as may be are read, one more is refused.
#[test]
fn bytes_without_a_fixed_length_beyond_their_limits_are_oversized() {
    let part = |shares: usize| {
        let shares = vec![0; shares * 20].into();
        let part = pb::WindowPart {
            shares,
            ..Default::default()
        };
        WindowPart::from_wire(part)
    };
    let most = part(65_536).expect("as many as a part may have");
    assert_eq!(most.shares.len(), 65_536);
    let error = part(65_537).expect_err("one more");
    let text = "shares: 65537 elements, at most 65536 are allowed";
    assert_eq!(
        (error.to_string().as_str(), error.code()),
        (text, Oversized)
    );

    let signed = |payout: usize| {
        let payout = vec![0; payout].into();
        let signed = pb::SignedRound {
            payout,
            terms: Some(Default::default()),
        };
        SignedRound::from_wire(signed).expect_err("no terms")
    };
    assert_eq!(signed(40_000).code(), Malformed);
    let error = signed(40_001);
    let text = "payout: 40001 bytes, at most 40000 are allowed";
    assert_eq!(
        (error.to_string().as_str(), error.code()),
        (text, Oversized)
    );
}

#[test]
fn lists_that_stand_for_maps_have_one_order() {
    let rng = &mut rng();
    let not_above = "not above the element before it";
    let case = |path: &str| format!("{path}[1]: {not_above}");
    refused(
        &sample::window_closed(rng).record,
        &[
            (&case("tally"), Malformed, |m| m.tally.swap(0, 1)),
            (&case("tally"), Malformed, |m| {
                m.tally[1] = m.tally[0].clone()
            }),
            (&case("bookings[0].carry"), Malformed, |m| {
                m.bookings[0].carry.swap(0, 1)
            }),
        ],
    );
    refused(
        &sample::ledger(rng),
        &[
            (&case("carry"), Malformed, |m| {
                m.carry[1] = m.carry[0].clone()
            }),
            (&case("workers"), Malformed, |m| {
                m.workers = [&m.workers[32..64], &m.workers[..32], &m.workers[64..]]
                    .concat()
                    .into();
            }),
        ],
    );
    refused(
        &sample::proposal(rng).plan.inputs,
        &[
            (&case("signers"), Malformed, |m| m.signers.swap(0, 1)),
            (&case("signers"), Malformed, |m| {
                m.signers[1] = m.signers[0].clone()
            }),
        ],
    );
    refused(
        &sample::assignments(rng),
        &[(&case("slices"), Malformed, |m| m.slices.swap(0, 1))],
    );
}
