//! The participant as a state machine: inputs in, effects out. It holds every secret of a round and
//! every rule of consent; the shell only moves bytes, stores records and hashes.

mod acknowledged;
mod checking;
mod event;
mod hashing;
mod joined;
mod joining;
mod opening;
mod sighted;
mod signing;

pub use checking::LedgerFault;
pub use sighted::BlockClaim;

pub use event::{
    Action, Event, FoundShare, Held, HeldBack, HeldLane, HeldPayee, Input, Order, Record,
    StateError,
};

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bitcoin::Network;
use rand_core::CryptoRng;

use crate::effect::Effects;
use crate::equivocation::{Equivocation, Statements};
use crate::id::{Attempt, Identity, RoundSeq, WindowSeq};
use crate::identity::IdentityKey;
use crate::message::{SignedHead, ToCoordinator, ToParticipant, WindowClosed};
use crate::params::PoolParams;
use crate::policy::Policy;
use crate::script::PayoutScript;
use crate::window::{Ledger, LedgerHead, WindowRecord};
use crate::work::Work;

use acknowledged::Acknowledged;
use hashing::Hashing;
use joined::Joined;
use sighted::Sighted;

/// What a miner configures.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The chain that our wallet and node are on.
    pub network: Network,
    /// The coordinator we expect; `None` takes whoever answers.
    pub coordinator: Option<Identity>,
    /// What we accept.
    pub policy: Policy,
    /// Where we are paid.
    pub script: PayoutScript,
    /// Suggested hashrate, hashes per second.
    pub hashrate: u64,
    /// Software and version.
    pub user_agent: String,
    /// Signing slots kept announced ahead, so that a round needs one round trip.
    pub slots_ahead: usize,
    /// Whether somebody checks the coordinator's ledger and says so ([`Input::LedgerChecked`]). Then
    /// nothing is signed or hashed before.
    pub follows: bool,
    /// Whether somebody asks our own node about blocks ([`Action::LookUp`]) and says what it shows. Then
    /// nothing is signed or hashed that follows from a booking which it does not show.
    pub asks_node: bool,
}

/// The miner's side of the protocol.
pub struct Participant {
    key: IdentityKey,
    settings: Settings,
    state: State,
    hashing: Hashing,
    last: Option<(RoundSeq, Attempt)>,
    next_share: u64,
    /// Acknowledged work of our own, by window: what the ledger must at least show. Of several processes
    /// the most that one was told.
    own_work: BTreeMap<WindowSeq, Work>,
    statements: Statements,
    convicted: BTreeSet<Identity>,
    /// Heads of the coordinator's ledger that were checked, oldest first.
    checked: VecDeque<LedgerHead>,
    sighted: Sighted,
    outputs: joined::OwnOutputs,
    /// The ledger of a session that was lost, of the same coordinator as what is hashed: most often it is the
    /// next one's.
    kept: Option<Ledger>,
}

/// What survives a participant's process.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// Whose windows they are.
    pub coordinator: Option<Identity>,
    /// Acknowledged work of our own, by window.
    pub own_work: BTreeMap<WindowSeq, Work>,
    /// What the coordinator signed.
    pub statements: Statements,
    /// Coordinators of whose fraud we hold proof.
    pub convicted: BTreeSet<Identity>,
}

/// A session's state.
enum State {
    /// No connection.
    Offline,
    /// Connected; the coordinator speaks first.
    Opening,
    /// The join is out.
    Joining(PoolParams),
    /// We hold the replicated state.
    Joined(Box<Joined>),
}

/// One input's context.
struct Turn<'a> {
    rng: &'a mut dyn CryptoRng,
    out: Effects<Record, Action>,
}

impl Turn<'_> {
    fn send(&mut self, message: ToCoordinator) {
        self.out.act(Action::Send(message));
    }

    fn tell(&mut self, event: Event) {
        self.out.act(Action::Tell(event));
    }

    fn aux(&mut self) -> [u8; 32] {
        let mut aux = [0u8; 32];
        self.rng.fill_bytes(&mut aux);
        aux
    }
}

impl Participant {
    /// A participant without a connection.
    pub fn new(key: IdentityKey, settings: Settings, memory: Memory) -> Self {
        let Memory {
            coordinator,
            own_work,
            statements,
            convicted,
        } = memory;
        Self {
            key,
            settings,
            state: State::Offline,
            hashing: Hashing::of(coordinator),
            last: None,
            next_share: 1,
            own_work,
            statements,
            convicted,
            checked: VecDeque::new(),
            sighted: Sighted::default(),
            outputs: Default::default(),
            kept: None,
        }
    }

    /// Who we are.
    pub fn identity(&self) -> Identity {
        self.key.identity()
    }

    /// The pool's parameters, once we have joined it.
    pub fn params(&self) -> Option<&PoolParams> {
        match &self.state {
            State::Joined(joined) => Some(&joined.params),
            _ => None,
        }
    }

    /// The whole record of a closed window, once we have joined its pool.
    pub fn record_of(&self, closed: &WindowClosed) -> Option<WindowRecord> {
        match &self.state {
            State::Joined(joined) => closed.record(&joined.roster).ok(),
            _ => None,
        }
    }

