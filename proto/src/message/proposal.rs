use crate::digest::Digest;
use crate::id::{Attempt, Identity, RoundId, RoundSeq};
use crate::identity::{BadIdentitySignature, IdentityKey};
use crate::musig::AggregateNonce;
use crate::plan::{ProposedPlan, RoundInputs};

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
        let signature = key.sign(&digest(&plan), aux);
        Self { plan, signature }
    }

    /// Checks the coordinator's signature.
    pub fn verify(&self, coordinator: &Identity) -> Result<(), BadIdentitySignature> {
        coordinator.verify(&digest(&self.plan), &self.signature)
    }
}

fn digest(plan: &ProposedPlan) -> [u8; 32] {
    proposal_digest(&plan.inputs, &plan.round, &plan.nonces)
}

/// What is proposed for an attempt: the round's name does not cover the nonces, which are known only
/// after it.
pub fn proposal_content(round: &RoundId, nonces: &[AggregateNonce]) -> [u8; 32] {
    let digest = Digest::new("tutti/proposal-content")
        .fixed(&round.0)
        .count(nonces.len());
    nonces
        .iter()
        .fold(digest, |d, nonce| d.fixed(&nonce.serialize()))
        .finish()
}

/// What the coordinator signs of a proposal, and a signer answers.
pub fn proposal_digest(
    inputs: &RoundInputs,
    round: &RoundId,
    nonces: &[AggregateNonce],
) -> [u8; 32] {
    let content = proposal_content(round, nonces);
    attempt_digest(inputs.seq, inputs.attempt, inputs.is_direct(), &content)
}

/// The same, for whoever knows no more of an attempt than its numbers. A direct round may be made
/// again for another template under its old numbers: two of these prove nothing.
pub(crate) fn attempt_digest(
    seq: RoundSeq,
    attempt: Attempt,
    direct: bool,
    content: &[u8; 32],
) -> [u8; 32] {
    Digest::new("tutti/proposal")
        .u64(seq.0)
        .u32(attempt.0)
        .u8(u8::from(direct))
        .fixed(content)
        .finish()
}
