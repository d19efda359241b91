//! A small pool, seeded: a coordinator, miners, their outputs, a ledger, and proposals made of them.

use std::collections::{BTreeMap, BTreeSet};

use bitcoin::{Network, ScriptBuf};
use tutti_proto::feerate::FeeRate;
use tutti_proto::id::{Attempt, Identity, LaneIndex, RoundId, RoundSeq, SerialId};
use tutti_proto::identity::IdentityKey;
use tutti_proto::lane::{Assignments, Worker};
use tutti_proto::message::TxAddOutput;
use tutti_proto::musig::{
    AggregateNonce, PartialSignature, PublicNonce, PublicSlot, SigningSlot, SlotKey,
};
use tutti_proto::params::PoolParams;
use tutti_proto::plan::{
    Checked, CheckedPlan, Checker, DirectPlan, PlanView, ProposedPlan, RoundInputs, Signer,
};
use tutti_proto::policy::Policy;
use tutti_proto::roster::Roster;
use tutti_proto::script::PayoutScript;
use tutti_proto::window::{Booking, Credit, Ledger, Scoring, Tally, WindowRecord};
use tutti_proto::work::Work;

use super::seeded::Seeded;

/// Number 0 is the coordinator, 1 and up are miners.
pub struct Pool {
    pub rng: Seeded,
    pub keys: Vec<IdentityKey>,
    /// The identity keys' secrets, for vectors.
    pub secrets: Vec<[u8; 32]>,
    pub params: PoolParams,
    pub roster: Roster,
    pub ledger: Ledger,
    pub records: Vec<WindowRecord>,
    /// Height of the next windows.
    pub height: u32,
    /// Height of the block that is proposed.
    pub proposed_height: u32,
    /// What that block is worth, sat.
    pub reward: u64,
    pub assignments: Assignments,
}

/// An attempt as its coordinator has it: the slots of all signers, and what it proposes.
pub struct Attempted {
    pub slots: BTreeMap<SlotKey, (Identity, SigningSlot, PublicSlot)>,
    pub proposal: ProposedPlan,
}

impl Pool {
    pub fn new(seed: &str, miners: usize) -> Self {
        let mut rng = Seeded::new(seed);
        let secrets: Vec<[u8; 32]> = (0..=miners).map(|_| rng.bytes32()).collect();
        let keys: Vec<IdentityKey> = secrets
            .iter()
            .map(|secret| IdentityKey::from_bytes(&mut secret.clone()).unwrap())
            .collect();
        let params = PoolParams {
            network: Network::Regtest,
            coordinator: keys[0].identity(),
            tag: "/tutti/".into(),
            operator_fee_ppm: 10_000,
            lanes: 2,
            nonces_per_slot: 3,
            direct_payees: 32,
            scoring: Scoring::Pplns,
            pplns_depth: 8,
            ntime_roll: 600,
            block_zero_bits: Some(12),
            bump_credit: 20_000,
            bump_credit_after: 3,
        };
        let mut pool = Self {
            rng,
            keys,
            secrets,
            params,
            roster: Roster::default(),
            ledger: Ledger::default(),
            records: Vec::new(),
            height: 150,
            proposed_height: 151,
            reward: 2_500_012_345,
            assignments: Assignments::default(),
        };
        for n in 0..=miners {
            let serial_id = if n == 0 { 0 } else { 10 * n as u64 + 1 };
            pool.add_output(n, serial_id);
        }
        let worker = |n: usize| Worker {
            rate: 1_000 * n as u64,
            z: 8,
        };
        let workers = (1..=miners).map(|n| (pool.identity(n), worker(n)));
        pool.assignments = Assignments::divide(&workers.collect(), pool.params.lanes);
        pool
    }

    pub fn identity(&self, n: usize) -> Identity {
        self.keys[n].identity()
    }

