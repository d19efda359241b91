use crate::id::{JobId, RoundId};
use crate::terms::HeaderTerms;

/// What to hash: the header fields around a lane's coinbase, the same for everybody. Slices and the z
/// that shares are judged by are those of the round's assignments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Names the job in shares: twice the round's number, and one more if it is a direct one.
    pub id: JobId,
    /// The committed round whose lanes are hashed.
    pub round: RoundId,
    /// The header's fields.
    pub header: HeaderTerms,
}
