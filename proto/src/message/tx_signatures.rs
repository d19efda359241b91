use crate::digest::Digest;
use crate::id::{Identity, RoundId};
use crate::identity::{BadIdentitySignature, IdentityKey};
use crate::musig::PartialSignature;

/// A signer's partial signatures, one per payout, lane by lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxSignatures {
    /// The round.
    pub round: RoundId,
    /// Digest of the proposal that it answers: whoever proposes an attempt twice, with other nonces,
    /// cannot show the answer to one against the other.
    pub proposal: [u8; 32],
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
        proposal: [u8; 32],
        partials: Vec<PartialSignature>,
        aux: &[u8; 32],
    ) -> Self {
        let signature = key.sign(&digest(&round, &proposal, &partials), aux);
        Self {
            round,
            proposal,
            partials,
            signature,
        }
    }

    /// Checks that this identity contributed it.
    pub fn verify(&self, identity: &Identity) -> Result<(), BadIdentitySignature> {
        let digest = digest(&self.round, &self.proposal, &self.partials);
        identity.verify(&digest, &self.signature)
    }
}

fn digest(round: &RoundId, proposal: &[u8; 32], partials: &[PartialSignature]) -> [u8; 32] {
    let digest = Digest::new("tutti/tx_signatures")
        .fixed(&round.0)
        .fixed(proposal)
        .count(partials.len());
    partials
        .iter()
        .fold(digest, |d, partial| d.fixed(&partial.serialize()))
        .finish()
}
