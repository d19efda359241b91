//! The identity key: who says something. It signs sessions and contributions, never money.

use std::sync::LazyLock;

use bitcoin::XOnlyPublicKey;
use bitcoin::secp256k1::{Keypair, Message, Secp256k1, SecretKey, SignOnly, VerifyOnly, schnorr};
use zeroize::{Zeroize, Zeroizing};

use crate::digest::Digest;
use crate::id::Identity;

/// Tables of the curve, and blinding: made once, since making them costs as much as a signature.
static SIGNING: LazyLock<Secp256k1<SignOnly>> = LazyLock::new(Secp256k1::signing_only);
static VERIFYING: LazyLock<Secp256k1<VerifyOnly>> = LazyLock::new(Secp256k1::verification_only);

/// A BIP340 secret key. No Clone, Debug or Serialize; erased when dropped.
pub struct IdentityKey {
    secret: SecretKey,
    public: Identity,
}

/// The 32 bytes are zero or not below the curve order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a secret key")]
pub struct NotASecretKey;

/// The signature is not this identity's over this message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the signature is not this identity's")]
pub struct BadIdentitySignature;

impl IdentityKey {
    /// Takes the bytes and erases the caller's copy.
    pub fn from_bytes(bytes: &mut [u8; 32]) -> Result<Self, NotASecretKey> {
        let secret = SecretKey::from_slice(bytes).map_err(|_| NotASecretKey);
        bytes.zeroize();
        let secret = secret?;
        let (xonly, _) = secret.x_only_public_key(&SIGNING);
        Ok(Self {
            secret,
            public: Identity::from(xonly),
        })
    }

    /// Who this is.
    pub fn identity(&self) -> Identity {
        self.public
    }

    /// The secret of another key, which whoever has this one can make again and nobody else can. It may
    /// sign money; this one does not.
    pub fn derive(&self, purpose: &'static str) -> Result<SecretKey, NotASecretKey> {
        let mut secret = Zeroizing::new(self.secret.secret_bytes());
        let mut derived = Zeroizing::new(Digest::new(purpose).fixed(&*secret).finish());
        secret.zeroize();
        let key = SecretKey::from_slice(derived.as_slice()).map_err(|_| NotASecretKey);
        derived.zeroize();
        key
    }

    /// A BIP340 signature of a 32-byte digest; `aux` is fresh randomness.
    pub fn sign(&self, digest: &[u8; 32], aux: &[u8; 32]) -> [u8; 64] {
        let mut keypair = Keypair::from_secret_key(&SIGNING, &self.secret);
        let message = Message::from_digest(*digest);
        let signature = SIGNING.sign_schnorr_with_aux_rand(&message, &keypair, aux);
        keypair.non_secure_erase();
        signature.serialize()
    }
}

impl Drop for IdentityKey {
    fn drop(&mut self) {
        self.secret.non_secure_erase();
    }
}

impl Identity {
    /// Checks a BIP340 signature of a 32-byte digest.
    pub fn verify(
        &self,
        digest: &[u8; 32],
        signature: &[u8; 64],
    ) -> Result<(), BadIdentitySignature> {
        let key = XOnlyPublicKey::from_slice(self.as_bytes()).map_err(|_| BadIdentitySignature)?;
        let signature =
            schnorr::Signature::from_slice(signature).map_err(|_| BadIdentitySignature)?;
        VERIFYING
            .verify_schnorr(&signature, &Message::from_digest(*digest), &key)
            .map_err(|_| BadIdentitySignature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_derived_key_is_always_the_same_and_of_its_purpose() {
        let key = |byte| IdentityKey::from_bytes(&mut [byte; 32]).unwrap();
        let derived = key(7).derive("one").unwrap();
        assert_eq!(key(7).derive("one").unwrap(), derived);
        assert_ne!(key(7).derive("two").unwrap(), derived);
        assert_ne!(key(8).derive("one").unwrap(), derived);
    }

    #[test]
    fn the_callers_copy_of_the_secret_is_erased() {
        let mut bytes = [7u8; 32];
        let key = IdentityKey::from_bytes(&mut bytes).unwrap();
        assert_eq!(bytes, [0u8; 32]);
        let signature = key.sign(&[1; 32], &[2; 32]);
        assert_eq!(key.identity().verify(&[1; 32], &signature), Ok(()));
        assert!(key.identity().verify(&[3; 32], &signature).is_err());
    }
}
