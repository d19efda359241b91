//! Who makes durable what the owner decided, and only then does it: tells it to those who follow and to the
//! sessions, and hands blocks to the node.
//!
//! A thread of its own, so that the owner goes on while a flush lasts. What it decides meanwhile is one batch
//! again, handed over once this one is done: nothing is told that is not on the disk.

use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use prost::bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tutti_proto::coordinator::{Action, Event, Fate, Record};
use tutti_proto::effect::Effects;
use tutti_proto::id::{PeerId, WindowSeq};
use tutti_proto::message::{ShareAck, ToParticipant};
use tutti_proto::reject::Reject;
use tutti_proto::terms::CheckedTerms;
use tutti_proto::wire::{PoolInfo, ToWire, status};

use super::{Public, Stopped, count};
use crate::chain::Chain;
use crate::grpc::{Outbound, QueueFull};
use crate::news::News;
use crate::segments::Durable;
use crate::settle::FoundPayouts;
use crate::store::{Store, StoreError};

/// What was decided together, as it was when it was handed over.
pub(super) struct Decided {
    pub(super) effects: Effects<Record, Action>,
    /// Sessions that were opened, before any action is for them.
    pub(super) opened: Vec<(PeerId, Outbound)>,
    /// Sessions that ended. They are dropped after its actions, among which may be their last word.
    pub(super) gone: Vec<PeerId>,
    /// Of rounds whose terms it stores.
    pub(super) terms: Vec<Arc<CheckedTerms>>,
    /// The store is to keep the shares of this window and later ones.
    pub(super) shares_from: WindowSeq,
    pub(super) now: Standing,
    /// The daemon is to stop after it.
    pub(super) stop: bool,
}

/// What Pool.Info says of the owner's state.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) window: WindowSeq,
    pub(super) participants: u32,
    pub(super) payees: u32,
    pub(super) template: TemplateOf,
}

/// The newest template.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct TemplateOf {
    pub(super) height: u32,
    /// By the node's clock.
    pub(super) time: u32,
}

/// A batch is stored and done.
pub(super) struct Kept {
    /// Sessions that were ended meanwhile, which the owner does not know of.
    pub(super) ended: Vec<PeerId>,
}

/// The keeper.
pub(super) struct Keeper {
    store: Store,
    chain: Chain,
    public: Public,
    info: watch::Sender<PoolInfo>,
    sessions: HashMap<PeerId, Session>,
    ended: Vec<PeerId>,
    /// Whose shares are to be acknowledged; some may have been since.
    held: Vec<PeerId>,
    encoded: Encoded,
}

/// What was sent last of what others are to be sent too, with its bytes: to thousands, when they come back.
#[derive(Default)]
struct Encoded(VecDeque<(Weak<ToParticipant>, Bytes)>);

/// A welcome with the ledger, one without it, and assignments: whoever comes is told either of the two.
const ENCODED_LIMIT: usize = 3;

/// A session, and what it is told next.
struct Session {
    outbound: Outbound,
    /// Acknowledgements of one batch, which become one message.
    ack: Option<ShareAck>,
}

impl Keeper {
    pub(super) fn new(
        store: Store,
        chain: Chain,
        public: Public,
        info: watch::Sender<PoolInfo>,
    ) -> Self {
        Self {
            store,
            chain,
            public,
            info,
            sessions: HashMap::new(),
            ended: Vec::new(),
            held: Vec::new(),
            encoded: Encoded::default(),
        }
    }

    /// Keeps what comes until it is told to stop or the store fails; nothing, if the owner is gone without a
    /// word.
    pub(super) fn run(
        mut self,
        batches: &Receiver<Decided>,
        kept: &mpsc::UnboundedSender<Kept>,
    ) -> Option<Result<(), StoreError>> {
        while let Ok(decided) = batches.recv() {
            let stop = decided.stop;
            if let Err(error) = self.keep(decided) {
                return Some(Err(error));
            }
            if stop {
                for session in self.sessions.into_values() {
                    session
                        .outbound
                        .close(tonic::Status::unavailable(Stopped.to_string()));
                }
                return Some(Ok(()));
            }
            let ended = std::mem::take(&mut self.ended);
            // It may be gone; then this ends, too.
            let _ = kept.send(Kept { ended });
        }
        None
    }

