//! A miner of the test: the real participant core over gRPC, hashing as fast as it is answered, and
//! its own record of every share.

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;

use anyhow::{Context, Result, ensure};
use bitcoin::ScriptBuf;
use rand::SeedableRng;
use rand::rngs::StdRng;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tutti_proto::header::HeaderFields;
use tutti_proto::id::{Identity, JobId, WindowSeq};
use tutti_proto::identity::IdentityKey;
use tutti_proto::message::{Share, ShareAck, ShareReject, ToCoordinator, ToParticipant};
use tutti_proto::participant::{
    Action, Event, FoundShare, Held, Input, Memory, Order, Participant, Record, Settings,
};
use tutti_proto::plan::PlanError;
use tutti_proto::policy::Policy;
use tutti_proto::reject::RejectCode;
use tutti_proto::script::PayoutScript;
use tutti_proto::wire::pb::pool_client::PoolClient;
use tutti_proto::wire::{
    FromWire, MESSAGE_LIMIT_TO_COORDINATOR, MESSAGE_LIMIT_TO_PARTICIPANT, ToWire, pb,
};
use tutti_proto::work::{header_hash, leading_zero_bits};

/// Shares of a miner under way.
const UNANSWERED: usize = 128;
/// Shares of the session before that are sent again; numbered from here on.
const AGAIN: usize = 32;
const AGAIN_FROM: u64 = 1 << 40;
const OUTGOING: usize = 4_096;

pub type Hash = [u8; 32];

/// What happens to miners, in the order in which it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moment {
    /// A share was handed to the connection.
    Sent,
    /// A share was acknowledged, in this window.
    Acknowledged(WindowSeq),
    Proposed,
    Signed,
    Committed,
    /// A miner was told to stop and has no share under way.
    Quiet(u8),
    /// A miner holds a round whose weights come from the windows up to this one.
    Holds(u8, WindowSeq),
    Failed(String),
}

/// A share in its miner's record.
#[derive(Clone, Copy, Debug)]
pub struct Noted {
    pub share: Share,
    /// Leading zero bits of its job.
    pub z: u8,
    /// The window in which it was acknowledged.
    pub acknowledged: Option<WindowSeq>,
    /// The session in which it was found.
    session: u32,
    /// The last session that ended before it was answered. One session is one life of the coordinator,
    /// and all but the last life end with a kill.
    cut_off: Option<u32>,
    /// The session in which it was refused as stale.
    refused: Option<u32>,
}

impl Noted {
    /// Whether it may count though nobody said so: that it counts may have been on its way when the
    /// coordinator was killed, and the next one no longer knew the shares of its round.
    pub fn may_count_untold(&self) -> bool {
        let told = self.acknowledged.is_some();
        !told && self.cut_off.is_some() && self.refused > self.cut_off
    }

    /// Whether it got its one last word.
    pub fn is_answered(&self) -> bool {
        self.acknowledged.is_some() != self.refused.is_some()
    }
}

/// How a miner went on after the coordinator's deaths.
#[derive(Clone, Copy, Debug, Default)]
pub struct CarriedOn {
    /// Sessions whose first job was the last one of the session before.
    pub jobs: usize,
    /// Shares found on such a job in such a session, and acknowledged.
    pub shares: usize,
    /// Shares of which only a session after the one that they were found in said that they count.
    pub told_late: usize,
}

pub struct Miner {
    number: u8,
    core: Participant,
    rng: StdRng,
    pub script: PayoutScript,
    pub record: BTreeMap<Hash, Noted>,
    pub held: Vec<Held>,
    /// Shares of the last session, sent again in the next one.
    pub sent_again: usize,
    pub carried_on: CarriedOn,
    session: u32,
    joined: bool,
    /// The last job, and the one that this session goes on with.
    job: Option<JobId>,
    goes_on_with: Option<JobId>,
    unanswered: BTreeMap<u64, Hash>,
    last_session: Vec<Hash>,
    again: BTreeMap<u64, Hash>,
    orders: Vec<Order>,
    nonce: u32,
    moments: Sender<Moment>,
    outgoing: Option<mpsc::Sender<pb::ToCoordinator>>,
}

