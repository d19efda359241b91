//! Every way in which a field can be wrong, and the path and code that it is refused with.

use std::fmt::Debug;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tutti_proto::id::{Identity, WindowSeq};
use tutti_proto::message::{ToCoordinator, ToParticipant, USER_AGENT_LIMIT};
use tutti_proto::reject::RejectCode::{self, Malformed, NonStandardScript, Oversized};
use tutti_proto::window::{LedgerSnapshot, Span};
use tutti_proto::wire::*;
use tutti_proto::work::Work;

use crate::lengths::{bad_partial_of, refusal_of};
use crate::sample;

pub fn rng() -> StdRng {
    StdRng::seed_from_u64(7)
}

pub fn refusal<T: FromWire + Debug>(_: &T, message: T::Message) -> WireError {
    T::from_wire(message).expect_err("a spoiled message was accepted")
}

type Spoil<M> = fn(&mut M);

pub fn refused<T: FromWire + Debug>(good: &T, cases: &[(&str, RejectCode, Spoil<T::Message>)]) {
    for (text, code, spoil) in cases {
        let mut message = good.to_wire();
        spoil(&mut message);
        let error = refusal(good, message);
        assert_eq!(error.to_string(), *text);
        assert_eq!(error.code(), *code, "{text}");
    }
}

fn envelope(message: ToParticipant) -> pb::ToParticipant {
    message.to_wire()
}

/// Two who work, in a window of both and one of the first.
fn snapshot() -> LedgerSnapshot {
    let rng = &mut StdRng::seed_from_u64(1);
    let work = |who: &[(Identity, u128)], last: u64| Span {
        level: 0,
        last: WindowSeq(last),
        height: 1,
        tally: who.iter().map(|(who, work)| (*who, Work(*work))).collect(),
    };
    let mut who = [sample::identity(rng), sample::identity(rng)];
    who.sort();
    LedgerSnapshot {
        spans: vec![
            work(&[(who[0], 5), (who[1], 1 << 40)], 1),
            work(&[(who[0], 7)], 2),
        ],
        ..sample::ledger(rng)
    }
}

#[test]
fn a_span_costs_some_ten_bytes_for_everyone_who_worked() {
    let rng = &mut StdRng::seed_from_u64(1);
    let who: Vec<Identity> = (0..1_000).map(|_| sample::identity(rng)).collect();
    let span = |last| Span {
        level: 0,
        last: WindowSeq(last),
        height: 1,
        tally: who.iter().map(|who| (*who, Work(3 << 38))).collect(),
    };
    let snapshot = LedgerSnapshot {
        spans: (0..100).map(span).collect(),
        ..snapshot()
    };
    let bytes = snapshot.encode();
    assert!(
        bytes.len() < 1_000 * 33 + 100 * 1_000 * 8,
        "{}",
        bytes.len()
    );
    assert_eq!(LedgerSnapshot::decode(&bytes), Ok(snapshot));
    let beyond = Span {
        tally: [(who[0], Work(u128::MAX)), (who[1], Work(1))].into(),
        ..span(101)
    };
    let snapshot = LedgerSnapshot {
        spans: vec![beyond],
        ..self::snapshot()
    };
    assert_eq!(LedgerSnapshot::decode(&snapshot.encode()), Ok(snapshot));
}

