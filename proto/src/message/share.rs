use crate::id::{JobId, LaneIndex, WindowSeq};
use crate::reject::RejectCode;

/// A header that meets the job's z.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// The participant's number for it, echoed in the answer.
    pub seq: u64,
    /// Job.
    pub job: JobId,
    /// Lane.
    pub lane: LaneIndex,
    /// Header version.
    pub version: i32,
    /// Header time, seconds.
    pub time: u32,
    /// Header nonce.
    pub nonce: u32,
}

/// These shares are on disk and count in this window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareAck {
    /// Window.
    pub window: WindowSeq,
    /// The participant's numbers.
    pub seqs: Vec<u64>,
}

/// A share that does not count, and the numbers that explain it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareReject {
    /// The participant's number.
    pub seq: u64,
    /// Why.
    pub code: RejectCode,
    /// What the share has, in the code's unit.
    pub got: u64,
    /// What it would need, in the code's unit.
    pub want: u64,
}
