//! A pool that lives for a while among faults drawn from a seed, and then in peace again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use tutti_proto::coordinator::{Event, Fate, Input, Record, Settings};
use tutti_proto::deadline::Millis;
use tutti_proto::id::PeerId;
use tutti_proto::participant;
use tutti_proto::plan::PlanError;
use tutti_proto::window::Scoring;

use super::miner::Mood;
use super::mutation::Mutator;
use super::network::Weather;
use super::plant::Plant;
use super::world::{PowerLoss, World, WorldOptions, script};

/// How long faults come, milliseconds.
const FAULTS_LAST: u64 = 30_000;
/// How long a coordinator that lied is given until nobody has a reason any more to leave it.
const REPENTANCE_LASTS: Millis = Millis(60_000);
/// How soon after the last fault everybody hashes a fresh round.
const PEACE_WITHIN: Millis = Millis(120_000);

/// What came of a trial.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Messages delivered, deadlines passed, faults made.
    pub steps: u64,
    /// Broken invariants; none, if all is well.
    pub violations: Vec<String>,
    /// Attempts that failed and were followed by another.
    pub attempts_restarted: u64,
    /// Rounds that were committed.
    pub rounds: u64,
    /// Messages that were changed and signed again.
    pub lies: u64,
    /// Longest time from the coordinator's news of a tip until a miner that nothing happened to, and
    /// that hashed already, had a job on it.
    pub worst_idle: Millis,
}

/// A miner's good times, during which it must never be without work.
#[derive(Clone, Copy, Default)]
struct Peace {
    /// Since when nothing happened to it, and in which session.
    since: Option<(Millis, PeerId)>,
    /// Whether it has had a job since.
    hashes: bool,
    /// Since when it waits for a job on the present tip, or on an older one that it never got.
    waits_since: Option<Millis>,
}

/// Longest that a newcomer in peace waits for its first job: a quarter of the refresh time, and some
/// failed attempts.
const FIRST_JOB_WITHIN: Millis = Millis(15_000);
/// Longest that a miner in peace hashes on an old tip.
const NEW_TIP_WITHIN: Millis = Millis(2_500);

/// The pool and its dice.
pub struct Trial {
    world: World,
    dice: StdRng,
    orderly: bool,
    peace: Vec<Peace>,
    tip: ([u8; 32], Millis),
    next_hash: Vec<Millis>,
    next_fault: Millis,
    next_foreign_block: Millis,
    outcome: Outcome,
}

impl Trial {
    /// Lives through everything that follows from the seed.
    pub fn run(seed: u64, plant: Option<Plant>) -> Outcome {
        let mut trial = Self::new(seed, plant);
        let end = trial.world.now.after(Millis(FAULTS_LAST));
        while trial.world.now < end && trial.world.invariants.violations.is_empty() {
            trial.step(true);
        }
        trial.calm();
        trial.finish()
    }

    /// Lives with a coordinator that says one message in sixteen otherwise than its core, signed by
    /// itself: whatever it says, nobody holds what was not proposed to all, and once it is honest, and
    /// forgiven, everybody goes on.
    pub fn run_lied_to(seed: u64) -> Outcome {
        let mut trial = Self::new(seed, None);
        trial.world.network.weather = Weather::default();
        let (mut dice, mut mutator) = (StdRng::seed_from_u64(!seed), Mutator::default());
        let told = Arc::new(AtomicU64::new(0));
        let lies = told.clone();
        trial.world.lies = Some(Box::new(move |_, message| {
            if dice.random_range(0..16) > 0 {
                return vec![message];
            }
            let Some(lie) = mutator.of_coordinator(&mut dice, &message) else {
                return vec![message];
            };
            lies.fetch_add(1, Ordering::Relaxed);
            vec![lie]
        }));
        let end = trial.world.now.after(Millis(FAULTS_LAST));
        while trial.world.now < end && trial.world.invariants.violations.is_empty() {
            trial.live_on();
            trial.forgive();
        }
        trial.world.lies = None;
        // What was signed in those times comes out now.
        let end = trial.world.now.after(REPENTANCE_LASTS);
        while trial.world.now < end && trial.world.invariants.violations.is_empty() {
            trial.live_on();
            trial.forgive();
        }
        for miner in &mut trial.world.miners {
            miner.events.clear();
        }
        trial.calm();
        trial.outcome.lies = told.load(Ordering::Relaxed);
        trial.finish()
    }

