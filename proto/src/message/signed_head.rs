use crate::digest::Digest;
use crate::id::{Identity, WindowSeq};
use crate::identity::{BadIdentitySignature, IdentityKey};
use crate::window::LedgerHead;

/// The ledger's head after a window, signed by the coordinator: two for one window prove fraud.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedHead {
    /// The head.
    pub head: LedgerHead,
    /// The coordinator's identity signature over number and hash.
    pub signature: [u8; 64],
}

impl SignedHead {
    /// Signs a head as the coordinator.
    pub fn sign(key: &IdentityKey, head: LedgerHead, aux: &[u8; 32]) -> Self {
        let signature = key.sign(&head_digest(head.seq, &head.hash), aux);
        Self { head, signature }
    }

    /// Checks the coordinator's signature.
    pub fn verify(&self, coordinator: &Identity) -> Result<(), BadIdentitySignature> {
        let digest = head_digest(self.head.seq, &self.head.hash);
        coordinator.verify(&digest, &self.signature)
    }
}

/// What the coordinator signs of a closed window.
pub fn head_digest(seq: WindowSeq, hash: &[u8; 32]) -> [u8; 32] {
    Digest::new("tutti/head").u64(seq.0).fixed(hash).finish()
}
