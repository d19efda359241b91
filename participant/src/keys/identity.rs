//! The identity key: who a participant is to the pool.

use bitcoin::secp256k1::{
    Keypair, Message, Secp256k1, SecretKey, SignOnly, XOnlyPublicKey, schnorr,
};

/// Authenticates the session and signs every contribution to a round (BIP340). It signs digests
/// whose domain the protocol separates; it never signs a transaction.
pub struct IdentityKey {
    secp: Secp256k1<SignOnly>,
    keypair: Keypair,
}

impl IdentityKey {
    pub(super) fn new(secp: Secp256k1<SignOnly>, secret: &SecretKey) -> Self {
        let keypair = Keypair::from_secret_key(&secp, secret);
        Self { secp, keypair }
    }

    pub fn public(&self) -> XOnlyPublicKey {
        self.keypair.x_only_public_key().0
    }

    /// Signs `digest`; `aux` is 32 fresh random bytes (BIP340's protection against side channels).
    pub fn sign(&self, digest: [u8; 32], aux: [u8; 32]) -> schnorr::Signature {
        let message = Message::from_digest(digest);
        self.secp
            .sign_schnorr_with_aux_rand(&message, &self.keypair, &aux)
    }
}

impl Drop for IdentityKey {
    fn drop(&mut self) {
        self.keypair.non_secure_erase();
    }
}
