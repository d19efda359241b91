//! The coordinator as a state machine: inputs in, effects out. No clock, no I/O, no randomness of
//! its own; `now` and `rng` are arguments.

mod blame;
mod blocks;
mod challenged;
mod changes;
mod credits;
mod direct;
mod drafting;
mod event;
mod expected;
mod joined;
mod live;
mod member;
mod pace;
mod restore;
mod resume;
mod room;
mod session;
mod settings;
mod shares;
mod signing;

pub use drafting::RoundKind;
pub use event::{Action, Committed, Event, Fate, Found, Input, LiveNumber, LiveRecord, Record};
pub use member::Standing;
pub use restore::{RestoreError, Restored};
pub use settings::Settings;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use rand_core::CryptoRng;

use crate::deadline::{Deadline, Deadlines, Millis};
use crate::effect::Effects;
use crate::id::{Identity, PeerId, RoundId};
use crate::identity::IdentityKey;
use crate::lane::Assignments;
use crate::message::{SignedHead, ToParticipant};
use crate::musig::SlotKey;
use crate::params::PoolParams;
use crate::plan::PlanView;
use crate::roster::Roster;
use crate::template::Template;
use crate::window::{Credit, Ledger};

use blocks::JudgedBlock;
use challenged::Greeting;
use expected::Expected;
use live::{Ahead, LiveRound};
use member::{Member, ShareRate};
use room::Room;
use session::Session;
use shares::OpenWindow;
use signing::Signing;

/// The pool host's side of the protocol.
pub struct Coordinator {
    key: IdentityKey,
    params: PoolParams,
    settings: Settings,
    roster: Roster,
    /// What may expire of it.
    room: Room,
    ledger: Ledger,
    /// The ledger's head, as we signed it.
    head: SignedHead,
    window: OpenWindow,
    /// Blocks that the node judged, in that order, until they are settled.
    blocks: Vec<JudgedBlock>,
    /// Bumps that are to be credited, in the order in which they came.
    credits: Vec<Credit>,
    /// Blocks handed to the node, verdict open.
    candidates: BTreeMap<[u8; 32], Found>,
    sessions: BTreeMap<PeerId, Session>,
    members: BTreeMap<Identity, Member>,
    /// Standings outlive connections.
    standings: BTreeMap<Identity, Standing>,
    /// So do the rates at which shares came: of those who are not there.
    share_rates: BTreeMap<Identity, ShareRate>,
    /// Keys of all announced and unused slots.
    announced: BTreeSet<SlotKey>,
    assignments: Arc<Assignments>,
    /// What was told last to one who joined, as long as it may be so still.
    greeting: Option<Greeting>,
    template: Option<Arc<Template>>,
    signing: Option<Signing>,
    /// What the next proposal is made of, as far as it is ready.
    expected: Option<Expected>,
    /// Payouts of the last round that was planned.
    payouts: usize,
    /// Attempts that failed lately, oldest first.
    ended: VecDeque<RoundId>,
    /// Committed rounds of the present height and of the one before, oldest first.
    live: Vec<LiveRound>,
    next_live: LiveNumber,
    /// The committed round of the next height, until its previous block is there.
    next_height: Option<Ahead>,
    /// Hashes of blocks that were handed to the node.
    submitted: BTreeSet<[u8; 32]>,
    last_round_at: Millis,
    /// Rounds given up since the last commit.
    given_up: u32,
    deadlines: Deadlines,
}

/// One input's context.
struct Turn<'a> {
    now: Millis,
    rng: &'a mut dyn CryptoRng,
    out: Effects<Record, Action>,
}

impl Turn<'_> {
    fn send(&mut self, peer: PeerId, message: ToParticipant) {
        self.send_shared(peer, Arc::new(message));
    }

    fn send_shared(&mut self, peer: PeerId, message: Arc<ToParticipant>) {
        self.out.act(Action::Send { peer, message });
    }

    fn tell(&mut self, event: Event) {
        self.out.act(Action::Tell(Box::new(event)));
    }

    fn aux(&mut self) -> [u8; 32] {
        let mut aux = [0u8; 32];
        self.rng.fill_bytes(&mut aux);
        aux
    }
}

