//! MuSig2 (BIP327), here only: one-time signing slots, key aggregation, sessions.
//!
//! A [`SigningSlot`] is born with its secret nonces, lives in memory, and is consumed by the one
//! call that signs with it. It cannot be copied, printed, stored or used twice.

mod ahead;
mod sums;

use bitcoin::hashes::{Hash, HashEngine};
use rand_core::CryptoRng;
use secp256k1_musig::musig as ffi;
use secp256k1_musig::{Keypair, PublicKey, Scalar, SecretKey, XOnlyPublicKey};
use zeroize::Zeroize;

pub use ahead::{NoncesAhead, nonce_sums};
pub use sums::PartialSums;

/// Bytes of a public nonce and of an aggregate nonce.
pub const NONCE_SIZE: usize = 66;
/// Bytes of a partial signature.
pub const PARTIAL_SIZE: usize = 32;

/// The one-time public key of a signing slot; ordered as BIP327's KeySort orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotKey(PublicKey);

/// One signer's public nonce for one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicNonce(ffi::PublicNonce);

/// The sum of all signers' public nonces for one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AggregateNonce(ffi::AggregatedNonce);

/// One signer's part of a signature. Proves nothing about who made it (BIP327).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartialSignature(ffi::PartialSignature);

/// What a participant announces of a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicSlot {
    /// The slot's key; also its name.
    pub key: SlotKey,
    /// One nonce for each session of the round.
    pub nonces: Vec<PublicNonce>,
}

/// The secret half of a slot. No Clone, Debug or Serialize; erased when dropped.
pub struct SigningSlot {
    keypair: Keypair,
    nonces: Vec<ffi::SecretNonce>,
}

/// Bytes that do not decode, or that cannot be used together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MusigError {
    /// Not a compressed public key.
    #[error("not a compressed public key")]
    Key,
    /// Not a nonce.
    #[error("not a public nonce")]
    Nonce,
    /// Not below the curve order.
    #[error("not a partial signature")]
    Partial,
    /// Nobody signs.
    #[error("a session needs at least one signer")]
    NoSigners,
    /// The same key twice in one round.
    #[error("the same slot key twice in one round")]
    DuplicateKey,
    /// The slot has fewer nonces than the round has sessions.
    #[error("the slot has {have} nonces, the round has {need} sessions")]
    TooFewNonces {
        /// Nonces of the slot.
        have: usize,
        /// Sessions of the round.
        need: usize,
    },
    /// The tweak is not a scalar, or gives the point at infinity: chance 2^-128.
    #[error("the aggregate key cannot be tweaked")]
    Tweak,
    /// The aggregate signature does not verify: some partial, or some nonce, is wrong.
    #[error("the aggregate signature is invalid")]
    BadAggregate,
    /// A slot key is not among the signers.
    #[error("the slot is not among the round's signers")]
    NotASigner,
}

impl SlotKey {
    /// Decodes 33 bytes.
    pub fn parse(bytes: &[u8; 33]) -> Result<Self, MusigError> {
        PublicKey::from_byte_array_compressed(*bytes)
            .map(Self)
            .map_err(|_| MusigError::Key)
    }

    /// Encodes to 33 bytes.
    pub fn serialize(&self) -> [u8; 33] {
        self.0.serialize()
    }
}

impl PartialOrd for SlotKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for SlotKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.serialize().cmp(&other.serialize())
    }
}

impl PublicNonce {
    /// Decodes 66 bytes.
    pub fn parse(bytes: &[u8; NONCE_SIZE]) -> Result<Self, MusigError> {
        ffi::PublicNonce::from_byte_array(bytes)
            .map(Self)
            .map_err(|_| MusigError::Nonce)
    }

    /// Encodes to 66 bytes.
    pub fn serialize(&self) -> [u8; NONCE_SIZE] {
        self.0.serialize()
    }
}

impl AggregateNonce {
    /// Decodes 66 bytes.
    pub fn parse(bytes: &[u8; NONCE_SIZE]) -> Result<Self, MusigError> {
        ffi::AggregatedNonce::from_byte_array(bytes)
            .map(Self)
            .map_err(|_| MusigError::Nonce)
    }

