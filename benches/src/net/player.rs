//! A participant of the bench: what it says, and when. With [`super::replica`] the only place that
//! knows what the messages are.

use std::collections::{BTreeMap, VecDeque};
use std::sync::LazyLock;

use anyhow::{Context, Result, bail};
use bitcoin::ScriptBuf;
use prost::Message;
use prost::bytes::Bytes;
use rand::RngCore;
use tutti_proto::id::{Identity, LaneIndex, RoundId, SerialId};
use tutti_proto::identity::IdentityKey;
use tutti_proto::message::{
    AnnouncedSlot, Challenge, Job, Join, Share, Slots, ToCoordinator, ToParticipant, TxAddOutput,
    TxComplete, TxSignatures,
};
use tutti_proto::musig::{SigningSlot, SlotKey};
use tutti_proto::params::PoolParams;
use tutti_proto::reject::RejectCode;
use tutti_proto::script::PayoutScript;
use tutti_proto::wire::pb::{self, to_coordinator, to_participant};
use tutti_proto::wire::{FromWire, ToWire};

use super::replica::Plan;

/// Slots announced ahead, as a participant does by default.
const SLOTS_AHEAD: usize = 4;
/// Announcements of a slot each that are kept ready: for the two rounds of a tip, and for attempts
/// that fail.
const PREPARED: usize = 4;

/// Defines [`Kind`] and how an encoded message shows its own: by the schema's field number, which
/// is in its first byte.
macro_rules! kinds {
    (from coordinator: $($from:ident)*; to coordinator: $($to:ident)*) => {
        /// Kinds of messages; of those that go both ways, one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind { $($from,)* $($to,)* Other }

        static FROM_COORDINATOR: LazyLock<Vec<(u8, Kind)>> = LazyLock::new(|| vec![$({
            let message = Some(to_participant::Message::$from(Default::default()));
            (pb::ToParticipant { message }.encode_to_vec()[0], Kind::$from)
        },)*]);

        static TO_COORDINATOR: LazyLock<Vec<(u8, Kind)>> = LazyLock::new(|| vec![$({
            let message = Some(to_coordinator::Message::$to(Default::default()));
            (pb::ToCoordinator { message }.encode_to_vec()[0], Kind::$to)
        },)*]);
    };
}

kinds! {
    from coordinator: Challenge Welcome TxAddOutput WindowClosed Assignments Proposal TxAborted
        Commit Job ShareAck ShareReject Reject OutputExpired;
    to coordinator: Join Slots TxComplete TxSignatures Share
}

impl Kind {
    /// The kind of a message from the coordinator.
    pub fn of_received(message: &[u8]) -> Kind {
        find(&FROM_COORDINATOR, message)
    }

    /// The kind of a message to it.
    pub fn of_sent(message: &[u8]) -> Kind {
        find(&TO_COORDINATOR, message)
    }
}

fn find(kinds: &[(u8, Kind)], message: &[u8]) -> Kind {
    let first = message.first();
    let mut known = kinds.iter().filter(|(byte, _)| Some(byte) == first);
    known.next().map_or(Kind::Other, |(_, kind)| *kind)
}

/// What a message is to its participant.
pub enum Heard {
    /// Nothing to do.
    Nothing,
    /// To be answered at once.
    Answer(Vec<Bytes>),
    /// It has joined, and is to register.
    Welcomed,
    /// Our output is in everyone's payee set.
    Registered,
    /// A proposal for this height, to be signed once it is checked.
    Proposed(u32),
    /// The final signatures of a round.
    Committed(RoundId),
    /// Something to hash.
    Job(Job),
    /// Our share counts.
    Acknowledged,
}

/// A participant.
pub struct Player {
    key: IdentityKey,
    serial_id: SerialId,
    /// Whether it announces slots, or is only paid.
    signs: bool,
    /// Answers no proposal.
    silent: bool,
    params: Option<PoolParams>,
    registered: bool,
    secrets: BTreeMap<SlotKey, SigningSlot>,
    prepared: VecDeque<(SigningSlot, Bytes)>,
    proposal: Option<Bytes>,
    job: Option<Job>,
    /// Slots that are used up and not replaced yet.
    used: usize,
    shares: u64,
}