    /// Gives somebody one more output, of a type that depends on the serial_id.
    pub fn add_output(&mut self, n: usize, serial_id: u64) {
        let program = self.rng.bytes32();
        let bytes = if serial_id.is_multiple_of(3) {
            [&[0x00, 0x14], &program[..20]].concat()
        } else {
            [&[0x51, 0x20], &program[..]].concat()
        };
        let script = PayoutScript::parse(ScriptBuf::from_bytes(bytes)).unwrap();
        let coordinator = self.params.coordinator;
        let aux = self.rng.bytes32();
        let serial_id = SerialId(serial_id);
        let output = TxAddOutput::sign(&self.keys[n], &coordinator, serial_id, script, &aux);
        self.roster.add_output(&coordinator, output).unwrap();
    }

    /// A further miner with this output; the next number.
    pub fn add_payee(&mut self, serial_id: u64) {
        let secret = self.rng.bytes32();
        self.secrets.push(secret);
        self.keys
            .push(IdentityKey::from_bytes(&mut { secret }).unwrap());
        self.add_output(self.keys.len() - 1, serial_id);
    }

    /// Closes a window with this work by number, and a block that changes carries so.
    pub fn close_window(&mut self, work: &[(usize, u128)], carry: &[(usize, i64)]) {
        let carry: BTreeMap<Identity, i64> = carry
            .iter()
            .map(|(n, sat)| (self.identity(*n), *sat))
            .collect();
        let bookings = if carry.is_empty() {
            Vec::new()
        } else {
            vec![Booking {
                block: self.rng.bytes32(),
                round: RoundId(self.rng.bytes32()),
                lane: LaneIndex(0),
                undone: false,
                carry,
                payouts: self.rng.bytes32(),
                header: [0; 80],
            }]
        };
        self.close(work, bookings, Vec::new());
    }

    /// Closes a window with these bookings and credits.
    pub fn close(&mut self, work: &[(usize, u128)], bookings: Vec<Booking>, credits: Vec<Credit>) {
        let head = self.ledger.head();
        let tally: Tally = work
            .iter()
            .map(|(n, work)| (self.identity(*n), Work(*work)))
            .collect();
        let record = WindowRecord {
            seq: head.seq.next(),
            height: self.height,
            previous: head.hash,
            shares_root: self.rng.bytes32(),
            shares: work.len() as u64,
            tally,
            bookings,
            credits,
        };
        self.ledger.append(&record).unwrap();
        self.records.push(record);
    }

    pub fn view(&self) -> PlanView<'_> {
        PlanView {
            params: &self.params,
            roster: &self.roster,
            ledger: &self.ledger,
            assignments: &self.assignments,
        }
    }

    /// A proposal that everybody named here is to sign.
    pub fn propose(&mut self, signers: &[usize]) -> Attempted {
        let sessions = usize::from(self.params.nonces_per_slot);
        let mut slots = BTreeMap::new();
        for n in signers {
            let (secret, public) = SigningSlot::generate(&mut self.rng, sessions);
            slots.insert(public.key, (self.identity(*n), secret, public));
        }
        let inputs = RoundInputs {
            seq: RoundSeq(self.ledger.head().seq.0),
            attempt: Attempt(0),
            height: self.proposed_height,
            bits: 0x207f_ffff,
            reward: self.reward,
            witness_commitment: Some(self.rng.bytes32()),
            feerate: FeeRate::from_sat_per_kvb(2_500).unwrap(),
            roster: self.roster.digest(),
            ledger: self.ledger.head(),
            assignments: self.assignments.digest(),
            signers: slots
                .iter()
                .map(|(key, (identity, ..))| Signer {
                    identity: *identity,
                    key: *key,
                })
                .collect(),
        };
        let nonces = if signers.is_empty() {
            Vec::new()
        } else {
            sums(&slots, sessions)
        };
        let proposal = self.seal(inputs, nonces);
        Attempted { slots, proposal }
    }

    /// Gives inputs the round name and the coinbases that follow from them, where any do.
    pub fn seal(&self, inputs: RoundInputs, mut nonces: Vec<AggregateNonce>) -> ProposedPlan {
        let round = inputs.round_id(&self.params);
        if inputs.is_direct() {
            let computed = DirectPlan::compute(inputs.clone(), &self.view());
            let coinbases = computed.map_or_else(|_| Vec::new(), |plan| plan.txids());
            return ProposedPlan {
                round,
                inputs,
                coinbases,
                nonces,
            };
        }
        let all = nonces.clone();
        let computed = CheckedPlan::compute(
            inputs.clone(),
            |sessions| Ok(all[..sessions.min(all.len())].to_vec()),
            &self.view(),
        );
        let coinbases: Vec<[u8; 32]> = computed
            .iter()
            .flat_map(|plan| plan.lanes().iter().map(|lane| lane.txid))
            .collect();
        if let Ok(plan) = &computed {
            nonces.truncate(plan.sessions().len());
        }
        ProposedPlan {
            round,
            inputs,
            coinbases,
            nonces,
        }
    }
}