    /// Who has a proof of fraud comes back only because its owner wants it to.
    fn forgive(&mut self) {
        for miner in 0..self.world.miners.len() {
            if !self.world.miners[miner].proofs.is_empty() {
                self.world.disconnect(miner);
                self.world.miners[miner].forgive();
            }
        }
    }

    fn finish(mut self) -> Outcome {
        for event in &self.world.events {
            match event {
                Event::AttemptFailed { .. } => self.outcome.attempts_restarted += 1,
                Event::Committed { .. } => self.outcome.rounds += 1,
                _ => {}
            }
        }
        let found = std::mem::take(&mut self.world.invariants.violations);
        self.outcome.violations.extend(found);
        self.outcome.lies += self.world.miners_lies;
        self.outcome
    }

    fn new(seed: u64, plant: Option<Plant>) -> Self {
        let mut dice = StdRng::seed_from_u64(seed ^ 0x7455_7474);
        let miners = dice.random_range(3..=8u16);
        let latency = [1..=5, 10..=50, 20..=400][dice.random_range(0..3)].clone();
        let weather = Weather {
            latency,
            lost_ppm: [0, 300, 2_000][dice.random_range(0..3)],
            repeated_ppm: [0, 0, 1_000][dice.random_range(0..3)],
            overtaking_ppm: [0, 0, 1_000][dice.random_range(0..3)],
        };
        let orderly = weather.repeated_ppm == 0 && weather.overtaking_ppm == 0;
        let mut world = World::new(WorldOptions {
            seed,
            miners,
            lanes: dice.random_range(1..=3),
            block_zero_bits: [5, 5, 10][dice.random_range(0..3)],
            batched: dice.random_bool(0.5),
            height: dice.random_range(140..=152), // Regtest halves at 150.
            settings: Settings {
                z_min: 3,
                z_max: 3,
                ..Settings::default()
            },
            weather,
            scoring: [Scoring::Pplns, Scoring::Epoch][usize::from(seed % 2 == 1)],
            lives: true,
            ..WorldOptions::default()
        });
        world.miners[0].plant = plant;
        for miner in 0..usize::from(miners) {
            world.connect(miner);
        }
        world.template();
        let now = world.now;
        let mut soon = |within: u64| now.after(Millis(dice.random_range(0..within)));
        Self {
            orderly,
            peace: vec![Peace::default(); usize::from(miners)],
            tip: (world.chain.tip(), now),
            next_hash: (0..miners).map(|_| soon(2_000)).collect(),
            next_fault: soon(3_000),
            next_foreign_block: soon(20_000),
            world,
            dice,
            outcome: Outcome::default(),
        }
    }

    fn later(&mut self, within: std::ops::RangeInclusive<u64>) -> Millis {
        self.world.now.after(Millis(self.dice.random_range(within)))
    }

    /// Whatever comes next, and a look at those to whom nothing happened.
    fn step(&mut self, faults: bool) {
        self.next(faults);
        self.watch();
    }

    /// What comes next, and a change of script now and then.
    fn live_on(&mut self) {
        self.next(false);
        if self.dice.random_range(0..200) == 0 {
            self.move_script();
        }
    }

    fn next(&mut self, faults: bool) {
        self.outcome.steps += 1;
        let by_itself = self.world.next_at().unwrap_or(Millis(u64::MAX));
        let hash = self.next_hash.iter().enumerate().min_by_key(|(_, at)| **at);
        let (miner, hash) = hash.map_or((0, Millis(u64::MAX)), |(miner, at)| (miner, *at));
        let fault = if faults {
            self.next_fault
        } else {
            Millis(u64::MAX)
        };
        let next = by_itself.min(hash).min(fault).min(self.next_foreign_block);
        if next == by_itself {
            self.world.step();
        } else {
            self.world.now = self.world.now.max(next);
            if next == hash {
                self.next_hash[miner] = self.later(500..=8_000);
                self.world.share(miner);
            } else if next == fault {
                self.next_fault = self.later(20..=3_000);
                self.fault();
            } else {
                self.next_foreign_block = self.later(2_000..=60_000);
                self.world.new_tip();
            }
        }
    }

