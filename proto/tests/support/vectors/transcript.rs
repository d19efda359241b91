//! transcript.json: the digests that a round's name is made of, and the name.

use bitcoin::Network;
use serde::{Deserialize, Serialize};
use tutti_proto::lane::Assignments;
use tutti_proto::params::PoolParams;
use tutti_proto::roster::Roster;
use tutti_proto::window::Scoring;

use super::super::pool::Pool;
use super::Vector;
use super::types::{Inputs, Output, OwnedSlice, Params, assigned, read_slices, slices};

#[derive(Serialize, Deserialize)]
pub struct File {
    params: Vec<ParamsCase>,
    rosters: Vec<RosterCase>,
    assignments: Vec<AssignmentsCase>,
    /// Slices that are not well formed.
    no_assignments: Vec<NoAssignments>,
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
struct NoAssignments {
    what: String,
    lanes: u16,
    slices: Vec<OwnedSlice>,
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

/// Lane, prefix, its length, which miner's, and z.
type Row = (u16, u16, u8, usize, u8);

/// Of two lanes, or of one.
const NO_ASSIGNMENTS: &[(&str, u16, &[Row])] = &[
    ("a lane that there is not", 2, &[(2, 0, 0, 1, 8)]),
    ("a prefix of 17 bits", 1, &[(0, 0, 17, 1, 8)]),
    ("a bit after the prefix", 1, &[(0, 0x4000, 1, 1, 8)]),
    ("the whole lane has no prefix", 1, &[(0, 1, 0, 1, 8)]),
    ("a slice twice", 1, &[(0, 0, 1, 1, 8), (0, 0, 1, 1, 8)]),
    (
        "a slice in another",
        1,
        &[(0, 0x8000, 1, 1, 8), (0, 0xc000, 2, 2, 8)],
    ),
    (
        "a slice in the whole lane",
        1,
        &[(0, 0, 0, 1, 8), (0, 0xffff, 16, 2, 8)],
    ),
    ("two z of one owner", 2, &[(0, 0, 0, 1, 8), (1, 0, 0, 1, 9)]),
    ("a z of 97", 1, &[(0, 0, 0, 1, 97)]),
];

fn slice_of(pool: &Pool, (lane, prefix, prefix_len, n, z): Row) -> OwnedSlice {
    OwnedSlice {
        lane,
        prefix,
        prefix_len,
        owner: hex::encode(pool.identity(n).as_bytes()),
        z,
    }
}

fn no_assignments(pool: &Pool) -> Vec<NoAssignments> {
    let case = |(what, lanes, rows): &(&str, u16, &[Row])| NoAssignments {
        what: (*what).into(),
        lanes: *lanes,
        slices: rows.iter().map(|row| slice_of(pool, *row)).collect(),
    };
    NO_ASSIGNMENTS.iter().map(case).collect()
}

/// Slices that are just well formed: the last prefix, the highest z, one owner on two lanes.
fn edges(pool: &Pool) -> AssignmentsCase {
    let rows = [
        (0, 0, 1, 1, 96),
        (0, 0x8000, 16, 2, 0),
        (0, 0xffff, 16, 3, 8),
        (1, 0, 0, 1, 96),
    ];
    let slices: Vec<OwnedSlice> = rows.map(|row| slice_of(pool, row)).into();
    AssignmentsCase::of(&read_slices(&slices, 2), 2)
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
        pool.add_output(2, 23);
        rosters.push(RosterCase::of(&pool, &pool.roster));
        let assignments = vec![
            AssignmentsCase::of(&Assignments::default(), 1),
            AssignmentsCase::of(&pool.assignments, pool.params.lanes),
            edges(&pool),
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
            no_assignments: no_assignments(&pool),
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
        for case in &self.no_assignments {
            let parsed = Assignments::parse(assigned(&case.slices), case.lanes);
            assert!(parsed.is_err(), "{}", case.what);
        }
        for case in &self.rounds {
            let round = case.inputs.read().round_id(&case.params.read());
            assert_eq!(hex::encode(round.0), case.round);
        }
    }
}
