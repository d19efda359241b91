//! What goes into the coordinator's state machine and what comes out of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use bitcoin::Transaction;

use crate::coordinator::RoundKind;
use crate::deadline::Millis;
use crate::id::{
    Attempt, Identity, JobId, LaneIndex, PeerId, RoundId, RoundSeq, SerialId, WindowSeq,
};
use crate::lane::Assignments;
use crate::message::{AbortReason, ToCoordinator, ToParticipant, TxAddOutput, TxRemoveOutput};
use crate::params::PoolParams;
use crate::payout::SignedPayouts;
use crate::plan::{PlanError, RoundInputs};
use crate::reject::{Reject, RejectCode};
use crate::segment::WindowEnd;
use crate::share::ShareRecord;
use crate::template::Template;
use crate::terms::RoundTerms;
use crate::window::{BlockPayouts, Credit, CreditError};

/// Something happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// A connection was opened.
    Connected {
        /// The shell's number for it.
        peer: PeerId,
    },
    /// A well-formed message came.
    Received {
        /// From whom.
        peer: PeerId,
        /// What.
        message: ToCoordinator,
    },
    /// Bytes came that are no message.
    Unreadable {
        /// From whom.
        peer: PeerId,
        /// Why they are none.
        reject: Reject,
    },
    /// A connection is gone.
    Disconnected {
        /// Which.
        peer: PeerId,
    },
    /// The node gave a template.
    Template(Arc<Template>),
    /// The node judged a block that was handed to it.
    BlockVerdict {
        /// The block.
        hash: [u8; 32],
        /// The node's words, if it refused.
        refused: Option<String>,
    },
    /// What became of a found block since.
    BlockFate {
        /// The block.
        hash: [u8; 32],
        /// What became of it.
        fate: Fate,
    },
    /// A bump of a final payout may be credited. It came with its proof.
    Credit(Box<Credit>),
    /// A deadline may have passed.
    Wake,
}

/// What must be durable before any action of the same effects is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// An output was added.
    OutputAdded(TxAddOutput),
    /// An output was removed by its owner.
    OutputRemoved(TxRemoveOutput),
    /// An output made room for another.
    OutputExpired(SerialId),
    /// A window was closed.
    WindowClosed(WindowEnd),
    /// The window after the one that closed last was opened.
    WindowOpened {
        /// What is mined from then on.
        height: u32,
    },
    /// A share was accepted into the open window.
    Share {
        /// The open window.
        window: WindowSeq,
        /// Place in it, from 0.
        index: u64,
        /// The share.
        share: ShareRecord,
    },
    /// A round was committed.
    Committed(Committed),
    /// A round may be hashed: the terms of its shares, for whoever follows them.
    Terms(RoundId, RoundTerms),
    /// A committed round went live: its shares count, and a share that is a block is made one.
    Live {
        /// Its place among all that ever went live.
        number: LiveNumber,
        /// The round.
        round: Arc<LiveRecord>,
    },
    /// Jobs on a live round were issued: the z that each identity's shares on it are judged by.
    JobsIssued {
        /// The round.
        number: LiveNumber,
        /// Who got one, and its z.
        z: Vec<(Identity, u8)>,
    },
    /// Of a live round only blocks count from now on.
    LiveStale(LiveNumber),
    /// A live round is forgotten.
    LiveForgotten(LiveNumber),
    /// The committed round of the next height, kept until its previous block is there; none: what was
    /// kept is live or forgotten.
    KeptAhead(Option<Arc<LiveRecord>>),
    /// A header of ours meets the block target.
    Candidate(Found),
    /// The node took or refused the candidate.
    Verdict {
        /// The block.
        hash: [u8; 32],
        /// Whether it took it.
        accepted: bool,
    },
    /// What became of a found block since.
    BlockFate {
        /// The block.
        hash: [u8; 32],
        /// What became of it.
        fate: Fate,
    },
    /// A bump is to be credited by a later window.
    Credit(Box<Credit>),
}