impl Miner {
    pub fn new(number: u8, seed: u64, moments: Sender<Moment>) -> Result<Miner> {
        let key = IdentityKey::from_bytes(&mut [number + 1; 32])?;
        let mut script = vec![0x51, 0x20];
        script.extend_from_slice(key.identity().as_bytes());
        let script = PayoutScript::parse(ScriptBuf::from_bytes(script))?;
        let settings = Settings {
            network: bitcoin::Network::Regtest,
            coordinator: None,
            policy: Policy::default(),
            script: script.clone(),
            // Each twice as fast as the one before, by its own word: their shares differ in z.
            hashrate: 2 << number,
            user_agent: "killed_coordinator".to_owned(),
            slots_ahead: 4,
            follows: false,
            asks_node: false,
        };
        Ok(Miner {
            number,
            core: Participant::new(key, settings, Memory::default()),
            rng: StdRng::seed_from_u64(seed ^ u64::from(number)),
            script,
            record: BTreeMap::new(),
            held: Vec::new(),
            sent_again: 0,
            carried_on: CarriedOn::default(),
            session: 0,
            joined: false,
            job: None,
            goes_on_with: None,
            unanswered: BTreeMap::new(),
            last_session: Vec::new(),
            again: BTreeMap::new(),
            orders: Vec::new(),
            nonce: 0,
            moments,
            outgoing: None,
        })
    }

    pub fn identity(&self) -> Identity {
        self.core.identity()
    }

    /// Mines at each address in turn, until there will be no more.
    pub async fn run(
        mut self,
        mut address: watch::Receiver<String>,
        load: watch::Receiver<bool>,
    ) -> Self {
        while address.changed().await.is_ok() {
            let target = address.borrow_and_update().clone();
            // It ends with the coordinator; whether by a kill, the test knows.
            if let Err(error) = self.session(&target, load.clone()).await {
                self.tell(Moment::Failed(format!("{error:#}")));
            }
            self.outgoing = None;
            self.joined = false;
            for hash in self.unanswered.values() {
                if let Some(noted) = self.record.get_mut(hash) {
                    noted.cut_off = Some(self.session);
                }
            }
            let done = self.record.iter().rev();
            let done = done.filter(|(_, noted)| noted.acknowledged.is_some());
            self.last_session = done.map(|(hash, _)| *hash).take(AGAIN).collect();
            self.again.clear();
            if let Err(error) = self.input(Input::Disconnected) {
                self.tell(Moment::Failed(format!("{error:#}")));
            }
        }
        self
    }

    /// One connection, until it is gone. An error is one of the coordinator's.
    async fn session(&mut self, address: &str, mut load: watch::Receiver<bool>) -> Result<()> {
        let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
        let Ok(channel) = endpoint.connect().await else {
            return Ok(());
        };
        let (outgoing, queue) = mpsc::channel(OUTGOING);
        let mut client = PoolClient::new(channel)
            .max_encoding_message_size(MESSAGE_LIMIT_TO_COORDINATOR)
            .max_decoding_message_size(MESSAGE_LIMIT_TO_PARTICIPANT);
        let Ok(answer) = client.session(ReceiverStream::new(queue)).await else {
            return Ok(());
        };
        let mut messages = answer.into_inner();
        self.outgoing = Some(outgoing);
        self.session += 1;
        let mut first_job = true;
        self.input(Input::Connected)?;
        loop {
            let mines = *load.borrow();
            let room = self.unanswered.len() < UNANSWERED;
            let may_send = mines && self.joined && room && !self.orders.is_empty();
            tokio::select! {
                biased;
                message = messages.message() => match message {
                    Ok(Some(message)) => {
                        let message = ToParticipant::from_wire(message)?;
                        if let ToParticipant::Job(job) = &message {
                            self.note_job(job.id, std::mem::take(&mut first_job));
                        }
                        self.hear(message, mines)?;
                    }
                    Ok(None) | Err(_) => return Ok(()),
                },
                Ok(()) = load.changed() => self.tell_if_quiet(*load.borrow()),
                () = tokio::task::yield_now(), if may_send => self.mine()?,
            }
        }
    }

