//! Well-formed messages, made from a seeded generator.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::secp256k1::{Secp256k1, SecretKey};
use bitcoin::{Network, ScriptBuf};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, RngCore};
use tutti_proto::feerate::FeeRate;
use tutti_proto::id::{
    Attempt, Identity, JobId, LaneIndex, RoundId, RoundSeq, SerialId, WindowSeq,
};
use tutti_proto::lane::{Assignments, Worker};
use tutti_proto::message::*;
use tutti_proto::musig::{AggregateNonce, PartialSignature, PublicSlot, SigningSlot};
use tutti_proto::params::PoolParams;
use tutti_proto::plan::{ProposedPlan, RoundInputs, Signer};
use tutti_proto::reject::{Reject, RejectCode};
use tutti_proto::script::PayoutScript;
use tutti_proto::terms::HeaderTerms;
use tutti_proto::window::{
    BookedBlock, Booking, Credit, LedgerHead, LedgerSnapshot, Scoring, Span, Tally, WindowRecord,
};
use tutti_proto::wire::PoolInfo;
use tutti_proto::work::Work;

use crate::bump::Bump;

pub fn identity(rng: &mut StdRng) -> Identity {
    let mut secret: [u8; 32] = rng.random();
    secret[0] = 1; // Below the curve order.
    let secret = SecretKey::from_slice(&secret).unwrap();
    Identity::from(secret.x_only_public_key(&Secp256k1::signing_only()).0)
}

fn signature(rng: &mut StdRng) -> [u8; 64] {
    let mut bytes = [0; 64];
    rng.fill_bytes(&mut bytes);
    bytes
}

fn round(rng: &mut StdRng) -> RoundId {
    RoundId(rng.random())
}

fn lane(rng: &mut StdRng) -> LaneIndex {
    LaneIndex(rng.random_range(0..256))
}

fn many<T>(rng: &mut StdRng, one: impl Fn(&mut StdRng) -> T) -> Vec<T> {
    (0..rng.random_range(2..5)).map(|_| one(rng)).collect()
}

fn hash(rng: &mut StdRng) -> [u8; 32] {
    rng.random()
}

pub fn params(rng: &mut StdRng) -> PoolParams {
    let network = *[
        Network::Bitcoin,
        Network::Testnet,
        Network::Testnet4,
        Network::Signet,
        Network::Regtest,
    ]
    .choose(rng)
    .unwrap();
    let params = PoolParams {
        network,
        coordinator: identity(rng),
        tag: "/Tutti ~/"[..rng.random_range(1..=9)].to_owned(),
        operator_fee_ppm: rng.random_range(0..=1_000_000),
        lanes: rng.random_range(1..=256),
        nonces_per_slot: rng.random_range(256..=1_024),
        direct_payees: rng.random_range(0..=39),
        scoring: *[Scoring::Pplns, Scoring::Epoch].choose(rng).unwrap(),
        pplns_depth: rng.random_range(1..=1_000),
        ntime_roll: rng.random_range(0..=7_200),
        block_zero_bits: (network == Network::Regtest).then(|| rng.random_range(1..=64)),
        bump_credit: rng.random_range(0..=1_000_000),
        bump_credit_after: rng.random_range(1..=1_000),
    };
    params.check().unwrap();
    params
}

pub fn challenge(rng: &mut StdRng) -> Challenge {
    Challenge {
        version: rng.random(),
        nonce: hash(rng),
        params: params(rng),
    }
}

pub fn join(rng: &mut StdRng) -> Join {
    Join {
        identity: identity(rng),
        hashrate: rng.random(),
        user_agent: "tutti-participant/0.1.0 (~ test)".to_owned(),
        signature: signature(rng),
        head: rng.random_bool(0.5).then(|| hash(rng)),
    }
}

pub fn script(rng: &mut StdRng) -> PayoutScript {
    let mut hash = [0u8; 32];
    rng.fill_bytes(&mut hash);
    let (before, len, after): (&[u8], usize, &[u8]) = match rng.random_range(0..5) {
        0 => (&[0x76, 0xa9, 0x14], 20, &[0x88, 0xac]),
        1 => (&[0xa9, 0x14], 20, &[0x87]),
        2 => (&[0x00, 0x14], 20, &[]),
        3 => (&[0x00, 0x20], 32, &[]),
        _ => (&[0x51, 0x20], 32, &[]),
    };
    let script = [before, &hash[..len], after].concat();
    PayoutScript::parse(ScriptBuf::from_bytes(script)).unwrap()
}

