use crate::digest::Digest;
use crate::id::{Identity, RoundId};
use crate::identity::{BadIdentitySignature, IdentityKey};
use crate::musig::PartialSignature;

/// A signer's partial signatures, one per payout, lane by lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxSignatures {
    /// The round.
    pub round: RoundId,
    /// Partial signatures.
    pub partials: Vec<PartialSignature>,
    /// Identity signature: a partial signature alone proves nothing about its author (BIP327).
    pub signature: [u8; 64],
}

impl TxSignatures {
    /// Signs the contribution.
    pub fn sign(
        key: &IdentityKey,
        round: RoundId,
        partials: Vec<PartialSignature>,
        aux: &[u8; 32],
    ) -> Self {
        let signature = key.sign(&digest(&round, &partials), aux);
        Self {
            round,
            partials,
            signature,
        }
    }

    /// Checks that this identity contributed it.
    pub fn verify(&self, identity: &Identity) -> Result<(), BadIdentitySignature> {
        identity.verify(&digest(&self.round, &self.partials), &self.signature)
    }
}

fn digest(round: &RoundId, partials: &[PartialSignature]) -> [u8; 32] {
    let digest = Digest::new("tutti/tx_signatures")
        .fixed(&round.0)
        .count(partials.len());
    partials
        .iter()
        .fold(digest, |d, partial| d.fixed(&partial.serialize()))
        .finish()
}
