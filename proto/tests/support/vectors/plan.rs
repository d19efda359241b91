//! plan.json: what a round's amounts follow from: scoring, who is paid while nobody has worked, and how many
//! payouts there are room for.

use serde::{Deserialize, Serialize};
use tutti_proto::id::SerialId;
use tutti_proto::identity::IdentityKey;
use tutti_proto::message::TxAddOutput;
use tutti_proto::plan::{Amounts, RoundInputs};
use tutti_proto::roster::Roster;
use tutti_proto::window::{Scoring, payees_digest};

use super::super::pool::Pool;
use super::Vector;
use super::round::State;
use super::types::{
    CarryEntry, Inputs, Output, OwnedSlice, Params, Window, carries, script, slices,
};

#[derive(Serialize, Deserialize)]
pub struct File {
    cases: Vec<Case>,
}

#[derive(Serialize, Deserialize)]
struct Case {
    what: String,
    params: Params,
    /// In an order in which they can be added.
    outputs: Vec<Output>,
    /// So many more payees, told by a rule.
    many: u32,
    ledger: Vec<Window>,
    assignments: Vec<OwnedSlice>,
    inputs: Inputs,
    #[serde(flatten)]
    follows: Follows,
}

/// What follows from it.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Follows {
    round: String,
    /// Of a round with signers one for each payout of a lane, of a direct round the coinbase's outputs alone.
    shards: Vec<Shard>,
    carry_changes: Vec<CarryEntry>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Shard {
    serial_ids: Vec<u64>,
    sats: Vec<u64>,
    /// Hash of its payees; none in a direct round.
    #[serde(skip_serializing_if = "Option::is_none")]
    payees: Option<String>,
    /// Value of the coinbase's output.
    value: u64,
}

/// What follows from a state and inputs.
fn follows(state: &State, inputs: &RoundInputs) -> Follows {
    let view = state.view();
    let amounts = Amounts::of(inputs, &view).unwrap();
    let payees = amounts.payees(&view);
    let shard = |outputs: &[(SerialId, u64)], payees, value| Shard {
        serial_ids: outputs.iter().map(|(serial_id, _)| serial_id.0).collect(),
        sats: outputs.iter().map(|(_, sat)| *sat).collect(),
        payees,
        value,
    };
    let shards = match &amounts {
        Amounts::Signed(amounts) => {
            let shards = amounts.split.shards.iter().zip(payees);
            let shards = shards.map(|(of, payees)| {
                let payees = hex::encode(payees_digest(&payees));
                shard(&of.outputs, Some(payees), of.value)
            });
            shards.collect()
        }
        Amounts::Direct(amounts) => vec![shard(&amounts.split.outputs, None, inputs.reward)],
    };
    Follows {
        round: hex::encode(inputs.round_id(&state.params).0),
        shards,
        carry_changes: carries(&amounts.carry_changes(&view)),
    }
}

/// Payee i, from 1: its identity is that of the secret key i, as a number of 32 bytes, the highest first; its
/// serial_id is 2i + 1; its script OP_1 and the identity; its signature is made with 32 zero bytes.
fn payee(params: &tutti_proto::params::PoolParams, i: u32) -> TxAddOutput {
    let mut secret = [0; 32];
    secret[28..].copy_from_slice(&i.to_be_bytes());
    let key = IdentityKey::from_bytes(&mut secret).unwrap();
    let script = script(&format!("5120{}", hex::encode(key.identity().as_bytes())));
    let serial_id = SerialId(2 * u64::from(i) + 1);
    TxAddOutput::sign(&key, &params.coordinator, serial_id, script, &[0; 32])
}

fn add_many(params: &tutti_proto::params::PoolParams, roster: &mut Roster, many: u32) {
    for i in 1..=many {
        roster
            .add_output(&params.coordinator, payee(params, i))
            .unwrap();
    }
}

