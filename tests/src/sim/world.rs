//! The world: coordinator, miners, network, clock.

use std::collections::BTreeMap;
use std::sync::Arc;

use bitcoin::Network;
use bitcoin::hashes::{Hash, sha256};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use tutti_proto::coordinator::{Action, Coordinator, Event, Input, Record, Restored, Settings};
use tutti_proto::deadline::Millis;
use tutti_proto::feerate::FeeRate;
use tutti_proto::id::{Identity, PeerId};
use tutti_proto::identity::IdentityKey;
use tutti_proto::message::{ToCoordinator, ToParticipant};
use tutti_proto::params::PoolParams;
use tutti_proto::participant::{self, Participant};
use tutti_proto::payout;
use tutti_proto::policy::{Policy, subsidy};
use tutti_proto::script::PayoutScript;
use tutti_proto::template::Template;

use super::miner::{CoordinatorEffects, Miner};

/// What a world starts from.
#[derive(Clone, Copy, Debug)]
pub struct WorldOptions {
    /// All randomness.
    pub seed: u64,
    /// Miners.
    pub miners: u8,
    /// Lanes.
    pub lanes: u16,
    /// Operator fee, parts per million.
    pub operator_fee_ppm: u32,
    /// Coordinator settings.
    pub settings: Settings,
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
            operator_fee_ppm: 10_000,
            settings,
        }
    }
}

/// A message or a change of a link on its way.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "made once, moved out once")]
pub enum Delivery {
    /// Miner to coordinator.
    Up(PeerId, ToCoordinator),
    /// Coordinator to miner.
    Down(PeerId, ToParticipant),
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
    /// What the coordinator said, and to which connection.
    pub told: Vec<(PeerId, ToParticipant)>,
    /// Connections that the coordinator closed.
    pub closed: Vec<PeerId>,
    rng: StdRng,
    queue: BTreeMap<(Millis, u64), Delivery>,
    sequence: u64,
    peers: u64,
    height: u32,
    settings: Settings,
}

/// One way over the virtual network.
const LATENCY: Millis = Millis(10);

/// Identity keys are numbered, so that tests can sign in anyone's name: 0 is the coordinator's, and
/// miner `n` of the world has `n + 1`.
pub fn identity_key(number: u8) -> IdentityKey {
    let mut bytes = sha256::Hash::hash(&[b'i', number]).to_byte_array();
    match IdentityKey::from_bytes(&mut bytes) {
        Ok(key) => key,
        Err(_) => unreachable!("a hash is below the curve order but for a chance of 2^-128"),
    }
}

pub(super) fn identity_key_of(identity: &Identity) -> IdentityKey {
    let number = (0..=u8::MAX).find(|number| identity_key(*number).identity() == *identity);
    identity_key(number.unwrap_or(0))
}

/// Payout scripts, numbered like the identity keys.
pub fn script(number: u8) -> PayoutScript {
    let script = payout::output_script(&sha256::Hash::hash(&[b's', number]).to_byte_array());
    match PayoutScript::parse(script) {
        Ok(script) => script,
        Err(_) => unreachable!("P2TR is standard"),
    }
}

impl World {
    /// A coordinator and miners that are not connected yet.
    pub fn new(options: WorldOptions) -> Self {
        let key = identity_key(0);
        let params = PoolParams {
            network: Network::Regtest,
            coordinator: key.identity(),
            tag: "/Tutti/".into(),
            operator_fee_ppm: options.operator_fee_ppm,
            lanes: options.lanes,
            nonces_per_slot: options.lanes * 2,
            pplns_depth: 8,
            ntime_roll: 600,
            block_zero_bits: Some(16),
        };
        let miners = (1..=options.miners).map(|number| {
            let settings = participant::Settings {
                network: Network::Regtest,
                coordinator: Some(params.coordinator),
                policy: Policy::default(),
                script: script(number),
                hashrate: 1,
                user_agent: "sim/1".into(),
                slots_ahead: 4,
            };
            Miner::new(Participant::new(
                identity_key(number),
                settings,
                BTreeMap::new(),
            ))
        });
        let miners = miners.collect();
        let (coordinator, records) = Coordinator::new(
            key,
            params,
            options.settings,
            script(0),
            Restored::default(),
            &[1; 32],
        );
        Self {
            seed: options.seed,
            now: Millis(1_000),
            coordinator,
            miners,
            records,
            events: Vec::new(),
            blocks: Vec::new(),
            told: Vec::new(),
            closed: Vec::new(),
            rng: StdRng::seed_from_u64(options.seed),
            queue: BTreeMap::new(),
            sequence: 0,
            peers: 0,
            height: 100,
            settings: options.settings,
        }
    }

    /// Replaces the coordinator's process: connections are gone, what was persisted is back.
    pub fn restart_coordinator(&mut self, restored: Restored) {
        for miner in 0..self.miners.len() {
            self.miners[miner].peer = None;
            self.tell_miner(miner, participant::Input::Disconnected);
        }
        self.queue.clear();
        let params = self.coordinator.params().clone();
        let (coordinator, records) = Coordinator::new(
            identity_key(0),
            params,
            self.settings,
            script(0),
            restored,
            &[2; 32],
        );
        self.coordinator = coordinator;
        self.records.extend(records);
    }

    /// Opens a connection behind which there is no core: a test speaks for it.
    pub fn connect_stranger(&mut self) -> PeerId {
        self.peers += 1;
        let peer = PeerId(self.peers);
        self.tell_coordinator(Input::Connected { peer });
        peer
    }

