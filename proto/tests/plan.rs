//! The plan check, invariants 1 and 3: every field of a proposal, and what happens when it lies.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use bitcoin::hashes::Hash;
use bitcoin::secp256k1::{Message, Secp256k1, schnorr};
use bitcoin::sighash::{Prevouts, SighashCache};
use bitcoin::{TapSighashType, Transaction, XOnlyPublicKey};
use support::pool::{Attempted, Me, Pool, combine, to_sign};
use tutti_proto::feerate::FeeRate;
use tutti_proto::id::{Attempt, LaneIndex, RoundId, RoundSeq, SerialId, WindowSeq};
use tutti_proto::message::Proposal;
use tutti_proto::musig::{MusigError, SigningSlot};
use tutti_proto::plan::{CheckedPlan, CompleteError, PlanError, ProposedPlan};
use tutti_proto::split::{MAX_MONEY, SplitError};

/// Three miners with work, one of them owed something, and one that only joined.
fn pool() -> Pool {
    let mut pool = Pool::new("plan", 4);
    pool.close_window(&[(1, 10_000), (2, 30_000)], &[]);
    pool.close_window(&[(2, 5_000), (3, 20_000)], &[(1, 250), (3, -100)]);
    pool
}

/// A proposal as miner 1 gets it, signed by the coordinator and miners 1 to 3.
struct Case {
    pool: Pool,
    proposal: ProposedPlan,
    me: Me,
    attempted: Attempted,
}

fn case() -> Case {
    let mut pool = pool();
    let attempted = pool.propose(&[0, 1, 2, 3]);
    Case {
        me: attempted.me(pool.identity(1)),
        proposal: attempted.proposal.clone(),
        pool,
        attempted,
    }
}

impl Case {
    fn check(&self) -> Result<CheckedPlan, PlanError> {
        self.proposal
            .check(&self.pool.view(), &self.me.checker())
            .map(to_sign)
    }

    /// A careful liar: the round's name and coinbases follow from the inputs it gives.
    fn reseal(&mut self) {
        let inputs = self.proposal.inputs.clone();
        self.proposal = self.pool.seal(inputs, self.proposal.nonces.clone());
    }

    fn signer(&self, n: usize) -> usize {
        let identity = self.pool.identity(n);
        let place = |s: &tutti_proto::plan::Signer| s.identity == identity;
        self.proposal.inputs.signers.iter().position(place).unwrap()
    }
}

#[test]
fn an_honest_proposal_is_accepted_by_signers_and_payees() {
    let case = case();
    let plan = case.check().unwrap();
    assert_eq!(plan.round(), case.proposal.round);
    assert_eq!(plan.lanes().len(), 2);
    let payee = case.attempted.me(case.pool.identity(4));
    let as_payee = case.proposal.check(&case.pool.view(), &payee.checker());
    assert_eq!(to_sign(as_payee.unwrap()).lanes(), plan.lanes());
}