pub fn tx_add_output(rng: &mut StdRng) -> TxAddOutput {
    TxAddOutput {
        identity: identity(rng),
        serial_id: SerialId(rng.random()),
        script: script(rng),
        signature: signature(rng),
    }
}

pub fn tx_remove_output(rng: &mut StdRng) -> TxRemoveOutput {
    TxRemoveOutput {
        identity: identity(rng),
        serial_id: SerialId(rng.random()),
        signature: signature(rng),
    }
}

pub fn public_slot(rng: &mut StdRng) -> PublicSlot {
    let nonces = rng.random_range(2..5);
    SigningSlot::generate(rng, nonces).1
}

pub fn announced_slot(rng: &mut StdRng) -> AnnouncedSlot {
    AnnouncedSlot {
        slot: public_slot(rng),
        signature: signature(rng),
    }
}

pub fn slots(rng: &mut StdRng) -> Slots {
    Slots {
        slots: many(rng, announced_slot),
    }
}

pub fn holds(rng: &mut StdRng) -> Holds {
    Holds {
        rounds: (0..3).map(|_| round(rng)).collect(),
    }
}

pub fn tx_complete(rng: &mut StdRng) -> TxComplete {
    TxComplete { round: round(rng) }
}

pub fn tx_signatures(rng: &mut StdRng) -> TxSignatures {
    let partial = |rng: &mut StdRng| {
        let mut scalar = hash(rng);
        scalar[0] = 0; // Below the curve order.
        PartialSignature::parse(&scalar).unwrap()
    };
    TxSignatures {
        round: round(rng),
        proposal: hash(rng),
        partials: many(rng, partial),
        signature: signature(rng),
    }
}

fn reason(rng: &mut StdRng) -> AbortReason {
    AbortReason::from_code(rng.random_range(1..=8)).unwrap()
}

pub fn tx_abort(rng: &mut StdRng) -> TxAbort {
    TxAbort {
        round: round(rng),
        reason: reason(rng),
        signature: signature(rng),
    }
}

/// One signer of each kind, in this order: silent, with bad partial signatures, with a refusal.
pub fn tx_aborted(rng: &mut StdRng) -> TxAborted {
    let bad_partial = Evidence::BadPartial {
        slot: announced_slot(rng),
        signatures: tx_signatures(rng),
    };
    let refused = Evidence::Refused(tx_abort(rng));
    let blamed = [None, Some(bad_partial), Some(refused)];
    TxAborted {
        round: round(rng),
        reason: reason(rng),
        blamed: blamed
            .map(|evidence| Blame {
                identity: identity(rng),
                evidence,
            })
            .into(),
        signature: signature(rng),
    }
}

pub fn output_expired(rng: &mut StdRng) -> OutputExpired {
    OutputExpired {
        serial_id: SerialId(rng.random()),
    }
}

pub fn commit(rng: &mut StdRng) -> Commit {
    Commit {
        round: round(rng),
        signatures: many(rng, signature),
    }
}

fn head(rng: &mut StdRng) -> LedgerHead {
    LedgerHead {
        seq: WindowSeq(rng.random()),
        hash: hash(rng),
    }
}

fn signed_head(rng: &mut StdRng) -> SignedHead {
    SignedHead {
        head: head(rng),
        signature: signature(rng),
    }
}

fn tally(rng: &mut StdRng) -> Tally {
    many(rng, |rng| (identity(rng), Work(rng.random())))
        .into_iter()
        .collect()
}

fn carry(rng: &mut StdRng) -> BTreeMap<Identity, i64> {
    many(rng, |rng| (identity(rng), rng.random()))
        .into_iter()
        .collect()
}

fn booking(rng: &mut StdRng) -> Booking {
    Booking {
        block: hash(rng),
        round: round(rng),
        lane: lane(rng),
        undone: rng.random(),
        carry: carry(rng),
        payouts: hash(rng),
        header: rng.random(),
    }
}