    fn keep(&mut self, decided: Decided) -> Result<(), StoreError> {
        let Decided {
            effects,
            opened,
            gone,
            terms,
            shares_from,
            now,
            ..
        } = decided;
        let opened = opened.into_iter();
        self.sessions
            .extend(opened.map(|(peer, outbound)| (peer, Session::new(outbound))));
        let actions = effects.save(|records| self.save(records, terms, shares_from))?;
        actions.into_iter().for_each(|action| self.act(action));
        self.send_acks();
        for peer in gone {
            self.sessions.remove(&peer);
        }
        self.publish(now);
        Ok(())
    }

    /// Makes records durable, and tells those who follow before anybody acts on them.
    fn save(
        &mut self,
        records: &[Record],
        terms: Vec<Arc<CheckedTerms>>,
        shares_from: WindowSeq,
    ) -> Result<(), StoreError> {
        let log_end = self.store.log_end();
        let flushed = save(&mut self.store, records)?;
        flushed.inspect(|took| self.public.metrics.flushed(*took));
        for terms in terms {
            self.public.archive.know(terms);
        }
        self.public.feed.tell(records);
        if self.store.log_end() > log_end {
            self.public.archive.wake(Durable {
                log_end: self.store.log_end(),
                shares_from,
            });
        }
        Ok(())
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
                self.public.metrics.share(z);
                // Thousands a second, which the usual log leaves out: not worth their text.
                if News::is_debugged() {
                    self.tell(&Event::ShareAccepted { identity, z });
                }
            }
            Action::Send { peer, message } => self.send_message(peer, &message),
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

    fn send_message(&mut self, peer: PeerId, message: &Arc<ToParticipant>) {
        if let ToParticipant::ShareAck(ShareAck { window, seqs }) = &**message {
            let seqs = seqs.iter();
            return seqs.for_each(|seq| self.hold_ack(peer, *window, *seq));
        }
        let Some(session) = self.sessions.get(&peer) else {
            return; // It is gone, and its Disconnected is on its way.
        };
        if let ToParticipant::Welcome(_) = &**message {
            session.outbound.joined();
        }
        let bytes = self.encoded.of(message);
        self.send(peer, bytes);
    }

    /// Acknowledgements of one batch become one message, sent before anything else to that peer.
    fn hold_ack(&mut self, peer: PeerId, window: WindowSeq, seq: u64) {
        let Some(session) = self.sessions.get_mut(&peer) else {
            return; // It is gone, and its Disconnected is on its way.
        };
        match &mut session.ack {
            Some(held) if held.window == window => held.seqs.push(seq),
            None => {
                session.ack = Some(ShareAck {
                    window,
                    seqs: vec![seq],
                });
                self.held.push(peer);
            }
            Some(_) => {
                self.send_ack(peer);
                self.hold_ack(peer, window, seq);
            }
        }
    }

    fn send_ack(&mut self, peer: PeerId) {
        let session = self.sessions.get_mut(&peer);
        let sent = session.map_or(Ok(()), Session::send_ack);
        self.sent(peer, sent);
    }

    fn send_acks(&mut self) {
        for peer in std::mem::take(&mut self.held) {
            self.send_ack(peer);
        }
    }

    fn send(&mut self, peer: PeerId, message: Bytes) {
        let Some(session) = self.sessions.get_mut(&peer) else {
            return; // It is gone, and its Disconnected is on its way.
        };
        let sent = session.send_ack();
        let sent = sent.and_then(|()| session.outbound.send(message));
        self.sent(peer, sent);
    }

    /// Whoever does not read is cut off.
    fn sent(&mut self, peer: PeerId, sent: Result<(), QueueFull>) {
        if let Err(QueueFull) = sent
            && let Some(session) = self.sessions.remove(&peer)
        {
            News::reader_too_slow(peer, session.outbound.address()).tell();
            session.outbound.hang_up();
            self.ended.push(peer);
        }
    }

