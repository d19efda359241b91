//! One simulated miner: its core, its link, its disk, and how it misbehaves.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::rngs::StdRng;
use tutti_proto::effect::Effects;
use tutti_proto::equivocation::{Equivocation, Statements};
use tutti_proto::header::HeaderFields;
use tutti_proto::id::{Identity, PeerId, WindowSeq};
use tutti_proto::identity::IdentityKey;
use tutti_proto::message::{
    AbortReason, Challenge, ToCoordinator, ToParticipant, TxAbort, TxSignatures,
};
use tutti_proto::participant::{
    Action, BlockClaim, Event, FoundShare, Held, Input, Memory, Order, Participant, Record,
    Settings,
};
use tutti_proto::work::{Work, header_hash, leading_zero_bits};

use super::plant::{Plant, collude};
use super::world::identity_key;

/// How a miner behaves toward the coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// By the protocol.
    Honest,
    /// Computes and says nothing while a round is signed.
    SilentSigner,
    /// Replaces its partial signatures by those of another message.
    BadPartials,
    /// Refuses to sign.
    Refuser,
    /// Says half of what it says otherwise than the protocol has it, signed by itself.
    Liar,
}

/// What one input made a miner do.
#[derive(Default)]
pub struct Reaction {
    /// For the coordinator.
    pub sent: Vec<ToCoordinator>,
    /// Rounds that are on its disk now.
    pub held: Vec<Held>,
    /// It was told to hash something else.
    pub ordered: bool,
    /// It closes the connection.
    pub leaves: bool,
}

/// One miner.
pub struct Miner {
    /// Its core.
    pub core: Participant,
    /// Its connection, if any.
    pub peer: Option<PeerId>,
    /// Its behaviour.
    pub mood: Mood,
    /// What is planted in it.
    pub plant: Option<Plant>,
    /// What it hashes now.
    pub orders: Vec<Order>,
    /// Whether it was told to hash in this session.
    pub ordered: bool,
    /// Its disk: complete payouts.
    pub held: Vec<Held>,
    /// Its disk: acknowledged work.
    pub own_work: BTreeMap<WindowSeq, Work>,
    /// Its disk: what the coordinator signed.
    pub statements: Statements,
    /// Its disk: proofs of the coordinator's fraud.
    pub proofs: Vec<Equivocation>,
    /// What it told its log.
    pub events: Vec<Event>,
    /// What it asked its own node.
    pub claims: Vec<BlockClaim>,
    /// What opened its session.
    pub challenge: Option<Challenge>,
    /// Whose key it has.
    pub number: u16,
    settings: Settings,
    tried: u32,
}

impl Miner {
    /// A miner without a connection.
    pub fn new(number: u16, key: IdentityKey, settings: Settings) -> Self {
        Self {
            core: Participant::new(key, settings.clone(), Memory::default()),
            peer: None,
            mood: Mood::Honest,
            plant: None,
            orders: Vec::new(),
            ordered: false,
            held: Vec::new(),
            own_work: BTreeMap::new(),
            statements: Statements::default(),
            proofs: Vec::new(),
            events: Vec::new(),
            claims: Vec::new(),
            challenge: None,
            number,
            settings,
            tried: 0,
        }
    }

    /// Who it is.
    pub fn identity(&self) -> Identity {
        self.core.identity()
    }

    /// Replaces the process: what is on disk stays, keys and slots are gone.
    pub fn restart(&mut self) {
        let key = identity_key(self.number);
        let memory = Memory {
            coordinator: self.settings.coordinator,
            own_work: self.own_work.clone(),
            statements: self.statements.clone(),
            convicted: self.proofs.iter().map(|proof| proof.coordinator).collect(),
        };
        self.core = Participant::new(key, self.settings.clone(), memory);
        self.orders.clear();
        self.peer = None;
    }

    /// Its owner moves the proofs and the evidence away, and starts it again.
    pub fn forgive(&mut self) {
        self.proofs.clear();
        self.statements = Statements::default();
        self.restart();
    }