    /// Encodes to 66 bytes.
    pub fn serialize(&self) -> [u8; NONCE_SIZE] {
        self.0.serialize()
    }

    /// Sums the signers' nonces of one session.
    pub fn sum<'a>(nonces: impl Iterator<Item = &'a PublicNonce>) -> Result<Self, MusigError> {
        let nonces: Vec<&ffi::PublicNonce> = nonces.map(|nonce| &nonce.0).collect();
        if nonces.is_empty() {
            return Err(MusigError::NoSigners);
        }
        Ok(Self(ffi::AggregatedNonce::new(&nonces)))
    }
}

impl PartialSignature {
    /// Decodes 32 bytes.
    pub fn parse(bytes: &[u8; PARTIAL_SIZE]) -> Result<Self, MusigError> {
        ffi::PartialSignature::from_byte_array(bytes)
            .map(Self)
            .map_err(|_| MusigError::Partial)
    }

    /// Encodes to 32 bytes.
    pub fn serialize(&self) -> [u8; PARTIAL_SIZE] {
        self.0.serialize()
    }
}

impl SigningSlot {
    /// A fresh random key and `sessions` fresh nonces, and what may be announced of them.
    pub fn generate(
        rng: &mut (impl CryptoRng + ?Sized),
        sessions: usize,
    ) -> (SigningSlot, PublicSlot) {
        let mut secret = loop {
            let mut bytes = [0u8; 32];
            rng.fill_bytes(&mut bytes);
            let secret = SecretKey::from_secret_bytes(bytes);
            bytes.zeroize();
            if let Ok(secret) = secret {
                break secret;
            }
        };
        let keypair = Keypair::from_secret_key(&secret);
        let key = PublicKey::from_secret_key(&secret);
        let mut slot = SigningSlot {
            keypair,
            nonces: Vec::with_capacity(sessions),
        };
        let mut nonces = Vec::with_capacity(sessions);
        for _ in 0..sessions {
            let mut bytes = [0u8; 32];
            rng.fill_bytes(&mut bytes);
            let session = ffi::SessionSecretRand::assume_unique_per_nonce_gen(bytes, &secret);
            bytes.zeroize();
            let (nonce, public) = ffi::new_nonce_pair(session, None, Some(secret), key, None, None);
            slot.nonces.push(nonce);
            nonces.push(PublicNonce(public));
        }
        secret.non_secure_erase();
        (
            slot,
            PublicSlot {
                key: SlotKey(key),
                nonces,
            },
        )
    }

    /// The slot's name.
    pub fn key(&self) -> SlotKey {
        SlotKey(self.keypair.public_key())
    }

    /// Signs every session of one attempt, and is gone.
    pub fn sign(
        mut self,
        key: &AggregateKey,
        sessions: &[Session],
    ) -> Result<Vec<PartialSignature>, MusigError> {
        if key.signers.binary_search(&self.key()).is_err() {
            return Err(MusigError::NotASigner);
        }
        if self.nonces.len() < sessions.len() {
            return Err(MusigError::TooFewNonces {
                have: self.nonces.len(),
                need: sessions.len(),
            });
        }
        let mut nonces = std::mem::take(&mut self.nonces);
        let unused = nonces.drain(sessions.len()..);
        unused.for_each(|mut nonce| nonce.non_secure_erase());
        // On one core: no secret goes to another thread.
        let sign = |(session, nonce): (&Session, ffi::SecretNonce)| {
            PartialSignature(session.0.partial_sign(nonce, &self.keypair, &key.cache))
        };
        Ok(sessions.iter().zip(nonces).map(sign).collect())
    }
}

impl Drop for SigningSlot {
    fn drop(&mut self) {
        self.keypair.non_secure_erase();
        self.nonces
            .iter_mut()
            .for_each(|nonce| nonce.non_secure_erase());
    }
}

/// All signers' keys as one: sorted, aggregated, tweaked.
#[derive(Clone, Debug)]
pub struct AggregateKey {
    cache: ffi::KeyAggCache,
    signers: Vec<SlotKey>,
    internal: [u8; 32],
    tweaked: XOnlyPublicKey,
}

