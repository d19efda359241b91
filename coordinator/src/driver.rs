//! The one owner of the rounds: a thread that feeds the state machine, stores what it asks to be
//! stored, and only then does what it asks to be done.
//!
//! Whatever is ready is handled as one batch with one flush, so a flush's time is shared by all who
//! came meanwhile.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use prost::bytes::Bytes;
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tutti_proto::coordinator::{Action, Coordinator, Event, Input, Record};
use tutti_proto::deadline::Millis;
use tutti_proto::effect::Effects;
use tutti_proto::id::{PeerId, RoundSeq, WindowSeq};
use tutti_proto::message::{ShareAck, ToParticipant};
use tutti_proto::params::PROTOCOL_VERSION;
use tutti_proto::reject::Reject;
use tutti_proto::wire::{PoolInfo, ToWire, status};

use crate::chain::Chain;
use crate::feed::Feed;
use crate::grpc::{Outbound, QueueFull};
use crate::news::News;
use crate::segments::{Archive, Durable};
use crate::settle::FoundPayouts;
use crate::store::{Store, StoreError};

/// Most inputs of one batch: bounds the wait of the first for the flush it shares with the last.
const BATCH_LIMIT: usize = 1_024;
/// Inputs that wait while a batch is stored; then whoever brings one waits.
const INBOX_LIMIT: usize = 4_096;

/// What comes to the owner.
pub enum Incoming {
    /// A session was opened; this is the way back.
    Opened {
        /// Our number for it.
        peer: PeerId,
        /// The way back.
        outbound: Outbound,
    },
    /// Something for the state machine.
    Input(Input),
    /// The daemon is to stop.
    Stop,
}

/// The owner is gone: the daemon stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the coordinator is stopping")]
pub struct Stopped;

/// The way to the owner.
#[derive(Clone)]
pub struct Inbox(mpsc::Sender<Incoming>);

impl Inbox {
    /// An inbox and what is put into it.
    pub fn new() -> (Self, mpsc::Receiver<Incoming>) {
        let (sender, receiver) = mpsc::channel(INBOX_LIMIT);
        (Self(sender), receiver)
    }

    /// Waits for room. From a task.
    pub async fn send(&self, incoming: Incoming) -> Result<(), Stopped> {
        self.0.send(incoming).await.map_err(|_| Stopped)
    }

    /// Waits for room. From a thread.
    pub fn give(&self, input: Input) -> Result<(), Stopped> {
        self.0
            .blocking_send(Incoming::Input(input))
            .map_err(|_| Stopped)
    }
}

/// The owner.
pub struct Driver {
    coordinator: Coordinator,
    store: Store,
    chain: Chain,
    sessions: BTreeMap<PeerId, Outbound>,
    /// Sessions that we ended and the state machine does not know of yet.
    ended: VecDeque<PeerId>,
    /// Sessions that ended in this batch. They are dropped after its actions, among which may be
    /// their last word.
    gone: Vec<PeerId>,
    acks: BTreeMap<PeerId, ShareAck>,
    info: watch::Sender<PoolInfo>,
    public: Public,
    epoch: Instant,
}

/// Those who are told what is durable, for everybody.
pub struct Public {
    /// The open window's followers.
    pub feed: Feed,
    /// Who writes closed windows.
    pub archive: Archive,
}

impl Driver {
    /// An owner of this state; also what Pool.Info answers from.
    pub fn new(
        coordinator: Coordinator,
        store: Store,
        chain: Chain,
        public: Public,
        last_round: RoundSeq,
    ) -> (Self, watch::Receiver<PoolInfo>) {
        let params = coordinator.params();
        let (info, watched) = watch::channel(PoolInfo {
            coordinator: coordinator.identity(),
            network: params.network,
            tag: params.tag.clone(),
            version: PROTOCOL_VERSION,
            participants: 0,
            signers: 0,
            round: last_round,
            height: 0,
            window: coordinator.ledger().seq(),
            operator_fee_ppm: params.operator_fee_ppm,
            lanes: params.lanes,
            payees: count(coordinator.roster().len()),
        });
        let driver = Self {
            coordinator,
            store,
            chain,
            sessions: BTreeMap::new(),
            ended: VecDeque::new(),
            gone: Vec::new(),
            acks: BTreeMap::new(),
            info,
            public,
            epoch: Instant::now(),
        };
        (driver, watched)
    }

