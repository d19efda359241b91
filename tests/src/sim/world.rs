//! The world: coordinator, miners, network, chain, clock, and an observer.

use bitcoin::Network as Bitcoin;
use bitcoin::hashes::{Hash, sha256};
use rand::SeedableRng;
use rand::rngs::StdRng;
use std::sync::Arc;
use tutti_proto::coordinator::{Coordinator, Event, Found, Input, Record, Restored, Settings};
use tutti_proto::deadline::Millis;
use tutti_proto::id::{Identity, PeerId};
use tutti_proto::identity::IdentityKey;
use tutti_proto::message::{ToCoordinator, ToParticipant};
use tutti_proto::params::PoolParams;
use tutti_proto::participant;
use tutti_proto::payout;
use tutti_proto::policy::Policy;
use tutti_proto::script::PayoutScript;
use tutti_proto::template::Template;
use tutti_proto::window::Scoring;

use super::chain::Chain;
use super::invariants::Invariants;
use super::miner::Miner;
use super::mutation::Mutator;
use super::network::{Delivery, Network, Weather};

/// What a world starts from.
#[derive(Clone, Debug)]
pub struct WorldOptions {
    /// All randomness.
    pub seed: u64,
    /// Miners.
    pub miners: u16,
    /// Lanes.
    pub lanes: u16,
    /// Payout transactions of a lane that a slot has nonces for.
    pub shards_max: u16,
    /// Operator fee, parts per million.
    pub operator_fee_ppm: u32,
    /// Most payees of a direct round's coinbase; 0: none are made.
    pub direct_payees: u16,
    /// Whose work counts.
    pub scoring: Scoring,
    /// PPLNS depth.
    pub pplns_depth: u32,
    /// The chain that the pool is of.
    pub chain: Bitcoin,
    /// Leading zero bits of a block; but on regtest, its target counts too.
    pub block_zero_bits: u8,
    /// Coordinator settings.
    pub settings: Settings,
    /// What every miner accepts.
    pub policy: Policy,
    /// Miners, from the last on, whose ledger is checked by hand ([`participant::Input::LedgerChecked`]).
    pub followers: u16,
    /// Miners, from the last on, whose own node shows what it is told by hand
    /// ([`participant::Input::BlockSeen`]).
    pub nodes: u16,
    /// The network.
    pub weather: Weather,
    /// The chain's height.
    pub height: u32,
    /// Whether blocks make new tips, and lost connections are opened again, by themselves.
    pub lives: bool,
    /// Whether the coordinator's inputs come in batches: what is due at once waits for the next look at
    /// the deadlines.
    pub batched: bool,
    /// Whether templates come from, and blocks go to, a real node: the virtual chain is not asked.
    pub real_chain: bool,
}

impl Default for WorldOptions {
    fn default() -> Self {
        let settings = Settings {
            z_min: 3,
            z_max: 3,
            ..Settings::default()
        };
        Self {
            seed: 1,
            miners: 4,
            lanes: 2,
            shards_max: 2,
            operator_fee_ppm: 10_000,
            direct_payees: 4,
            scoring: Scoring::Pplns,
            pplns_depth: 8,
            chain: Bitcoin::Regtest,
            block_zero_bits: 16,
            settings,
            // Few are paid by a direct round here, and all are to hash on it.
            policy: Policy {
                direct_owed_max: u64::MAX,
                ..Policy::default()
            },
            followers: 0,
            nodes: 0,
            weather: Weather::default(),
            height: 100,
            lives: false,
            batched: false,
            real_chain: false,
        }
    }
}

/// Turns what the coordinator says to a connection into what arrives there.
pub type Lies = Box<dyn FnMut(PeerId, ToParticipant) -> Vec<ToParticipant>>;

/// When the coordinator's machine loses power, in the middle of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerLoss {
    /// Before anything is stored.
    BeforeSave,
    /// After all is stored, before anything is sent.
    AfterSave,
}