impl Player {
    /// The n-th participant.
    pub fn new(number: u64, signs: bool) -> Result<Self> {
        Ok(Self {
            key: IdentityKey::from_bytes(&mut random())?,
            serial_id: SerialId(2 * number + 1),
            signs,
            silent: false,
            params: None,
            registered: false,
            secrets: BTreeMap::new(),
            prepared: VecDeque::new(),
            proposal: None,
            job: None,
            shares: 0,
            used: 0,
        })
    }

    /// Whether to answer no proposal from now on.
    pub fn be_silent(&mut self, silent: bool) {
        self.silent = silent;
    }

    /// Who it is.
    pub fn identity(&self) -> Identity {
        self.key.identity()
    }

    fn params(&self) -> Result<&PoolParams> {
        self.params.as_ref().context("the challenge comes first")
    }

    /// Takes a message. Only what is for this participant alone is parsed.
    pub fn hear(&mut self, message: &Bytes) -> Result<Heard> {
        match Kind::of_received(message) {
            Kind::Challenge => match ToParticipant::decode(message)? {
                ToParticipant::Challenge(challenge) => self.challenged(&challenge),
                _ => Ok(Heard::Nothing),
            },
            Kind::Welcome => Ok(Heard::Welcomed),
            Kind::TxAddOutput if !self.registered => match ToParticipant::decode(message)? {
                ToParticipant::TxAddOutput(output) if output.identity == self.identity() => {
                    self.registered = true;
                    Ok(Heard::Registered)
                }
                _ => Ok(Heard::Nothing),
            },
            Kind::Proposal => {
                self.proposal = Some(message.clone());
                height_of(message).map(Heard::Proposed)
            }
            Kind::TxAborted => {
                self.proposal = None;
                Ok(Heard::Nothing)
            }
            Kind::Commit => match ToParticipant::decode(message)? {
                ToParticipant::Commit(commit) => Ok(Heard::Committed(commit.round)),
                _ => Ok(Heard::Nothing),
            },
            Kind::Job => match ToParticipant::decode(message)? {
                ToParticipant::Job(job) => {
                    self.job = Some(job.clone());
                    Ok(Heard::Job(job))
                }
                _ => Ok(Heard::Nothing),
            },
            Kind::ShareAck => Ok(Heard::Acknowledged),
            Kind::Reject | Kind::ShareReject => match ToParticipant::decode(message)? {
                // Our answer came after the deadline; the next attempt is on its way.
                ToParticipant::Reject(reject) if reject.code == RejectCode::StaleRound => {
                    Ok(Heard::Nothing)
                }
                refusal => bail!("refused: {refusal:?}"),
            },
            _ => Ok(Heard::Nothing),
        }
    }

    fn challenged(&mut self, challenge: &Challenge) -> Result<Heard> {
        self.params = Some(challenge.params.clone());
        let join = Join::sign(&self.key, challenge, 1, "round_net", &random());
        let join = ToCoordinator::Join(join);
        Ok(Heard::Answer(vec![encode(&join)]))
    }

    /// Its output, and its first slots if it signs.
    pub fn register(&mut self) -> Result<Vec<Bytes>> {
        let coordinator = self.params()?.coordinator;
        // P2TR, the largest output; any point will do, as nobody is to spend it.
        let mut script = vec![0x51, 0x20];
        script.extend_from_slice(self.identity().as_bytes());
        let script = PayoutScript::parse(ScriptBuf::from_bytes(script))?;
        let (aux, serial_id) = (random(), self.serial_id);
        let output = TxAddOutput::sign(&self.key, &coordinator, serial_id, script, &aux);
        let mut answer = vec![encode(&ToCoordinator::TxAddOutput(output))];
        if self.signs {
            let (secrets, slots) = self.fresh_slots(SLOTS_AHEAD)?;
            self.keep(secrets);
            answer.push(slots);
            self.prepare()?;
        }
        Ok(answer)
    }

    /// Makes the slots of the next rounds, so that no round waits for it.
    pub fn prepare(&mut self) -> Result<()> {
        while self.signs && self.prepared.len() < PREPARED {
            let (secrets, announcement) = self.fresh_slots(1)?;
            let ready = secrets.into_iter().map(|slot| (slot, announcement.clone()));
            self.prepared.extend(ready);
        }
        Ok(())
    }