    /// Runs until it is told to stop or the store fails.
    pub fn run(
        mut self,
        mut inbox: mpsc::Receiver<Incoming>,
        runtime: &Handle,
    ) -> Result<(), StoreError> {
        loop {
            let first = match self.wait(&mut inbox, runtime) {
                Waited::Stop => break,
                Waited::Wake => None,
                Waited::Came(first) => Some(first),
            };
            let (effects, stop) = self.handle_all(first, &mut inbox);
            let actions = effects.save(|records| self.save(records))?;
            actions.into_iter().for_each(|action| self.act(action));
            self.send_acks();
            for peer in std::mem::take(&mut self.gone) {
                self.sessions.remove(&peer);
            }
            self.publish();
            if stop {
                break;
            }
        }
        for outbound in self.sessions.into_values() {
            outbound.close(tonic::Status::unavailable(Stopped.to_string()));
        }
        Ok(())
    }

    /// Makes records durable, and tells those who follow before anybody acts on them.
    fn save(&mut self, records: &[Record]) -> Result<(), StoreError> {
        let log_end = self.store.log_end();
        save(&mut self.store, records)?;
        for record in records {
            if let Record::Terms(round, terms) = record {
                let computed = self.coordinator.terms(round, &terms.header.previous_block);
                computed
                    .into_iter()
                    .for_each(|terms| self.public.archive.know(terms.clone()));
            }
        }
        self.public.feed.tell(records);
        if self.store.log_end() > log_end {
            self.public.archive.wake(Durable {
                log_end: self.store.log_end(),
                shares_from: self.coordinator.credits_from(),
            });
        }
        Ok(())
    }

    fn wait(&self, inbox: &mut mpsc::Receiver<Incoming>, runtime: &Handle) -> Waited {
        if !self.ended.is_empty() {
            return Waited::Wake;
        }
        let next = async {
            match inbox.recv().await {
                Some(incoming) => Waited::Came(incoming),
                None => Waited::Stop,
            }
        };
        let Some(deadline) = self.coordinator.next_deadline() else {
            return runtime.block_on(next);
        };
        let within = Duration::from_millis(deadline.since(self.now()).0);
        runtime
            .block_on(async { tokio::time::timeout(within, next).await })
            .unwrap_or(Waited::Wake)
    }

    /// Handles what is ready; says whether to stop after it.
    fn handle_all(
        &mut self,
        first: Option<Incoming>,
        inbox: &mut mpsc::Receiver<Incoming>,
    ) -> (Effects<Record, Action>, bool) {
        let mut effects = Effects::default();
        self.wake_if_due(&mut effects);
        while let Some(peer) = self.ended.pop_front() {
            self.handle(&mut effects, Input::Disconnected { peer });
        }
        // Taken one by one, so that nothing is taken that is not handled.
        let rest = std::iter::from_fn(|| inbox.try_recv().ok());
        for incoming in first.into_iter().chain(rest).take(BATCH_LIMIT) {
            match incoming {
                Incoming::Stop => return (effects, true),
                Incoming::Opened { peer, outbound } => {
                    self.sessions.insert(peer, outbound);
                    self.handle(&mut effects, Input::Connected { peer });
                }
                Incoming::Input(input) => {
                    if let Input::Disconnected { peer } = &input {
                        self.gone.push(*peer);
                    }
                    self.handle(&mut effects, input);
                }
            }
        }
        (effects, false)
    }

    fn wake_if_due(&mut self, effects: &mut Effects<Record, Action>) {
        let now = self.now();
        if self.coordinator.next_deadline().is_some_and(|at| at <= now) {
            self.handle(effects, Input::Wake);
        }
    }

