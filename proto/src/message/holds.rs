use crate::id::RoundId;

/// Rounds that one message may name.
pub const HOLDS_LIMIT: usize = 8;

/// Committed rounds of earlier sessions whose payouts the participant holds: it may go on with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holds {
    /// The rounds, at most [`HOLDS_LIMIT`].
    pub rounds: Vec<RoundId>,
}