impl Case {
    fn of(what: &str, pool: &mut Pool, many: u32, signers: &[usize]) -> Self {
        let outputs = pool.roster.in_order_of_adding().into_iter();
        let outputs = outputs.map(|(_, output)| Output::of(output)).collect();
        add_many(&pool.params, &mut pool.roster, many);
        let inputs = pool.propose(signers).proposal.inputs;
        let state = State {
            params: pool.params.clone(),
            roster: pool.roster.clone(),
            ledger: pool.ledger.clone(),
            assignments: pool.assignments.clone(),
        };
        Self {
            what: what.into(),
            params: Params::of(&pool.params),
            outputs,
            many,
            ledger: pool.records.iter().map(Window::of).collect(),
            assignments: slices(&pool.assignments),
            follows: follows(&state, &inputs),
            inputs: Inputs::of(&inputs),
        }
    }

    fn state(&self) -> State {
        let (outputs, ledger) = (&self.outputs, &self.ledger);
        let mut state = State::read(&self.params, outputs, ledger, &self.assignments);
        add_many(&state.params, &mut state.roster, self.many);
        state
    }
}

/// Miner 1 has worked at another height than miners 2 and 3, whose windows one of another height parts.
fn epochs(scoring: Scoring) -> Pool {
    let mut pool = Pool::new("tutti vectors: plan", 3);
    pool.params.scoring = scoring;
    for (height, work) in [
        (150, &[(1, 4_000), (2, 100)][..]),
        (151, &[(2, 1_000)]),
        (150, &[(1, 9_000)]),
        (151, &[(3, 3_000), (2, 2)]),
        (152, &[]),
    ] {
        pool.height = height;
        pool.close_window(work, &[]);
    }
    pool
}

/// Miners with outputs, and work only of one without.
fn stranger(miners: usize) -> Pool {
    let mut pool = Pool::new("tutti vectors: plan, nobody", miners + 1);
    let who = pool.identity(miners + 1);
    let (serial_id, _) = pool.roster.active(&who).unwrap();
    pool.roster.remove_output(who, serial_id).unwrap();
    pool.close_window(&[(miners + 1, 7_000)], &[]);
    pool
}

/// Nobody has worked, and of the coordinator's lanes and nonces so many.
fn large(nonces_per_slot: u16) -> Pool {
    let mut pool = Pool::new("tutti vectors: plan, many", 0);
    pool.params.nonces_per_slot = nonces_per_slot;
    pool.close_window(&[], &[]);
    pool
}

/// Two payouts' worth of outputs of 43 bytes.
const MANY: u32 = 232;

impl Vector for File {
    fn generate() -> Self {
        let (mut pplns, mut epoch) = (epochs(Scoring::Pplns), epochs(Scoring::Epoch));
        let mut some = stranger(3);
        let mut direct = stranger(3);
        direct.params.direct_payees = 2;
        // With a fee it would be paid that.
        let mut alone = stranger(0);
        alone.params.operator_fee_ppm = 0;
        let cases = vec![
            Case::of("scoring 0: work of every height", &mut pplns, 0, &[0, 1]),
            Case::of(
                "scoring 1: the same work, that of the newest height that has any",
                &mut epoch,
                0,
                &[0, 1],
            ),
            Case::of(
                "work only of one without an output: the signers are paid, but for the coordinator",
                &mut some,
                0,
                &[0, 2, 3],
            ),
            Case::of(
                "the same, and no other signer has an output: all others are paid",
                &mut some,
                0,
                &[0, 4],
            ),
            Case::of(
                "the same of a direct round: it has no signer",
                &mut direct,
                0,
                &[],
            ),
            Case::of(
                "nobody but the coordinator has an output: it is paid",
                &mut alone,
                0,
                &[0, 1],
            ),
            Case::of(
                "room for one payout of a lane: whoever it has no room for is paid later",
                &mut large(3),
                MANY,
                &[0],
            ),
            Case::of("room for two", &mut large(4), MANY, &[0]),
        ];
        Self { cases }
    }

    fn check(&self) {
        for case in &self.cases {
            let (what, state, inputs) = (&case.what, case.state(), case.inputs.read());
            assert_eq!(follows(&state, &inputs), case.follows, "{what}");
            let values = case.follows.shards.iter().map(|shard| shard.value);
            assert_eq!(values.sum::<u64>(), inputs.reward, "{what}");
        }
    }
}