    fn move_script(&mut self) {
        let miner = self.dice.random_range(0..self.world.miners.len());
        let own = 32 + 16 * u16::try_from(miner).unwrap_or(0);
        let script = script(own + self.dice.random_range(0..16));
        let input = participant::Input::PayoutScript(script);
        self.world.tell_miner(miner, input);
    }

    fn fault(&mut self) {
        let now = self.world.now;
        let miner = self.dice.random_range(0..self.world.miners.len());
        let peer = self.world.miners[miner].peer;
        match self.dice.random_range(0..100) {
            0..12 => self.world.miners[miner].mood = Mood::SilentSigner,
            12..22 => self.world.miners[miner].mood = Mood::BadPartials,
            22..25 => self.world.miners[miner].mood = Mood::Refuser,
            25..28 => self.world.miners[miner].mood = Mood::Liar,
            28..30 => self.many_leave(),
            30..45 => self.world.miners[miner].mood = Mood::Honest,
            45..55 => {
                if let Some(peer) = peer {
                    self.world.network.break_off(now, &mut self.dice, peer);
                }
            }
            55..65 => self.world.kill_miner(miner),
            65..70 => self.world.miner_power = Some(miner),
            70..80 => self.partition(),
            80..86 => self.move_script(),
            86..90 => self.world.kill_coordinator(),
            90..93 => self.world.coordinator_power = Some(PowerLoss::BeforeSave),
            93..96 => self.world.coordinator_power = Some(PowerLoss::AfterSave),
            96..98 => self.reorganise(),
            // Two blocks in a row: nothing was signed ahead for the second.
            _ => {
                self.world.new_tip();
                self.world.new_tip();
            }
        }
    }

    /// Half of the miners at once.
    fn many_leave(&mut self) {
        let now = self.world.now;
        for miner in (0..self.world.miners.len()).step_by(2) {
            if let Some(peer) = self.world.miners[miner].peer {
                self.world.network.break_off(now, &mut self.dice, peer);
            }
        }
    }

    /// The node changes its mind of a block of ours.
    fn reorganise(&mut self) {
        let found = self.world.records.iter().filter_map(|record| match record {
            Record::Candidate(found) => Some(found.hash),
            _ => None,
        });
        let found: Vec<[u8; 32]> = found.collect();
        if let Some(hash) = found.choose(&mut self.dice) {
            let fate = [Fate::Lost, Fate::Back][self.dice.random_range(0..2)];
            let hash = *hash;
            self.world.tell_coordinator(Input::BlockFate { hash, fate });
        }
    }

    /// Some miners are cut off from the coordinator for a while.
    fn partition(&mut self) {
        let until = self.later(200..=8_000);
        for miner in 0..self.world.miners.len() {
            let peer = self.world.miners[miner].peer;
            if let Some(peer) = peer.filter(|_| self.dice.random_bool(0.4)) {
                self.world.network.stall(peer, until);
            }
        }
    }

    /// After every step: whoever nothing happened to has work, soon on the newest tip.
    fn watch(&mut self) {
        let now = self.world.now;
        let tip = self.world.chain.tip();
        if self.tip.0 != tip {
            self.tip = (tip, now);
            for peace in self.peace.iter_mut().filter(|peace| peace.hashes) {
                peace.waits_since.get_or_insert(now);
            }
        }
        let mut broken = Vec::new();
        for (miner, peace) in self.world.miners.iter().zip(&mut self.peace) {
            let sound = |peer: &PeerId| self.world.network.is_sound(*peer, now);
            let session = miner.peer.filter(sound);
            let (Some(peer), Mood::Honest) = (session, miner.mood) else {
                *peace = Peace::default();
                continue;
            };
            let (since, of) = *peace.since.get_or_insert((now, peer));
            if of != peer {
                // Its last session ended between two looks.
                *peace = Peace::default();
                continue;
            }
            // What it goes on with from the session before says nothing of this one.
            let order = miner.orders.first().filter(|_| miner.ordered);
            if peace.hashes && order.is_none() {
                broken.push("invariant 5: an undisturbed miner has nothing to hash");
            }
            peace.hashes |= order.is_some();
            if !peace.hashes && now.since(since) > FIRST_JOB_WITHIN {
                broken.push("invariant 5: an undisturbed newcomer gets no job");
            }
            let on_tip = order.is_some_and(|order| order.previous_block == tip);
            let waited = peace
                .waits_since
                .map_or(Millis(0), |since| now.since(since));
            if self.orderly {
                self.outcome.worst_idle = self.outcome.worst_idle.max(waited);
            }
            if on_tip {
                peace.waits_since = None;
            } else if waited > NEW_TIP_WITHIN && self.orderly {
                // (A job that overtakes its commit is lost; no stream does that.)
                broken.push("invariant 5: an undisturbed miner hashes on an old tip");
            }
        }
        let broken = broken.into_iter().map(str::to_owned);
        self.world.invariants.violations.extend(broken);
        self.complaints();
    }

