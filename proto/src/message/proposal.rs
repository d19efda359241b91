use crate::digest::Digest;
use crate::id::{Identity, RoundId};
use crate::identity::{BadIdentitySignature, IdentityKey};
use crate::musig::AggregateNonce;
use crate::plan::ProposedPlan;

/// Proposes an attempt: `tx_add_input` for every lane, the signers, the nonces, the transcript hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// What is proposed.
    pub plan: ProposedPlan,
    /// The coordinator's identity signature over round and nonces: two for one attempt prove fraud.
    pub signature: [u8; 64],
}

impl Proposal {
    /// Signs a proposal as the coordinator.
    pub fn sign(key: &IdentityKey, plan: ProposedPlan, aux: &[u8; 32]) -> Self {
        let signature = key.sign(&proposal_digest(&plan.round, &plan.nonces), aux);
        Self { plan, signature }
    }

    /// Checks the coordinator's signature.
    pub fn verify(&self, coordinator: &Identity) -> Result<(), BadIdentitySignature> {
        coordinator.verify(
            &proposal_digest(&self.plan.round, &self.plan.nonces),
            &self.signature,
        )
    }
}

/// What the coordinator signs of a proposal, and a signer answers: the round's name does not cover
/// the nonces, which are known only after it.
pub fn proposal_digest(round: &RoundId, nonces: &[AggregateNonce]) -> [u8; 32] {
    let digest = Digest::new("tutti/proposal")
        .fixed(&round.0)
        .count(nonces.len());
    nonces
        .iter()
        .fold(digest, |d, nonce| d.fixed(&nonce.serialize()))
        .finish()
}
