//! plan_check.json: proposals that break the checks of section 15, and which of them refuses each.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tutti_proto::feerate::FeeRate;
use tutti_proto::id::{Attempt, RoundId, RoundSeq};
use tutti_proto::musig::AggregateNonce;
use tutti_proto::plan::{Checker, DirectPlan, PlanError, ProposedPlan};
use tutti_proto::policy::Policy;
use tutti_proto::split::MAX_MONEY;

use super::super::pool::Pool;
use super::Vector;
use super::round::State;
use super::types::{Inputs, Output, OwnedSlice, Params, Window, bytes, identity, slices, slot_key};

#[derive(Serialize, Deserialize)]
pub struct File {
    outputs: Vec<Output>,
    ledger: Vec<Window>,
    assignments: Vec<OwnedSlice>,
    /// A round with signers, and a direct one, that are accepted.
    proposals: Vec<Told>,
    cases: Vec<Case>,
}

/// What is proposed, and to whom.
#[derive(Clone, Serialize, Deserialize)]
struct Told {
    params: Params,
    round: String,
    inputs: Inputs,
    coinbases: Vec<String>,
    nonces: Vec<String>,
    me: Me,
}

#[derive(Clone, Serialize, Deserialize)]
struct Me {
    identity: String,
    /// Announced, unused slots.
    slots: Vec<String>,
    /// Round number and attempt.
    last: Option<(u64, u32)>,
    operator_fee_ppm_max: u32,
    bump_credit_max: u32,
    feerate_max_sat_per_kvb: u64,
    signers_min: u16,
    must_be_signer: bool,
    refuse_direct: bool,
    direct_owed_max: u64,
}

#[derive(Serialize, Deserialize)]
struct Case {
    what: String,
    /// Which of the proposals is changed, from 0.
    proposal: usize,
    /// These fields of it are others.
    changed: BTreeMap<String, Value>,
    /// Number of the check.
    refused: u8,
}

fn number(error: &PlanError, direct: bool) -> u8 {
    match error {
        PlanError::NotPayee => 1,
        PlanError::OperatorFee { .. } | PlanError::BumpCredit { .. } => 2,
        PlanError::Direct => 3,
        PlanError::NotSigner if direct => 3,
        PlanError::Nonces { .. } if direct => 4,
        PlanError::NotNewer { .. } => 5,
        PlanError::FeeRate { .. } => 6,
        PlanError::TooFewSigners { .. } => 7,
        PlanError::OurSlot => 8,
        PlanError::NotSigner => 9,
        PlanError::Roster => 10,
        PlanError::Ledger { .. } => 11,
        PlanError::Assignments => 12,
        PlanError::Height(_) => 13,
        PlanError::RewardBelowSubsidy { .. } => 14,
        PlanError::Signers(_) => 15,
        PlanError::NoDirectRounds => 16,
        PlanError::Split(_) | PlanError::Musig(_) | PlanError::Work(_) => 17,
        PlanError::Nonces { .. } => 18,
        PlanError::RoundNumber { .. } => 19,
        PlanError::Transcript { .. } => 20,
        PlanError::Coinbase(_) => 21,
        PlanError::DirectOwed { .. } => 22,
        PlanError::Unchecked(_) | PlanError::BlockTooHeavy { .. } => panic!("{error}"),
    }
}

impl Told {
    fn of(pool: &Pool, proposal: &ProposedPlan, n: usize) -> Self {
        let policy = Policy::default();
        let who = pool.identity(n);
        let slots = proposal.own_key(&who).into_iter();
        let nonces = proposal.nonces.iter();
        Self {
            params: Params::of(&pool.params),
            round: hex::encode(proposal.round.0),
            inputs: Inputs::of(&proposal.inputs),
            coinbases: proposal.coinbases.iter().map(hex::encode).collect(),
            nonces: nonces.map(|nonce| hex::encode(nonce.serialize())).collect(),
            me: Me {
                identity: hex::encode(who.as_bytes()),
                slots: slots.map(|key| hex::encode(key.serialize())).collect(),
                last: None,
                operator_fee_ppm_max: policy.operator_fee_ppm_max,
                bump_credit_max: policy.bump_credit_max,
                feerate_max_sat_per_kvb: policy.feerate_max.sat_per_kvb(),
                signers_min: policy.signers_min,
                must_be_signer: policy.must_be_signer,
                refuse_direct: policy.refuse_direct,
                direct_owed_max: policy.direct_owed_max,
            },
        }
    }

