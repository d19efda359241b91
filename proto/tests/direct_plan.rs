//! Direct rounds: what a participant checks of coinbases that pay the payees themselves.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod support;

use std::collections::BTreeMap;

use bitcoin::hashes::Hash;
use bitcoin::{Amount, ScriptBuf};
use support::pool::{Me, Pool, direct};
use tutti_proto::coinbase::{self, CoinbaseName};
use tutti_proto::feerate::FeeRate;
use tutti_proto::id::{Attempt, LaneIndex, RoundSeq, SerialId, WindowSeq};
use tutti_proto::musig::{AggregateNonce, SigningSlot};
use tutti_proto::params::{DIRECT_PAYEES_LIMIT, TAG_LIMIT};
use tutti_proto::plan::{DirectPlan, PlanError, ProposedPlan, Signer};
use tutti_proto::policy::Policy;
use tutti_proto::split::{MAX_MONEY, SplitError};

/// A direct round of a pool with the coordinator, three miners with work and one without, and room
/// for two outputs; as miner 1 gets it, which is not among the largest.
struct Case {
    pool: Pool,
    proposal: ProposedPlan,
    me: Me,
}

fn case() -> Case {
    let mut pool = Pool::new("direct", 4);
    pool.params.direct_payees = 2;
    pool.close_window(
        &[(1, 5_000), (2, 10_000), (3, 15_000)],
        &[(1, 250), (3, -100)],
    );
    let proposal = pool.propose(&[]).proposal;
    Case {
        me: me(&pool, 1),
        proposal,
        pool,
    }
}

fn me(pool: &Pool, n: usize) -> Me {
    Me {
        identity: pool.identity(n),
        slots: Default::default(),
        last: None,
        policy: Policy {
            direct_owed_max: MAX_MONEY,
            ..Policy::default()
        },
    }
}

impl Case {
    fn check(&self) -> Result<DirectPlan, PlanError> {
        let checked = self.proposal.check(&self.pool.view(), &self.me.checker());
        checked.map(direct)
    }

    /// A careful liar: the round's name and coinbases follow from the inputs it gives.
    fn reseal(&mut self) {
        let nonces = self.proposal.nonces.clone();
        self.proposal = self.pool.seal(self.proposal.inputs.clone(), nonces);
    }

    fn nonce(&mut self) -> AggregateNonce {
        let (_, slot) = SigningSlot::generate(&mut self.pool.rng, 1);
        AggregateNonce::sum(slot.nonces.iter()).unwrap()
    }

    /// Coinbases with these outputs instead of what the state gives.
    fn pay(&mut self, outputs: &[(ScriptBuf, Amount)]) {
        let inputs = &self.proposal.inputs;
        let coinbase = |lane| {
            let name = CoinbaseName {
                height: inputs.height,
                tag: &self.pool.params.tag,
                round: inputs.seq,
                lane: LaneIndex(lane),
            };
            let commitment = inputs.witness_commitment.as_ref();
            let coinbase = coinbase::build(name, outputs, commitment);
            coinbase.compute_txid().to_byte_array()
        };
        self.proposal.coinbases = (0..self.pool.params.lanes).map(coinbase).collect();
    }

    fn honest_outputs(&self) -> Vec<(ScriptBuf, Amount)> {
        let plan = self.check().unwrap();
        let output = |(id, sat): &(SerialId, u64)| {
            let payee = self.pool.roster.payee(*id).unwrap();
            (payee.script.as_script().to_owned(), Amount::from_sat(*sat))
        };
        plan.split().outputs.iter().map(output).collect()
    }
}

#[test]
fn every_payee_accepts_an_honest_direct_round_whether_or_not_it_is_paid_now() {
    let mut case = case();
    for n in [0, 1, 2, 3, 4] {
        case.me = me(&case.pool, n);
        let plan = case.check().unwrap();
        assert_eq!(plan.round(), case.proposal.round);
        assert_eq!(plan.txids(), case.proposal.coinbases);
    }
}