    fn disconnect(&mut self, peer: PeerId, reject: &Reject) {
        self.send_ack(peer);
        if let Some(session) = self.sessions.remove(&peer) {
            session.outbound.close(status(reject));
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
        self.public.metrics.happened(event);
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

    fn publish(&self, now: Standing) {
        self.info.send_if_modified(|info| {
            let before = Standing {
                window: info.window,
                participants: info.participants,
                payees: info.payees,
                template: TemplateOf {
                    height: info.height,
                    time: info.template_time,
                },
            };
            (info.window, info.participants, info.payees) =
                (now.window, now.participants, now.payees);
            (info.height, info.template_time) = (now.template.height, now.template.time);
            before != now
        });
    }
}

impl Encoded {
    fn of(&mut self, message: &Arc<ToParticipant>) -> Bytes {
        // A message that is gone leaves its place to no other as long as it is known here.
        let is_it = |known: &Weak<ToParticipant>| known.as_ptr() == Arc::as_ptr(message);
        if let Some((_, bytes)) = self.0.iter().find(|(known, _)| is_it(known)) {
            return bytes.clone();
        }
        let bytes = Bytes::from(message.encode());
        if Arc::strong_count(message) > 1 {
            // A ledger's bytes, among others, which nobody is told any more.
            self.0.retain(|(known, _)| known.strong_count() > 0);
            self.0.truncate(ENCODED_LIMIT - 1);
            self.0.push_front((Arc::downgrade(message), bytes.clone()));
        }
        bytes
    }
}

impl Session {
    fn new(outbound: Outbound) -> Self {
        Self {
            outbound,
            ack: None,
        }
    }

    fn send_ack(&mut self) -> Result<(), QueueFull> {
        match self.ack.take() {
            Some(ack) => self
                .outbound
                .send(ToParticipant::ShareAck(ack).encode().into()),
            None => Ok(()),
        }
    }
}

/// Says how long it took, if there are shares among them.
fn save(store: &mut Store, records: &[Record]) -> Result<Option<Duration>, StoreError> {
    let began = Instant::now();
    store.save(records)?;
    let is_share = |record: &&Record| matches!(record, Record::Share { .. });
    let shares = records.iter().filter(is_share).count();
    let took = (shares > 0).then(|| began.elapsed());
    took.inspect(|took| News::tell_flushed(shares, *took));
    Ok(took)
}

#[cfg(test)]
mod tests {
    use tutti_proto::message::OutputExpired;

    use super::*;

    #[test]
    fn what_others_are_sent_too_is_encoded_once_and_nothing_else_is_kept() {
        let message = |serial_id| {
            let serial_id = tutti_proto::id::SerialId(serial_id);
            Arc::new(ToParticipant::OutputExpired(OutputExpired { serial_id }))
        };
        let (mut encoded, shared) = (Encoded::default(), [1, 2, 3, 4].map(message));
        let others = shared.clone();
        let first = encoded.of(&shared[0]);
        assert_eq!(first, shared[0].encode());
        for alone in 4..9 {
            assert_eq!(encoded.of(&message(alone)), message(alone).encode());
        }
        assert_eq!(encoded.of(&others[0]).as_ptr(), first.as_ptr());
        assert_eq!(encoded.of(&shared[1]), shared[1].encode());
        assert_eq!(encoded.of(&shared[2]), shared[2].encode());
        assert_eq!(encoded.of(&others[0]).as_ptr(), first.as_ptr());
        assert_eq!(encoded.of(&shared[3]), shared[3].encode());
        assert_ne!(
            encoded.of(&shared[0]).as_ptr(),
            first.as_ptr(),
            "the oldest went"
        );
        drop((shared, others));
        let newest = message(9);
        assert_eq!(encoded.of(&newest.clone()), newest.encode());
        assert_eq!(encoded.0.len(), 1, "nobody is sent the others any more");
    }
}