fn booked_block(rng: &mut StdRng) -> BookedBlock {
    BookedBlock {
        round: round(rng),
        lane: lane(rng),
        booked: rng.random(),
        changed: WindowSeq(rng.random()),
        carry: hash(rng),
        payouts: hash(rng),
        credited: many(rng, |rng| rng.random()).into_iter().collect(),
    }
}

fn credit(rng: &mut StdRng) -> Credit {
    let payees = many(rng, identity);
    let fee = rng.random_range(241..=30_000);
    let credit = Bump::new(&payees, &[1], fee).credit().unwrap().unwrap();
    Credit {
        block: hash(rng),
        shard: rng.random(),
        identity: identity(rng),
        sat: rng.random(),
        ..credit
    }
}

pub fn window_closed(rng: &mut StdRng) -> WindowClosed {
    WindowClosed {
        record: WindowRecord {
            seq: WindowSeq(rng.random()),
            height: rng.random(),
            previous: hash(rng),
            shares_root: hash(rng),
            shares: rng.random(),
            tally: tally(rng),
            bookings: many(rng, booking),
            credits: many(rng, credit),
        },
        payees: many(rng, |rng| PayeeWork {
            skipped: rng.random(),
            work: rng.random(),
        }),
        head: signed_head(rng),
    }
}

fn span(rng: &mut StdRng) -> Span {
    Span {
        level: rng.random(),
        last: WindowSeq(rng.random()),
        height: rng.random(),
        tally: tally(rng),
    }
}

pub fn welcome(rng: &mut StdRng) -> Welcome {
    Welcome {
        outputs: many(rng, tx_add_output),
        ledger: Some(ledger(rng)),
        head: signed_head(rng),
    }
}

pub fn welcome_without_ledger(rng: &mut StdRng) -> Welcome {
    Welcome {
        ledger: None,
        ..welcome(rng)
    }
}

pub fn ledger(rng: &mut StdRng) -> LedgerSnapshot {
    LedgerSnapshot {
        seq: WindowSeq(rng.random()),
        previous: hash(rng),
        record: hash(rng),
        spans: many(rng, span),
        carry: carry(rng),
        blocks: many(rng, |rng| (hash(rng), booked_block(rng)))
            .into_iter()
            .collect(),
    }
}

pub fn assignments(rng: &mut StdRng) -> AssignmentsSet {
    let worker = |rng: &mut StdRng| Worker {
        rate: rng.random(),
        z: rng.random_range(0..=96),
    };
    let workers: BTreeMap<Identity, Worker> = many(rng, |rng| (identity(rng), worker(rng)))
        .into_iter()
        .collect();
    AssignmentsSet {
        assignments: Assignments::divide(&workers, rng.random_range(1..4)),
    }
}

pub fn proposal(rng: &mut StdRng) -> Proposal {
    let slots = many(rng, |rng| SigningSlot::generate(rng, 2).1);
    let keys: BTreeSet<_> = slots.iter().map(|slot| slot.key).collect();
    let signer = |key| Signer {
        identity: identity(rng),
        key,
    };
    let signers = keys.into_iter().map(signer).collect();
    let inputs = RoundInputs {
        seq: RoundSeq(rng.random()),
        attempt: Attempt(rng.random()),
        height: rng.random(),
        bits: rng.random(),
        reward: rng.random(),
        witness_commitment: rng.random::<bool>().then(|| hash(rng)),
        feerate: FeeRate::from_sat_per_kvb(rng.random_range(1_000..=1_000_000)).unwrap(),
        roster: hash(rng),
        ledger: head(rng),
        assignments: hash(rng),
        signers,
    };
    let sum = |session: usize| slots.iter().map(move |slot| &slot.nonces[session]);
    Proposal {
        plan: ProposedPlan {
            round: round(rng),
            inputs,
            coinbases: many(rng, hash),
            nonces: (0..2)
                .map(|session| AggregateNonce::sum(sum(session)).unwrap())
                .collect(),
        },
        signature: signature(rng),
    }
}

/// Neither signers nor nonces.
pub fn direct_proposal(rng: &mut StdRng) -> Proposal {
    let mut proposal = proposal(rng);
    proposal.plan.inputs.signers.clear();
    proposal.plan.nonces.clear();
    proposal
}