    fn fresh_slots(&self, count: usize) -> Result<(Vec<SigningSlot>, Bytes)> {
        let params = self.params()?;
        let nonces = usize::from(params.nonces_per_slot);
        let (mut secrets, mut slots) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let (secret, public) = SigningSlot::generate(&mut rand::rng(), nonces);
            let coordinator = &params.coordinator;
            slots.push(AnnouncedSlot::sign(
                &self.key,
                coordinator,
                public,
                &random(),
            ));
            secrets.push(secret);
        }
        Ok((secrets, encode(&ToCoordinator::Slots(Slots { slots }))))
    }

    fn keep(&mut self, secrets: Vec<SigningSlot>) {
        let secrets = secrets.into_iter().map(|secret| (secret.key(), secret));
        self.secrets.extend(secrets);
    }

    /// Whether this is the plan of the proposal that it has not answered.
    pub fn waits_for(&self, plan: &Plan) -> bool {
        let proposal = self.proposal.as_ref();
        proposal.is_some_and(|proposal| plan.is_of(proposal))
    }

    /// Answers the proposal that waits, as a participant does: agrees, and signs if it is a signer.
    pub fn sign(&mut self, plan: &Plan) -> Result<Vec<Bytes>> {
        if self.proposal.take().is_none() || self.silent {
            return Ok(Vec::new());
        }
        let round = plan.round();
        let mut answer = vec![encode(&ToCoordinator::TxComplete(TxComplete { round }))];
        if let Some(key) = plan.keys.get(&self.identity()) {
            let slot = self
                .secrets
                .remove(key)
                .context("a slot of ours is unknown")?;
            let partials = plan.checked.sign(slot)?;
            let proposal = plan.checked.proposal();
            let signatures = TxSignatures::sign(&self.key, round, proposal, partials, &random());
            answer.push(encode(&ToCoordinator::TxSignatures(signatures)));
            self.used += 1;
        }
        Ok(answer)
    }

    /// Announces a slot for each that was used up: once a round is over, as a participant does.
    pub fn top_up(&mut self) -> Vec<Bytes> {
        let mut announcements = Vec::new();
        while self.used > 0 {
            let Some((secret, announcement)) = self.prepared.pop_front() else {
                break;
            };
            self.used -= 1;
            self.keep(vec![secret]);
            announcements.push(announcement);
        }
        announcements
    }

    /// Shares that it made: the last one's number.
    pub fn shares(&self) -> u64 {
        self.shares
    }

    /// A share of the last job. The pool of the bench asks for no zero bits, so any header is one.
    pub fn share(&mut self, plan: &Plan) -> Result<Bytes> {
        let job = self.job.as_ref().context("no job yet")?;
        let slice = plan.slices.get(&self.identity());
        let slice = slice.context("no slice is ours")?;
        self.shares += 1;
        let share = Share {
            seq: self.shares,
            job: job.id,
            lane: LaneIndex(slice.lane.0),
            version: slice.first_version(job.header.version),
            time: job.header.time_min,
            nonce: u32::try_from(self.shares)?,
        };
        Ok(encode(&ToCoordinator::Share(share)))
    }
}

/// All that a participant parses of a proposal which the replicated state's keeper checks: prost
/// skips fields that are not declared. The numbers are the schema's.
mod head {
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ToParticipant {
        #[prost(message, optional, tag = "9")]
        pub proposal: Option<Proposal>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Proposal {
        #[prost(message, optional, tag = "1")]
        pub plan: Option<ProposedPlan>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ProposedPlan {
        #[prost(message, optional, tag = "2")]
        pub inputs: Option<RoundInputs>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct RoundInputs {
        #[prost(uint32, tag = "3")]
        pub height: u32,
    }
}

fn height_of(proposal: &Bytes) -> Result<u32> {
    let message = head::ToParticipant::decode(proposal.clone())?;
    let plan = message.proposal.and_then(|proposal| proposal.plan);
    let inputs = plan.and_then(|plan| plan.inputs);
    Ok(inputs.context("a proposal without inputs")?.height)
}

fn encode(message: &ToCoordinator) -> Bytes {
    ToWire::encode(message).into()
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    rand::rng().fill_bytes(&mut bytes);
    bytes
}
