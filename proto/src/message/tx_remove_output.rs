use crate::digest::Digest;
use crate::id::{Identity, SerialId};
use crate::identity::{BadIdentitySignature, IdentityKey};

/// Takes an own output out of the payee set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxRemoveOutput {
    /// Whose output.
    pub identity: Identity,
    /// Which.
    pub serial_id: SerialId,
    /// Identity signature.
    pub signature: [u8; 64],
}

impl TxRemoveOutput {
    /// Signs a removal for the pool of this coordinator.
    pub fn sign(
        key: &IdentityKey,
        coordinator: &Identity,
        serial_id: SerialId,
        aux: &[u8; 32],
    ) -> Self {
        let identity = key.identity();
        let signature = key.sign(&digest(coordinator, &identity, serial_id), aux);
        Self {
            identity,
            serial_id,
            signature,
        }
    }

    /// Checks the author's signature.
    pub fn verify(&self, coordinator: &Identity) -> Result<(), BadIdentitySignature> {
        let digest = digest(coordinator, &self.identity, self.serial_id);
        self.identity.verify(&digest, &self.signature)
    }
}

fn digest(coordinator: &Identity, identity: &Identity, serial_id: SerialId) -> [u8; 32] {
    Digest::new("tutti/tx_remove_output")
        .fixed(coordinator.as_bytes())
        .fixed(identity.as_bytes())
        .u64(serial_id.0)
        .finish()
}