    /// The number of the check that refuses it.
    fn check(&self, outputs: &[Output], ledger: &[Window], slices: &[OwnedSlice]) -> Option<u8> {
        let state = State::read(&self.params, outputs, ledger, slices);
        let nonce = |hex: &String| AggregateNonce::parse(&bytes(hex)).unwrap();
        let proposal = ProposedPlan {
            round: RoundId(bytes(&self.round)),
            inputs: self.inputs.read(),
            coinbases: self.coinbases.iter().map(|txid| bytes(txid)).collect(),
            nonces: self.nonces.iter().map(nonce).collect(),
        };
        let me = &self.me;
        let last = me
            .last
            .map(|(seq, attempt)| (RoundSeq(seq), Attempt(attempt)));
        let policy = Policy {
            operator_fee_ppm_max: me.operator_fee_ppm_max,
            bump_credit_max: me.bump_credit_max,
            feerate_max: FeeRate::from_sat_per_kvb(me.feerate_max_sat_per_kvb).unwrap(),
            signers_min: me.signers_min,
            must_be_signer: me.must_be_signer,
            refuse_direct: me.refuse_direct,
            direct_owed_max: me.direct_owed_max,
        };
        let checker = Checker {
            identity: &identity(&me.identity),
            slots: &me.slots.iter().map(|key| slot_key(key)).collect(),
            last,
            policy: &policy,
        };
        let direct = proposal.inputs.is_direct();
        let checked = proposal.check(&state.view(), &checker);
        checked.err().map(|error| number(&error, direct))
    }

    fn fields(&self) -> Map<String, Value> {
        match serde_json::to_value(self).unwrap() {
            Value::Object(fields) => fields,
            other => panic!("{other}"),
        }
    }

    fn with(&self, changed: &BTreeMap<String, Value>) -> Self {
        let mut fields = self.fields();
        fields.extend(changed.clone());
        serde_json::from_value(Value::Object(fields)).unwrap()
    }
}

/// What is broken in a proposal that is broken already: the check that refuses it stands before the others.
type Break = fn(&mut Told, &Pool);

fn flipped(hex: &mut String) {
    let first = if hex.starts_with('0') { "1" } else { "0" };
    hex.replace_range(..1, first);
}

/// From the last check to the first, for both kinds of round.
const LAST: &[(&str, Break)] = &[
    ("another coinbase", |t, _| flipped(&mut t.coinbases[1])),
    ("and another name", |t, _| flipped(&mut t.round)),
    ("and another round number than the ledger's", |t, _| {
        t.inputs.seq += 1
    }),
];

const SIGNED: &[(&str, Break)] = &[
    ("and a nonce too few", |t, _| {
        t.nonces.pop();
    }),
    ("and more money than there is", |t, _| {
        t.inputs.reward = MAX_MONEY + 1
    }),
    ("and the coordinator does not sign", |t, pool| {
        let coordinator = hex::encode(pool.params.coordinator.as_bytes());
        t.inputs
            .signers
            .retain(|signer| signer.identity != coordinator);
    }),
];

const DIRECT: &[(&str, Break)] = &[
    ("and more money than there is", |t, _| {
        t.inputs.reward = MAX_MONEY + 1
    }),
    ("and a pool without direct rounds", |t, _| {
        t.params.direct_payees = 0
    }),
];

const STATE: &[(&str, Break)] = &[
    ("and a sat less than the subsidy", |t, _| {
        t.inputs.reward = 2_499_999_999
    }),
    ("and height 0", |t, _| t.inputs.height = 0),
    ("and other assignments", |t, _| {
        flipped(&mut t.inputs.assignments)
    }),
    ("and another ledger", |t, _| {
        flipped(&mut t.inputs.ledger_hash)
    }),
    ("and another payee set", |t, _| {
        flipped(&mut t.inputs.roster)
    }),
];