/// Whoever waits would trust those who are paid in advance: the largest miner alone, say, and the coordinator that
/// proposes it.
#[test]
fn by_default_nobody_hashes_for_others_who_are_paid_in_advance() {
    let mut case = case();
    for (n, waits) in [(0, true), (1, true), (2, false), (3, false), (4, false)] {
        case.me = me(&case.pool, n);
        let left = case
            .check()
            .unwrap()
            .left_owed(&case.me.identity, &case.pool.view());
        case.me.policy = Policy::default();
        let refused = match case.check() {
            Ok(_) => None,
            Err(PlanError::DirectOwed { owed, limit: 0 }) => Some(owed),
            Err(other) => panic!("miner {n}: {other}"),
        };
        assert_eq!(refused, waits.then_some(left), "miner {n}");
        assert_eq!(left > 0, waits, "miner {n}");
        case.me.policy.direct_owed_max = left;
        case.check().unwrap();
    }
}

/// What no output could pay waits by the protocol, not for others.
#[test]
fn who_is_owed_less_than_its_dust_limit_hashes_a_direct_round() {
    let mut pool = Pool::new("direct dust", 3);
    pool.close_window(&[(1, 1), (2, 10_000_000), (3, 10_000_000)], &[]);
    let proposal = pool.propose(&[]).proposal;
    let plan = DirectPlan::compute(proposal.inputs.clone(), &pool.view()).unwrap();
    let paid: Vec<u64> = plan.split().outputs.iter().map(|(id, _)| id.0).collect();
    let (serial_id, _) = pool.roster.active(&pool.identity(1)).unwrap();
    assert!(!paid.contains(&serial_id.0));
    let mut me = me(&pool, 1);
    me.policy = Policy::default();
    proposal
        .check(&pool.view(), &me.checker())
        .map(direct)
        .unwrap();
}