    /// Gives the coordinator a message as if it had come over this connection.
    pub fn say(&mut self, peer: PeerId, message: ToCoordinator) {
        self.tell_coordinator(Input::Received { peer, message });
    }

    /// Connects a miner.
    pub fn connect(&mut self, miner: usize) {
        self.peers += 1;
        let peer = PeerId(self.peers);
        self.miners[miner].peer = Some(peer);
        self.tell_miner(miner, participant::Input::Connected);
        self.tell_coordinator(Input::Connected { peer });
    }

    /// Cuts a miner's connection.
    pub fn disconnect(&mut self, miner: usize) {
        if let Some(peer) = self.miners[miner].peer.take() {
            self.tell_miner(miner, participant::Input::Disconnected);
            self.tell_coordinator(Input::Disconnected { peer });
        }
    }

    /// A new tip, and the template on it.
    pub fn new_tip(&mut self) {
        self.height += 1;
        let mut previous_block = [0u8; 32];
        self.rng.fill_bytes(&mut previous_block);
        let template = Template {
            height: self.height,
            previous_block,
            version: 0x2000_0000,
            bits: 0x207f_ffff,
            time: 1_700_000_000 + self.height,
            time_min: 1_700_000_000,
            reward: subsidy(Network::Regtest, self.height) + 1_234,
            witness_commitment: Some([7; 32]),
            merkle_path: Vec::new(),
            transactions: Arc::new(Vec::new()),
            feerate: FeeRate::FLOOR,
        };
        self.tell_coordinator(Input::Template(Arc::new(template)));
    }

    /// One share of a miner, submitted.
    pub fn share(&mut self, miner: usize) {
        let found = self.miners[miner].find_share();
        if let Some(found) = found {
            self.tell_miner(miner, participant::Input::ShareFound(found));
        }
    }

    /// Delivers the next message, or moves the clock to the next deadline. `false`: nothing to do.
    pub fn step(&mut self) -> bool {
        let next = self.queue.first_key_value().map(|(at, _)| at.0);
        let wake = self.coordinator.next_deadline();
        match (next, wake) {
            (None, None) => return false,
            (Some(at), wake) if wake.is_none_or(|wake| at <= wake) => {
                self.now = self.now.max(at);
                if let Some((_, delivery)) = self.queue.pop_first() {
                    self.deliver(delivery);
                }
            }
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
    }

    /// Delivers all that is on its way, without moving the clock to any deadline.
    pub fn settle(&mut self) {
        while let Some(((at, _), delivery)) = self.queue.pop_first() {
            self.now = self.now.max(at);
            self.deliver(delivery);
        }
    }

    /// Whether every connected miner hashes the round that was committed last.
    pub fn all_hash_last_round(&self) -> bool {
        let Some((round, _)) = self.coordinator.last_committed() else {
            return false;
        };
        let connected = self.miners.iter().filter(|miner| miner.peer.is_some());
        connected.clone().count() > 0
            && connected.into_iter().all(|miner| {
                !miner.orders.is_empty()
                    && miner.held.last().is_some_and(|held| held.round == round)
            })
    }

    fn deliver(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::Up(peer, message) => self.tell_coordinator(Input::Received { peer, message }),
            Delivery::Down(peer, message) => {
                if let Some(miner) = self
                    .miners
                    .iter()
                    .position(|miner| miner.peer == Some(peer))
                {
                    self.tell_miner(miner, participant::Input::Received(message));
                }
            }
        }
    }

    fn post(&mut self, delivery: Delivery) {
        if let Delivery::Down(peer, message) = &delivery {
            self.told.push((*peer, message.clone()));
        }
        self.sequence += 1;
        self.queue
            .insert((self.now.after(LATENCY), self.sequence), delivery);
    }

    /// Feeds a miner's core and posts what it sends.
    pub fn tell_miner(&mut self, miner: usize, input: participant::Input) {
        let (sent, leaves) = self.miners[miner].handle(&mut self.rng, input);
        let Some(peer) = self.miners[miner].peer else {
            return;
        };
        for message in sent {
            self.post(Delivery::Up(peer, message));
        }
        if leaves {
            self.disconnect(miner);
        }
    }

    /// Feeds the coordinator's core and carries out its effects.
    pub fn tell_coordinator(&mut self, input: Input) {
        let effects = self.coordinator.handle(self.now, &mut self.rng, input);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: CoordinatorEffects) {
        let records = &mut self.records;
        let actions = effects.save(|new| {
            records.extend_from_slice(new);
            Ok::<(), std::convert::Infallible>(())
        });
        let actions = match actions {
            Ok(actions) => actions,
            Err(never) => match never {},
        };
        for action in actions {
            match action {
                Action::Send { peer, message } => self.post(Delivery::Down(peer, message)),
                Action::Broadcast { peers, message } => {
                    for peer in peers {
                        self.post(Delivery::Down(peer, message.clone()));
                    }
                }
                Action::Disconnect { peer, reject } => {
                    self.closed.push(peer);
                    self.post(Delivery::Down(peer, ToParticipant::Reject(reject)));
                }
                Action::SubmitBlock { hash, block } => {
                    self.blocks.push(block);
                    self.tell_coordinator(Input::BlockVerdict {
                        hash,
                        refused: None,
                    });
                }
                Action::Tell(event) => self.events.push(event),
            }
        }
    }
}