fn sums(
    slots: &BTreeMap<SlotKey, (Identity, SigningSlot, PublicSlot)>,
    sessions: usize,
) -> Vec<AggregateNonce> {
    (0..sessions)
        .map(|place| {
            let of_session: Vec<&PublicNonce> = slots
                .values()
                .map(|(.., public)| &public.nonces[place])
                .collect();
            AggregateNonce::sum(of_session.into_iter()).unwrap()
        })
        .collect()
}

/// The plan of a proposal that is to be signed.
pub fn to_sign(checked: Checked) -> CheckedPlan {
    match checked {
        Checked::ToSign(plan) => plan,
        Checked::Direct(_) => panic!("a direct round is not signed"),
    }
}

/// The plan of a direct round.
pub fn direct(checked: Checked) -> DirectPlan {
    match checked {
        Checked::Direct(plan) => plan,
        Checked::ToSign(_) => panic!("a round with signers is not a direct one"),
    }
}

/// What a participant knows of itself, owned.
pub struct Me {
    pub identity: Identity,
    pub slots: BTreeSet<SlotKey>,
    pub last: Option<(RoundSeq, Attempt)>,
    pub policy: Policy,
}

impl Me {
    pub fn checker(&self) -> Checker<'_> {
        Checker {
            identity: &self.identity,
            slots: &self.slots,
            last: self.last,
            policy: &self.policy,
        }
    }
}

impl Attempted {
    /// The participant with this identity, which announced the slot that is named, and nothing more.
    pub fn me(&self, identity: Identity) -> Me {
        Me {
            identity,
            slots: self.proposal.own_key(&identity).into_iter().collect(),
            last: None,
            policy: Policy::default(),
        }
    }

    /// Everybody signs what it computed itself; partial signatures by signer, then session.
    pub fn sign(self, pool: &Pool) -> (CheckedPlan, Vec<Vec<PartialSignature>>) {
        let mut plans = Vec::new();
        let mut partials = Vec::new();
        let mes: Vec<Me> = self
            .slots
            .values()
            .map(|(identity, ..)| self.me(*identity))
            .collect();
        for ((_, slot, _), me) in self.slots.into_values().zip(mes) {
            let plan = to_sign(self.proposal.check(&pool.view(), &me.checker()).unwrap());
            partials.push(plan.sign(slot).unwrap());
            plans.push(plan);
        }
        (plans.remove(0), partials)
    }
}

/// Final signatures, session by session.
pub fn combine(plan: &CheckedPlan, partials: &[Vec<PartialSignature>]) -> Vec<[u8; 64]> {
    let sessions = plan.sessions().iter().zip(plan.sighashes()).enumerate();
    sessions
        .map(|(place, (session, sighash))| {
            let of_session = partials.iter().map(|of_signer| &of_signer[place]);
            session.combine(plan.key(), sighash, of_session).unwrap()
        })
        .collect()
}