type Lie = (&'static str, fn(&mut Case), fn(&PlanError) -> bool);

macro_rules! is {
    ($pattern:pat) => {
        |error| matches!(error, $pattern)
    };
}

#[rustfmt::skip] // One lie per line.
const LIES: &[Lie] = &[
    ("the round's name is another", |c| c.proposal.round.0[0] ^= 1, is!(PlanError::Transcript { .. })),
    ("the round number is another", |c| { c.proposal.inputs.seq.0 += 1; c.reseal() }, is!(PlanError::RoundNumber { seq: RoundSeq(2), window: WindowSeq(1) })),
    ("the attempt is another", |c| c.proposal.inputs.attempt.0 += 1, is!(PlanError::Transcript { .. })),
    ("the height is another", |c| c.proposal.inputs.height += 1, is!(PlanError::Transcript { .. })),
    ("the target is another", |c| c.proposal.inputs.bits = 0x2070_0000, is!(PlanError::Transcript { .. })),
    ("the reward is higher", |c| c.proposal.inputs.reward += 1, is!(PlanError::Transcript { .. })),
    ("the reward is lower", |c| c.proposal.inputs.reward -= 1, is!(PlanError::Transcript { .. })),
    ("the witness commitment is another", |c| c.proposal.inputs.witness_commitment = Some([7; 32]), is!(PlanError::Transcript { .. })),
    ("the witness commitment is gone", |c| c.proposal.inputs.witness_commitment = None, is!(PlanError::Transcript { .. })),
    ("the feerate is another", |c| c.proposal.inputs.feerate = FeeRate::FLOOR, is!(PlanError::Transcript { .. })),
    ("the room for outputs is not the parameters'", |c| { c.pool.params.direct_payees = 3; c.reseal(); c.pool.params.direct_payees = 2 }, is!(PlanError::Transcript { .. })),
    // Replicated state.
    ("the payee set is another", |c| { c.proposal.inputs.roster[0] ^= 1; c.reseal() }, is!(PlanError::Roster)),
    ("we know of one payee more", |c| c.pool.add_output(4, 99), is!(PlanError::Roster)),
    ("the ledger's hash is another", |c| { c.proposal.inputs.ledger.hash[0] ^= 1; c.reseal() }, is!(PlanError::Ledger { .. })),
    ("the ledger's number is another", |c| { c.proposal.inputs.ledger.seq = WindowSeq(9); c.reseal() }, is!(PlanError::Ledger { .. })),
    ("we know of one window more", |c| c.pool.close_window(&[(1, 1)], &[]), is!(PlanError::Ledger { .. })),
    ("the assignments are others", |c| { c.proposal.inputs.assignments[0] ^= 1; c.reseal() }, is!(PlanError::Assignments)),
    // Lies with a name that fits them.
    ("the height is zero", |c| { c.proposal.inputs.height = 0; c.reseal() }, is!(PlanError::Height(0))),
    ("the reward is below the subsidy", |c| { c.proposal.inputs.reward = 2_499_999_999; c.reseal() }, is!(PlanError::RewardBelowSubsidy { reward: 2_499_999_999, subsidy: 2_500_000_000, height: 151 })),
    ("the reward is beyond all money", |c| { c.proposal.inputs.reward = MAX_MONEY + 1; c.reseal() }, is!(PlanError::Split(SplitError::RewardAboveMoney(_)))),
    ("there are no direct rounds here", |c| { c.pool.params.direct_payees = 0; c.reseal() }, is!(PlanError::NoDirectRounds)),
    ("it has a nonce", |c| { let nonce = c.nonce(); c.proposal.nonces.push(nonce) }, is!(PlanError::Nonces { got: 1, sessions: 0 })),
    ("the coordinator signs it after all", |c| { let key = SigningSlot::generate(&mut c.pool.rng, 1).1.key; c.proposal.inputs.signers.push(Signer { identity: c.pool.identity(0), key }); c.reseal() }, is!(PlanError::TooFewSigners { signers: 1, limit: 2 })),
    // What follows from the inputs: who is paid, and how much.
    ("a coinbase is another", |c| c.proposal.coinbases[1][0] ^= 1, is!(PlanError::Coinbase(LaneIndex(1)))),
    ("the coinbases are swapped", |c| c.proposal.coinbases.swap(0, 1), is!(PlanError::Coinbase(LaneIndex(0)))),
    ("a coinbase is missing", |c| c.proposal.coinbases.truncate(1), is!(PlanError::Coinbase(LaneIndex(1)))),
    ("a coinbase is one too many", |c| c.proposal.coinbases.push([1; 32]), is!(PlanError::Coinbase(LaneIndex(2)))),
    ("there are no coinbases", |c| c.proposal.coinbases.clear(), is!(PlanError::Coinbase(LaneIndex(0)))),
    ("one payee gets a sat of the other's", |c| { let mut outputs = c.honest_outputs(); outputs[0].1 += Amount::from_sat(1); outputs[1].1 -= Amount::from_sat(1); c.pay(&outputs) }, is!(PlanError::Coinbase(LaneIndex(0)))),
    ("a payee's script is another", |c| { let mut outputs = c.honest_outputs(); outputs[1].0 = outputs[0].0.clone(); c.pay(&outputs) }, is!(PlanError::Coinbase(LaneIndex(0)))),
    ("there is one output more", |c| { let mut outputs = c.honest_outputs(); outputs.push((outputs[0].0.clone(), Amount::ZERO)); c.pay(&outputs) }, is!(PlanError::Coinbase(LaneIndex(0)))),
    ("all is paid to one", |c| { let mut outputs = c.honest_outputs(); let (_, sat) = outputs.pop().unwrap(); outputs[0].1 += sat; c.pay(&outputs) }, is!(PlanError::Coinbase(LaneIndex(0)))),
    // Consent.
    ("we are no payee", |c| { let me = c.pool.identity(1); c.pool.roster.remove_output(me, SerialId(11)).unwrap() }, is!(PlanError::NotPayee)),
    ("our policy demands that we sign", |c| c.me.policy.must_be_signer = true, is!(PlanError::NotSigner)),
    ("our policy refuses direct rounds", |c| c.me.policy.refuse_direct = true, is!(PlanError::Direct)),
    ("the operator fee is beyond our policy", |c| c.me.policy.operator_fee_ppm_max = 9_999, is!(PlanError::OperatorFee { fee: 10_000, limit: 9_999 })),
    ("the credit for bumps is beyond our policy", |c| c.me.policy.bump_credit_max = 19_999, is!(PlanError::BumpCredit { credit: 20_000, limit: 19_999 })),
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
fn what_only_concerns_signatures_is_not_asked_of_a_direct_round() {
    let mut case = case();
    case.me.last = Some((RoundSeq(9), Attempt(9)));
    case.me.policy.signers_min = 1_000;
    case.me.policy.feerate_max = FeeRate::FLOOR;
    case.check().unwrap();
}

#[test]
fn the_largest_are_paid_the_whole_reward_and_owe_the_others() {
    let case = case();
    let plan = case.check().unwrap();
    let paid: Vec<u64> = plan.split().outputs.iter().map(|(id, _)| id.0).collect();
    assert_eq!(paid, [21, 31]);
    for coinbase in plan.coinbases() {
        let values = coinbase.output.iter().map(|out| out.value.to_sat());
        assert_eq!(values.sum::<u64>(), 2_500_012_345);
        assert_eq!(
            coinbase.output.len(),
            4,
            "two payees, the round and the commitment"
        );
        for (out, (serial_id, sat)) in coinbase.output.iter().zip(&plan.split().outputs) {
            let payee = case.pool.roster.payee(*serial_id).unwrap();
            assert_eq!(out.script_pubkey.as_script(), payee.script.as_script());
            assert_eq!(out.value.to_sat(), *sat);
        }
    }
    assert_ne!(plan.txids()[0], plan.txids()[1]);
    // Operator 1 %, work 5 to 10 to 15 of the rest, carries +250 and -100.
    let fee = 25_000_123;
    let rest = 2_500_012_345 - fee - 150;
    let changes = plan.carry_changes(&case.pool.view());
    let change = |n: usize| changes[&case.pool.identity(n)];
    assert_eq!(change(0), fee);
    assert!(
        change(1).abs_diff(rest / 6) <= 1,
        "its old carry stays, its part is added"
    );
    // What two and three owe: what the operator and one are owed now, and what three owed before.
    assert_eq!(change(2) + change(3), -(fee + change(1) + 250) + 100);
    assert!(change(2) < 0 && change(3) < 0);
}

#[test]
fn a_direct_round_and_the_signed_one_of_its_number_share_neither_name_nor_coinbase() {
    let mut case = case();
    let signed = case.pool.propose(&[0, 1, 2]).proposal;
    assert_eq!(signed.inputs.seq, case.proposal.inputs.seq);
    assert_ne!(signed.round, case.proposal.round);
    assert!(
        signed
            .coinbases
            .iter()
            .all(|txid| !case.proposal.coinbases.contains(txid))
    );
}

#[test]
fn the_largest_direct_coinbase_fits_what_core_reserves_for_one() {
    let mut pool = Pool::new("largest coinbase", 1);
    pool.params.direct_payees = DIRECT_PAYEES_LIMIT;
    pool.params.tag = "x".repeat(TAG_LIMIT);
    for n in 0..60u64 {
        // Not a multiple of three: P2TR, the largest type.
        pool.add_payee(1_001 + 6 * n);
    }
    let work: BTreeMap<usize, u128> = (2..62).map(|n| (n, 1_000)).collect();
    let work: Vec<_> = work.into_iter().collect();
    pool.close_window(&work, &[]);
    let mut inputs = pool.propose(&[]).proposal.inputs;
    inputs.height = 8_388_608;
    let plan = DirectPlan::compute(inputs, &pool.view()).unwrap();
    assert_eq!(plan.split().outputs.len(), usize::from(DIRECT_PAYEES_LIMIT));
    let coinbase = &plan.coinbases()[0];
    assert!(
        coinbase
            .output
            .iter()
            .take(39)
            .all(|out| out.script_pubkey.is_p2tr())
    );
    // Header, count of transactions, coinbase: 8,000 is Core's default -blockreservedweight.
    let weight = 4 * (80 + 9) + coinbase.weight().to_wu();
    assert!(weight <= 8_000, "{weight}");
}
