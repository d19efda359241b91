use crate::digest::Digest;
use crate::id::{Identity, SerialId};
use crate::identity::{BadIdentitySignature, IdentityKey};
use crate::script::PayoutScript;

/// Registers a payout script. Carries no amount: amounts follow from the ledger. Relayed to all
/// with its author's signature, so that a coordinator cannot put a script of its own in its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxAddOutput {
    /// Who is to be paid.
    pub identity: Identity,
    /// Place in the payout.
    pub serial_id: SerialId,
    /// Where.
    pub script: PayoutScript,
    /// Identity signature.
    pub signature: [u8; 64],
}

impl TxAddOutput {
    /// Signs an output for the pool of this coordinator.
    pub fn sign(
        key: &IdentityKey,
        coordinator: &Identity,
        serial_id: SerialId,
        script: PayoutScript,
        aux: &[u8; 32],
    ) -> Self {
        let identity = key.identity();
        let signature = key.sign(&digest(coordinator, &identity, serial_id, &script), aux);
        Self {
            identity,
            serial_id,
            script,
            signature,
        }
    }

    /// Checks the author's signature.
    pub fn verify(&self, coordinator: &Identity) -> Result<(), BadIdentitySignature> {
        let digest = digest(coordinator, &self.identity, self.serial_id, &self.script);
        self.identity.verify(&digest, &self.signature)
    }
}

fn digest(
    coordinator: &Identity,
    identity: &Identity,
    serial_id: SerialId,
    script: &PayoutScript,
) -> [u8; 32] {
    Digest::new("tutti/tx_add_output")
        .fixed(coordinator.as_bytes())
        .fixed(identity.as_bytes())
        .u64(serial_id.0)
        .bytes(script.as_script().as_bytes())
        .finish()
}
