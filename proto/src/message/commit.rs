use crate::id::RoundId;

/// The final signatures: with them every participant holds the complete payouts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The round.
    pub round: RoundId,
    /// BIP340 signatures, lane by lane, within a lane shard by shard.
    pub signatures: Vec<[u8; 64]>,
}