/// A pool.
pub struct World {
    /// The seed, for failure messages.
    pub seed: u64,
    /// Virtual time.
    pub now: Millis,
    /// The coordinator.
    pub coordinator: Coordinator,
    /// The miners.
    pub miners: Vec<Miner>,
    /// What the coordinator persisted.
    pub records: Vec<Record>,
    /// What the coordinator told its log.
    pub events: Vec<Event>,
    /// Blocks handed to the node.
    pub blocks: Vec<Vec<u8>>,
    /// Credits of which the coordinator said that nobody need give them again.
    pub credits_done: Vec<([u8; 32], u16)>,
    /// What the coordinator said, and to which connection; unless the world lives by itself.
    pub told: Vec<(PeerId, ToParticipant)>,
    /// What the miners said; unless the world lives by itself.
    pub said: Vec<(Identity, ToCoordinator)>,
    /// Connections that the coordinator closed.
    pub closed: Vec<PeerId>,
    /// The network.
    pub network: Network,
    /// The chain.
    pub chain: Chain,
    /// The observer.
    pub invariants: Invariants,
    /// Set: what a lying coordinator says instead of each message. The observer hears only the truth.
    pub lies: Option<Lies>,
    /// What liars say.
    pub mutator: Mutator,
    /// Messages of miners that it changed.
    pub miners_lies: u64,
    /// Set: the next input of the coordinator ends in a power loss.
    pub coordinator_power: Option<PowerLoss>,
    /// Set: this miner's next input ends in one, after it stored what it stores.
    pub miner_power: Option<usize>,
    pub(super) dice: StdRng,
    peers: u64,
    pub(super) options: WorldOptions,
}

/// Identity keys are numbered, so that tests can sign in anyone's name: 0 is the coordinator's, and
/// miner `n` of the world has `n + 1`.
pub fn identity_key(number: u16) -> IdentityKey {
    let mut bytes = sha256::Hash::hash(&numbered(b'i', number)).to_byte_array();
    match IdentityKey::from_bytes(&mut bytes) {
        Ok(key) => key,
        Err(_) => unreachable!("a hash is below the curve order but for a chance of 2^-128"),
    }
}

fn numbered(kind: u8, number: u16) -> [u8; 3] {
    let [low, high] = number.to_le_bytes();
    [kind, low, high]
}

/// Payout scripts, numbered like the identity keys.
pub fn script(number: u16) -> PayoutScript {
    let script =
        payout::output_script(&sha256::Hash::hash(&numbered(b's', number)).to_byte_array());
    match PayoutScript::parse(script) {
        Ok(script) => script,
        Err(_) => unreachable!("P2TR is standard"),
    }
}

fn params(options: &WorldOptions) -> PoolParams {
    PoolParams {
        network: options.chain,
        coordinator: identity_key(0).identity(),
        tag: "/Tutti/".into(),
        operator_fee_ppm: options.operator_fee_ppm,
        lanes: options.lanes,
        nonces_per_slot: options.lanes * options.shards_max,
        direct_payees: options.direct_payees,
        scoring: options.scoring,
        pplns_depth: options.pplns_depth,
        ntime_roll: 600,
        block_zero_bits: (options.chain == Bitcoin::Regtest).then_some(options.block_zero_bits),
        bump_credit: 20_000,
        bump_credit_after: 3,
    }
}

impl World {
    /// A coordinator and miners that are not connected yet.
    pub fn new(options: WorldOptions) -> Self {
        let params = params(&options);
        let miner = |number: u16| {
            let settings = participant::Settings {
                network: options.chain,
                coordinator: Some(params.coordinator),
                policy: options.policy,
                script: script(number),
                hashrate: 1,
                user_agent: "sim/1".into(),
                slots_ahead: 4,
                follows: number > options.miners.saturating_sub(options.followers),
                asks_node: number > options.miners.saturating_sub(options.nodes),
            };
            Miner::new(number, identity_key(number), settings)
        };
        let (coordinator, records) = Coordinator::new(
            identity_key(0),
            params.clone(),
            options.settings,
            script(0),
            Restored::default(),
            &[1; 32],
        );
        let mut invariants = Invariants::new(params.clone());
        records
            .iter()
            .for_each(|record| invariants.recorded(record));
        Self {
            seed: options.seed,
            now: Millis(1_000),
            coordinator,
            miners: (1..=options.miners).map(miner).collect(),
            records,
            events: Vec::new(),
            blocks: Vec::new(),
            credits_done: Vec::new(),
            told: Vec::new(),
            said: Vec::new(),
            closed: Vec::new(),
            network: Network::new(options.weather.clone()),
            chain: Chain::new(options.height),
            invariants,
            lies: None,
            mutator: Mutator::default(),
            miners_lies: 0,
            coordinator_power: None,
            miner_power: None,
            dice: StdRng::seed_from_u64(options.seed),
            peers: 0,
            options,
        }
    }

