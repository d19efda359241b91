//! Lies that nobody thought of: a message's bytes are changed in a few places of its protobuf, and it
//! is signed again by whoever sends it.

mod protobuf;
mod signed;

use rand::Rng;
use rand::rngs::StdRng;
use tutti_proto::message::{Challenge, ToCoordinator, ToParticipant};
use tutti_proto::wire::{FromWire, ToWire};

use protobuf::Tree;

pub use signed::{sign_as_coordinator, sign_as_participant};

/// Byte strings remembered, to be put elsewhere.
const SEEN_LIMIT: usize = 512;

/// Changes messages, and remembers what stood in them.
#[derive(Default)]
pub struct Mutator {
    seen: Vec<Vec<u8>>,
}

impl Mutator {
    /// Another message that decodes; none if the changed bytes do not, or if nothing is changed.
    pub fn mutate<M: ToWire + FromWire + PartialEq>(
        &mut self,
        dice: &mut StdRng,
        message: &M,
    ) -> Option<M> {
        let mut tree = Tree::parse(&message.encode())?;
        tree.byte_strings(&mut |bytes| self.remember(dice, bytes));
        for _ in 0..dice.random_range(1..=3) {
            tree.mutate(dice, &self.seen);
        }
        let mutated = M::decode(&tree.encode()).ok()?;
        (mutated != *message).then_some(mutated)
    }

    fn remember(&mut self, dice: &mut StdRng, bytes: &[u8]) {
        if self.seen.len() < SEEN_LIMIT {
            self.seen.push(bytes.to_vec());
        } else {
            let place = dice.random_range(0..SEEN_LIMIT);
            self.seen[place] = bytes.to_vec();
        }
    }

    /// Another message of the coordinator, signed by it.
    pub fn of_coordinator(
        &mut self,
        dice: &mut StdRng,
        message: &ToParticipant,
    ) -> Option<ToParticipant> {
        Some(sign_as_coordinator(self.mutate(dice, message)?))
    }

    /// Another message of the participant of this number, signed by it.
    pub fn of_participant(
        &mut self,
        dice: &mut StdRng,
        number: u16,
        challenge: Option<&Challenge>,
        message: &ToCoordinator,
    ) -> Option<ToCoordinator> {
        let mutated = self.mutate(dice, message)?;
        Some(sign_as_participant(number, challenge, mutated))
    }
}
