//! round.json: one full round, from replicated state to signed payouts.

use bitcoin::Transaction;
use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::hashes::Hash;
use serde::{Deserialize, Serialize};
use tutti_proto::id::{Identity, RoundId, SerialId};
use tutti_proto::musig::{AggregateNonce, PartialSignature, PublicSlot};
use tutti_proto::plan::{CheckedPlan, Checker, DirectPlan, PlanView, ProposedPlan};
use tutti_proto::policy::Policy;
use tutti_proto::roster::Roster;
use tutti_proto::window::Ledger;

use super::super::pool::{Pool, combine, direct, to_sign};
use super::Vector;
use super::messages::SlotRow;
use super::types::{
    CarryEntry, Inputs, Output, OwnedSlice, Params, Window, WorkEntry, bytes, carries, identity,
    read_slices, slices, tally,
};

#[derive(Serialize, Deserialize)]
pub struct File {
    params: Params,
    outputs: Vec<Output>,
    ledger: Vec<Window>,
    assignments: Vec<OwnedSlice>,
    inputs: Inputs,
    /// In the order of `inputs.signers`.
    slots: Vec<SlotRow>,
    round: String,
    aggregate_nonces: Vec<String>,
    weights: Vec<WorkEntry>,
    amounts: Vec<Amount>,
    carry_changes: Vec<CarryEntry>,
    output_key: String,
    /// By signer, then by session.
    partials: Vec<Vec<String>>,
    lanes: Vec<Lane>,
    /// A direct round of the same state, with room for fewer outputs than there are payees.
    direct: Direct,
}

#[derive(Serialize, Deserialize)]
struct Direct {
    params: Params,
    inputs: Inputs,
    round: String,
    amounts: Vec<Amount>,
    carry_changes: Vec<CarryEntry>,
    coinbases: Vec<DirectCoinbase>,
}

#[derive(Serialize, Deserialize)]
struct DirectCoinbase {
    transaction: String,
    txid: String,
}

#[derive(Serialize, Deserialize)]
struct Amount {
    serial_id: u64,
    sat: u64,
}

#[derive(Serialize, Deserialize)]
struct Lane {
    coinbase: String,
    coinbase_txid: String,
    payouts: Vec<Payout>,
}

#[derive(Serialize, Deserialize)]
struct Payout {
    sighash: String,
    signature: String,
    txid: String,
    signed: String,
}

/// The state that the file describes.
pub struct State {
    pub params: tutti_proto::params::PoolParams,
    pub roster: Roster,
    pub ledger: Ledger,
    pub assignments: tutti_proto::lane::Assignments,
}

impl State {
    pub fn read(
        params: &Params,
        outputs: &[Output],
        records: &[Window],
        assignments: &[OwnedSlice],
    ) -> Self {
        let params = params.read();
        let mut roster = Roster::default();
        for output in outputs {
            let output = output.read();
            roster.add_output(&params.coordinator, output).unwrap();
        }
        let mut ledger = Ledger::default();
        for record in records {
            ledger.append(&record.read()).unwrap();
        }
        Self {
            assignments: read_slices(assignments, params.lanes),
            params,
            roster,
            ledger,
        }
    }

    pub fn view(&self) -> PlanView<'_> {
        PlanView {
            params: &self.params,
            roster: &self.roster,
            ledger: &self.ledger,
            assignments: &self.assignments,
        }
    }
}

fn amounts<'a>(outputs: impl Iterator<Item = &'a (SerialId, u64)>) -> Vec<Amount> {
    outputs
        .map(|(serial_id, sat)| Amount {
            serial_id: serial_id.0,
            sat: *sat,
        })
        .collect()
}

fn payout_amounts(plan: &CheckedPlan) -> Vec<Amount> {
    amounts(plan.split().shards.iter().flat_map(|shard| &shard.outputs))
}