impl AggregateKey {
    /// Aggregates keys that are sorted and distinct, and tweaks the result with a merkle root.
    pub fn new(signers: Vec<SlotKey>, merkle_root: &[u8; 32]) -> Result<Self, MusigError> {
        if signers.is_empty() {
            return Err(MusigError::NoSigners);
        }
        if !signers.is_sorted_by(|a, b| a < b) {
            return Err(MusigError::DuplicateKey);
        }
        let keys: Vec<&PublicKey> = signers.iter().map(|key| &key.0).collect();
        let mut cache = ffi::KeyAggCache::new(&keys);
        let internal = cache.agg_pk().to_byte_array();
        let tweak = Scalar::from_be_bytes(tap_tweak(&internal, merkle_root))
            .map_err(|_| MusigError::Tweak)?;
        let tweaked = cache
            .pubkey_xonly_tweak_add(&tweak)
            .map_err(|_| MusigError::Tweak)?;
        let tweaked = tweaked.x_only_public_key().0;
        Ok(Self {
            cache,
            signers,
            internal,
            tweaked,
        })
    }

    /// The key before the tweak, x-only.
    pub fn internal(&self) -> [u8; 32] {
        self.internal
    }

    /// The taproot output key Q, x-only.
    pub fn output_key(&self) -> [u8; 32] {
        self.tweaked.to_byte_array()
    }

    /// Whether a BIP340 signature by the output key is valid.
    pub fn verify(&self, sighash: &[u8; 32], signature: &[u8; 64]) -> bool {
        let signature = secp256k1_musig::schnorr::Signature::from_byte_array(*signature);
        secp256k1_musig::schnorr::verify(&signature, sighash, &self.tweaked).is_ok()
    }

    /// The signers, sorted.
    pub fn signers(&self) -> &[SlotKey] {
        &self.signers
    }
}

/// BIP341: `hash_TapTweak(internal key || merkle root)`.
fn tap_tweak(internal: &[u8; 32], merkle_root: &[u8; 32]) -> [u8; 32] {
    let mut engine = bitcoin::TapTweakHash::engine();
    engine.input(internal);
    engine.input(merkle_root);
    bitcoin::TapTweakHash::from_engine(engine).to_byte_array()
}

/// One message to be signed with one aggregate nonce.
#[derive(Clone, Copy, Debug)]
pub struct Session(ffi::Session);

impl Session {
    /// The session of one payout.
    pub fn new(key: &AggregateKey, nonce: &AggregateNonce, sighash: &[u8; 32]) -> Self {
        Self(ffi::Session::new(&key.cache, nonce.0, sighash))
    }

    /// Sums the partial signatures and verifies the result.
    pub fn combine<'a>(
        &self,
        key: &AggregateKey,
        sighash: &[u8; 32],
        partials: impl Iterator<Item = &'a PartialSignature>,
    ) -> Result<[u8; 64], MusigError> {
        let signature = self.sum(partials)?;
        if !key.verify(sighash, &signature) {
            return Err(MusigError::BadAggregate);
        }
        Ok(signature)
    }

    /// Sums the partial signatures. Whether the result is a signature is for its user to verify.
    pub fn sum<'a>(
        &self,
        partials: impl Iterator<Item = &'a PartialSignature>,
    ) -> Result<[u8; 64], MusigError> {
        let partials: Vec<&ffi::PartialSignature> = partials.map(|partial| &partial.0).collect();
        self.sum_of(&partials)
    }

    fn sum_of(&self, partials: &[&ffi::PartialSignature]) -> Result<[u8; 64], MusigError> {
        if partials.is_empty() {
            return Err(MusigError::NoSigners);
        }
        let signature = self.0.partial_sig_agg(partials).assume_valid();
        Ok(*signature.as_byte_array())
    }

    /// Whether this partial is what the holder of `key` and `nonce` had to send. For blame only.
    pub fn partial_is_valid(
        &self,
        aggregate: &AggregateKey,
        partial: &PartialSignature,
        nonce: &PublicNonce,
        key: &SlotKey,
    ) -> bool {
        self.0
            .partial_verify(&aggregate.cache, &partial.0, &nonce.0, key.0)
    }
}