    /// The round that it hashes.
    pub fn hashed(&self) -> Option<&Held> {
        let order = self.orders.first()?;
        let is_hashed = |held: &&Held| {
            use bitcoin::hashes::Hash;
            let lane = held.lanes.get(usize::from(order.slice.lane.0));
            // Simulated templates hold no transactions but the coinbase.
            lane.is_some_and(|l| l.coinbase.compute_txid().to_byte_array() == order.merkle_root)
        };
        self.held.iter().rev().find(is_hashed)
    }

    /// Feeds one input. `power_fails` after what it persists: nobody sees the rest.
    pub fn handle(&mut self, rng: &mut StdRng, input: Input, power_fails: bool) -> Reaction {
        let mut worn_out = StdRng::seed_from_u64(u64::from(self.number));
        let kept = self.plant == Some(Plant::KeptKey) && matches!(input, Input::Received(_));
        let rng = if kept { &mut worn_out } else { rng };
        match &input {
            Input::Connected => self.ordered = false,
            Input::Received(ToParticipant::Challenge(challenge)) => {
                self.challenge = Some(challenge.clone());
            }
            _ => {}
        }
        let effects = self.core.handle(rng, input);
        self.carry_out(rng, effects, power_fails)
    }

    fn carry_out(
        &mut self,
        rng: &mut StdRng,
        effects: Effects<Record, Action>,
        power_fails: bool,
    ) -> Reaction {
        let mut reaction = Reaction::default();
        let forges = self.plant == Some(Plant::WrongAmount);
        let own_work = &mut self.own_work;
        let (statements, proofs) = (&mut self.statements, &mut self.proofs);
        let saved = effects.save(|records| {
            for record in records {
                match record {
                    Record::Held(round) if forges && round.signers > 0 => {
                        let forged = collude(round, rng).unwrap_or_else(|_| round.clone());
                        reaction.held.push(forged);
                    }
                    Record::Held(round) => reaction.held.push(round.clone()),
                    Record::OwnWork { window, work } => {
                        own_work.insert(*window, *work);
                    }
                    Record::Head { coordinator, head } => {
                        let _ = statements.note_head(coordinator, head); // The core compared them.
                    }
                    Record::Equivocation(proof) => proofs.push(*proof),
                }
            }
            Ok::<(), std::convert::Infallible>(())
        });
        self.held.extend(reaction.held.iter().cloned());
        let Ok(actions) = saved;
        for action in actions.into_iter().filter(|_| !power_fails) {
            match action {
                Action::Send(message) => reaction.sent.extend(self.in_its_mood(message)),
                Action::Mine(orders) => {
                    self.ordered = !orders.is_empty();
                    self.orders = orders;
                    reaction.ordered = true;
                }
                Action::Leave | Action::LeaveForGood => reaction.leaves = true,
                Action::LookUp(claims) => self.claims = claims,
                Action::Tell(event) => self.events.push(event),
            }
        }
        reaction
    }

    fn in_its_mood(&self, message: ToCoordinator) -> Option<ToCoordinator> {
        match (self.mood, message) {
            (Mood::SilentSigner, ToCoordinator::TxComplete(_) | ToCoordinator::TxSignatures(_)) => {
                None
            }
            (Mood::Refuser, ToCoordinator::TxComplete(_)) => None,
            (Mood::Refuser, ToCoordinator::TxSignatures(signatures)) => {
                let (key, reason) = (identity_key(self.number), AbortReason::Policy);
                let abort = TxAbort::sign(&key, signatures.round, reason, &[8; 32]);
                Some(ToCoordinator::TxAbort(abort))
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
        let key = identity_key(self.number);
        let TxSignatures {
            round,
            proposal,
            partials,
            ..
        } = signatures;
        TxSignatures::sign(&key, round, proposal, partials, &[9; 32])
    }

    /// Hashes until one header meets z.
    pub fn find_share(&mut self) -> Option<FoundShare> {
        self.hash_until(0)
    }

    /// Hashes until one header has so many leading zero bits, and at least z.
    pub fn hash_until(&mut self, zero_bits: u8) -> Option<FoundShare> {
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
            let zeros = leading_zero_bits(&header_hash(&header.serialize()));
            if zeros >= order.z.max(zero_bits) {
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