impl Coordinator {
    /// Takes one input and says what is to be done.
    pub fn handle(
        &mut self,
        now: Millis,
        rng: &mut dyn CryptoRng,
        input: Input,
    ) -> Effects<Record, Action> {
        self.handle_also(now, rng, input, Effects::default())
    }

    /// The same after other inputs, whose outcome one flush is to serve too: adds to it. Of thousands of
    /// shares in a second each would else fill vectors of its own.
    pub fn handle_also(
        &mut self,
        now: Millis,
        rng: &mut dyn CryptoRng,
        input: Input,
        before: Effects<Record, Action>,
    ) -> Effects<Record, Action> {
        let mut turn = Turn {
            now,
            rng,
            out: before,
        };
        match input {
            Input::Connected { peer } => self.connected(&mut turn, peer),
            Input::Received { peer, message } => self.received(&mut turn, peer, message),
            Input::Unreadable { peer, reject } => self.unreadable(&mut turn, peer, reject),
            Input::Disconnected { peer } => self.disconnected(&mut turn, peer),
            Input::Template(template) => self.new_template(&mut turn, template),
            Input::BlockVerdict { hash, refused } => self.block_verdict(&mut turn, hash, refused),
            Input::BlockFate { hash, fate } => self.block_fate(&mut turn, hash, fate),
            Input::Credit(credit) => self.credit(&mut turn, *credit),
            Input::Wake => self.wake(&mut turn),
        }
        turn.out
    }

    /// When to call `handle` with [`Input::Wake`] at the latest.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.deadlines.next()
    }

    /// Identity of this pool host.
    pub fn identity(&self) -> Identity {
        self.key.identity()
    }

    /// The pool's parameters.
    pub fn params(&self) -> &PoolParams {
        &self.params
    }

    /// The ledger.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The payee set.
    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    /// Participants that have joined.
    pub fn joined(&self) -> usize {
        self.members.len()
    }

    /// The committed round that is hashed, and its number of signers; 0: a direct one.
    pub fn last_committed(&self) -> Option<(RoundId, usize)> {
        let of = &self.live.last()?.of;
        Some((of.round, of.signers()))
    }

    fn view(&self) -> PlanView<'_> {
        PlanView {
            params: &self.params,
            roster: &self.roster,
            ledger: &self.ledger,
            assignments: &self.assignments,
        }
    }

    fn wake(&mut self, turn: &mut Turn<'_>) {
        // Later than now, or it would be due again at once, for ever.
        let again = turn.now.after(Millis(self.settings.regroup.0.max(1)));
        while let Some(deadline) = self.deadlines.pop_due(turn.now) {
            match deadline {
                Deadline::Signatures | Deadline::Lost => self.signers_lost(turn, deadline),
                Deadline::Tip => self.start_round(turn),
                Deadline::NextHeight => self.start_next_height(turn),
                Deadline::Expect => self.expect_signers(turn),
                Deadline::Direct => self.direct_round(turn),
                Deadline::Regroup | Deadline::Refresh if self.signing.is_some() => {
                    self.deadlines.arm(deadline, again);
                }
                Deadline::Regroup | Deadline::Refresh => self.start_round(turn),
                Deadline::Pace => self.judge_pace(turn),
            }
        }
    }

    fn new_template(&mut self, turn: &mut Turn<'_>, template: Arc<Template>) {
        let first = self.template.is_none();
        let new_tip = self
            .template
            .as_ref()
            .is_none_or(|old| old.previous_block != template.previous_block);
        self.template = Some(template.clone());
        if new_tip {
            self.tip_changed(turn, &template);
            if first && self.carry_on(turn, &template) {
                return;
            }
            // Once the jobs that were signed ahead are on their way.
            self.deadlines.arm(Deadline::Tip, turn.now);
        } else if turn.now.since(self.last_round_at) >= self.settings.refresh
            && self.signing.is_none()
        {
            self.start_round(turn);
        }
    }

    /// Sends a message to everyone who has joined.
    fn broadcast(&self, turn: &mut Turn<'_>, message: ToParticipant) {
        let peers = self.members.values().map(|member| member.peer).collect();
        let message = Box::new(message);
        turn.out.act(Action::Broadcast { peers, message });
    }
}