type Lie = (&'static str, fn(&mut Case), fn(&PlanError) -> bool);

macro_rules! is {
    ($pattern:pat) => {
        |error| matches!(error, $pattern)
    };
}

/// What a coordinator may change, one thing each.
#[rustfmt::skip] // One lie per line.
const LIES: &[Lie] = &[
    // The name covers every input; whoever changes one and keeps the name is caught by it.
    ("the round's name is another", |c| c.proposal.round.0[0] ^= 1, is!(PlanError::Transcript { .. })),
    ("the round number is another", |c| { c.proposal.inputs.seq.0 += 1; c.reseal() }, is!(PlanError::RoundNumber { seq: RoundSeq(3), window: WindowSeq(2) })),
    ("the attempt is another", |c| c.proposal.inputs.attempt.0 += 1, is!(PlanError::Transcript { .. })),
    ("the height is another", |c| c.proposal.inputs.height += 1, is!(PlanError::Transcript { .. })),
    ("the target is another", |c| c.proposal.inputs.bits = 0x2070_0000, is!(PlanError::Transcript { .. })),
    ("the reward is higher", |c| c.proposal.inputs.reward += 1, is!(PlanError::Transcript { .. })),
    ("the reward is lower", |c| c.proposal.inputs.reward -= 1, is!(PlanError::Transcript { .. })),
    ("the witness commitment is another", |c| c.proposal.inputs.witness_commitment = Some([7; 32]), is!(PlanError::Transcript { .. })),
    ("the witness commitment is gone", |c| c.proposal.inputs.witness_commitment = None, is!(PlanError::Transcript { .. })),
    ("the feerate is another", |c| c.proposal.inputs.feerate = FeeRate::FLOOR, is!(PlanError::Transcript { .. })),
    ("a signer is another's", |c| { let n = c.signer(2); c.proposal.inputs.signers[n].identity = c.pool.identity(4) }, is!(PlanError::Transcript { .. })),
    ("a signer is left out", |c| { let n = c.signer(3); c.proposal.inputs.signers.remove(n); }, is!(PlanError::Transcript { .. })),
    // Replicated state: compared before anything is computed from it.
    ("the payee set is another", |c| c.proposal.inputs.roster[0] ^= 1, is!(PlanError::Roster)),
    ("we know of one payee more", |c| c.pool.add_output(4, 99), is!(PlanError::Roster)),
    ("the ledger's hash is another", |c| c.proposal.inputs.ledger.hash[0] ^= 1, is!(PlanError::Ledger { .. })),
    ("the ledger's number is another", |c| c.proposal.inputs.ledger.seq = WindowSeq(9), is!(PlanError::Ledger { .. })),
    ("we know of one window more", |c| c.pool.close_window(&[(1, 1)], &[]), is!(PlanError::Ledger { .. })),
    ("the assignments are others", |c| c.proposal.inputs.assignments[0] ^= 1, is!(PlanError::Assignments)),
    ("our assignments are others", |c| c.pool.assignments = Default::default(), is!(PlanError::Assignments)),
    // Lies with a name that fits them.
    ("the height is zero", |c| { c.proposal.inputs.height = 0; c.reseal() }, is!(PlanError::Height(0))),
    ("the reward is below the subsidy", |c| { c.proposal.inputs.reward = 2_499_999_999; c.reseal() }, is!(PlanError::RewardBelowSubsidy { reward: 2_499_999_999, subsidy: 2_500_000_000, height: 151 })),
    ("the reward is beyond all money", |c| { c.proposal.inputs.reward = MAX_MONEY + 1; c.reseal() }, is!(PlanError::Split(SplitError::RewardAboveMoney(_)))),
    ("signers are not sorted", |c| { c.proposal.inputs.signers.swap(0, 1); c.reseal() }, is!(PlanError::Signers(_))),
    ("a key signs twice", |c| { let s = c.proposal.inputs.signers[3]; c.proposal.inputs.signers.push(s); c.reseal() }, is!(PlanError::Signers(_))),
    ("an identity signs twice", |c| { let n = c.signer(2); c.proposal.inputs.signers[n].identity = c.pool.identity(3); c.reseal() }, is!(PlanError::Signers(_))),
    ("the coordinator does not sign", |c| { let n = c.signer(0); c.proposal.inputs.signers.remove(n); c.reseal() }, is!(PlanError::Signers(_))),
    // Without signers it is a direct round, which has neither nonces nor these coinbases.
    ("nobody signs", |c| { c.proposal.inputs.signers.clear(); c.reseal() }, is!(PlanError::Nonces { got: 2, sessions: 0 })),
    ("nobody signs, and the coinbases pay a key", |c| { let paid = c.proposal.coinbases.clone(); c.proposal.inputs.signers.clear(); c.proposal.nonces.clear(); c.reseal(); c.proposal.coinbases = paid }, is!(PlanError::Coinbase(LaneIndex(0)))),
    ("our slot is said to be another's", |c| { let n = c.signer(1); c.proposal.inputs.signers[n].identity = c.pool.identity(4); c.reseal() }, is!(PlanError::OurSlot)),
    ("another's key is said to be ours", |c| { let key = c.proposal.inputs.signers[c.signer(1)].key; c.me.slots.remove(&key); }, is!(PlanError::OurSlot)),
    // What follows from the inputs.
    ("a coinbase is another", |c| c.proposal.coinbases[1][0] ^= 1, is!(PlanError::Coinbase(LaneIndex(1)))),
    ("the coinbases are swapped", |c| c.proposal.coinbases.swap(0, 1), is!(PlanError::Coinbase(LaneIndex(0)))),
    ("a coinbase is missing", |c| c.proposal.coinbases.truncate(1), is!(PlanError::Coinbase(LaneIndex(1)))),
    ("a coinbase is one too many", |c| c.proposal.coinbases.push([1; 32]), is!(PlanError::Coinbase(LaneIndex(2)))),
    ("a nonce is missing", |c| c.proposal.nonces.truncate(1), is!(PlanError::Nonces { got: 1, sessions: 2 })),
    ("a nonce is one too many", |c| c.proposal.nonces.push(c.proposal.nonces[0]), is!(PlanError::Nonces { got: 3, sessions: 2 })),
    // Old proposals.
    ("the attempt was seen", |c| c.me.last = Some((RoundSeq(2), Attempt(0))), is!(PlanError::NotNewer { seq: RoundSeq(2), attempt: Attempt(0) })),
    ("a later attempt was seen", |c| c.me.last = Some((RoundSeq(2), Attempt(1))), is!(PlanError::NotNewer { .. })),
    ("a later round was seen", |c| c.me.last = Some((RoundSeq(3), Attempt(0))), is!(PlanError::NotNewer { .. })),
    // Consent.
    ("we are paid nothing", |c| { let me = c.pool.identity(1); c.pool.roster.remove_output(me, SerialId(11)).unwrap() }, is!(PlanError::NotPayee)),
    ("the operator fee is beyond our policy", |c| c.me.policy.operator_fee_ppm_max = 9_999, is!(PlanError::OperatorFee { fee: 10_000, limit: 9_999 })),
    ("the credit for bumps is beyond our policy", |c| c.me.policy.bump_credit_max = 19_999, is!(PlanError::BumpCredit { credit: 20_000, limit: 19_999 })),
    ("the feerate is beyond our policy", |c| c.me.policy.feerate_max = FeeRate::from_sat_per_kvb(2_499).unwrap(), is!(PlanError::FeeRate { .. })),
    ("the signers are too few for us", |c| c.me.policy.signers_min = 5, is!(PlanError::TooFewSigners { signers: 4, limit: 5 })),
    ("we must sign and do not", |c| { c.me = c.attempted.me(c.pool.identity(4)); c.me.policy.must_be_signer = true }, is!(PlanError::NotSigner)),
];

#[test]
fn every_lie_is_refused_by_its_name() {
    for (lie, tell, expected) in LIES {
        let mut case = case();
        tell(&mut case);
        let error = case.check().expect_err(lie);
        assert!(expected(&error), "{lie}: {error:?}");
    }
}

#[test]
fn what_is_at_the_limit_of_our_policy_is_accepted() {
    let mut case = case();
    case.me.last = Some((RoundSeq(1), Attempt(15)));
    case.me.policy.operator_fee_ppm_max = 10_000;
    case.me.policy.feerate_max = FeeRate::from_sat_per_kvb(2_500).unwrap();
    case.me.policy.signers_min = 4;
    case.me.policy.must_be_signer = true;
    case.check().unwrap();
}

#[test]
fn other_nonces_are_another_proposal_and_nobodys_signature() {
    let mut case = case();
    let signed = Proposal::sign(&case.pool.keys[0], case.proposal.clone(), &[1; 32]);
    assert!(signed.verify(&case.pool.params.coordinator).is_ok());
    assert!(signed.verify(&case.pool.identity(1)).is_err());
    case.proposal.nonces.swap(0, 1);
    let forged = Proposal {
        plan: case.proposal.clone(),
        ..signed
    };
    assert!(forged.verify(&case.pool.params.coordinator).is_err());
    // Whoever signs for other nonces makes no signature, and loses its slot only.
    let other = case.check().unwrap();
    let mut slots = case.attempted.slots.into_values();
    let partial = slots
        .find(|(identity, ..)| *identity == case.me.identity)
        .unwrap();
    let nonce = partial.2.nonces[0];
    let partials = other.sign(partial.1).unwrap();
    let honest = case.pool.seal(case.proposal.inputs.clone(), {
        case.proposal.nonces.swap(0, 1);
        case.proposal.nonces.clone()
    });
    let honest = to_sign(honest.check(&case.pool.view(), &case.me.checker()).unwrap());
    assert!(!honest.sessions()[0].partial_is_valid(
        honest.key(),
        &partials[0],
        &nonce,
        &partial.2.key
    ));
}

#[test]
fn a_slot_that_is_not_named_signs_nothing() {
    let mut case = case();
    let plan = case.check().unwrap();
    let (stranger, _) = SigningSlot::generate(&mut case.pool.rng, 3);
    assert_eq!(plan.sign(stranger), Err(MusigError::NotASigner));
}

/// What a node checks of a key-path spend, with bitcoin's own code.
fn verify_spend(payout: &Transaction, coinbase: &Transaction) {
    let input = &payout.input[0].previous_output;
    assert_eq!(input.txid, coinbase.compute_txid());
    let prevout = &coinbase.output[input.vout as usize];
    let sighash = SighashCache::new(payout)
        .taproot_key_spend_signature_hash(0, &Prevouts::All(&[prevout]), TapSighashType::Default)
        .unwrap();
    let witness: Vec<&[u8]> = payout.input[0].witness.iter().collect();
    let [signature] = witness[..] else {
        panic!("one witness item")
    };
    assert_eq!(signature.len(), 64);
    let signature = schnorr::Signature::from_slice(signature).unwrap();
    assert!(prevout.script_pubkey.is_p2tr());
    let key = XOnlyPublicKey::from_slice(&prevout.script_pubkey.as_bytes()[2..]).unwrap();
    let message = Message::from_digest(sighash.to_byte_array());
    Secp256k1::new()
        .verify_schnorr(&signature, &message, &key)
        .unwrap();
}

#[test]
fn signed_payouts_spend_their_coinbases_to_the_sat() {
    let Case {
        pool, attempted, ..
    } = case();
    let (plan, partials) = attempted.sign(&pool);
    let signatures = combine(&plan, &partials);
    let payouts = plan.complete(&signatures).unwrap();
    assert_eq!((payouts.signatures().len(), plan.lanes().len()), (2, 2));
    for (place, lane) in plan.lanes().iter().enumerate() {
        let of_lane = payouts.of_lane(place, &lane.coinbase);
        let [payout] = &of_lane[..] else {
            panic!("one shard")
        };
        verify_spend(payout, &lane.coinbase);
        let value = |tx: &Transaction| tx.output.iter().map(|out| out.value.to_sat()).sum::<u64>();
        let fee = FeeRate::from_sat_per_kvb(2_500)
            .unwrap()
            .fee(payout.vsize() as u64);
        assert_eq!(value(&lane.coinbase), 2_500_012_345);
        assert_eq!(value(payout) + fee, 2_500_012_345);
        assert_eq!(
            payout.output.last().unwrap().script_pubkey.to_hex_string(),
            "51024e73"
        );
    }
    assert_ne!(plan.lanes()[0].txid, plan.lanes()[1].txid);
}

#[test]
fn amounts_follow_from_ledger_fee_and_carries() {
    let case = case();
    let plan = case.check().unwrap();
    let outputs = &plan.split().shards[0].outputs;
    // Depth 8 * 2^12 = 32,768 of 65,000: window 2 whole, 7,768 of the 40,000 of window 1.
    let weights: Vec<u128> = (1..=3)
        .map(|n| plan.weights()[&case.pool.identity(n)].0)
        .collect();
    assert_eq!(weights, [1_942, 5_000 + 5_826, 20_000]);
    // Operator 1 %; carries +250 and -100; outputs 0 (22-byte script), 11, 21 (22), 31.
    let vsize = 63 + 1 + 31 + 43 + 31 + 43 + 17;
    let rest = 2_500_012_345 - (vsize * 5 / 2) - 240 - 25_000_123 - 250 + 100;
    let sats: Vec<(u64, u64)> = outputs.iter().map(|(s, sat)| (s.0, *sat)).collect();
    let part = |weight: u64| rest * weight / 32_768;
    let sum: u64 = sats.iter().map(|(_, sat)| sat).sum();
    assert_eq!(sum + plan.split().shards[0].fee + 240, 2_500_012_345);
    let expected = [
        25_000_123,
        part(1_942) + 250,
        part(10_826),
        part(20_000) - 100,
    ];
    assert_eq!(
        sats.iter().map(|(s, _)| *s).collect::<Vec<_>>(),
        [0, 11, 21, 31]
    );
    for ((_, sat), expected) in sats.iter().zip(expected) {
        assert!(*sat == expected || *sat == expected + 1, "{sat} {expected}");
    }
    // All carries are settled by this payout.
    let changes = plan.carry_changes(&case.pool.view());
    let expected = [(case.pool.identity(1), -250), (case.pool.identity(3), 100)];
    assert_eq!(changes, expected.into_iter().collect());
}

#[test]
fn without_work_the_signing_participants_share_equally_and_if_none_signs_all_of_them() {
    let mut pool = Pool::new("no work", 3);
    let attempted = pool.propose(&[0, 1, 3]);
    let plan = attempted
        .proposal
        .check(&pool.view(), &attempted.me(pool.identity(2)).checker());
    let plan = to_sign(plan.unwrap());
    let serials: Vec<u64> = plan.split().shards[0]
        .outputs
        .iter()
        .map(|(s, _)| s.0)
        .collect();
    assert_eq!(serials, [0, 11, 31]);
    let sats: Vec<u64> = plan.split().shards[0]
        .outputs
        .iter()
        .map(|(_, sat)| *sat)
        .collect();
    assert!(sats[1].abs_diff(sats[2]) <= 1);
    // The coordinator alone signs: that is nothing to hash on by default, and pays it nothing more.
    let attempted = pool.propose(&[0]);
    let mut me = attempted.me(pool.identity(2));
    let refused = attempted.proposal.check(&pool.view(), &me.checker());
    assert!(matches!(
        refused,
        Err(PlanError::TooFewSigners {
            signers: 1,
            limit: 2
        })
    ));
    me.policy.signers_min = 1;
    let plan = attempted.proposal.check(&pool.view(), &me.checker());
    let outputs = to_sign(plan.unwrap()).split().shards[0].outputs.clone();
    let serials: Vec<u64> = outputs.iter().map(|(s, _)| s.0).collect();
    assert_eq!(serials, [0, 11, 21, 31]);
}

#[test]
fn work_is_paid_to_the_newest_output_of_an_identity() {
    let mut pool = pool();
    pool.add_output(2, 25);
    let attempted = pool.propose(&[0, 1]);
    let plan = attempted
        .proposal
        .check(&pool.view(), &attempted.me(pool.identity(3)).checker());
    let outputs = to_sign(plan.unwrap()).split().shards[0].outputs.clone();
    let serials: Vec<u64> = outputs.iter().map(|(s, _)| s.0).collect();
    assert_eq!(serials, [0, 11, 25, 31]);
}

#[test]
fn a_lane_has_no_more_payouts_than_its_slots_have_nonces_for() {
    let mut pool = Pool::new("many payees", 4);
    for n in 0..240u64 {
        pool.add_payee(1_001 + 6 * n); // No multiple of three: P2TR.
    }
    let work: Vec<(usize, u128)> = (5..245).map(|n| (n, 1_000 + n as u128)).collect();
    pool.close_window(&work, &[]);
    let attempted = pool.propose(&[0, 5, 6]);
    let me = attempted.me(pool.identity(5));
    // Three nonces for two lanes: one payout each. The smallest amounts become carry.
    let plan = to_sign(
        attempted
            .proposal
            .check(&pool.view(), &me.checker())
            .unwrap(),
    );
    assert_eq!(plan.split().shards.len(), 1);
    assert_eq!(plan.sessions().len(), 2);
    let waiting = plan.carry_changes(&pool.view());
    assert!(waiting[&pool.identity(5)] > 0, "the smallest waits");
    assert!(
        waiting[&pool.identity(244)] < 0,
        "the largest is paid in advance"
    );
    let sum: i64 = waiting.values().sum();
    assert!(
        (-9_971..=0).contains(&sum),
        "but for a fee that was saved, nothing is lent by nobody"
    );
    // A slot more, and everyone is paid: the parameters say how many.
    pool.params.nonces_per_slot = 4;
    let attempted = pool.propose(&[0, 5, 6]);
    let plan = to_sign(
        attempted
            .proposal
            .check(&pool.view(), &attempted.me(pool.identity(5)).checker())
            .unwrap(),
    );
    assert_eq!((plan.split().shards.len(), plan.sessions().len()), (2, 4));
    assert!(plan.carry_changes(&pool.view()).is_empty());
}

#[test]
fn signatures_that_do_not_complete_the_plan_are_refused() {
    let Case {
        pool, attempted, ..
    } = case();
    let (plan, partials) = attempted.sign(&pool);
    let good = combine(&plan, &partials);
    let mut wrong = good.clone();
    wrong[1][63] ^= 1;
    assert_eq!(plan.complete(&wrong), Err(CompleteError::BadSignature(1)));
    let mut wrong = good.clone();
    wrong.swap(0, 1);
    assert_eq!(plan.complete(&wrong), Err(CompleteError::BadSignature(0)));
    for wrong in [&good[..1], &[good[0], good[1], good[1]]] {
        let expected = CompleteError::Count {
            got: wrong.len(),
            payouts: 2,
        };
        assert_eq!(plan.complete(wrong), Err(expected));
    }
    plan.complete(&good).unwrap();
}

#[test]
fn no_two_rounds_attempts_or_pools_have_one_name() {
    let case = case();
    let inputs = &case.proposal.inputs;
    let mut names: Vec<RoundId> = vec![case.proposal.round];
    let mut other = inputs.clone();
    other.attempt.0 += 1;
    names.push(other.round_id(&case.pool.params));
    let mut other = inputs.clone();
    other.seq.0 += 1;
    names.push(other.round_id(&case.pool.params));
    let mut params = case.pool.params.clone();
    params.tag = "/other/".into();
    names.push(inputs.round_id(&params));
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
}