#[test]
fn missing_messages() {
    let rng = &mut rng();
    let missing = pb::ToCoordinator { message: None };
    let error = ToCoordinator::from_wire(missing).unwrap_err();
    assert_eq!(
        (error.to_string().as_str(), error.code()),
        ("message: missing", Malformed)
    );
    assert!(ToCoordinator::decode(&[]).is_err());
    assert!(ToParticipant::decode(&[]).is_err());

    refused(
        &sample::challenge(rng),
        &[("params: missing", Malformed, |m| m.params = None)],
    );
    refused(
        &sample::welcome(rng),
        &[
            ("head: missing", Malformed, |m| m.head = None),
            ("head.head: missing", Malformed, |m| {
                m.head.as_mut().unwrap().head = None
            }),
        ],
    );
    refused(
        &sample::window_closed(rng),
        &[
            ("record: missing", Malformed, |m| m.record = None),
            ("work: 1 elements, expected 2", Malformed, |m| {
                m.skipped.truncate(2);
                m.work.truncate(1);
            }),
        ],
    );
    refused(
        &sample::slots(rng),
        &[("slots[1].slot: missing", Malformed, |m| {
            m.slots[1].slot = None
        })],
    );
    refused(
        &sample::tx_aborted(rng),
        &[
            ("blamed[1].bad_partial.slot: missing", Malformed, |m| {
                bad_partial_of(m).slot = None
            }),
            ("blamed[1].bad_partial.slot.slot: missing", Malformed, |m| {
                bad_partial_of(m).slot.as_mut().unwrap().slot = None
            }),
            (
                "blamed[1].bad_partial.signatures: missing",
                Malformed,
                |m| bad_partial_of(m).signatures = None,
            ),
        ],
    );
    refused(
        &sample::proposal(rng),
        &[
            ("plan: missing", Malformed, |m| m.plan = None),
            ("plan.inputs: missing", Malformed, |m| {
                m.plan.as_mut().unwrap().inputs = None
            }),
        ],
    );
    refused(
        &sample::proposal(rng).plan.inputs,
        &[
            ("ledger: missing", Malformed, |m| m.ledger = None),
            (
                "feerate: feerate of 0 sat/kvB is outside the allowed range",
                Malformed,
                |m| m.feerate = 0,
            ),
        ],
    );
}

#[test]
fn a_path_starts_with_the_message_and_names_every_index() {
    let rng = &mut rng();
    let mut message = envelope(ToParticipant::Proposal(sample::proposal(rng)));
    let Some(pb::to_participant::Message::Proposal(proposal)) = &mut message.message else {
        unreachable!()
    };
    let inputs = proposal.plan.as_mut().unwrap().inputs.as_mut().unwrap();
    // 0x02 and 0x03 say which of the two points; no other first byte is a compressed key.
    let mut key = inputs.signers[1].key.to_vec();
    key[0] ^= 4;
    inputs.signers[1].key = key.into();
    let error = ToParticipant::from_wire(message).unwrap_err();
    assert_eq!(error.path, "proposal.plan.inputs.signers[1].key");
    assert_eq!(error.code(), Malformed);
    let reject: tutti_proto::reject::Reject = error.into();
    assert_eq!(reject.code, Malformed);
    assert!(
        reject
            .detail
            .starts_with("proposal.plan.inputs.signers[1].key: not a compressed")
    );
}

#[test]
fn bytes_of_the_right_length_that_are_not_keys() {
    let rng = &mut rng();
    let not_a_point = |m: &mut pb::Join| m.identity = vec![0xff; 32].into();
    refused(
        &sample::join(rng),
        &[("identity: not an x-only public key", Malformed, not_a_point)],
    );
    refused(
        &sample::tx_aborted(rng),
        &[(
            "blamed[0].identity: not an x-only public key",
            Malformed,
            |m| m.blamed[0].identity = vec![0xff; 32].into(),
        )],
    );
    refused(
        &sample::slots(rng),
        &[
            (
                "slots[0].slot.key: not a compressed public key",
                Malformed,
                |m| m.slots[0].slot.as_mut().unwrap().key = vec![5; 33].into(),
            ),
            (
                "slots[0].slot.nonces[1]: not a public nonce",
                Malformed,
                |m| m.slots[0].slot.as_mut().unwrap().nonces[1] = vec![4; 66].into(),
            ),
        ],
    );
    refused(
        &sample::tx_signatures(rng),
        &[("partials[0]: not a partial signature", Malformed, |m| {
            m.partials[0] = vec![0xff; 32].into()
        })],
    );
    refused(
        &sample::challenge(rng),
        &[(
            "params.network: not the magic bytes of a known chain",
            Malformed,
            |m| m.params.as_mut().unwrap().network = vec![1, 2, 3, 4].into(),
        )],
    );
}

