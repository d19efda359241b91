//! blame.json: who is blamed for an attempt with what evidence, and whether that is false.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tutti_proto::id::{Identity, RoundId};
use tutti_proto::message::{AbortReason, AnnouncedSlot, Blame, Evidence, TxAbort, TxSignatures};
use tutti_proto::musig::{AggregateNonce, PartialSignature};
use tutti_proto::plan::CheckedPlan;

use super::super::pool::{Attempted, Pool};
use super::Vector;
use super::messages::SlotRow;
use super::round::State;
use super::types::{Inputs, Output, OwnedSlice, Params, Window, bytes, identity, slices};

#[derive(Serialize, Deserialize)]
pub struct File {
    params: Params,
    outputs: Vec<Output>,
    ledger: Vec<Window>,
    assignments: Vec<OwnedSlice>,
    inputs: Inputs,
    round: String,
    aggregate_nonces: Vec<String>,
    /// Digest of the proposal, as the coordinator signs it.
    proposal: String,
    cases: Vec<Case>,
}

#[derive(Serialize, Deserialize)]
struct Case {
    what: String,
    identity: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence: Option<Shown>,
    false_blame: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Shown {
    BadPartial { slot: Slot, tx_signatures: Partials },
    Refused(Refusal),
}

#[derive(Serialize, Deserialize)]
struct Slot {
    #[serde(flatten)]
    slot: SlotRow,
    signature: String,
}

#[derive(Serialize, Deserialize)]
struct Partials {
    round: String,
    proposal: String,
    partials: Vec<String>,
    signature: String,
}

#[derive(Serialize, Deserialize)]
struct Refusal {
    round: String,
    reason: u32,
    signature: String,
}

impl Shown {
    fn of(evidence: &Evidence) -> Self {
        match evidence {
            Evidence::BadPartial { slot, signatures } => Self::BadPartial {
                slot: Slot {
                    slot: SlotRow::of(&slot.slot),
                    signature: hex::encode(slot.signature),
                },
                tx_signatures: Partials {
                    round: hex::encode(signatures.round.0),
                    proposal: hex::encode(signatures.proposal),
                    partials: signatures
                        .partials
                        .iter()
                        .map(|partial| hex::encode(partial.serialize()))
                        .collect(),
                    signature: hex::encode(signatures.signature),
                },
            },
            Evidence::Refused(abort) => Self::Refused(Refusal {
                round: hex::encode(abort.round.0),
                reason: abort.reason.code(),
                signature: hex::encode(abort.signature),
            }),
        }
    }

    fn read(&self) -> Evidence {
        match self {
            Self::BadPartial {
                slot,
                tx_signatures: told,
            } => {
                let partial = |hex: &String| PartialSignature::parse(&bytes(hex)).unwrap();
                Evidence::BadPartial {
                    slot: AnnouncedSlot {
                        slot: slot.slot.read(),
                        signature: bytes(&slot.signature),
                    },
                    signatures: TxSignatures {
                        round: RoundId(bytes(&told.round)),
                        proposal: bytes(&told.proposal),
                        partials: told.partials.iter().map(partial).collect(),
                        signature: bytes(&told.signature),
                    },
                }
            }
            Self::Refused(told) => Evidence::Refused(TxAbort {
                round: RoundId(bytes(&told.round)),
                reason: AbortReason::from_code(told.reason).unwrap(),
                signature: bytes(&told.signature),
            }),
        }
    }
}

const AUX: [u8; 32] = [0; 32];

/// What the signers of an attempt signed.
struct Attempt {
    pool: Pool,
    plan: CheckedPlan,
    slots: BTreeMap<Identity, AnnouncedSlot>,
    partials: BTreeMap<Identity, Vec<PartialSignature>>,
}

impl Attempt {
    fn of(pool: Pool, attempted: Attempted) -> Self {
        let coordinator = pool.params.coordinator;
        let key = |who: &Identity| pool.keys.iter().find(|key| key.identity() == *who).unwrap();
        let slots = attempted.slots.values().map(|(who, _, public)| {
            let slot = AnnouncedSlot::sign(key(who), &coordinator, public.clone(), &AUX);
            (*who, slot)
        });
        let slots = slots.collect();
        let order: Vec<Identity> = attempted.slots.values().map(|(who, ..)| *who).collect();
        let (plan, partials) = attempted.sign(&pool);
        Self {
            partials: order.into_iter().zip(partials).collect(),
            pool,
            plan,
            slots,
        }
    }