const OURS: &[(&str, Break)] = &[
    ("and we do not sign, but must", |t, pool| {
        t.me.identity = hex::encode(pool.identity(3).as_bytes());
        t.me.slots.clear();
        t.me.must_be_signer = true;
    }),
    ("and our slot is said to be another's", |t, _| {
        t.me.slots = vec![t.inputs.signers[0].key.clone()];
    }),
    ("and fewer signers than we ask for", |t, _| {
        t.me.signers_min = 4
    }),
    ("and a feerate above ours", |t, _| {
        t.me.feerate_max_sat_per_kvb = 2_499
    }),
    ("and the attempt is not newer than the last", |t, _| {
        t.me.last = Some((t.inputs.seq, t.inputs.attempt));
    }),
];

const OURS_DIRECT: &[(&str, Break)] = &[
    ("and it has a nonce", |t, pool| {
        // Any: the generator twice.
        let generator = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";
        t.nonces = vec![generator.repeat(2)];
        assert_eq!(pool.params.lanes, 2);
    }),
    ("and we must sign", |t, _| t.me.must_be_signer = true),
    ("or refuse direct rounds", |t, _| {
        (t.me.must_be_signer, t.me.refuse_direct) = (false, true);
    }),
];

const WAITS: &[(&str, Break)] = &[("it leaves a sat more owed to us than we let it", |t, _| {
    t.me.direct_owed_max -= 1;
})];

const POLICY: &[(&str, Break)] = &[
    ("and credits above ours", |t, _| {
        t.me.bump_credit_max = 19_999
    }),
    ("and an operator fee above ours", |t, _| {
        t.me.operator_fee_ppm_max = 9_999
    }),
    ("and we have no output", |t, pool| {
        t.me.identity = hex::encode(pool.identity(4).as_bytes());
    }),
];

impl File {
    /// Breaks a proposal more and more.
    fn break_all(&mut self, pool: &Pool, proposal: usize, breaks: &[&[(&str, Break)]]) {
        let honest = self.proposals[proposal].clone();
        let mut told = honest.clone();
        assert_eq!(self.check_told(&told), None);
        for (what, change) in breaks.iter().copied().flatten() {
            change(&mut told, pool);
            let before = honest.fields();
            let changed = told.fields().into_iter();
            let changed = changed.filter(|(field, value)| before.get(field) != Some(value));
            self.cases.push(Case {
                what: (*what).into(),
                proposal,
                changed: changed.collect(),
                refused: self.check_told(&told).expect(what),
            });
        }
    }

    fn check_told(&self, told: &Told) -> Option<u8> {
        told.check(&self.outputs, &self.ledger, &self.assignments)
    }
}

impl Vector for File {
    fn generate() -> Self {
        let mut pool = Pool::new("tutti vectors: plan check", 4);
        let stranger = pool.identity(4);
        let (serial_id, _) = pool.roster.active(&stranger).unwrap();
        pool.roster.remove_output(stranger, serial_id).unwrap();
        pool.close_window(&[(1, 10_000), (2, 30_000)], &[]);
        let outputs = pool.roster.in_order_of_adding().into_iter();
        let outputs = outputs.map(|(_, output)| Output::of(output)).collect();
        let proposals = [&[0, 1, 2][..], &[]]
            .map(|signers| pool.propose(signers).proposal)
            .map(|proposal| Told::of(&pool, &proposal, 1));
        // One output: what is due to us waits.
        pool.params.direct_payees = 1;
        let waits = pool.propose(&[]).proposal;
        let plan = DirectPlan::compute(waits.inputs.clone(), &pool.view()).unwrap();
        let mut waits = Told::of(&pool, &waits, 1);
        waits.me.direct_owed_max = plan.left_owed(&pool.identity(1), &pool.view());
        let proposals = proposals.into_iter().chain([waits]);
        let mut file = Self {
            outputs,
            ledger: pool.records.iter().map(Window::of).collect(),
            assignments: slices(&pool.assignments),
            proposals: proposals.collect(),
            cases: Vec::new(),
        };
        file.break_all(&pool, 0, &[LAST, SIGNED, STATE, OURS, POLICY]);
        file.break_all(&pool, 1, &[LAST, DIRECT, STATE, OURS_DIRECT, POLICY]);
        file.break_all(&pool, 2, &[WAITS]);
        file
    }

    fn check(&self) {
        for told in &self.proposals {
            assert_eq!(self.check_told(told), None);
        }
        for case in &self.cases {
            let told = self.proposals[case.proposal].with(&case.changed);
            assert_eq!(self.check_told(&told), Some(case.refused), "{}", case.what);
        }
    }
}