    fn hear(&mut self, message: ToParticipant, mines: bool) -> Result<()> {
        let moment = match &message {
            ToParticipant::Proposal(_) => Some(Moment::Proposed),
            ToParticipant::Commit(_) => Some(Moment::Committed),
            _ => None,
        };
        moment.into_iter().for_each(|moment| self.tell(moment));
        match &message {
            ToParticipant::ShareAck(ack) => self.acknowledged(ack)?,
            ToParticipant::ShareReject(reject) => self.refused(reject)?,
            _ => {}
        }
        self.joined |= matches!(message, ToParticipant::Welcome(_));
        let is_job = matches!(message, ToParticipant::Job(_));
        let is_answer = matches!(
            message,
            ToParticipant::ShareAck(_) | ToParticipant::ShareReject(_)
        );
        self.input(Input::Received(message))?;
        if is_job {
            self.send_again()?;
        }
        if is_answer {
            self.tell_if_quiet(mines);
        }
        Ok(())
    }

    fn acknowledged(&mut self, ack: &ShareAck) -> Result<()> {
        for seq in &ack.seqs {
            let hash = self.unanswered.remove(seq);
            let hash = hash.or_else(|| self.again.remove(seq));
            let hash = hash.context("a share was acknowledged that is not under way")?;
            self.counted(&hash, ack.window)?;
            self.tell(Moment::Acknowledged(ack.window));
        }
        Ok(())
    }

    /// It counts in this window, and in no other.
    fn counted(&mut self, hash: &Hash, window: WindowSeq) -> Result<()> {
        let noted = self.record.get_mut(hash).context("an unknown share")?;
        ensure!(
            noted.acknowledged.is_none_or(|known| known == window),
            "a share of window {:?} was sent again and counted in {window}",
            noted.acknowledged,
        );
        if noted.acknowledged.replace(window).is_none() {
            let here = noted.session == self.session;
            self.carried_on.told_late += usize::from(!here);
            let on_it = here && self.goes_on_with == Some(noted.share.job);
            self.carried_on.shares += usize::from(on_it);
        }
        Ok(())
    }

    fn note_job(&mut self, job: JobId, is_first: bool) {
        if is_first {
            self.goes_on_with = self.job.filter(|last| *last == job);
            self.carried_on.jobs += usize::from(self.goes_on_with.is_some());
        }
        self.job = Some(job);
    }

    fn refused(&mut self, reject: &ShareReject) -> Result<()> {
        let hash = self.unanswered.remove(&reject.seq);
        if let (Some(hash), RejectCode::Duplicate) = (hash, reject.code) {
            return self.counted(&hash, WindowSeq(reject.got));
        }
        if self.again.remove(&reject.seq).is_some() {
            return Ok(());
        }
        let hash = hash.filter(|_| reject.code == RejectCode::Stale);
        let hash = hash.with_context(|| format!("an honest share was refused: {reject:?}"))?;
        let noted = self.record.get_mut(&hash).context("an unknown share")?;
        noted.refused = Some(self.session);
        Ok(())
    }

    /// Once there is a job: some of what counts already. (The core sends what was under way.)
    fn send_again(&mut self) -> Result<()> {
        for (number, hash) in (0..).zip(std::mem::take(&mut self.last_session)) {
            let noted = self.record.get(&hash).context("an unknown share")?;
            let share = Share {
                seq: AGAIN_FROM + number,
                ..noted.share
            };
            self.again.insert(share.seq, hash);
            self.sent_again += 1;
            self.send(&ToCoordinator::Share(share));
        }
        Ok(())
    }

