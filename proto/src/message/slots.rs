use crate::digest::Digest;
use crate::id::Identity;
use crate::identity::{BadIdentitySignature, IdentityKey};
use crate::musig::PublicSlot;

/// Most slots that a participant may have announced and unused.
pub const SLOTS_LIMIT: usize = 8;

/// Announces signing slots, each for one attempt of one round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slots {
    /// The slots.
    pub slots: Vec<AnnouncedSlot>,
}

/// A slot with its author's signature: what blame is shown with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnouncedSlot {
    /// The slot.
    pub slot: PublicSlot,
    /// Identity signature over key and nonces.
    pub signature: [u8; 64],
}

impl AsRef<PublicSlot> for AnnouncedSlot {
    fn as_ref(&self) -> &PublicSlot {
        &self.slot
    }
}

impl AnnouncedSlot {
    /// Signs an announcement for the pool of this coordinator.
    pub fn sign(
        key: &IdentityKey,
        coordinator: &Identity,
        slot: PublicSlot,
        aux: &[u8; 32],
    ) -> Self {
        let signature = key.sign(&digest(coordinator, &key.identity(), &slot), aux);
        Self { slot, signature }
    }

    /// Checks that this identity announced it.
    pub fn verify(
        &self,
        coordinator: &Identity,
        identity: &Identity,
    ) -> Result<(), BadIdentitySignature> {
        identity.verify(&digest(coordinator, identity, &self.slot), &self.signature)
    }
}

fn digest(coordinator: &Identity, identity: &Identity, slot: &PublicSlot) -> [u8; 32] {
    let digest = Digest::new("tutti/slot")
        .fixed(coordinator.as_bytes())
        .fixed(identity.as_bytes())
        .fixed(&slot.key.serialize())
        .count(slot.nonces.len());
    slot.nonces
        .iter()
        .fold(digest, |d, nonce| d.fixed(&nonce.serialize()))
        .finish()
}
