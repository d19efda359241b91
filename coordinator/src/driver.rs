//! The one owner of the rounds: a thread that feeds the state machine, stores what it asks to be
//! stored, and only then does what it asks to be done.
//!
//! Whatever is ready is handled as one batch with one flush, so a flush's time is shared by all who
//! came meanwhile.

mod group;
mod inbox;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use prost::bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tutti_proto::coordinator::{Action, Coordinator, Event, Fate, Record};
use tutti_proto::deadline::Millis;
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
use group::Group;
pub use inbox::{Inbox, Incoming, Mailbox, Stopped};

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
    /// When the last flush began.
    flushed: Option<Instant>,
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
            flushed: None,
        };
        (driver, watched)
    }

    /// Runs until it is told to stop or the store fails.
    pub fn run(mut self, mut inbox: Mailbox, runtime: &Handle) -> Result<(), StoreError> {
        loop {
            let first = match self.wait(&mut inbox.queue, runtime) {
                Waited::Stop => break,
                Waited::Wake => None,
                Waited::Came(first) => Some(first),
            };
            let Group { effects, stop, .. } = self.gather(first, &mut inbox, runtime);
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
        self.flushed = Some(Instant::now());
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

    fn act(&mut self, action: Action) {
        match action {
            Action::AcceptShare {
                peer,
                window,
                seq,
                identity,
                z,
            } => {
                self.hold_ack(peer, window, seq);
                // Thousands a second, which the usual log leaves out: not worth their text.
                if News::is_debugged() {
                    self.tell(&Event::ShareAccepted { identity, z });
                }
            }
            Action::Send { peer, message } => self.send_message(peer, *message),
            Action::Broadcast { peers, message } => {
                // What is large goes to thousands: whoever has found a share is not to wait for it.
                self.send_acks();
                // Encoded once; its clones share the bytes.
                let message = Bytes::from(message.encode());
                for peer in peers {
                    self.send(peer, message.clone());
                }
            }
            Action::Disconnect { peer, reject } => self.disconnect(peer, &reject),
            Action::SubmitBlock { hash, block } => self.chain.submit(hash, block),
            Action::CreditDone { block, shard } => self.chain.credited(block, shard),
            Action::Tell(event) => self.tell(&event),
        }
    }

    fn send_message(&mut self, peer: PeerId, message: ToParticipant) {
        if let ToParticipant::ShareAck(ShareAck { window, seqs }) = message {
            seqs.into_iter()
                .for_each(|seq| self.hold_ack(peer, window, seq));
            return;
        }
        self.send_ack(peer);
        if let (ToParticipant::Welcome(_), Some(outbound)) = (&message, self.sessions.get(&peer)) {
            outbound.joined();
        }
        self.send(peer, message.encode().into());
    }

    /// Acknowledgements of one batch become one message, sent before anything else to that peer.
    fn hold_ack(&mut self, peer: PeerId, window: WindowSeq, seq: u64) {
        match self.acks.get_mut(&peer) {
            Some(held) if held.window == window => held.seqs.push(seq),
            _ => {
                self.send_ack(peer);
                let seqs = vec![seq];
                self.acks.insert(peer, ShareAck { window, seqs });
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
        News::from(event).tell();
    }

    /// A block that the node has in its chain pays what was committed for its lane.
    fn settle(&self, event: &Event) {
        let (Event::BlockAccepted(found)
        | Event::BlockFate {
            found,
            fate: Fate::Back,
        }) = event
        else {
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
