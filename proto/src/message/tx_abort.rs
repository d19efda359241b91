use crate::digest::Digest;
use crate::id::{Identity, RoundId};
use crate::identity::{BadIdentitySignature, IdentityKey};

/// Why an attempt ended without signatures. A closed list; numbers are the wire's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum AbortReason {
    /// Some signers' signatures did not come in time.
    Timeout = 1,
    /// Some partial signature was invalid.
    BadPartialSignature = 2,
    /// A signer left.
    SignerLeft = 3,
    /// A newer template replaced this one.
    Superseded = 4,
    /// The plan differs from what the participant computed.
    PlanMismatch = 5,
    /// The plan is beyond the participant's policy.
    Policy = 6,
    /// A signer refused the plan.
    SignerRefused = 7,
    /// The ledger's record contradicts what the participant knows.
    LedgerDispute = 8,
    /// The participant has not checked the ledger yet that the plan builds on.
    Unchecked = 9,
}

impl AbortReason {
    /// All there are.
    pub const ALL: [Self; 9] = [
        Self::Timeout,
        Self::BadPartialSignature,
        Self::SignerLeft,
        Self::Superseded,
        Self::PlanMismatch,
        Self::Policy,
        Self::SignerRefused,
        Self::LedgerDispute,
        Self::Unchecked,
    ];

    /// Decodes the wire's number.
    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| *reason as u32 == code)
    }

    /// The wire's number.
    pub fn code(self) -> u32 {
        self as u32
    }
}

/// A participant does not sign, or does not hash, this round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxAbort {
    /// The round.
    pub round: RoundId,
    /// Why.
    pub reason: AbortReason,
    /// Identity signature: what shows others who refused.
    pub signature: [u8; 64],
}

impl TxAbort {
    /// Signs a refusal.
    pub fn sign(key: &IdentityKey, round: RoundId, reason: AbortReason, aux: &[u8; 32]) -> Self {
        let signature = key.sign(&digest(&round, reason), aux);
        Self {
            round,
            reason,
            signature,
        }
    }

    /// Checks that this identity refused.
    pub fn verify(&self, identity: &Identity) -> Result<(), BadIdentitySignature> {
        identity.verify(&digest(&self.round, self.reason), &self.signature)
    }
}

fn digest(round: &RoundId, reason: AbortReason) -> [u8; 32] {
    Digest::new("tutti/tx_abort")
        .fixed(&round.0)
        .u32(reason.code())
        .finish()
}
