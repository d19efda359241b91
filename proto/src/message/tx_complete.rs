use crate::id::RoundId;

/// The participant computed the same transcript and accepts the plan, whether or not it signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxComplete {
    /// The transcript hash.
    pub round: RoundId,
}