impl Direct {
    fn of(plan: &DirectPlan, view: &PlanView<'_>) -> Self {
        let coinbase = |tx: &Transaction| DirectCoinbase {
            transaction: serialize_hex(tx),
            txid: hex::encode(tx.compute_txid().to_byte_array()),
        };
        Self {
            params: Params::of(view.params),
            inputs: Inputs::of(plan.inputs()),
            round: hex::encode(plan.round().0),
            amounts: amounts(plan.split().outputs.iter()),
            carry_changes: carries(&plan.carry_changes(view)),
            coinbases: plan.coinbases().iter().map(coinbase).collect(),
        }
    }

    /// The plan as any payee accepts it.
    fn check(&self, state: &mut State, payee: &Identity) {
        state.params = self.params.read();
        let proposal = ProposedPlan {
            round: RoundId(bytes(&self.round)),
            inputs: self.inputs.read(),
            coinbases: self.coinbases.iter().map(|c| bytes(&c.txid)).collect(),
            nonces: Vec::new(),
        };
        let checker = Checker {
            identity: payee,
            slots: &Default::default(),
            last: None,
            policy: &Policy {
                direct_owed_max: u64::MAX,
                ..Policy::default()
            },
        };
        let plan = direct(proposal.check(&state.view(), &checker).unwrap());
        same(&Self::of(&plan, &state.view()), self);
        for coinbase in &self.coinbases {
            let coinbase: Transaction = deserialize_hex(&coinbase.transaction).unwrap();
            let value: u64 = coinbase.output.iter().map(|out| out.value.to_sat()).sum();
            assert_eq!(value, self.inputs.reward);
        }
    }
}

fn lanes(plan: &CheckedPlan, signatures: &[[u8; 64]]) -> Vec<Lane> {
    let complete = plan.complete(signatures).unwrap();
    let mut signatures = signatures.iter();
    plan.lanes()
        .iter()
        .enumerate()
        .map(|(place, lane)| (lane, complete.of_lane(place, &lane.coinbase)))
        .map(|(lane, payouts)| Lane {
            coinbase: serialize_hex(&lane.coinbase),
            coinbase_txid: hex::encode(lane.txid),
            payouts: payouts
                .iter()
                .zip(&lane.sighashes)
                .map(|(payout, sighash)| Payout {
                    sighash: hex::encode(sighash),
                    signature: hex::encode(signatures.next().unwrap()),
                    txid: hex::encode(payout.compute_txid().to_byte_array()),
                    signed: serialize_hex(payout),
                })
                .collect(),
        })
        .collect()
}

impl Vector for File {
    fn generate() -> Self {
        let mut pool = Pool::new("tutti vectors: round", 4);
        pool.close_window(&[(1, 10_000), (2, 30_000)], &[]);
        pool.close_window(&[(2, 5_000), (3, 20_000)], &[(1, 250), (3, -100)]);
        // Miner 2 moves to a new script; miner 4 has joined and not worked yet.
        pool.add_output(2, 25);
        let attempted = pool.propose(&[0, 1, 2, 3]);
        let slots = attempted
            .slots
            .values()
            .map(|(.., public)| SlotRow::of(public))
            .collect();
        let proposal = attempted.proposal.clone();
        let (plan, partials) = attempted.sign(&pool);
        let signatures = combine(&plan, &partials);
        let outputs = pool.roster.in_order_of_adding();
        let row = |of_signer: &Vec<PartialSignature>| {
            of_signer
                .iter()
                .map(|p| hex::encode(p.serialize()))
                .collect()
        };
        Self {
            params: Params::of(&pool.params),
            outputs: outputs
                .into_iter()
                .map(|(_, output)| Output::of(output))
                .collect(),
            ledger: pool.records.iter().map(Window::of).collect(),
            assignments: slices(&pool.assignments),
            inputs: Inputs::of(&proposal.inputs),
            slots,
            round: hex::encode(proposal.round.0),
            aggregate_nonces: proposal
                .nonces
                .iter()
                .map(|n| hex::encode(n.serialize()))
                .collect(),
            weights: tally(plan.weights()),
            amounts: payout_amounts(&plan),
            carry_changes: carries(&plan.carry_changes(&pool.view())),
            output_key: hex::encode(plan.key().output_key()),
            partials: partials.iter().map(row).collect(),
            lanes: lanes(&plan, &signatures),
            direct: {
                pool.params.direct_payees = 2;
                let inputs = pool.propose(&[]).proposal.inputs;
                Direct::of(
                    &DirectPlan::compute(inputs, &pool.view()).unwrap(),
                    &pool.view(),
                )
            },
        }
    }

