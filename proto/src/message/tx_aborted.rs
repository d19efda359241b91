use super::{AbortReason, AnnouncedSlot, TxAbort, TxSignatures};
use crate::digest::Digest;
use crate::id::{Identity, RoundId};
use crate::identity::{BadIdentitySignature, IdentityKey};
use crate::plan::CheckedPlan;

/// The coordinator ends an attempt: nobody will complete it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxAborted {
    /// The round.
    pub round: RoundId,
    /// Why.
    pub reason: AbortReason,
    /// Who is left out of the next attempt, and what shows why.
    pub blamed: Vec<Blame>,
    /// The coordinator's identity signature: false blame is its own doing.
    pub signature: [u8; 64],
}

/// One signer that is left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blame {
    /// Who.
    pub identity: Identity,
    /// What it signed itself. Silence leaves no evidence, and costs no more than the next attempt.
    pub evidence: Option<Evidence>,
}

/// What a blamed signer signed with its identity.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "rare, and never stored in bulk")]
pub enum Evidence {
    /// Partial signatures of which at least one is invalid for the nonces that it announced.
    BadPartial {
        /// Its slot.
        slot: AnnouncedSlot,
        /// Its partial signatures.
        signatures: TxSignatures,
    },
    /// Its refusal.
    Refused(TxAbort),
}

/// The evidence does not show what it is said to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FalseBlame {
    /// The blamed identity does not sign this round.
    #[error("it is not a signer of this round")]
    NotASigner,
    /// Slot, partial signatures or refusal are not what it signed with its identity, for this round.
    #[error("it did not sign what is shown")]
    NotItsOwn,
    /// All its partial signatures are valid.
    #[error("all its partial signatures are valid")]
    ValidPartials,
}

impl TxAborted {
    /// Signs the end of an attempt as the coordinator.
    pub fn sign(
        key: &IdentityKey,
        round: RoundId,
        reason: AbortReason,
        blamed: Vec<Blame>,
        aux: &[u8; 32],
    ) -> Self {
        let signature = key.sign(&digest(&round, reason, &blamed), aux);
        Self {
            round,
            reason,
            blamed,
            signature,
        }
    }

    /// Checks the coordinator's signature.
    pub fn verify(&self, coordinator: &Identity) -> Result<(), BadIdentitySignature> {
        let digest = digest(&self.round, self.reason, &self.blamed);
        coordinator.verify(&digest, &self.signature)
    }

    /// Who is left out of the next attempt.
    pub fn culprits(&self) -> impl Iterator<Item = Identity> + '_ {
        self.blamed.iter().map(|blame| blame.identity)
    }
}

impl Blame {
    /// Checks the evidence, if there is any, against the plan of the attempt, computed by oneself.
    pub fn check(&self, coordinator: &Identity, plan: &CheckedPlan) -> Result<(), FalseBlame> {
        let signers = &plan.inputs().signers;
        let signer = signers.iter().find(|s| s.identity == self.identity);
        let signer = signer.ok_or(FalseBlame::NotASigner)?;
        let not_its_own = |_| FalseBlame::NotItsOwn;
        match &self.evidence {
            None => Ok(()),
            Some(Evidence::Refused(abort)) => {
                abort.verify(&self.identity).map_err(not_its_own)?;
                let same = abort.round == plan.round();
                same.then_some(()).ok_or(FalseBlame::NotItsOwn)
            }
            Some(Evidence::BadPartial { slot, signatures }) => {
                slot.verify(coordinator, &self.identity)
                    .map_err(not_its_own)?;
                signatures.verify(&self.identity).map_err(not_its_own)?;
                if signatures.round != plan.round() || slot.slot.key != signer.key {
                    return Err(FalseBlame::NotItsOwn);
                }
                if plan.partials_are_valid(&slot.slot, &signatures.partials) {
                    return Err(FalseBlame::ValidPartials);
                }
                Ok(())
            }
        }
    }
}

fn digest(round: &RoundId, reason: AbortReason, blamed: &[Blame]) -> [u8; 32] {
    let digest = Digest::new("tutti/tx_aborted")
        .fixed(&round.0)
        .u32(reason.code())
        .count(blamed.len());
    blamed
        .iter()
        .fold(digest, |d, blame| {
            let d = d.fixed(blame.identity.as_bytes());
            // The signatures of what is shown stand for it: each covers its whole message.
            match &blame.evidence {
                None => d.u8(0),
                Some(Evidence::BadPartial { slot, signatures }) => {
                    d.u8(1).fixed(&slot.signature).fixed(&signatures.signature)
                }
                Some(Evidence::Refused(abort)) => d.u8(2).fixed(&abort.signature),
            }
        })
        .finish()
}