    fn slot(&self, n: usize) -> AnnouncedSlot {
        self.slots[&self.pool.identity(n)].clone()
    }

    fn partials(&self, n: usize) -> Vec<PartialSignature> {
        self.partials[&self.pool.identity(n)].clone()
    }

    /// What miner `n` sends if these are its partial signatures.
    fn sent(&self, n: usize, partials: Vec<PartialSignature>) -> TxSignatures {
        let (round, proposal) = (self.plan.round(), self.plan.proposal());
        TxSignatures::sign(&self.pool.keys[n], round, proposal, partials, &AUX)
    }

    /// Its partial signatures with one that is another's.
    fn spoiled(&self, n: usize) -> TxSignatures {
        let mut partials = self.partials(n);
        let last = partials.len() - 1;
        partials[last] = self.partials(n + 1)[last];
        self.sent(n, partials)
    }

    fn refusal(&self, n: usize, round: RoundId) -> Evidence {
        Evidence::Refused(TxAbort::sign(
            &self.pool.keys[n],
            round,
            AbortReason::Policy,
            &AUX,
        ))
    }
}

type Told = (&'static str, usize, Option<Evidence>);

fn bad(slot: AnnouncedSlot, signatures: TxSignatures) -> Option<Evidence> {
    Some(Evidence::BadPartial { slot, signatures })
}

fn silence_and_refusals(attempt: &Attempt) -> Vec<Told> {
    let round = attempt.plan.round();
    vec![
        ("a signer, silent", 1, None),
        ("one who is no signer, silent", 3, None),
        (
            "its refusal of this round",
            1,
            Some(attempt.refusal(1, round)),
        ),
        ("another's refusal", 1, Some(attempt.refusal(2, round))),
        (
            "its refusal of another round",
            1,
            Some(attempt.refusal(1, RoundId([1; 32]))),
        ),
        (
            "the refusal of one who is no signer",
            3,
            Some(attempt.refusal(3, round)),
        ),
    ]
}

fn partials(attempt: &Attempt) -> Vec<Told> {
    let (pool, slot) = (&attempt.pool, attempt.slot(1));
    let (coordinator, key) = (pool.params.coordinator, &pool.keys[1]);
    let (honest, spoiled) = (attempt.sent(1, attempt.partials(1)), attempt.spoiled(1));
    let (mut fewer, mut more) = (attempt.partials(1), attempt.partials(1));
    fewer.pop();
    more.push(more[0]);
    let mut reordered = slot.slot.clone();
    reordered.nonces.swap(0, 1);
    let other_nonces = AnnouncedSlot::sign(key, &coordinator, reordered, &AUX);
    let other_key = AnnouncedSlot::sign(key, &coordinator, attempt.slot(2).slot, &AUX);
    let elsewhere = AnnouncedSlot::sign(key, &pool.identity(3), slot.slot.clone(), &AUX);
    let (round, proposal) = (attempt.plan.round(), attempt.plan.proposal());
    let signed =
        |round, proposal| TxSignatures::sign(key, round, proposal, spoiled.partials.clone(), &AUX);
    let mut changed = honest.clone();
    changed.partials = spoiled.partials.clone();
    vec![
        (
            "partial signatures that are all valid",
            1,
            bad(slot.clone(), honest.clone()),
        ),
        (
            "a partial signature that is another's",
            1,
            bad(slot.clone(), spoiled.clone()),
        ),
        (
            "a partial signature too few",
            1,
            bad(slot.clone(), attempt.sent(1, fewer)),
        ),
        (
            "a partial signature too many",
            1,
            bad(slot.clone(), attempt.sent(1, more)),
        ),
        (
            "valid for the nonces in another order, which it announced for the same key",
            1,
            bad(other_nonces, honest.clone()),
        ),
        (
            "a slot with another key than it signs with",
            1,
            bad(other_key, spoiled.clone()),
        ),
        (
            "a slot that was announced to another coordinator",
            1,
            bad(elsewhere, spoiled.clone()),
        ),
        ("another's slot", 1, bad(attempt.slot(2), spoiled.clone())),
        (
            "another's partial signatures, with one that is invalid",
            2,
            bad(attempt.slot(2), spoiled.clone()),
        ),
        (
            "partial signatures that were changed after they were signed",
            1,
            bad(slot.clone(), changed),
        ),
        (
            "of another round",
            1,
            bad(slot.clone(), signed(RoundId([1; 32]), proposal)),
        ),
        ("of another proposal", 1, bad(slot, signed(round, [1; 32]))),
    ]
}

impl File {
    fn state(&self) -> State {
        State::read(&self.params, &self.outputs, &self.ledger, &self.assignments)
    }

    fn plan(&self) -> CheckedPlan {
        let nonce = |hex: &String| AggregateNonce::parse(&bytes(hex)).unwrap();
        let nonces = self.aggregate_nonces.iter().map(nonce).collect();
        let (state, inputs) = (self.state(), self.inputs.read());
        CheckedPlan::compute(inputs, |_| Ok(nonces), &state.view()).unwrap()
    }
}

impl Vector for File {
    fn generate() -> Self {
        let mut pool = Pool::new("tutti vectors: blame", 3);
        pool.close_window(&[(1, 10_000), (2, 30_000)], &[]);
        let attempted = pool.propose(&[0, 1, 2]);
        let proposal = attempted.proposal.clone();
        let attempt = Attempt::of(pool, attempted);
        let (pool, plan) = (&attempt.pool, &attempt.plan);
        let told = [silence_and_refusals(&attempt), partials(&attempt)].concat();
        let case = |(what, n, evidence): &Told| {
            let (identity, evidence) = (pool.identity(*n), evidence.clone());
            let shown = evidence.as_ref().map(Shown::of);
            let blame = Blame { identity, evidence };
            Case {
                what: (*what).into(),
                identity: hex::encode(identity.as_bytes()),
                evidence: shown,
                false_blame: blame.check(&pool.params.coordinator, plan).is_err(),
            }
        };
        let outputs = pool.roster.in_order_of_adding().into_iter();
        let nonces = proposal.nonces.iter();
        Self {
            cases: told.iter().map(case).collect(),
            params: Params::of(&pool.params),
            outputs: outputs.map(|(_, output)| Output::of(output)).collect(),
            ledger: pool.records.iter().map(Window::of).collect(),
            assignments: slices(&pool.assignments),
            inputs: Inputs::of(&proposal.inputs),
            round: hex::encode(proposal.round.0),
            aggregate_nonces: nonces.map(|n| hex::encode(n.serialize())).collect(),
            proposal: hex::encode(plan.proposal()),
        }
    }

    fn check(&self) {
        let plan = self.plan();
        assert_eq!(hex::encode(plan.round().0), self.round);
        assert_eq!(hex::encode(plan.proposal()), self.proposal);
        let coordinator = identity(&self.params.coordinator);
        for case in &self.cases {
            let blame = Blame {
                identity: identity(&case.identity),
                evidence: case.evidence.as_ref().map(Shown::read),
            };
            let is_false = blame.check(&coordinator, &plan).is_err();
            assert_eq!(is_false, case.false_blame, "{}", case.what);
        }
    }
}
