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
    pub slots: Vec<PublicSlot>,
    /// Identity signature over keys and nonces: what blame is shown with.
    pub signature: [u8; 64],
}

impl Slots {
    /// Signs an announcement for the pool of this coordinator.
    pub fn sign(
        key: &IdentityKey,
        coordinator: &Identity,
        slots: Vec<PublicSlot>,
        aux: &[u8; 32],
    ) -> Self {
        let signature = key.sign(&digest(coordinator, &key.identity(), &slots), aux);
        Self { slots, signature }
    }

    /// Checks that this identity announced them.
    pub fn verify(
        &self,
        coordinator: &Identity,
        identity: &Identity,
    ) -> Result<(), BadIdentitySignature> {
        identity.verify(&digest(coordinator, identity, &self.slots), &self.signature)
    }
}

fn digest(coordinator: &Identity, identity: &Identity, slots: &[PublicSlot]) -> [u8; 32] {
    let mut digest = Digest::new("tutti/slots")
        .fixed(coordinator.as_bytes())
        .fixed(identity.as_bytes())
        .count(slots.len());
    for slot in slots {
        digest = digest.fixed(&slot.key.serialize()).count(slot.nonces.len());
        for nonce in &slot.nonces {
            digest = digest.fixed(&nonce.serialize());
        }
    }
    digest.finish()
}