    /// What the coordinator's next life is configured with.
    pub fn settings_mut(&mut self) -> &mut Settings {
        &mut self.options.settings
    }

    /// Its lanes, too.
    pub fn lanes_mut(&mut self) -> &mut u16 {
        &mut self.options.lanes
    }

    /// Replaces the coordinator's process: connections are gone, what was persisted is back.
    pub fn restart_coordinator(&mut self, restored: Restored) {
        self.network.cut_all();
        for miner in 0..self.miners.len() {
            if self.miners[miner].peer.take().is_some() {
                self.tell_miner(miner, participant::Input::Disconnected);
                self.reconnect_later(miner);
            }
        }
        let (coordinator, records) = Coordinator::new(
            identity_key(0),
            params(&self.options),
            self.options.settings,
            script(0),
            restored,
            &[2; 32],
        );
        self.coordinator = coordinator;
        self.records.extend(records);
        if self.options.lives {
            self.network
                .at(self.now.after(Millis(50)), Delivery::Template);
        }
    }

    /// Replaces the coordinator's process by one that read all records.
    pub fn kill_coordinator(&mut self) {
        let before = self.coordinator.ledger().head();
        self.reboot();
        if self.coordinator.ledger().head() != before {
            let words = "invariant 7: the ledger is another after a restart".to_owned();
            self.invariants.violations.push(words);
        }
    }

    pub(super) fn reboot(&mut self) {
        let restored = match self.restored() {
            Ok(restored) => restored,
            Err(error) => {
                let words = format!("invariant 7: the records contradict each other: {error}");
                return self.invariants.violations.push(words);
            }
        };
        let open: Vec<[u8; 32]> = restored.open_candidates().map(|found| found.hash).collect();
        self.restart_coordinator(restored);
        // What the node says of blocks whose verdict was not stored.
        for hash in open {
            let refused = (!self.chain.is_best(&hash)).then(|| "not in the best chain".to_owned());
            self.tell_coordinator(Input::BlockVerdict { hash, refused });
        }
    }

    /// Gives the coordinator a past: it restarts from these records.
    pub fn restore(&mut self, records: Vec<Record>) {
        for record in records {
            self.invariants.restored(&record);
            self.records.push(record);
        }
        self.reboot();
    }

    /// Kills a miner's process; the coordinator learns of it in a while.
    pub fn kill_miner(&mut self, miner: usize) {
        if let Some(peer) = self.miners[miner].peer {
            self.network.break_off(self.now, &mut self.dice, peer);
        }
        self.miners[miner].restart();
        self.reconnect_later(miner);
    }

    /// Opens a connection behind which there is no core: a test speaks for it.
    pub fn connect_stranger(&mut self) -> PeerId {
        self.peers += 1;
        let peer = PeerId(self.peers);
        self.network.open(peer);
        self.tell_coordinator(Input::Connected { peer });
        peer
    }

    /// Gives the coordinator a message as if it had come over this connection.
    pub fn say(&mut self, peer: PeerId, message: ToCoordinator) {
        if let (Some(miner), ToCoordinator::Share(_)) = (self.at_peer(peer), &message) {
            let identity = self.miners[miner].identity();
            self.invariants.said(&identity, &message);
        }
        self.tell_coordinator(Input::Received { peer, message });
    }

    /// Connects a miner.
    pub fn connect(&mut self, miner: usize) {
        self.peers += 1;
        let peer = PeerId(self.peers);
        self.network.open(peer);
        self.miners[miner].peer = Some(peer);
        self.tell_miner(miner, participant::Input::Connected);
        self.tell_coordinator(Input::Connected { peer });
    }

    /// Cuts a miner's connection.
    pub fn disconnect(&mut self, miner: usize) {
        if let Some(peer) = self.miners[miner].peer.take() {
            self.network.close(peer);
            self.tell_miner(miner, participant::Input::Disconnected);
            self.tell_coordinator(Input::Disconnected { peer });
            self.reconnect_later(miner);
        }
    }