    fn handle(&mut self, effects: &mut Effects<Record, Action>, input: Input) {
        let now = self.now();
        if let Input::Template(template) = &input {
            let height = template.height;
            self.info.send_if_modified(|info| {
                let old = std::mem::replace(&mut info.height, height);
                old != height
            });
        }
        effects.append(self.coordinator.handle(now, &mut rand::rng(), input));
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Send {
                peer,
                message: ToParticipant::ShareAck(ack),
            } => self.hold_ack(peer, ack),
            Action::Send { peer, message } => {
                self.send_ack(peer);
                if let (ToParticipant::Welcome(_), Some(outbound)) =
                    (&message, self.sessions.get(&peer))
                {
                    outbound.joined();
                }
                self.send(peer, message.encode().into());
            }
            Action::Broadcast { peers, message } => {
                // Encoded once; its clones share the bytes.
                let message = Bytes::from(message.encode());
                for peer in peers {
                    self.send_ack(peer);
                    self.send(peer, message.clone());
                }
            }
            Action::Disconnect { peer, reject } => self.disconnect(peer, &reject),
            Action::SubmitBlock { hash, block } => self.chain.submit(hash, block),
            Action::Tell(event) => self.tell(&event),
        }
    }

    /// Acknowledgements of one batch become one message, sent before anything else to that peer.
    fn hold_ack(&mut self, peer: PeerId, ack: ShareAck) {
        match self.acks.get_mut(&peer) {
            Some(held) if held.window == ack.window => held.seqs.extend(ack.seqs),
            _ => {
                self.send_ack(peer);
                self.acks.insert(peer, ack);
            }
        }
    }

    fn send_ack(&mut self, peer: PeerId) {
        if let Some(ack) = self.acks.remove(&peer) {
            self.send(peer, ToParticipant::ShareAck(ack).encode().into());
        }
    }

    fn send_acks(&mut self) {
        while let Some((peer, ack)) = self.acks.pop_first() {
            self.send(peer, ToParticipant::ShareAck(ack).encode().into());
        }
    }

    fn send(&mut self, peer: PeerId, message: Bytes) {
        let Some(outbound) = self.sessions.get(&peer) else {
            return; // It is gone, and its Disconnected is on its way.
        };
        if let Err(QueueFull) = outbound.send(message) {
            News::reader_too_slow(peer, outbound.address()).tell();
            if let Some(outbound) = self.sessions.remove(&peer) {
                outbound.hang_up();
            }
            self.ended.push_back(peer);
        }
    }

    fn disconnect(&mut self, peer: PeerId, reject: &Reject) {
        self.send_ack(peer);
        if let Some(outbound) = self.sessions.remove(&peer) {
            outbound.close(status(reject));
        }
    }

    fn tell(&mut self, event: &Event) {
        if let Event::Committed { seq, signers, .. } = event {
            let (round, signers) = (*seq, count(*signers));
            self.info.send_modify(|info| {
                info.round = round;
                info.signers = signers;
            });
        }
        self.settle(event);
        // Thousands a second, which the usual log leaves out: not worth their text.
        if !matches!(event, Event::ShareAccepted { .. }) || News::is_debugged() {
            News::from(event).tell();
        }
    }

    /// A block that the node has in its chain pays what was committed for its lane.
    fn settle(&self, event: &Event) {
        let (Event::BlockAccepted(found) | Event::BlockFate { found, .. }) = event else {
            return;
        };
        match FoundPayouts::of(&self.store, found) {
            Ok(payouts) => payouts
                .into_iter()
                .for_each(|found| self.chain.settle(found)),
            // The participants have them too.
            Err(error) => News::payouts_unreadable(&found.hash, &error).tell(),
        }
    }

    fn publish(&self) {
        let window: WindowSeq = self.coordinator.ledger().seq();
        let participants = count(self.coordinator.joined());
        let payees = count(self.coordinator.roster().len());
        self.info.send_if_modified(|info| {
            let before = (info.window, info.participants, info.payees);
            (info.window, info.participants, info.payees) = (window, participants, payees);
            before != (window, participants, payees)
        });
    }

    fn now(&self) -> Millis {
        Millis(u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

fn save(store: &mut Store, records: &[Record]) -> Result<(), StoreError> {
    let began = Instant::now();
    store.save(records)?;
    let is_share = |record: &&Record| matches!(record, Record::Share { .. });
    let shares = records.iter().filter(is_share).count();
    if shares > 0 {
        News::tell_flushed(shares, began.elapsed());
    }
    Ok(())
}

/// Why the owner goes on.
enum Waited {
    Came(Incoming),
    Wake,
    Stop,
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