    /// An honest coordinator gives nobody a reason to leave, if messages come once and in order.
    fn complaints(&mut self) {
        use participant::Event as E;
        let accuses = |event: &E| {
            matches!(
                event,
                E::BadCommit(_)
                    | E::BadState(_)
                    | E::WorkMissing { .. }
                    | E::WrongWindow { .. }
                    | E::WrongBooking { .. }
                    | E::RolledBack { .. }
                    | E::FalseBlame { .. }
                    | E::UnsignedProposal
                    | E::UnsignedHead(_)
                    | E::LedgerFalse(_)
                    | E::Equivocation(_)
                    | E::Convicted(_)
                    | E::OutOfOrder
                    | E::TooManyAttempts { .. }
                    | E::UnsignedJob { .. }
                    | E::PlanRefused {
                        error: PlanError::Roster
                            | PlanError::Ledger { .. }
                            | PlanError::Assignments,
                        ..
                    }
            )
        };
        for miner in &mut self.world.miners {
            let told = std::mem::take(&mut miner.events);
            if self.world.invariants.has_lied(&miner.identity()) {
                continue;
            }
            if let Some(event) = told.iter().find(|event| self.orderly && accuses(event)) {
                let words = format!("invariant 3: an honest coordinator is accused: {event:?}");
                self.world.invariants.violations.push(words);
            }
        }
    }

    /// Once the faults end, everybody hashes a fresh, fully signed round, and all acknowledged work
    /// is in the ledger.
    fn calm(&mut self) {
        self.world.coordinator_power = None;
        self.world.miner_power = None;
        self.world.network.weather = Weather::default();
        for miner in &mut self.world.miners {
            miner.mood = Mood::Honest;
        }
        let end = self.world.now.after(PEACE_WITHIN);
        let fresh = self.world.now.after(Millis(10_000));
        self.next_foreign_block = fresh;
        let done = |world: &World| {
            let all = world.miners.iter().all(|miner| miner.peer.is_some());
            let signed = world.coordinator.last_committed();
            world.now > fresh
                && all
                && signed.is_some_and(|(_, signers)| signers > 1)
                && world.all_hash_last_round()
        };
        while !done(&self.world) && self.world.invariants.violations.is_empty() {
            if self.world.now > end {
                let words = "invariant 5: no round for all after the faults".to_owned();
                return self.world.invariants.violations.push(words);
            }
            self.step(false);
        }
        self.acknowledged();
    }

    fn acknowledged(&mut self) {
        let recorded = self.world.recorded_work();
        for miner in 0..self.world.miners.len() {
            let identity = self.world.miners[miner].identity();
            if self.world.invariants.has_lied(&identity) {
                continue;
            }
            let closed = self.world.coordinator.ledger().seq();
            let own = self.world.miners[miner].own_work.iter();
            let own = own.filter(|(window, _)| **window <= closed);
            let acknowledged: u128 = own.map(|(_, work)| work.0).sum();
            if recorded.get(&identity).copied().unwrap_or(0) < acknowledged {
                let words = format!("invariant 7: {identity:.8} lost acknowledged work");
                self.world.invariants.violations.push(words);
            }
        }
    }
}