    pub(super) fn reconnect_later(&mut self, miner: usize) {
        use rand::Rng;
        if self.options.lives {
            let wait = Millis(self.dice.random_range(200..=3_000));
            self.network
                .at(self.now.after(wait), Delivery::Reconnect(miner));
        }
    }

    /// A new tip, and the template on it.
    pub fn new_tip(&mut self) {
        self.chain.extend(&mut self.dice);
        self.template();
    }

    /// A new tip, and all who are connected hash a round on it; with that a window has closed.
    pub fn next_round(&mut self) {
        let before = self.coordinator.ledger().seq();
        self.new_tip();
        self.run_until(Millis(1_000), "a round on the new tip", |world| {
            world.coordinator.ledger().seq() > before && world.all_hash_last_round()
        });
        self.settle();
    }

    /// The node gives its template.
    pub fn template(&mut self) {
        let template = self.chain.template();
        self.give_template(template);
    }

    /// Gives the coordinator a template.
    pub fn give_template(&mut self, template: Template) {
        self.tell_coordinator(Input::Template(Arc::new(template)));
    }

    /// One share of a miner, submitted.
    pub fn share(&mut self, miner: usize) {
        let found = self.miners[miner].find_share();
        if let Some(found) = found {
            self.tell_miner(miner, participant::Input::ShareFound(found));
        }
    }

    /// Leading zero bits of a block.
    pub fn block_zero_bits(&self) -> u8 {
        self.options.block_zero_bits
    }

    /// A miner finds a block and submits it. None: it has nothing to hash, or the coordinator knows nothing of
    /// the block.
    pub fn find_block(&mut self, miner: usize) -> Option<Found> {
        let before = self.last_found().map(|found| found.hash);
        let found = self.miners[miner].hash_until(self.options.block_zero_bits)?;
        self.tell_miner(miner, participant::Input::ShareFound(found));
        self.settle();
        self.last_found().filter(|found| Some(found.hash) != before)
    }

    /// When something happens next by itself.
    pub fn next_at(&self) -> Option<Millis> {
        let (next, wake) = (self.network.next_at(), self.coordinator.next_deadline());
        next.into_iter().chain(wake).min()
    }

    /// Delivers what is next, or moves the clock to the next deadline. `false`: nothing to do.
    pub fn step(&mut self) -> bool {
        let next = self.network.next_at();
        let wake = self.coordinator.next_deadline();
        match (next, wake) {
            (None, None) => return false,
            (Some(at), wake) if wake.is_none_or(|wake| at <= wake) => self.deliver_next(),
            (_, wake) => {
                self.now = self.now.max(wake.unwrap_or(self.now));
                self.tell_coordinator(Input::Wake);
            }
        }
        true
    }

    /// Runs until `done` holds; panics with the seed after `limit` of virtual time.
    pub fn run_until(&mut self, limit: Millis, what: &str, done: impl Fn(&World) -> bool) {
        let end = self.now.after(limit);
        while !done(self) {
            let seed = self.seed;
            assert!(
                self.step() && self.now <= end,
                "seed {seed}: {what} did not happen in {} ms",
                limit.0
            );
        }
        self.assert_sound();
    }

    /// Panics if the observer has found a broken invariant.
    pub fn assert_sound(&self) {
        let (seed, broken) = (self.seed, &self.invariants.violations);
        assert!(broken.is_empty(), "seed {seed}: {broken:?}");
    }

    /// Delivers all that is on its way, and passes the deadlines that fall into that time and the
    /// moment after it.
    pub fn settle(&mut self) {
        const MOMENT: Millis = Millis(10);
        loop {
            let wake = self.coordinator.next_deadline();
            match (self.network.next_at(), wake) {
                (None, wake) if wake.is_none_or(|wake| wake > self.now.after(MOMENT)) => break,
                _ => drop(self.step()),
            }
        }
        self.assert_sound();
    }

    /// Whether every connected miner hashes the round that was committed last.
    pub fn all_hash_last_round(&self) -> bool {
        let Some((round, _)) = self.coordinator.last_committed() else {
            return false;
        };
        let mut connected = self.miners.iter().filter(|miner| miner.peer.is_some());
        let hashes = |miner: &Miner| miner.hashed().is_some_and(|held| held.round == round);
        connected.clone().count() > 0 && connected.all(hashes)
    }
}