#[test]
fn scripts_that_no_node_relays() {
    refused(
        &sample::tx_add_output(&mut rng()),
        &[
            (
                "script: script of 0 bytes is not of a standard type",
                NonStandardScript,
                |m| m.script.clear(),
            ),
            (
                "script: script of 4 bytes is not of a standard type",
                NonStandardScript,
                |m| m.script = vec![0x51, 0x02, 0x4e, 0x73].into(),
            ),
            (
                "script: script of 100000 bytes is not of a standard type",
                NonStandardScript,
                |m| m.script = vec![0x6a; 100_000].into(),
            ),
        ],
    );
}

#[test]
fn texts_that_are_too_long_or_not_printable() {
    let rng = &mut rng();
    refused(
        &sample::join(rng),
        &[
            (
                "user_agent: 65 bytes, at most 64 are allowed",
                Oversized,
                |m| m.user_agent = "x".repeat(USER_AGENT_LIMIT + 1),
            ),
            (
                "user_agent: characters that are not printable",
                Malformed,
                |m| m.user_agent.push('\n'),
            ),
            (
                "user_agent: characters that are not printable",
                Malformed,
                |m| m.user_agent.push('é'),
            ),
        ],
    );
    refused(
        &sample::reject(rng),
        &[
            (
                "detail: 513 bytes, at most 512 are allowed",
                Oversized,
                |m| m.detail = "x".repeat(DETAIL_LIMIT + 1),
            ),
            (
                "detail: characters that are not printable",
                Malformed,
                |m| m.detail.push('\u{1b}'),
            ),
        ],
    );
    refused(
        &sample::params(rng),
        &[
            ("tag: 33 bytes, at most 32 are allowed", Oversized, |m| {
                m.tag = "x".repeat(33)
            }),
            (
                "tag: tag must be 1 to 32 printable ASCII characters",
                Malformed,
                |m| m.tag.clear(),
            ),
        ],
    );
    refused(
        &sample::info(rng),
        &[
            ("tag: missing", Malformed, |m| m.tag.clear()),
            ("lanes: missing", Malformed, |m| m.lanes = 0),
        ],
    );
}

