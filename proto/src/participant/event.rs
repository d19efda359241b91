//! What goes into the participant's state machine and what comes out of it.

use bitcoin::{Network, Transaction, Txid};

use crate::deadline::Millis;
use crate::equivocation::Equivocation;
use crate::feerate::FeeRate;
use crate::id::{Attempt, Identity, JobId, LaneIndex, RoundId, RoundSeq, SerialId, WindowSeq};
use crate::lane::Slice;
use crate::message::{
    BlockFound, FalseBlame, PlaceError, ShareReject, SignedHead, ToCoordinator, ToParticipant,
    TxAborted,
};
use crate::params::ParamsError;
use crate::participant::{BlockClaim, LedgerFault};
use crate::plan::{CompleteError, PlanError};
use crate::reject::Reject;
use crate::roster::RosterError;
use crate::script::PayoutScript;
use crate::window::{LedgerError, LedgerHead};
use crate::work::Work;

/// Something happened.
#[derive(Clone, Debug)]
#[allow(
    clippy::large_enum_variant,
    reason = "an input is made once and moved in at once"
)]
pub enum Input {
    /// The stream to the coordinator is open.
    Connected,
    /// A well-formed message came.
    Received(ToParticipant),
    /// The stream is gone.
    Disconnected,
    /// The hasher found a header.
    ShareFound(FoundShare),
    /// The wallet wants to be paid elsewhere from now on.
    PayoutScript(PayoutScript),
    /// Every share of the coordinator's ledger up to this head was checked.
    LedgerChecked(LedgerHead),
    /// A head that the coordinator signed for whoever follows the ledger, over another connection than
    /// ours.
    HeadTold(SignedHead),
    /// Our own node shows whether a block is in its best chain; asked for by [`Action::LookUp`].
    BlockSeen {
        /// Its hash, in the byte order in which it is hashed.
        block: [u8; 32],
        /// Whether it is.
        in_chain: bool,
    },
    /// Our own node has a block six deep whose coinbase we hold: it should be booked.
    OwnBlock([u8; 32]),
    /// A proposal waits for the check of its ledger, and that takes longer than others should wait.
    CheckIsLate,
    /// The ledger does not follow from shares of this pool.
    LedgerFalse(LedgerFault),
    /// The time is over that [`Participant::held_back`] named.
    ///
    /// [`Participant::held_back`]: super::Participant::held_back
    RateIsBack,
}

/// Shares wait until the coordinator takes more of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldBack {
    /// Our number of the first one that was refused.
    pub share: u64,
    /// How long from then on.
    pub after: Millis,
}

/// A header that meets an order's z.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundShare {
    /// Job of the order.
    pub job: JobId,
    /// Lane of the order.
    pub lane: LaneIndex,
    /// Header version.
    pub version: i32,
    /// Header time, seconds.
    pub time: u32,
    /// Header nonce.
    pub nonce: u32,
}

/// What must be durable before any action of the same effects is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A round's complete payouts: what makes hashing on it safe.
    Held(Held),
    /// Work of ours that is acknowledged in a window: the most that one process was told.
    OwnWork {
        /// Window.
        window: WindowSeq,
        /// Sum.
        work: Work,
    },
    /// A head that this coordinator signed; kept as evidence, as [`Statements`] bounds it.
    ///
    /// [`Statements`]: crate::equivocation::Statements
    Head {
        /// Who signed it.
        coordinator: Identity,
        /// What it signed.
        head: SignedHead,
    },
    /// Proof of the coordinator's fraud, for everyone to see.
    Equivocation(Equivocation),
}

/// A round's complete payouts, and why they are what they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The round.
    pub round: RoundId,
    /// Its number.
    pub seq: RoundSeq,
    /// Height of the block to be found.
    pub height: u32,
    /// Feerate of the payouts.
    pub feerate: FeeRate,
    /// Last window that the weights come from.
    pub window: WindowSeq,
    /// Signers, the coordinator included; 0: a direct round.
    pub signers: usize,
    /// Lane by lane.
    pub lanes: Vec<HeldLane>,
    /// Who is paid what, and for which work.
    pub payees: Vec<HeldPayee>,
    /// Most that the pool credits for a bump of a payout of it, sat; 0: nothing.
    pub bump_credit: u32,
    /// Blocks that must have passed the payout by.
    pub bump_credit_after: u16,
}