    fn check(&self) {
        let mut state = self.state();
        let slots: Vec<PublicSlot> = self.slots.iter().map(SlotRow::read).collect();
        let plan = self.checked(&state, &slots);
        same(&tally(plan.weights()), &self.weights);
        same(&payout_amounts(&plan), &self.amounts);
        same(
            &carries(&plan.carry_changes(&state.view())),
            &self.carry_changes,
        );
        assert_eq!(hex::encode(plan.key().output_key()), self.output_key);

        let partial = |hex: &String| PartialSignature::parse(&bytes(hex)).unwrap();
        let partials: Vec<Vec<PartialSignature>> = self
            .partials
            .iter()
            .map(|of_signer| of_signer.iter().map(partial).collect())
            .collect();
        for (slot, partials) in slots.iter().zip(&partials) {
            for (place, session) in plan.sessions().iter().enumerate() {
                let nonce = &slot.nonces[place];
                assert!(session.partial_is_valid(plan.key(), &partials[place], nonce, &slot.key));
            }
        }
        let signatures = combine(&plan, &partials);
        same(&lanes(&plan, &signatures), &self.lanes);
        for lane in &self.lanes {
            let coinbase: Transaction = deserialize_hex(&lane.coinbase).unwrap();
            for payout in &lane.payouts {
                let payout: Transaction = deserialize_hex(&payout.signed).unwrap();
                assert_eq!(
                    payout.input[0].previous_output.txid,
                    coinbase.compute_txid()
                );
            }
        }
        let payee = identity(&self.inputs.signers[0].identity);
        self.direct.check(&mut state, &payee);
    }
}

impl File {
    fn state(&self) -> State {
        State::read(&self.params, &self.outputs, &self.ledger, &self.assignments)
    }

    /// The plan as each signer accepts it, with nonces that the file's slots sum to.
    fn checked(&self, state: &State, slots: &[PublicSlot]) -> CheckedPlan {
        let nonces: Vec<AggregateNonce> = (0..self.aggregate_nonces.len())
            .map(|place| AggregateNonce::sum(slots.iter().map(|s| &s.nonces[place])).unwrap())
            .collect();
        let encoded: Vec<String> = nonces.iter().map(|n| hex::encode(n.serialize())).collect();
        assert_eq!(encoded, self.aggregate_nonces);
        let inputs = self.inputs.read();
        let proposal = ProposedPlan {
            round: RoundId(bytes(&self.round)),
            coinbases: self
                .lanes
                .iter()
                .map(|lane| bytes(&lane.coinbase_txid))
                .collect(),
            inputs: inputs.clone(),
            nonces,
        };
        let mut plans: Vec<CheckedPlan> = Vec::new();
        for (signer, slot) in inputs.signers.iter().zip(slots) {
            assert_eq!(signer.key, slot.key);
            let checker = Checker {
                identity: &signer.identity,
                slots: &[slot.key].into(),
                last: None,
                policy: &Policy::default(),
            };
            plans.push(to_sign(proposal.check(&state.view(), &checker).unwrap()));
        }
        plans.pop().unwrap()
    }
}

/// Compares by what is published.
fn same<T: Serialize>(ours: &T, theirs: &T) {
    let text = |value| serde_json::to_string_pretty(value).unwrap();
    assert_eq!(text(ours), text(theirs));
}
