//! The first difference between what files claim and what follows.

use bitcoin::hashes::Hash;
use bitcoin::{Amount, BlockHash, ScriptBuf};

use super::HeaderError;
use crate::amount::{both, signed};
use crate::follower::FollowError;
use crate::id::{Identity, LaneIndex, RoundId, RoundSeq, WindowSeq};
use crate::plan::PlanError;
use crate::roster::CHANGES_LIMIT;
use crate::segment::{ChangeError, CheckpointError};
use crate::window::{LedgerHead, SpanError};
use crate::work::WorkOverflow;

/// An output: whom it pays, and how much; none if there is none at that place.
pub type ShownOutput = Option<Box<(ScriptBuf, Amount)>>;

/// What is wrong, where, what is claimed, and what follows instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuditError {
    /// A file of another pool, or of one with other parameters.
    #[error("window {0} is of another pool, or of one with other parameters")]
    Params(WindowSeq),
    /// A share, a record or a head.
    #[error("{0}")]
    Follow(Box<FollowError>),
    /// Two files for one window, and one can be the window's only.
    #[error("the segment of window {0} is not the one that its contents make")]
    NotCanonical(WindowSeq),
    /// A file has room for no more than its window needs.
    #[error(
        "the segment of window {window} tells round {round:.16}, which no share and no booking of it names"
    )]
    NotNamed {
        /// The window.
        window: WindowSeq,
        /// The first such round.
        round: RoundId,
    },
    /// A share of a file names terms that it does not tell.
    #[error("a share of window {0} is of a round whose terms its segment does not tell")]
    Dangling(WindowSeq),
    /// A checkpoint that is none.
    #[error("the checkpoint after window {window}: {error}")]
    Checkpoint {
        /// After which window.
        window: WindowSeq,
        /// Why.
        error: CheckpointError,
    },
    /// A checkpoint's state gives other work than the windows before it.
    #[error("the state after window {window} is not that of the windows before it: {error}")]
    Spans {
        /// After which window.
        window: WindowSeq,
        /// What is other.
        error: SpanError,
    },
    /// Files disagree about the head after a window.
    #[error(
        "the head after window {} is {} in one file and {} in another",
        claimed.seq, Hex(&claimed.hash), Hex(&follows.hash)
    )]
    OtherHead {
        /// What the later file builds on, or says.
        claimed: LedgerHead,
        /// What the others say.
        follows: LedgerHead,
    },
    /// More changes of the payee set than a window may have.
    #[error("window {0} has more than {CHANGES_LIMIT} changes of the payee set")]
    TooManyChanges(WindowSeq),
    /// A change of the payee set that nobody may have made.
    #[error("change {change} of the payee set in window {window}: {error}")]
    Change {
        /// The window.
        window: WindowSeq,
        /// Its place in it.
        change: usize,
        /// Why.
        error: ChangeError,
    },
    /// A round on another ledger.
    #[error(
        "round {round:.16} in window {window} builds on head {} of window {}, the head is {}",
        Hex(&claimed.hash), claimed.seq, Hex(&follows.hash)
    )]
    Ledger {
        /// The window in which its terms are.
        window: WindowSeq,
        /// The round.
        round: RoundId,
        /// The head that its transcript names.
        claimed: Box<LedgerHead>,
        /// The head.
        follows: Box<LedgerHead>,
    },
    /// A round whose number is not that of the ledger it builds on.
    #[error(
        "round {round:.16} in window {window} has number {claimed} and builds on window {follows}"
    )]
    RoundSeq {
        /// The window in which its terms are.
        window: WindowSeq,
        /// The round.
        round: RoundId,
        /// Its number.
        claimed: RoundSeq,
        /// What it would be.
        follows: WindowSeq,
    },
    /// A round for a payee set that never was.
    #[error(
        "round {round:.16} in window {window} is for payee set {}, which there was at no moment of the window it was proposed in; the last one of that is {}",
        Hex(claimed),
        Maybe(follows)
    )]
    NoRoster {
        /// The window in which its terms are.
        window: WindowSeq,
        /// The round.
        round: RoundId,
        /// Hash of the payee set that its transcript names.
        claimed: [u8; 32],
        /// Hash of the last one that there was, as far as its changes are known.
        follows: Option<[u8; 32]>,
    },
    /// A round that cannot be computed.
    #[error("round {round:.16} in window {window}: {error}")]
    Plan {
        /// The window in which its terms are.
        window: WindowSeq,
        /// The round.
        round: RoundId,
        /// Why.
        error: Box<PlanError>,
    },
    /// A coinbase pays otherwise than follows from the work.
    #[error(
        "round {round:.16} in window {window}: output {output} of its coinbases is {}, from the work follows {}",
        Shown(claimed),
        Shown(follows)
    )]
    Output {
        /// The window in which its terms are.
        window: WindowSeq,
        /// The round.
        round: RoundId,
        /// Which output.
        output: usize,
        /// What the terms say.
        claimed: ShownOutput,
        /// What follows.
        follows: ShownOutput,
    },
    /// A payout pays otherwise than follows from the work.
    #[error(
        "round {round:.16} after window {window}: output {output} of its signed payout is {}, from the work follows {}",
        Shown(claimed),
        Shown(follows)
    )]
    Payout {
        /// The window after which it was proposed.
        window: WindowSeq,
        /// The round.
        round: RoundId,
        /// Which output.
        output: usize,
        /// What was signed.
        claimed: ShownOutput,
        /// What follows.
        follows: ShownOutput,
    },
    /// A checkpoint's payout pays what follows, and is another transaction.
    #[error(
        "the round {round:.16} that was signed on window {window} has a payout with the right outputs, but another version, lock time or input than follows"
    )]
    PayoutForm {
        /// The window after which it was proposed.
        window: WindowSeq,
        /// The round.
        round: RoundId,
    },
    /// One round with two coinbases.
    #[error(
        "round {round:.16} has other coinbases in window {window} than were told before: output {output} of them is {}, before it was {}",
        Shown(claimed),
        Shown(follows)
    )]
    OutputsChanged {
        /// The later window.
        window: WindowSeq,
        /// The round.
        round: RoundId,
        /// Which output is the first to differ.
        output: usize,
        /// What is told now.
        claimed: ShownOutput,
        /// What was told before.
        follows: ShownOutput,
    },
    /// A block is booked of a round whose terms are not there.
    #[error("window {window} books a block of round {round:.16} without the round's terms")]
    NoTerms {
        /// The window.
        window: WindowSeq,
        /// The round.
        round: RoundId,
    },
    /// A block is booked of a lane that there is not.
    #[error(
        "window {window} books block {} of lane {lane}, which its round does not have",
        BlockHash::from_byte_array(*block)
    )]
    NoLane {
        /// The window.
        window: WindowSeq,
        /// The block.
        block: [u8; 32],
        /// The lane.
        lane: LaneIndex,
    },
    /// A block is booked that its header does not prove.
    #[error(
        "window {window} books block {}: {error}",
        BlockHash::from_byte_array(*block)
    )]
    Header {
        /// The window.
        window: WindowSeq,
        /// The block.
        block: [u8; 32],
        /// Why.
        error: HeaderError,
    },
    /// A block is booked as another round's.
    #[error(
        "window {window} books block {} as round {claimed:.16}'s, its header is a share of round {follows:.16}",
        BlockHash::from_byte_array(*block)
    )]
    BookedElsewhere {
        /// The window.
        window: WindowSeq,
        /// The block.
        block: [u8; 32],
        /// The round that the booking names.
        claimed: RoundId,
        /// The round that was hashed.
        follows: RoundId,
    },
    /// A booking changes a carry otherwise than the block's own payout does.
    #[error(
        "window {window} books block {} with a change of {} for {who}, from its round's payout follows {}",
        BlockHash::from_byte_array(*block), signed(*claimed), signed(*follows)
    )]
    Carry {
        /// The window.
        window: WindowSeq,
        /// The block.
        block: [u8; 32],
        /// Whose carry.
        who: Identity,
        /// What the booking says, sat.
        claimed: i64,
        /// What follows, sat.
        follows: i64,
    },
    /// A booking lists somebody whose carry it does not change: it has another hash than what follows, by
    /// which participants compare it.
    #[error(
        "window {window} books block {} with a change of 0 for {who}",
        BlockHash::from_byte_array(*block)
    )]
    NoChange {
        /// The window.
        window: WindowSeq,
        /// The block.
        block: [u8; 32],
        /// Whose carry.
        who: Identity,
    },
    /// A booking names other payouts than follow from the work.
    #[error(
        "window {window} books block {} with payouts {}, from its round follow {}",
        BlockHash::from_byte_array(*block), Hex(claimed), Hex(follows)
    )]
    Payees {
        /// The window.
        window: WindowSeq,
        /// The block.
        block: [u8; 32],
        /// Their hash, as the booking names it.
        claimed: [u8; 32],
        /// What follows.
        follows: [u8; 32],
    },
    /// The parts of a block are not worth the block.
    #[error(
        "round {round:.16}: outputs, fees and anchors are worth {}, the coinbase {}", both(*sum), both(*reward)
    )]
    Unbalanced {
        /// The window after which it was proposed.
        window: WindowSeq,
        /// The round.
        round: RoundId,
        /// The parts' sum, sat.
        sum: u64,
        /// The coinbase's value, sat.
        reward: u64,
    },
    /// A sum overflows.
    #[error("{0}")]
    Overflow(#[from] WorkOverflow),
}

impl From<FollowError> for AuditError {
    fn from(error: FollowError) -> Self {
        Self::Follow(Box::new(error))
    }
}

struct Hex<'a>(&'a [u8; 32]);

impl std::fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        crate::id::write_hex(f, self.0)
    }
}

struct Maybe<'a>(&'a Option<[u8; 32]>);

impl std::fmt::Display for Maybe<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            None => f.write_str("not known"),
            Some(hash) => write!(f, "{}", Hex(hash)),
        }
    }
}

struct Shown<'a>(&'a ShownOutput);

impl std::fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            None => f.write_str("not there"),
            Some(output) => write!(f, "{} to script {:x}", both(output.1.to_sat()), output.0),
        }
    }
}