    /// The last window of the ledger, once we have joined a pool.
    pub fn last_window(&self) -> Option<WindowSeq> {
        match &self.state {
            State::Joined(joined) => Some(joined.ledger.seq()),
            _ => None,
        }
    }

    /// Forgets what was acknowledged: it was another pool's, whose windows have other numbers.
    pub fn forget_own_work(&mut self) {
        self.own_work.clear();
        self.hashing.acknowledged = Acknowledged::default();
    }

    /// Takes one input and says what is to be done.
    pub fn handle(&mut self, rng: &mut dyn CryptoRng, input: Input) -> Effects<Record, Action> {
        let mut turn = Turn {
            rng,
            out: Effects::default(),
        };
        match input {
            Input::Connected => self.state = State::Opening,
            Input::Received(message) => self.received(&mut turn, message),
            Input::Disconnected => self.lost(&mut turn),
            Input::ShareFound(found) => self.share_found(&mut turn, found),
            Input::PayoutScript(script) => self.payout_script(&mut turn, script),
            Input::LedgerChecked(head) => self.ledger_checked(&mut turn, head),
            Input::HeadTold(head) => self.head_told(&mut turn, &head),
            Input::BlockSeen { block, in_chain } => self.block_seen(&mut turn, block, in_chain),
            Input::OwnBlock(block) => self.own_block(block),
            Input::CheckIsLate => self.check_is_late(&mut turn),
            Input::LedgerFalse(fault) => self.ledger_false(&mut turn, fault),
            Input::RateIsBack => self.rate_is_back(&mut turn),
        }
        turn.out
    }

    /// Ends the session ourselves: slots and half-signed rounds are gone, and nothing is hashed. What was
    /// replicated begins anew with the next one.
    fn offline(&mut self, turn: &mut Turn<'_>) {
        self.mine(turn, Vec::new());
        self.state = State::Offline;
        self.kept = None;
    }

    fn leave(&mut self, turn: &mut Turn<'_>, why: Event) {
        self.offline(turn);
        turn.tell(why);
        turn.out.act(Action::Leave);
    }

    /// Shows everyone what the coordinator did, and never comes back by itself.
    fn convict(&mut self, turn: &mut Turn<'_>, proof: Equivocation) {
        self.convicted.insert(proof.coordinator);
        turn.out.persist(Record::Equivocation(proof));
        self.offline(turn);
        turn.tell(Event::Equivocation(proof));
        turn.out.act(Action::LeaveForGood);
    }

    /// Checks and notes a head; says whether to go on.
    fn note_head(
        &mut self,
        turn: &mut Turn<'_>,
        coordinator: &Identity,
        head: &SignedHead,
    ) -> bool {
        if head.verify(coordinator).is_err() {
            self.leave(turn, Event::UnsignedHead(head.head.seq));
            return false;
        }
        match self.statements.note_head(coordinator, head) {
            Err(proof) => {
                self.convict(turn, *proof);
                return false;
            }
            Ok(false) => {}
            Ok(true) => turn.out.persist(Record::Head {
                coordinator: *coordinator,
                head: *head,
            }),
        }
        true
    }

    fn received(&mut self, turn: &mut Turn<'_>, message: ToParticipant) {
        match (&self.state, message) {
            (_, ToParticipant::Reject(reject)) => turn.tell(Event::Rejected(reject)),
            (State::Opening, ToParticipant::Challenge(challenge)) => {
                self.challenged(turn, &challenge)
            }
            (State::Joining(params), ToParticipant::Welcome(welcome)) => {
                let params = params.clone();
                self.welcomed(turn, params, welcome);
            }
            (State::Joined(_), message) => self.replicate(turn, message),
            (State::Offline, _) => {}
            (State::Opening | State::Joining(_), _) => {
                self.leave(turn, Event::OutOfOrder);
            }
        }
    }

    fn replicate(&mut self, turn: &mut Turn<'_>, message: ToParticipant) {
        match message {
            ToParticipant::TxAddOutput(output) => self.output_added(turn, output),
            ToParticipant::TxRemoveOutput(removal) => self.output_removed(turn, &removal),
            ToParticipant::OutputExpired(expired) => self.output_expired(turn, expired),
            ToParticipant::WindowClosed(closed) => self.window_closed(turn, &closed),
            ToParticipant::Assignments(set) => self.assigned(set.assignments),
            ToParticipant::Proposal(proposal) => self.proposed(turn, proposal),
            ToParticipant::TxAborted(aborted) => self.aborted(turn, aborted),
            ToParticipant::Commit(commit) => self.committed(turn, &commit),
            ToParticipant::Job(job) => self.job(turn, job),
            ToParticipant::ShareAck(ack) => self.share_ack(turn, &ack),
            ToParticipant::ShareReject(reject) => self.share_reject(turn, reject),
            ToParticipant::BlockFound(found) => turn.tell(Event::BlockFound(found)),
            ToParticipant::Challenge(_) | ToParticipant::Welcome(_) => {
                self.leave(turn, Event::OutOfOrder)
            }
            ToParticipant::Reject(_) => {} // Handled in every state.
        }
    }
}
