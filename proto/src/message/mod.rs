//! The messages of the protocol, one file each, as checked types.
//!
//! A value of these types is well formed; whether it is *right* is for the state machines to say.
//! Whatever a participant contributes carries its identity's signature, so that a relayed message
//! is as good as one from its author and blame can be shown to others.

mod assignments;
mod block_found;
mod challenge;
mod commit;
mod holds;
mod job;
mod join;
mod output_expired;
mod proposal;
mod share;
mod signed_head;
mod slots;
mod tx_abort;
mod tx_aborted;
mod tx_add_output;
mod tx_complete;
mod tx_remove_output;
mod tx_signatures;
mod welcome;
mod window_closed;

pub use assignments::AssignmentsSet;
pub use block_found::BlockFound;
pub use challenge::Challenge;
pub use commit::Commit;
pub use holds::{HOLDS_LIMIT, Holds};
pub use job::Job;
pub use join::{Join, USER_AGENT_LIMIT};
pub use output_expired::OutputExpired;
pub(crate) use proposal::attempt_digest;
pub use proposal::{Proposal, proposal_content, proposal_digest};
pub use share::{Share, ShareAck, ShareReject};
pub use signed_head::{SignedHead, head_digest};
pub use slots::{AnnouncedSlot, SLOTS_LIMIT, Slots};
pub use tx_abort::{AbortReason, TxAbort};
pub use tx_aborted::{Blame, Evidence, FalseBlame, TxAborted};
pub use tx_add_output::TxAddOutput;
pub use tx_complete::TxComplete;
pub use tx_remove_output::TxRemoveOutput;
pub use tx_signatures::TxSignatures;
pub use welcome::Welcome;
pub use window_closed::{PayeeWork, PlaceError, WindowClosed};

use crate::reject::Reject;

/// What a participant sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToCoordinator {
    /// Answers the challenge.
    Join(Join),
    /// Registers a payout script.
    TxAddOutput(TxAddOutput),
    /// Takes an own script out.
    TxRemoveOutput(TxRemoveOutput),
    /// Announces signing slots.
    Slots(Slots),
    /// Has computed the same transcript.
    TxComplete(TxComplete),
    /// Partial signatures of all payouts.
    TxSignatures(TxSignatures),
    /// Refuses a proposal.
    TxAbort(TxAbort),
    /// A share.
    Share(Share),
    /// Still holds rounds of earlier sessions.
    Holds(Holds),
}

/// What the coordinator sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToParticipant {
    /// First message of a session.
    Challenge(Challenge),
    /// The replicated state, after a valid join.
    Welcome(Welcome),
    /// An output was added to the payee set.
    TxAddOutput(TxAddOutput),
    /// An output was removed from it.
    TxRemoveOutput(TxRemoveOutput),
    /// An output made room for another.
    OutputExpired(OutputExpired),
    /// The next record of the ledger.
    WindowClosed(WindowClosed),
    /// Who hashes what from the next committed round on.
    Assignments(AssignmentsSet),
    /// A round to be computed, compared and signed.
    Proposal(Proposal),
    /// The attempt failed.
    TxAborted(TxAborted),
    /// The final signatures.
    Commit(Commit),
    /// What to hash.
    Job(Job),
    /// Shares that are on disk.
    ShareAck(ShareAck),
    /// A share that does not count.
    ShareReject(ShareReject),
    /// A block of this pool.
    BlockFound(BlockFound),
    /// A message was refused; nothing changed.
    Reject(Reject),
}
