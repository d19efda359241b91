use crate::id::{JobId, RoundId};

/// What to hash: the header fields around the lane's coinbase, and the z its shares are judged by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Names the job in shares: twice the round's number, and one more if it is a direct one.
    pub id: JobId,
    /// The committed round whose lanes are hashed.
    pub round: RoundId,
    /// Header version; only BIP320's bits may be rolled.
    pub version: i32,
    /// Compact target of the header.
    pub bits: u32,
    /// Previous block, in the byte order in which it is hashed.
    pub previous_block: [u8; 32],
    /// Earliest header time, seconds.
    pub time_min: u32,
    /// Latest header time, seconds.
    pub time_max: u32,
    /// Merkle path from the coinbase to the root.
    pub merkle_path: Vec<[u8; 32]>,
    /// Leading zero bits of a share.
    pub z: u8,
}
