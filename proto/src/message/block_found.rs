use crate::id::{Identity, LaneIndex, RoundId};

/// A block of this pool. Only news: what counts is what each one's own node says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockFound {
    /// Height.
    pub height: u32,
    /// Hash, in the byte order in which it is hashed.
    pub hash: [u8; 32],
    /// Round whose payout it pays.
    pub round: RoundId,
    /// Lane of that round.
    pub lane: LaneIndex,
    /// Who found it.
    pub finder: Identity,
}