/// What may become of a found block after the node judged it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It left the best chain.
    Lost,
    /// It is in the best chain, after it was not.
    Back,
    /// So many blocks are on it, or on what replaced it, that nothing becomes of it any more.
    Settled,
}

/// A committed round's coinbases and complete payouts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The round.
    pub round: RoundId,
    /// Its number.
    pub seq: RoundSeq,
    /// Height of the block to be found.
    pub height: u32,
    /// Lane by lane.
    pub coinbases: Vec<Transaction>,
    /// What spends them; none in a direct round.
    pub payouts: SignedPayouts,
}

impl Committed {
    /// A lane's coinbase, and the signed payouts of its shards; none in a direct round.
    pub fn lane(&self, lane: LaneIndex) -> Option<(&Transaction, Vec<Transaction>)> {
        let lane = usize::from(lane.0);
        let coinbase = self.coinbases.get(lane)?;
        Some((coinbase, self.payouts.of_lane(lane, coinbase)))
    }

    /// The same, lane by lane.
    pub fn lanes(&self) -> impl Iterator<Item = (&Transaction, Vec<Transaction>)> {
        let lanes = (0..).map(LaneIndex).map_while(|lane| self.lane(lane));
        lanes.take(self.coinbases.len())
    }
}

/// Place of a round among all that ever went live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct LiveNumber(pub u64);

/// All that it takes to check a share of a committed round, and to make a block of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveRecord {
    /// What it was made for.
    pub kind: RoundKind,
    /// Its name.
    pub round: RoundId,
    /// What it was computed from.
    pub inputs: RoundInputs,
    /// Lane by lane.
    pub coinbases: Vec<Transaction>,
    /// The template whose block they are in.
    pub template: Arc<Template>,
    /// Who hashes what, and for which z.
    pub assignments: Arc<Assignments>,
    /// What a block of it would do to the carries, sat.
    pub carry: BTreeMap<Identity, i64>,
    /// Whom the payouts of its shards pay; none of a direct round.
    pub payees: Vec<Vec<Identity>>,
    /// The pool's parameters when it was proposed.
    pub params: Arc<PoolParams>,
}

/// A block of this pool, and what its own payout does to the carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Hash, in the byte order in which it is hashed.
    pub hash: [u8; 32],
    /// Height.
    pub height: u32,
    /// Number of its round.
    pub seq: RoundSeq,
    /// Round.
    pub round: RoundId,
    /// Lane.
    pub lane: LaneIndex,
    /// Who found it.
    pub finder: Identity,
    /// Change of each identity's carry once it is booked, sat.
    pub carry: BTreeMap<Identity, i64>,
    /// What it pays, as its booking names it.
    pub payouts: BlockPayouts,
    /// Whom, shard by shard.
    pub payees: Vec<Vec<Identity>>,
    /// Its header.
    pub header: [u8; 80],
}

/// What the shell is to do.
#[derive(Clone, Debug)]
pub enum Action {
    /// Send to one connection.
    Send {
        /// Whom.
        peer: PeerId,
        /// What. One that others are sent too is the same one: it need be encoded once only.
        message: Arc<ToParticipant>,
    },
    /// Acknowledge a share that was accepted, which is news too.
    AcceptShare {
        /// Whose session.
        peer: PeerId,
        /// The window that it counts in.
        window: WindowSeq,
        /// Its number in the session.
        seq: u64,
        /// Who found it.
        identity: Identity,
        /// The z that it was judged by.
        z: u8,
    },
    /// Send the same to many.
    Broadcast {
        /// Whom.
        peers: Vec<PeerId>,
        /// What.
        message: Box<ToParticipant>,
    },
    /// Close a connection after what was sent before.
    Disconnect {
        /// Which.
        peer: PeerId,
        /// Why.
        reject: Reject,
    },
    /// Hand a block to the node and report its verdict.
    SubmitBlock {
        /// The block's hash.
        hash: [u8; 32],
        /// The block, serialised.
        block: Vec<u8>,
    },
    /// A credit is durable, booked or refused: nobody need give it again.
    CreditDone {
        /// Its block.
        block: [u8; 32],
        /// Its payout.
        shard: u16,
    },
    /// News for the log and the metrics.
    Tell(Box<Event>),
}

