//! Why a plan is not computed, not accepted, or not completed.

use crate::amount::both;
use crate::feerate::FeeRate;
use crate::id::{Attempt, LaneIndex, RoundId, RoundSeq, WindowSeq};
use crate::musig::MusigError;
use crate::split::SplitError;
use crate::window::LedgerHead;
use crate::work::WorkOverflow;

/// Why a plan cannot be computed, or is not accepted. Nothing has been signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// The proposal is for another payee set than ours.
    #[error("the payee set differs from ours")]
    Roster,
    /// The proposal builds on another ledger.
    #[error("ledger head {theirs} differs from ours, {ours}", theirs = .theirs.seq, ours = .ours.seq)]
    Ledger {
        /// Our head.
        ours: LedgerHead,
        /// The proposal's.
        theirs: LedgerHead,
    },
    /// The proposal is for other assignments.
    #[error("the assignments differ from ours")]
    Assignments,
    /// Signers not sorted by key, one twice, or the coordinator not among them.
    #[error("the signer list is malformed: {0}")]
    Signers(&'static str),
    /// A key that we did not announce is said to be ours, or ours another's.
    #[error("the signer list misuses a signing slot of ours")]
    OurSlot,
    /// The coinbase is worth less than the subsidy alone.
    #[error("reward of {} is below the subsidy of {} at height {height}", both(*reward), both(*subsidy))]
    RewardBelowSubsidy {
        /// Proposed reward, sat.
        reward: u64,
        /// Subsidy, sat.
        subsidy: u64,
        /// Height.
        height: u32,
    },
    /// Height 0 has no pool block.
    #[error("height {0} is not one that can be mined")]
    Height(u32),
    /// A round has the number of the window that its proposal closed.
    #[error("round {seq} is proposed on the ledger's window {window}, whose number it is to have")]
    RoundNumber {
        /// Proposed round.
        seq: RoundSeq,
        /// The window of its ledger's head.
        window: WindowSeq,
    },
    /// The round, or the attempt, is not newer than the last one.
    #[error("round {seq} attempt {attempt} is not newer than the last one")]
    NotNewer {
        /// Proposed round.
        seq: RoundSeq,
        /// Proposed attempt.
        attempt: Attempt,
    },
    /// The transcript hashes to something else.
    #[error("the transcript hash differs from ours, {ours}")]
    Transcript {
        /// What we computed.
        ours: RoundId,
    },
    /// A coinbase differs from the one that follows from the transcript.
    #[error("coinbase of lane {0} differs from ours")]
    Coinbase(LaneIndex),
    /// Not one aggregate nonce per lane and shard.
    #[error("{got} aggregate nonces for {sessions} payouts")]
    Nonces {
        /// How many came.
        got: usize,
        /// How many payouts there are.
        sessions: usize,
    },
    /// The operator takes more than we accept.
    #[error("operator fee of {fee} ppm is above our limit of {limit} ppm")]
    OperatorFee {
        /// The pool's, ppm.
        fee: u32,
        /// Ours, ppm.
        limit: u32,
    },
    /// Bumps are credited with more than we accept.
    #[error("up to {} are credited for a bump, above our limit of {}", both(*credit), both(*limit))]
    BumpCredit {
        /// The pool's, sat.
        credit: u32,
        /// Ours, sat.
        limit: u32,
    },
    /// The payout pays more for its place in a block than we accept.
    #[error("feerate {rate} is above our limit of {limit}")]
    FeeRate {
        /// Proposed.
        rate: FeeRate,
        /// Ours.
        limit: FeeRate,
    },
    /// Too few signers for our taste.
    #[error("{signers} signers are fewer than our limit of {limit}")]
    TooFewSigners {
        /// Proposed.
        signers: usize,
        /// Ours.
        limit: u16,
    },
    /// We only hash in rounds that we sign.
    #[error("we are not a signer, and our policy demands it")]
    NotSigner,
    /// Nobody here has checked the ledger yet that it builds on.
    #[error("the ledger up to window {0} is not checked yet")]
    Unchecked(WindowSeq),
    /// We have no output in the payee set, so our work would be paid to nobody.
    #[error("we have no output in the payee set")]
    NotPayee,
    /// We do not hash on coinbases that pay directly.
    #[error("the round is a direct one, and our policy refuses those")]
    Direct,
    /// Others would be paid in advance what is due to us.
    #[error(
        "the round is a direct one that leaves {} owed to us while it pays others in advance, above our limit of {}",
        both(*owed),
        both(*limit)
    )]
    DirectOwed {
        /// What would be owed, sat.
        owed: u64,
        /// Ours, sat.
        limit: u64,
    },
    /// This pool pays by signed payouts only.
    #[error("direct rounds are not part of this pool's parameters")]
    NoDirectRounds,
    /// The template leaves no room for a coinbase with so many outputs.
    #[error(
        "a block with this coinbase weighs {weight}, above {limit}: start the node with a larger -blockreservedweight"
    )]
    BlockTooHeavy {
        /// Weight of the block.
        weight: u64,
        /// Consensus limit.
        limit: u64,
    },
    /// The reward cannot be split.
    #[error(transparent)]
    Split(#[from] SplitError),
    /// Keys or nonces that cannot be used.
    #[error(transparent)]
    Musig(#[from] MusigError),
    /// The ledger's work overflows.
    #[error(transparent)]
    Work(#[from] WorkOverflow),
}

impl PlanError {
    /// Whether only our policy is against it.
    pub fn is_policy(&self) -> bool {
        matches!(
            self,
            Self::OperatorFee { .. }
                | Self::BumpCredit { .. }
                | Self::FeeRate { .. }
                | Self::TooFewSigners { .. }
                | Self::NotSigner
                | Self::Direct
                | Self::DirectOwed { .. }
        )
    }
}

/// Why a set of signatures does not complete a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompleteError {
    /// Not one signature per payout.
    #[error("{got} signatures for {payouts} payouts")]
    Count {
        /// How many came.
        got: usize,
        /// How many payouts there are.
        payouts: usize,
    },
    /// A signature is not valid for the payout that we computed.
    #[error("signature {0} is invalid")]
    BadSignature(usize),
}