    /// Hashes until one header is a share.
    fn mine(&mut self) -> Result<()> {
        let order = *self.orders.first().context("a job")?;
        loop {
            self.nonce += 1;
            let header = HeaderFields {
                version: order.slice.first_version(order.version),
                previous_block: order.previous_block,
                merkle_root: order.merkle_root,
                time: order.time_min,
                bits: order.bits,
                nonce: self.nonce,
            };
            let hash = header_hash(&header.serialize());
            if leading_zero_bits(&hash) >= order.z {
                return self.input(Input::ShareFound(FoundShare {
                    job: order.job,
                    lane: order.slice.lane,
                    version: header.version,
                    time: header.time,
                    nonce: header.nonce,
                }));
            }
        }
    }

    fn note(&mut self, share: Share) -> Result<()> {
        if self.unanswered.contains_key(&share.seq) {
            self.sent_again += 1;
            return Ok(());
        }
        let order = self.orders.first().context("a share without a job")?;
        let header = HeaderFields {
            version: share.version,
            previous_block: order.previous_block,
            merkle_root: order.merkle_root,
            time: share.time,
            bits: order.bits,
            nonce: share.nonce,
        };
        let (hash, z) = (header_hash(&header.serialize()), order.z);
        let noted = Noted {
            share,
            z,
            acknowledged: None,
            session: self.session,
            cut_off: None,
            refused: None,
        };
        ensure!(self.record.insert(hash, noted).is_none(), "found twice");
        self.unanswered.insert(share.seq, hash);
        Ok(())
    }

    fn input(&mut self, input: Input) -> Result<()> {
        let effects = self.core.handle(&mut self.rng, input);
        let mut held = Vec::new();
        let actions = effects.save(|records| {
            held.extend(records.iter().filter_map(|record| match record {
                Record::Held(round) => Some(round.clone()),
                Record::OwnWork { .. } | Record::Head { .. } | Record::Equivocation(_) => None,
            }));
            anyhow::Ok(())
        })?;
        for round in held {
            self.tell(Moment::Holds(self.number, round.window));
            self.held.push(round);
        }
        actions.into_iter().try_for_each(|action| self.act(action))
    }

    fn act(&mut self, action: Action) -> Result<()> {
        match action {
            Action::Send(message) => {
                let moment = match &message {
                    ToCoordinator::Share(share) => {
                        self.note(*share)?;
                        Some(Moment::Sent)
                    }
                    ToCoordinator::TxSignatures(_) => Some(Moment::Signed),
                    _ => None,
                };
                self.send(&message);
                moment.into_iter().for_each(|moment| self.tell(moment));
            }
            Action::Mine(orders) => self.orders = orders,
            Action::LookUp(_) => {}
            Action::Leave | Action::LeaveForGood => {
                self.tell(Moment::Failed("it leaves an honest coordinator".into()))
            }
            // It may be shown a proposal before its output was relayed to it.
            Action::Tell(Event::PlanRefused {
                error: PlanError::NotPayee,
                ..
            }) => {}
            Action::Tell(
                event @ (Event::PlanRefused { .. }
                | Event::BadCommit(_)
                | Event::BadState(_)
                | Event::WorkMissing { .. }
                | Event::WrongWindow { .. }
                | Event::UnsignedJob { .. }),
            ) => self.tell(Moment::Failed(format!("{event:?}"))),
            Action::Tell(_) => {}
        }
        Ok(())
    }

    fn send(&self, message: &ToCoordinator) {
        // The connection may be gone: then nothing arrives.
        if let Some(outgoing) = &self.outgoing {
            let _ = outgoing.try_send(message.to_wire());
        }
    }

    fn tell_if_quiet(&self, mines: bool) {
        if !mines && self.unanswered.is_empty() && self.again.is_empty() {
            self.tell(Moment::Quiet(self.number));
        }
    }

    fn tell(&self, moment: Moment) {
        // The test may be over.
        let _ = self.moments.send(moment);
    }
}
