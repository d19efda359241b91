//! Pools under faults drawn from a seed: silence, lies, lost connections, restarts, new tips, at any
//! moment. What must hold is checked after every step; the seed is in every failure message.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tutti_proto::coordinator::{Event, Record, Restored};
use tutti_proto::deadline::Millis;
use tutti_proto::id::RoundId;
use tutti_proto::participant;
use tutti_proto::window::total;
use tutti_tests::sim::{Mood, World, WorldOptions};

const SEEDS: u64 = 300;
const STEPS: usize = 150;

/// A pool, the faults it is dealt, and what was seen of it.
struct Trial {
    world: World,
    dice: StdRng,
    seed: u64,
    /// Raw coinbase txids of each held round: all who hold it hold the same.
    rounds: BTreeMap<RoundId, Vec<bitcoin::Txid>>,
    checked: Vec<usize>,
}

impl Trial {
    fn new(seed: u64) -> Self {
        let mut dice = StdRng::seed_from_u64(seed);
        let miners = dice.random_range(1..=6u8);
        let lanes = dice.random_range(1..=3u16);
        let options = WorldOptions {
            seed,
            miners,
            lanes,
            ..WorldOptions::default()
        };
        let checked = vec![0; usize::from(miners)];
        Self {
            world: World::new(options),
            dice,
            seed,
            rounds: BTreeMap::new(),
            checked,
        }
    }

    fn restart(&mut self) {
        let mut restored = Restored::default();
        for record in &self.world.records {
            let applied = restored.apply(&self.world.coordinator.identity(), record.clone());
            assert!(applied.is_ok(), "seed {}: {applied:?}", self.seed);
        }
        let before = self.world.coordinator.ledger().head();
        self.world.restart_coordinator(restored);
        let after = self.world.coordinator.ledger().head();
        assert_eq!(
            before, after,
            "seed {}: the ledger after a restart",
            self.seed
        );
    }

    fn fault(&mut self) {
        let miner = self.dice.random_range(0..self.world.miners.len());
        match self.dice.random_range(0..100) {
            0..45 => drop(self.world.step()),
            45..65 => self.world.share(miner),
            65..73 => self.world.new_tip(),
            73..82 if self.world.miners[miner].peer.is_none() => self.world.connect(miner),
            73..82 => self.world.disconnect(miner),
            82..86 => self.world.miners[miner].mood = Mood::SilentSigner,
            86..89 => self.world.miners[miner].mood = Mood::BadPartials,
            89..95 => self.world.miners[miner].mood = Mood::Honest,
            95..99 => self.world.settle(),
            _ => self.restart(),
        }
    }

    /// Invariants 1, 3, 4 and 7, on what is new since the last step.
    fn check(&mut self) {
        let seed = self.seed;
        for (miner, checked) in self.world.miners.iter().zip(&mut self.checked) {
            for held in &miner.held[*checked..] {
                let txids = held
                    .lanes
                    .iter()
                    .map(|lane| lane.coinbase.compute_txid())
                    .collect();
                let first = self
                    .rounds
                    .entry(held.round)
                    .or_insert_with(|| Vec::clone(&txids));
                assert_eq!(
                    *first, txids,
                    "seed {seed}: two miners hold different lanes of one round"
                );
                for lane in &held.lanes {
                    for (vout, payout) in lane.payouts.iter().enumerate() {
                        let value = lane.coinbase.output[vout].value;
                        let paid = payout.output.iter().map(|output| output.value).sum();
                        let fee = value.checked_sub(paid);
                        assert!(
                            fee.is_some_and(|fee| fee.to_sat() == payout.vsize() as u64),
                            "seed {seed}: 1 sat/vB, and not a sat lost: {fee:?}"
                        );
                    }
                }
            }
            *checked = miner.held.len();
            let left = |event: &participant::Event| {
                use participant::Event::{
                    BadCommit, BadState, UnsignedJob, WorkMissing, WrongBooking,
                };
                matches!(
                    event,
                    BadCommit(_)
                        | BadState(_)
                        | WorkMissing { .. }
                        | WrongBooking { .. }
                        | UnsignedJob { .. }
                )
            };
            let complaint = miner.events.iter().find(|event| left(event));
            assert!(
                complaint.is_none(),
                "seed {seed}: an honest coordinator is accused: {complaint:?}"
            );
        }
    }

    /// Once the faults end, everybody hashes a fresh, fully signed round, and all acknowledged work
    /// is in the ledger.
    fn calm(&mut self) {
        for miner in 0..self.world.miners.len() {
            self.world.miners[miner].mood = Mood::Honest;
            if self.world.miners[miner].peer.is_none() {
                self.world.connect(miner);
            }
        }
        self.world.settle();
        self.world.new_tip();
        let commits = |world: &World| {
            world
                .events
                .iter()
                .filter(|e| matches!(e, Event::Committed { .. }))
                .count()
        };
        let before = commits(&self.world);
        self.world.run_until(
            Millis(60_000),
            "a round for all after the faults",
            |world| commits(world) > before && world.all_hash_last_round(),
        );
        self.check();
        let acknowledged: u128 = self
            .world
            .miners
            .iter()
            .flat_map(|miner| miner.own_work.values())
            .map(|work| work.0)
            .sum();
        let mut recorded = 0;
        for record in &self.world.records {
            if let Record::WindowClosed(window) = record {
                recorded += total(&window.tally).expect("a sum below 2^128").0;
            }
        }
        assert!(
            recorded >= acknowledged,
            "seed {}: {acknowledged} hashes acknowledged, {recorded} recorded",
            self.seed
        );
    }
}

#[test]
fn whatever_fails_nobody_is_robbed_and_the_pool_comes_back() {
    for seed in 0..SEEDS {
        let mut trial = Trial::new(seed);
        for miner in 0..trial.world.miners.len() {
            trial.world.connect(miner);
        }
        trial.world.new_tip();
        for _ in 0..STEPS {
            trial.fault();
            trial.check();
        }
        trial.calm();
    }
}