/// A lane's coinbase and its signed payouts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldLane {
    /// The coinbase; its txid is how the block is recognised.
    pub coinbase: Transaction,
    /// The complete payouts, shard by shard; none if the coinbase pays directly.
    pub payouts: Vec<Transaction>,
}

/// One payee of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldPayee {
    /// Whose output.
    pub identity: Identity,
    /// Place.
    pub serial_id: SerialId,
    /// Work that it is paid for, expected hashes.
    pub work: Work,
    /// Amount, sat.
    pub sat: u64,
}

/// A slice to hash. All byte strings in the order in which they are hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// Job.
    pub job: JobId,
    /// Height of the block to be found.
    pub height: u32,
    /// The slice.
    pub slice: Slice,
    /// Header version whose rollable bits the slice fixes in part.
    pub version: i32,
    /// Previous block.
    pub previous_block: [u8; 32],
    /// Merkle root of the lane.
    pub merkle_root: [u8; 32],
    /// Compact target.
    pub bits: u32,
    /// Earliest header time, seconds.
    pub time_min: u32,
    /// Latest header time, seconds.
    pub time_max: u32,
    /// Leading zero bits of a share.
    pub z: u8,
}

/// What the shell is to do.
#[derive(Clone, Debug)]
pub enum Action {
    /// Send to the coordinator.
    Send(ToCoordinator),
    /// Hash these slices and no others; none: stop at once.
    Mine(Vec<Order>),
    /// Close the stream; reconnect with back-off.
    Leave,
    /// Close the stream and do not reconnect.
    LeaveForGood,
    /// Ask our own node about these blocks, and no others, until it shows each as it is claimed to be.
    LookUp(Vec<BlockClaim>),
    /// News for the log.
    Tell(Event),
}