#[test]
fn numbers_out_of_their_range() {
    let rng = &mut rng();
    refused(
        &sample::share(rng),
        &[("lane: 256, at most 255 is allowed", Malformed, |m| {
            m.lane = 256
        })],
    );
    refused(
        &sample::assignments(rng),
        &[("slices[1].z: 97, at most 96 is allowed", Malformed, |m| {
            m.slices[1].z = 97
        })],
    );
    refused(
        &sample::block_found(rng),
        &[("lane: 65536, at most 255 is allowed", Malformed, |m| {
            m.lane = 65_536
        })],
    );
    refused(
        &sample::tx_abort(rng),
        &[
            ("reason: unknown value 0", Malformed, |m| m.reason = 0),
            ("reason: unknown value -1", Malformed, |m| m.reason = -1),
            ("reason: unknown value 10", Malformed, |m| m.reason = 10),
        ],
    );
    refused(
        &sample::tx_aborted(rng),
        &[
            ("reason: unknown value 0", Malformed, |m| m.reason = 0),
            (
                "blamed[2].refused.reason: unknown value 10",
                Malformed,
                |m| refusal_of(m).reason = 10,
            ),
        ],
    );
    refused(
        &sample::share_reject(rng),
        &[("code: unknown value 10", Malformed, |m| m.code = 10)],
    );
    refused(
        &sample::reject(rng),
        &[("code: unknown value 0", Malformed, |m| m.code = 0)],
    );
    refused(
        &sample::assignments(rng),
        &[
            (
                "slices[0].prefix: 65536, at most 65535 is allowed",
                Malformed,
                |m| m.slices[0].prefix = 65_536,
            ),
            (
                "slices[0].prefix_len: 17, at most 16 is allowed",
                Malformed,
                |m| m.slices[0].prefix_len = 17,
            ),
            (
                "slices: two slices of lane 0 overlap at 0x0001",
                Malformed,
                |m| {
                    m.slices = vec![m.slices[0].clone(); 2];
                    (m.slices[0].lane, m.slices[0].prefix, m.slices[0].prefix_len) = (0, 0, 0);
                    (m.slices[1].lane, m.slices[1].prefix, m.slices[1].prefix_len) = (0, 1, 16);
                },
            ),
        ],
    );
    refused(
        &sample::params(rng),
        &[
            ("lanes: 70000, at most 256 is allowed", Malformed, |m| {
                m.lanes = 70_000
            }),
            ("lanes: lanes is 0, outside 1..=256", Malformed, |m| {
                m.lanes = 0
            }),
            ("direct_payees: 40, at most 39 is allowed", Malformed, |m| {
                m.direct_payees = 40
            }),
            (
                "pplns_depth: pplns_depth is 0, outside 1..=1,000",
                Malformed,
                |m| m.pplns_depth = 0,
            ),
            (
                "ntime_roll: ntime_roll is 7201 s, above 7200 s",
                Malformed,
                |m| m.ntime_roll = 7_201,
            ),
            (
                "operator_fee_ppm: operator_fee_ppm is 1000001, above 1,000,000",
                Malformed,
                |m| m.operator_fee_ppm = 1_000_001,
            ),
            (
                "block_zero_bits: block_zero_bits is for regtest only, 1..=64",
                Malformed,
                |m| m.block_zero_bits = Some(65),
            ),
            (
                "bump_credit: bump_credit is 1000001 sat, above 1,000,000",
                Malformed,
                |m| m.bump_credit = 1_000_001,
            ),
            (
                "bump_credit_after: bump_credit_after is 0, outside 1..=1,000",
                Malformed,
                |m| m.bump_credit_after = 0,
            ),
            (
                "bump_credit_after: 1001, at most 1000 is allowed",
                Malformed,
                |m| m.bump_credit_after = 1_001,
            ),
        ],
    );
    refused(
        &sample::welcome(rng),
        &[(
            "ledger.spans[1].level: 256, at most 255 is allowed",
            Malformed,
            |m| m.ledger.as_mut().unwrap().spans[1].level = 256,
        )],
    );
    refused(
        &snapshot(),
        &[
            ("workers: 63 bytes, expected 32", Malformed, |m| {
                m.workers.truncate(63)
            }),
            ("workers[0]: not an x-only public key", Malformed, |m| {
                m.workers = [[0; 32].as_slice(), &m.workers[32..]].concat().into()
            }),
            ("spans[0].who[1]: 2, at most 1 is allowed", Malformed, |m| {
                m.spans[0].who[1] = 1
            }),
            (
                "spans[0].who[0]: 4294967295, at most 1 is allowed",
                Malformed,
                |m| m.spans[0].who[0] = u32::MAX,
            ),
            ("spans[1].work: 0 elements, expected 1", Malformed, |m| {
                m.spans[1].work.clear()
            }),
            (
                "spans[0].work_high: 1 elements, expected 2",
                Malformed,
                |m| m.spans[0].work_high = vec![1],
            ),
            (
                "spans[0].work_high: 2 elements, expected 2",
                Malformed,
                |m| m.spans[0].work_high = vec![0, 0],
            ),
            ("workers[1]: missing", Malformed, |m| {
                m.spans[0].who.pop();
                m.spans[0].work.pop();
            }),
        ],
    );
}
