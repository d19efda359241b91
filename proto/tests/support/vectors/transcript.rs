//! transcript.json: the digests that a round's name is made of, and the name.

use bitcoin::Network;
use serde::{Deserialize, Serialize};
use tutti_proto::lane::Assignments;
use tutti_proto::params::PoolParams;
use tutti_proto::roster::Roster;
use tutti_proto::window::Scoring;

use super::super::pool::Pool;
use super::Vector;
use super::types::{Inputs, Output, OwnedSlice, Params, read_slices, slices};

#[derive(Serialize, Deserialize)]
pub struct File {
    params: Vec<ParamsCase>,
    rosters: Vec<RosterCase>,
    assignments: Vec<AssignmentsCase>,
    rounds: Vec<RoundCase>,
}

#[derive(Serialize, Deserialize)]
struct ParamsCase {
    params: Params,
    digest: String,
}

/// Outputs are in the order in which they were added.
#[derive(Serialize, Deserialize)]
struct RosterCase {
    coordinator: String,
    outputs: Vec<Output>,
    digest: String,
}

#[derive(Serialize, Deserialize)]
struct AssignmentsCase {
    lanes: u16,
    slices: Vec<OwnedSlice>,
    digest: String,
}

#[derive(Serialize, Deserialize)]
struct RoundCase {
    params: Params,
    inputs: Inputs,
    round: String,
}

impl ParamsCase {
    fn of(params: &PoolParams) -> Self {
        Self {
            params: Params::of(params),
            digest: hex::encode(params.digest()),
        }
    }
}

impl RosterCase {
    fn of(pool: &Pool, roster: &Roster) -> Self {
        let outputs = roster.in_order_of_adding();
        Self {
            coordinator: hex::encode(pool.params.coordinator.as_bytes()),
            outputs: outputs
                .into_iter()
                .map(|(_, output)| Output::of(output))
                .collect(),
            digest: hex::encode(roster.digest()),
        }
    }
}

impl AssignmentsCase {
    fn of(assignments: &Assignments, lanes: u16) -> Self {
        Self {
            lanes,
            slices: slices(assignments),
            digest: hex::encode(assignments.digest()),
        }
    }
}

impl Vector for File {
    fn generate() -> Self {
        let mut pool = Pool::new("tutti vectors: transcript", 5);
        let mut params = vec![ParamsCase::of(&pool.params)];
        for network in [Network::Bitcoin, Network::Signet, Network::Testnet4] {
            let params_of = PoolParams {
                network,
                tag: "a pool of thirty-two characters!".into(),
                operator_fee_ppm: 0,
                lanes: 256,
                nonces_per_slot: 1_024,
                direct_payees: 39,
                scoring: Scoring::Epoch,
                pplns_depth: 1_000,
                ntime_roll: 7_200,
                block_zero_bits: None,
                bump_credit: 1_000_000,
                bump_credit_after: 1_000,
                ..pool.params
            };
            params.push(ParamsCase::of(&params_of));
        }
        let mut rosters = vec![
            RosterCase::of(&pool, &Roster::default()),
            RosterCase::of(&pool, &pool.roster),
        ];
        // A second output of miner 2, which is now the one that is paid.
        pool.add_output(2, 3);
        rosters.push(RosterCase::of(&pool, &pool.roster));
        let assignments = vec![
            AssignmentsCase::of(&Assignments::default(), 1),
            AssignmentsCase::of(&pool.assignments, pool.params.lanes),
        ];
        let mut rounds = Vec::new();
        pool.close_window(&[(1, 1_000), (2, 9_000)], &[]);
        for signers in [vec![0], vec![0, 1, 2], vec![0, 1, 2, 3, 4, 5]] {
            let mut inputs = pool.propose(&signers).proposal.inputs;
            inputs.attempt.0 = rounds.len() as u32;
            if signers.len() == 3 {
                inputs.witness_commitment = None;
            }
            rounds.push(RoundCase {
                params: Params::of(&pool.params),
                round: hex::encode(inputs.round_id(&pool.params).0),
                inputs: Inputs::of(&inputs),
            });
        }
        Self {
            params,
            rosters,
            assignments,
            rounds,
        }
    }

    fn check(&self) {
        for case in &self.params {
            assert_eq!(hex::encode(case.params.read().digest()), case.digest);
        }
        for case in &self.rosters {
            let coordinator = super::types::identity(&case.coordinator);
            let mut roster = Roster::default();
            for output in &case.outputs {
                roster.add_output(&coordinator, output.read()).unwrap();
            }
            assert_eq!(hex::encode(roster.digest()), case.digest);
        }
        for case in &self.assignments {
            let assignments = read_slices(&case.slices, case.lanes);
            assert_eq!(hex::encode(assignments.digest()), case.digest);
        }
        for case in &self.rounds {
            let round = case.inputs.read().round_id(&case.params.read());
            assert_eq!(hex::encode(round.0), case.round);
        }
    }
}
