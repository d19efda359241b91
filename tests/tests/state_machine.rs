//! A reference model beside the pool: any sequence of arrivals, departures, work, moves, silences and
//! restarts leaves the real state machines in the state that a few lines of bookkeeping predict.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest::test_runner::Config;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use tutti_proto::deadline::Millis;
use tutti_proto::participant::Input;
use tutti_proto::work::Work;
use tutti_tests::sim::{Mood, World, WorldOptions, script};

const MINERS: usize = 4;
/// Work of a share: the world's z is 3.
const SHARE: u128 = 8;

/// What a pool knows, in a few words.
#[derive(Clone, Debug, Default)]
struct Pool {
    connected: BTreeSet<usize>,
    silent: BTreeSet<usize>,
    /// The script that each miner that ever joined is paid to.
    scripts: BTreeMap<usize, u16>,
    /// Scripts that miners moved to since their processes started.
    moved: BTreeMap<usize, u16>,
    /// Miners that have a job: they were there when a round of the tip was made.
    hashing: BTreeSet<usize>,
    /// All work ever acknowledged.
    work: BTreeMap<usize, u128>,
    tips: u32,
}

#[derive(Clone, Debug)]
enum Step {
    Connect(usize),
    Disconnect(usize),
    Kill(usize),
    Share(usize),
    Move(usize, u16),
    Silence(usize),
    Speak(usize),
    Tip,
    RestartCoordinator,
}

impl Pool {
    /// Whoever is connected hashes the round of a new tip: a silent one too, since it is a payee.
    fn round(&mut self) {
        self.hashing = self.connected.clone();
    }
}

impl ReferenceStateMachine for Pool {
    type State = Self;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Self> {
        Just(Self::default()).boxed()
    }

    fn transitions(_: &Self) -> BoxedStrategy<Step> {
        let miner = || 0..MINERS;
        prop_oneof![
            4 => miner().prop_map(Step::Connect),
            1 => miner().prop_map(Step::Disconnect),
            1 => miner().prop_map(Step::Kill),
            6 => miner().prop_map(Step::Share),
            1 => (miner(), 100..110u16).prop_map(|(miner, n)| Step::Move(miner, n + 10 * miner as u16)),
            1 => miner().prop_map(Step::Silence),
            1 => miner().prop_map(Step::Speak),
            3 => Just(Step::Tip),
            1 => Just(Step::RestartCoordinator),
        ]
        .boxed()
    }

    fn preconditions(state: &Self, step: &Step) -> bool {
        match step {
            Step::Connect(miner) => !state.connected.contains(miner),
            Step::Disconnect(miner) | Step::Kill(miner) | Step::Move(miner, _) => {
                state.connected.contains(miner)
            }
            Step::Share(miner) => state.hashing.contains(miner),
            _ => true,
        }
    }

    fn apply(mut state: Self, step: &Step) -> Self {
        match step {
            Step::Connect(miner) => {
                state.connected.insert(*miner);
                let moved = state.moved.get(miner).copied();
                state
                    .scripts
                    .insert(*miner, moved.unwrap_or(*miner as u16 + 1));
            }
            Step::Disconnect(miner) | Step::Kill(miner) => {
                state.connected.remove(miner);
                state.hashing.remove(miner);
                if matches!(step, Step::Kill(_)) {
                    // The next process starts from its configured script.
                    state.moved.remove(miner);
                }
            }
            Step::Share(miner) => *state.work.entry(*miner).or_default() += SHARE,
            Step::Move(miner, number) => {
                state.scripts.insert(*miner, *number);
                state.moved.insert(*miner, *number);
            }
            Step::Silence(miner) => {
                state.silent.insert(*miner);
            }
            Step::Speak(miner) => {
                state.silent.remove(miner);
            }
            Step::Tip => {
                state.tips += 1;
                state.round();
            }
            Step::RestartCoordinator => {
                state.connected.clear();
                state.hashing.clear();
            }
        }
        state
    }
}

/// The real thing.
struct Real {
    world: World,
}

impl StateMachineTest for Real {
    type SystemUnderTest = Self;
    type Reference = Pool;

    fn init_test(_: &Pool) -> Self {
        let miners = MINERS as u16;
        let world = World::new(WorldOptions {
            miners,
            ..WorldOptions::default()
        });
        Self { world }
    }

    fn apply(mut real: Self, pool: &Pool, step: Step) -> Self {
        let world = &mut real.world;
        match step {
            Step::Connect(miner) => world.connect(miner),
            Step::Disconnect(miner) => world.disconnect(miner),
            Step::Kill(miner) => {
                // What it was paid to is in its configuration.
                world.disconnect(miner);
                world.miners[miner].restart();
            }
            Step::Share(miner) => world.share(miner),
            Step::Move(miner, number) => {
                world.tell_miner(miner, Input::PayoutScript(script(number)));
            }
            Step::Silence(miner) => world.miners[miner].mood = Mood::SilentSigner,
            Step::Speak(miner) => world.miners[miner].mood = Mood::Honest,
            Step::Tip => {
                world.new_tip();
                let tip = world.chain.tip();
                // Two deadlines of silent signers, and the direct round before them.
                if !pool.connected.is_empty() {
                    let on_tip = |world: &World| {
                        let mut all = pool
                            .connected
                            .iter()
                            .map(|miner| &world.miners[*miner].orders);
                        all.all(|o| o.first().is_some_and(|o| o.previous_block == tip))
                    };
                    world.run_until(Millis(5_000), "everybody on the new tip", on_tip);
                }
            }
            Step::RestartCoordinator => world.kill_coordinator(),
        }
        world.settle();
        real
    }

    fn check_invariants(real: &Self, pool: &Pool) {
        let world = &real.world;
        world.assert_sound();
        let roster = world.coordinator.roster();
        let mut recorded = world.recorded_work();
        for (number, miner) in world.miners.iter().enumerate() {
            let identity = miner.identity();
            let registered = roster
                .active(&identity)
                .map(|(_, payee)| payee.script.clone());
            assert_eq!(
                registered,
                pool.scripts.get(&number).map(|n| script(*n)),
                "miner {number}"
            );
            let acknowledged: u128 = miner.own_work.values().map(|work| work.0).sum();
            let done = pool.work.get(&number).copied().unwrap_or(0);
            assert_eq!(acknowledged, done, "acknowledged to miner {number}");
            let closed = recorded.remove(&identity).unwrap_or(0);
            assert!(
                closed <= done,
                "{closed} hashes of miner {number} are in closed windows"
            );
            let hashes = !miner.orders.is_empty();
            assert!(
                hashes || !pool.hashing.contains(&number),
                "miner {number} has no job"
            );
        }
        assert_eq!(recorded, BTreeMap::new(), "work of nobody");
        let depth = world.coordinator.ledger().weights(Work(u128::MAX));
        assert!(depth.is_ok());
    }
}

prop_state_machine! {
    #![proptest_config(Config { cases: 64, max_shrink_iters: 200, ..Config::default() })]

    #[test]
    fn the_pool_is_where_its_bookkeeping_says(sequential 1..60 => Real);
}