/// News. Nothing depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A participant joined.
    Joined {
        /// Who.
        identity: Identity,
        /// Its software.
        user_agent: String,
        /// Participants now.
        members: usize,
    },
    /// A participant left.
    Left {
        /// Who.
        identity: Identity,
        /// Participants now.
        members: usize,
    },
    /// An attempt was proposed.
    Proposed {
        /// Round.
        seq: RoundSeq,
        /// Attempt.
        attempt: Attempt,
        /// Height.
        height: u32,
        /// Signers, the coordinator included.
        signers: usize,
    },
    /// An attempt failed.
    AttemptFailed {
        /// Round.
        seq: RoundSeq,
        /// Attempt.
        attempt: Attempt,
        /// Why.
        reason: AbortReason,
        /// Who is left out next.
        culprits: Vec<Identity>,
        /// More than a third failed together: nobody is backed off.
        network_blamed: bool,
    },
    /// No participant can sign now; the last committed round is hashed on.
    NoSigners {
        /// Round.
        seq: RoundSeq,
    },
    /// A plan could not even be computed.
    Unplannable {
        /// Round.
        seq: RoundSeq,
        /// Why.
        error: PlanError,
    },
    /// A direct round is hashed: no committed one of this tip is there.
    Direct {
        /// Round.
        seq: RoundSeq,
        /// Height.
        height: u32,
        /// Payees with an output of the coinbase.
        payees: usize,
    },
    /// The tip changed, and everyone moves to the round that was signed ahead for it.
    NextHeight {
        /// Its job.
        job: JobId,
        /// Height.
        height: u32,
        /// Participants that got it.
        jobs: usize,
    },
    /// A round was committed.
    Committed {
        /// What for.
        kind: RoundKind,
        /// Round.
        seq: RoundSeq,
        /// Its name.
        round: RoundId,
        /// Attempt that succeeded.
        attempt: Attempt,
        /// Height.
        height: u32,
        /// Signers, the coordinator included.
        signers: usize,
        /// Participants that said tx_complete.
        agreed: usize,
        /// Payouts signed: lanes times shards.
        payouts: usize,
        /// Payees with an output.
        payees: usize,
        /// From proposal to final signatures.
        took: Millis,
    },
    /// A share was accepted.
    ShareAccepted {
        /// Whose.
        identity: Identity,
        /// Its z.
        z: u8,
    },
    /// A participant came back and goes on with a round of before.
    Resumed {
        /// Who.
        identity: Identity,
        /// Its job.
        job: JobId,
    },
    /// A share that was accepted in an earlier session came again: its acknowledgement was lost.
    ShareAgain {
        /// Whose.
        identity: Identity,
    },
    /// A share was refused.
    ShareRefused {
        /// Whose.
        identity: Identity,
        /// Why.
        code: RejectCode,
    },
    /// A message was refused.
    Refused {
        /// Whose, if it had joined.
        identity: Option<Identity>,
        /// Why.
        reject: Reject,
    },
    /// A share is a block; it goes to the node.
    CandidateFound(Found),
    /// The node took our block.
    BlockAccepted(Found),
    /// The chain has our block, and its round is too old for it to be booked: what it left owed, and the
    /// carries that it paid, stay as they were.
    BlockNotBooked(Found),
    /// Something became of our block.
    BlockFate {
        /// The block.
        found: Found,
        /// What.
        fate: Fate,
    },
    /// A bump will be credited: it is in the window that closes next, or in one of those after it.
    CreditTaken(Box<Credit>),
    /// A window credits a bump.
    Credited {
        /// The window.
        window: WindowSeq,
        /// The credit.
        credit: Box<Credit>,
    },
    /// A bump is not credited.
    CreditRefused {
        /// Its block.
        block: [u8; 32],
        /// Its payout.
        shard: u16,
        /// Why.
        error: CreditError,
    },
    /// The node refused our block.
    BlockRefused {
        /// The block.
        hash: [u8; 32],
        /// The node's words.
        why: String,
    },
}
