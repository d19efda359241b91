//! One simulated miner: its core, its link, its disk, and how it misbehaves.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use tutti_proto::coordinator;
use tutti_proto::effect::Effects;
use tutti_proto::header::HeaderFields;
use tutti_proto::id::{Identity, PeerId, WindowSeq};
use tutti_proto::message::{ToCoordinator, TxSignatures};
use tutti_proto::participant::{
    Action, Event, FoundShare, Held, Input, Order, Participant, Record,
};
use tutti_proto::work::{Work, header_hash, leading_zero_bits};

/// How a miner behaves toward the coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// By the protocol.
    Honest,
    /// Computes and says nothing while a round is signed.
    SilentSigner,
    /// Replaces its partial signatures by those of another message.
    BadPartials,
}

/// One miner.
pub struct Miner {
    /// Its core.
    pub core: Participant,
    /// Its connection, if any.
    pub peer: Option<PeerId>,
    /// Its behaviour.
    pub mood: Mood,
    /// What it hashes now.
    pub orders: Vec<Order>,
    /// Its disk: complete payouts.
    pub held: Vec<Held>,
    /// Its disk: acknowledged work.
    pub own_work: BTreeMap<WindowSeq, Work>,
    /// What it told its log.
    pub events: Vec<Event>,
    tried: u32,
}

impl Miner {
    /// A miner without a connection.
    pub fn new(core: Participant) -> Self {
        Self {
            core,
            peer: None,
            mood: Mood::Honest,
            orders: Vec::new(),
            held: Vec::new(),
            own_work: BTreeMap::new(),
            events: Vec::new(),
            tried: 0,
        }
    }

    /// Who it is.
    pub fn identity(&self) -> Identity {
        self.core.identity()
    }

    /// Feeds one input; gives what goes to the coordinator.
    pub fn handle(&mut self, rng: &mut StdRng, input: Input) -> (Vec<ToCoordinator>, bool) {
        let effects = self.core.handle(rng, input);
        self.carry_out(effects)
    }

    fn carry_out(&mut self, effects: Effects<Record, Action>) -> (Vec<ToCoordinator>, bool) {
        let (held, own_work) = (&mut self.held, &mut self.own_work);
        let actions = effects.save(|records| {
            for record in records {
                match record {
                    Record::Held(round) => held.push(round.clone()),
                    Record::OwnWork { window, work } => {
                        own_work.insert(*window, *work);
                    }
                }
            }
            Ok::<(), std::convert::Infallible>(())
        });
        let actions = match actions {
            Ok(actions) => actions,
            Err(never) => match never {},
        };
        let mut sent = Vec::new();
        let mut leaves = false;
        for action in actions {
            match action {
                Action::Send(message) => sent.extend(self.in_its_mood(message)),
                Action::Mine(orders) => self.mine(orders),
                Action::Leave => leaves = true,
                Action::Tell(event) => self.events.push(event),
            }
        }
        (sent, leaves)
    }

    fn in_its_mood(&self, message: ToCoordinator) -> Option<ToCoordinator> {
        match (self.mood, message) {
            (Mood::SilentSigner, ToCoordinator::TxComplete(_) | ToCoordinator::TxSignatures(_)) => {
                None
            }
            (Mood::BadPartials, ToCoordinator::TxSignatures(signatures)) => {
                Some(ToCoordinator::TxSignatures(self.spoil(signatures)))
            }
            (_, message) => Some(message),
        }
    }

    /// Well-formed partial signatures, signed by their author, and wrong.
    fn spoil(&self, mut signatures: TxSignatures) -> TxSignatures {
        for partial in &mut signatures.partials {
            let mut bytes = partial.serialize();
            bytes[31] ^= 1;
            if let Ok(wrong) = tutti_proto::musig::PartialSignature::parse(&bytes) {
                *partial = wrong;
            }
        }
        let key = crate::sim::world::identity_key_of(&self.identity());
        TxSignatures::sign(&key, signatures.round, signatures.partials, &[9; 32])
    }

    /// Invariant 1: whatever is hashed, its complete payout is on disk.
    fn mine(&mut self, orders: Vec<Order>) {
        for order in &orders {
            let backed = self.held.iter().flat_map(|held| &held.lanes).any(|lane| {
                use bitcoin::hashes::Hash;
                // Simulated templates hold no transactions but the coinbase.
                lane.coinbase.compute_txid().to_byte_array() == order.merkle_root
                    && !lane.payouts.is_empty()
            });
            assert!(
                backed,
                "invariant 1: a job without its complete payout on disk"
            );
        }
        self.orders = orders;
    }

    /// Hashes until one header meets z.
    pub fn find_share(&mut self) -> Option<FoundShare> {
        let order = *self.orders.first()?;
        loop {
            self.tried += 1;
            let version = order.slice.first_version(order.version);
            let header = HeaderFields {
                version,
                previous_block: order.previous_block,
                merkle_root: order.merkle_root,
                time: order.time_min,
                bits: order.bits,
                nonce: self.tried,
            };
            if leading_zero_bits(&header_hash(&header.serialize())) >= order.z {
                return Some(FoundShare {
                    job: order.job,
                    lane: order.slice.lane,
                    version,
                    time: order.time_min,
                    nonce: self.tried,
                });
            }
        }
    }
}

/// The coordinator's effects, for the world.
pub(super) type CoordinatorEffects = Effects<coordinator::Record, coordinator::Action>;
