use crate::id::{Identity, RoundId};

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
}

impl AbortReason {
    /// Decodes the wire's number.
    pub fn from_code(code: u32) -> Option<Self> {
        [
            Self::Timeout,
            Self::BadPartialSignature,
            Self::SignerLeft,
            Self::Superseded,
            Self::PlanMismatch,
            Self::Policy,
            Self::SignerRefused,
            Self::LedgerDispute,
        ]
        .into_iter()
        .find(|reason| *reason as u32 == code)
    }

    /// The wire's number.
    pub fn code(self) -> u32 {
        self as u32
    }
}

/// Ends an attempt. From a participant: it does not sign. From the coordinator: nobody will.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TxAbort {
    /// The round.
    pub round: RoundId,
    /// Why.
    pub reason: AbortReason,
    /// Who is left out of the next attempt. Empty from a participant.
    pub culprits: Vec<Identity>,
}