/// News. Nothing depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The coordinator let us in.
    Joined {
        /// Who it is.
        coordinator: Identity,
        /// Payees it has.
        payees: usize,
        /// Last closed window.
        window: WindowSeq,
    },
    /// A message came that does not belong here.
    OutOfOrder,
    /// A round was proposed more often than any honest coordinator does.
    TooManyAttempts {
        /// The round.
        seq: RoundSeq,
        /// The attempt.
        attempt: Attempt,
    },
    /// The coordinator speaks another version.
    WrongVersion {
        /// Ours.
        ours: u32,
        /// Theirs.
        theirs: u32,
    },
    /// The pool's parameters are out of range.
    BadParams(ParamsError),
    /// The pool is on another chain.
    WrongNetwork {
        /// Ours.
        ours: Network,
        /// Theirs.
        theirs: Network,
    },
    /// Another coordinator than the configured one answered.
    WrongCoordinator(Identity),
    /// The operator takes more than our policy allows.
    OperatorFeeTooHigh {
        /// The pool's, ppm.
        fee: u32,
        /// Ours, ppm.
        limit: u32,
    },
    /// The pool credits more for a bump than our policy allows.
    BumpCreditTooHigh {
        /// The pool's, sat.
        credit: u32,
        /// Ours, sat.
        limit: u32,
    },
    /// A window credits us for a bump: it is paid with the next payout.
    Credited {
        /// The payout that we bumped.
        payout: Txid,
        /// The block whose payout it is, in the byte order in which it is hashed.
        block: [u8; 32],
        /// What is credited, sat.
        sat: u32,
    },
    /// The replicated state contradicts itself.
    BadState(StateError),
    /// A window, or the windows that are merged up to it, do not show work of ours that was
    /// acknowledged.
    WorkMissing {
        /// Window.
        window: WindowSeq,
        /// What was acknowledged.
        acknowledged: Work,
        /// What the record says.
        recorded: Work,
    },
    /// Shares of ours were acknowledged in a window that is not the open one, so that no record would
    /// have to show them.
    WrongWindow {
        /// The window that was named.
        window: WindowSeq,
        /// The open one.
        open: WindowSeq,
    },
    /// A block was booked with other carries or payees than its payouts have, or a second one of its round.
    WrongBooking {
        /// Its round.
        round: RoundId,
    },
    /// The coordinator's ledger went back behind a window that it signed: what it acknowledged since is
    /// gone, or never was. We do not join it while it is so.
    RolledBack {
        /// The newest window that it signed for us.
        signed: WindowSeq,
        /// Where its ledger is.
        got: WindowSeq,
    },
    /// The ledger books a block that our own node does not have in its best chain, or unbooks one that it
    /// has: we sign and hash nothing that follows from it.
    BlockUnseen(BlockClaim),
    /// A block of ours is deep in our own node's chain, and the coordinator does not book it: whoever is to
    /// be paid later for it will not be.
    BlockNotBooked([u8; 32]),
    /// The coordinator signed two different things where it may state one. We leave for good.
    Equivocation(Equivocation),
    /// This coordinator was found out before: we do not join it.
    Convicted(Identity),
    /// The ledger does not follow from shares of this pool.
    LedgerFalse(LedgerFault),
    /// The ledger's head is not signed by the coordinator.
    UnsignedHead(WindowSeq),
    /// The coordinator's signature under a proposal, or under its end, is invalid.
    UnsignedProposal,
    /// We do not agree to a plan.
    PlanRefused {
        /// Round.
        seq: RoundSeq,
        /// Attempt.
        attempt: Attempt,
        /// Why.
        error: PlanError,
    },
    /// We agree to a plan, and signed it if we are a signer.
    PlanAccepted {
        /// Round.
        seq: RoundSeq,
        /// Attempt.
        attempt: Attempt,
        /// Whether our key signs.
        signed: bool,
    },
    /// An attempt failed.
    Aborted(TxAborted),
    /// The coordinator blames a signer, and what it shows clears it.
    FalseBlame {
        /// The round.
        round: RoundId,
        /// Who was blamed.
        identity: Identity,
        /// Why wrongly.
        error: FalseBlame,
    },
    /// A commit that completes nothing.
    BadCommit(CompleteError),
    /// We hold the complete payouts of a round.
    Holding {
        /// Round.
        seq: RoundSeq,
        /// Height of the block to be found.
        height: u32,
        /// Lanes.
        lanes: usize,
        /// Signers, the coordinator included; 0: a direct round.
        signers: usize,
        /// What we get if a block is found on it, sat.
        sat: u64,
    },
    /// A job on lanes whose payouts we do not hold. We do not hash it.
    UnsignedJob {
        /// Its round.
        round: RoundId,
    },
    /// We hash.
    Hashing {
        /// Round.
        seq: RoundSeq,
        /// Leading zero bits of a share.
        z: u8,
    },
    /// Shares of ours are on the coordinator's disk.
    SharesAcknowledged {
        /// How many.
        shares: usize,
        /// Their window.
        window: WindowSeq,
    },
    /// A share of ours counts already; what told us so was lost.
    ShareCounted {
        /// Its window.
        window: WindowSeq,
    },
    /// A share of ours came before our rate allowed it. It is sent again.
    ShareHeldBack {
        /// After which time.
        after: Millis,
    },
    /// A share of ours does not count.
    ShareRefused(ShareReject),
    /// The coordinator says that a block was found.
    BlockFound(BlockFound),
    /// The coordinator refused a message.
    Rejected(Reject),
    /// Our work is still paid to the output before the one that we ask for.
    OutputNotTaken {
        /// For so many windows.
        windows: u64,
    },
}

/// Why a replicated state is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The payee set.
    #[error("payee set: {0}")]
    Roster(#[from] RosterError),
    /// A removal that its author did not sign.
    #[error("an output's removal is not signed by its identity")]
    UnsignedRemoval,
    /// An output was taken out whose identity has work or carry.
    #[error("output {0} expired, but its identity has work or carry in the ledger")]
    Expired(SerialId),
    /// An output of ours comes again, or one that was kept back for long.
    #[error(
        "output {0} is ours, and below one of ours that came before: we may have given its script up"
    )]
    BroughtBack(SerialId),
    /// The ledger.
    #[error("ledger: {0}")]
    Ledger(#[from] LedgerError),
    /// A welcome without the ledger, whose head the join did not name.
    #[error("the welcome omits the ledger of window {0}, and the join did not name its head")]
    NoLedger(WindowSeq),
    /// Work of nobody.
    #[error("{0}")]
    Place(#[from] PlaceError),
}