pub fn job(rng: &mut StdRng) -> Job {
    Job {
        id: JobId(rng.random()),
        round: round(rng),
        header: header_terms(rng),
    }
}

pub fn header_terms(rng: &mut StdRng) -> HeaderTerms {
    HeaderTerms {
        version: rng.random(),
        bits: rng.random(),
        previous_block: hash(rng),
        time_min: rng.random(),
        time_max: rng.random(),
        merkle_path: many(rng, hash),
    }
}

pub fn share(rng: &mut StdRng) -> Share {
    Share {
        seq: rng.random(),
        job: JobId(rng.random()),
        lane: lane(rng),
        version: rng.random(),
        time: rng.random(),
        nonce: rng.random(),
    }
}

pub fn share_ack(rng: &mut StdRng) -> ShareAck {
    ShareAck {
        window: WindowSeq(rng.random()),
        seqs: many(rng, |rng| rng.random()),
    }
}

fn code(rng: &mut StdRng) -> RejectCode {
    *RejectCode::ALL.choose(rng).unwrap()
}

pub fn share_reject(rng: &mut StdRng) -> ShareReject {
    ShareReject {
        seq: rng.random(),
        code: code(rng),
        got: rng.random(),
        want: rng.random(),
    }
}

pub fn block_found(rng: &mut StdRng) -> BlockFound {
    BlockFound {
        height: rng.random(),
        hash: hash(rng),
        round: round(rng),
        lane: lane(rng),
        finder: identity(rng),
    }
}

pub fn reject(rng: &mut StdRng) -> Reject {
    Reject {
        code: code(rng),
        detail: "serial_id 7 is taken: choose another, for example 9 — or none".to_owned(),
    }
}

pub fn info(rng: &mut StdRng) -> PoolInfo {
    let params = params(rng);
    PoolInfo {
        coordinator: params.coordinator,
        network: params.network,
        tag: params.tag.clone(),
        version: rng.random(),
        participants: rng.random(),
        signers: rng.random(),
        round: RoundSeq(rng.random()),
        height: rng.random(),
        window: WindowSeq(rng.random()),
        operator_fee_ppm: params.operator_fee_ppm,
        lanes: params.lanes,
        payees: rng.random(),
        template_time: rng.random(),
        params: rng.random::<bool>().then_some(params),
    }
}

pub fn to_coordinator(rng: &mut StdRng) -> Vec<ToCoordinator> {
    vec![
        ToCoordinator::Join(join(rng)),
        ToCoordinator::TxAddOutput(tx_add_output(rng)),
        ToCoordinator::TxRemoveOutput(tx_remove_output(rng)),
        ToCoordinator::Slots(slots(rng)),
        ToCoordinator::TxComplete(tx_complete(rng)),
        ToCoordinator::TxSignatures(tx_signatures(rng)),
        ToCoordinator::TxAbort(tx_abort(rng)),
        ToCoordinator::Share(share(rng)),
        ToCoordinator::Holds(holds(rng)),
    ]
}

pub fn to_participant(rng: &mut StdRng) -> Vec<ToParticipant> {
    vec![
        ToParticipant::Challenge(challenge(rng)),
        ToParticipant::Welcome(welcome(rng)),
        ToParticipant::Welcome(welcome_without_ledger(rng)),
        ToParticipant::TxAddOutput(tx_add_output(rng)),
        ToParticipant::TxRemoveOutput(tx_remove_output(rng)),
        ToParticipant::WindowClosed(window_closed(rng)),
        ToParticipant::Assignments(assignments(rng)),
        ToParticipant::Proposal(proposal(rng)),
        ToParticipant::Proposal(direct_proposal(rng)),
        ToParticipant::OutputExpired(output_expired(rng)),
        ToParticipant::TxAborted(tx_aborted(rng)),
        ToParticipant::Commit(commit(rng)),
        ToParticipant::Job(job(rng)),
        ToParticipant::ShareAck(share_ack(rng)),
        ToParticipant::ShareReject(share_reject(rng)),
        ToParticipant::BlockFound(block_found(rng)),
        ToParticipant::Reject(reject(rng)),
    ]
}
