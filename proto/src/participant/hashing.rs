//! Jobs and shares: we hash only lanes whose complete payouts are on our disk.

use std::collections::{BTreeMap, BTreeSet};

use super::acknowledged::Acknowledged;
use super::event::{FoundShare, HeldBack};
use super::{Action, Event, Order, Participant, Record, State, Turn};
use crate::deadline::Millis;
use crate::header::merkle_root;
use crate::id::{Identity, JobId, RoundId, RoundSeq, WindowSeq};
use crate::lane::Assigned;
use crate::message::{HOLDS_LIMIT, Holds, Job, Share, ShareAck, ShareReject, ToCoordinator};
use crate::params::NTIME_ROLL_LIMIT;
use crate::reject::RejectCode;
use crate::work::Work;

/// Unanswered shares remembered; beyond it the oldest are given up.
const SENT_LIMIT: usize = 65_536;
/// Unanswered shares of sessions before that are sent again at once; each answer makes room for one
/// more. Below the burst that a coordinator takes, and below what a connection holds.
const AGAIN_AT_ONCE: usize = 64;
/// Shortest and longest wait for our rate: the number is the coordinator's.
const RATE_WAIT: (Millis, Millis) = (Millis(10), Millis(60_000));
/// Jobs remembered, for shares that the hasher finds late.
const JOBS_LIMIT: usize = 64;
/// Rounds whose lanes are remembered: the present one, the next height's, and what is just over.
const LANES_LIMIT: usize = 64;
/// Connections in a row that may fail before hashing ends: about two minutes at the usual back-off. A
/// coordinator that was restarted is back sooner, and what another tip made worthless ends too.
const LOST_LIMIT: u32 = 10;

/// The lanes of a round that we hold.
pub(super) struct Lanes {
    pub(super) round: RoundId,
    pub(super) seq: RoundSeq,
    /// What its job is called.
    pub(super) job: JobId,
    /// Height of its block.
    pub(super) height: u32,
    /// The target that decided whose work it pays.
    pub(super) bits: u32,
    pub(super) txids: Vec<[u8; 32]>,
    /// Our slices.
    pub(super) assigned: Vec<Assigned>,
}

/// What outlives a session: all of it is of one coordinator.
#[derive(Default)]
pub(super) struct Hashing {
    coordinator: Option<Identity>,
    /// The committed rounds that we hold and may hash, oldest first.
    lanes: Vec<Lanes>,
    /// z of each job that we were given.
    jobs: BTreeMap<JobId, u8>,
    /// Shares that no answer came to, by our numbers, and the work of each when it was found: a job that is given
    /// again changes nothing of it.
    unanswered: BTreeMap<u64, (Share, Work)>,
    /// Those of them that are yet to be sent in this session.
    again: BTreeSet<u64>,
    /// Shares below this number were found before this session.
    session: u64,
    /// Those that were refused because our rate was used up: no blocks, which are taken at any rate.
    too_fast: BTreeSet<u64>,
    /// Until when none of all those is sent.
    held_back: Option<HeldBack>,
    /// What counts in the open window, as far as this process was told.
    pub(super) acknowledged: Acknowledged,
    /// Whether the hasher has orders.
    runs: bool,
    /// Connections that ended or failed since we were last welcome.
    lost: u32,
}

impl Hashing {
    /// Of a process that begins.
    pub(super) fn of(coordinator: Option<Identity>) -> Self {
        Self {
            coordinator,
            ..Self::default()
        }
    }

    pub(super) fn holds(&self, round: &RoundId) -> bool {
        self.lanes.iter().any(|lanes| lanes.round == *round)
    }

    pub(super) fn hold(&mut self, lanes: Lanes) {
        if self.lanes.len() >= LANES_LIMIT {
            self.lanes.remove(0);
        }
        self.lanes.push(lanes);
    }

    /// The work of a share that is found on a job.
    fn work(&self, job: JobId) -> Option<Work> {
        self.jobs.get(&job).map(|z| Work::of_zero_bits(*z))
    }

    fn answered(&mut self, seq: u64) -> Option<(Share, Work)> {
        self.again.remove(&seq);
        self.too_fast.remove(&seq);
        self.unanswered.remove(&seq)
    }

    /// The next one to send again. Of those that came too fast the newest: while there are more of them
    /// than our rate lets through, the others of its job still count when it comes.
    fn next_again(&mut self) -> Option<u64> {
        let first = self.again.pop_first();
        first.or_else(|| self.too_fast.pop_last())
    }

    /// A job's shares are stale. Those that came too fast would each take from our rate to hear it, and
    /// what is found meanwhile would wait behind them until it is stale too.
    fn forget_stale(&mut self, job: JobId) {
        let unanswered = &mut self.unanswered;
        self.too_fast.retain(|seq| {
            let counts = unanswered
                .get(seq)
                .is_some_and(|(share, _)| share.job != job);
            if !counts {
                unanswered.remove(seq);
            }
            counts
        });
    }

    /// Forgets a job, and the shares that could not be told apart without it.
    fn trim_jobs(&mut self) {
        if self.jobs.len() >= JOBS_LIMIT
            && let Some((job, _)) = self.jobs.pop_first()
        {
            self.unanswered.retain(|_, (share, _)| share.job != job);
            let unanswered = &self.unanswered;
            self.again.retain(|seq| unanswered.contains_key(seq));
            self.too_fast.retain(|seq| unanswered.contains_key(seq));
        }
    }
}

impl Participant {
    pub(super) fn mine(&mut self, turn: &mut Turn<'_>, orders: Vec<Order>) {
        if orders.is_empty() && !self.hashing.runs {
            return;
        }
        self.hashing.runs = !orders.is_empty();
        turn.out.act(Action::Mine(orders));
    }

    /// The connection is gone. What we hold we go on hashing for a while: whoever comes back finds its
    /// shares counted. So we keep the ledger: thousands come back at once, and it is large.
    pub(super) fn lost(&mut self, turn: &mut Turn<'_>) {
        if let State::Joined(joined) = std::mem::replace(&mut self.state, State::Offline) {
            self.kept = Some(joined.ledger);
        }
        self.hashing.lost = self.hashing.lost.saturating_add(1);
        if self.hashing.lost >= LOST_LIMIT {
            self.mine(turn, Vec::new());
        }
    }

    /// Whose rounds are meant from now on: another coordinator's are nothing to this one.
    pub(super) fn hash_for(&mut self, turn: &mut Turn<'_>, coordinator: Identity) {
        if self.hashing.coordinator.is_some_and(|of| of != coordinator) {
            self.mine(turn, Vec::new());
            self.hashing = Hashing::default();
            self.checked.clear();
            self.kept = None;
            self.outputs = Default::default();
            // Its windows have other numbers.
            self.own_work.clear();
        }
        self.hashing.coordinator = Some(coordinator);
    }

    /// We have joined again: names the rounds that we may go on with.
    pub(super) fn name_held(&mut self, turn: &mut Turn<'_>) {
        self.hashing.lost = 0;
        let newest = self.hashing.lanes.iter().rev().take(HOLDS_LIMIT);
        let rounds: Vec<RoundId> = newest.map(|lanes| lanes.round).collect();
        if !rounds.is_empty() {
            turn.send(ToCoordinator::Holds(Holds { rounds }));
        }
    }

    /// Sends again what was found and not answered: the answer may be lost, or the share.
    pub(super) fn send_again(&mut self, turn: &mut Turn<'_>) {
        let Hashing {
            unanswered,
            too_fast,
            ..
        } = &self.hashing;
        let again = unanswered.keys().filter(|seq| !too_fast.contains(seq));
        self.hashing.again = again.copied().collect();
        self.hashing.session = self.next_share;
        self.hashing.held_back = None;
        self.send_more(turn, AGAIN_AT_ONCE);
    }

    fn send_more(&mut self, turn: &mut Turn<'_>, count: usize) {
        if self.hashing.held_back.is_some() {
            return;
        }
        for _ in 0..count {
            let Some(seq) = self.hashing.next_again() else {
                return;
            };
            if let Some((share, _)) = self.hashing.unanswered.get(&seq) {
                turn.send(ToCoordinator::Share(*share));
            }
        }
    }

    /// After which time to give [`Input::RateIsBack`].
    ///
    /// [`Input::RateIsBack`]: super::Input::RateIsBack
    pub fn held_back(&self) -> Option<HeldBack> {
        self.hashing.held_back
    }

    /// One is sent, whose answer sends the next or says how long to wait again.
    pub(super) fn rate_is_back(&mut self, turn: &mut Turn<'_>) {
        self.hashing.held_back = None;
        if matches!(self.state, State::Joined(_)) {
            self.send_more(turn, 1);
        }
    }

    pub(super) fn job(&mut self, turn: &mut Turn<'_>, job: Job) {
        let State::Joined(joined) = &mut self.state else {
            return;
        };
        joined.waiting_job = None;
        let mut held = self.hashing.lanes.iter();
        let Some(lanes) = held.find(|lanes| lanes.round == job.round) else {
            let mut waiting = joined.waiting.iter();
            if waiting.any(|agreed| agreed.checked.round() == job.round) {
                joined.waiting_job = Some(job);
            } else if !joined.refused.contains(&job.round) {
                turn.tell(Event::UnsignedJob { round: job.round });
            }
            return;
        };
        let Some(z) = lanes.assigned.first().map(|assigned| assigned.z) else {
            return; // It is for others.
        };
        let header = &job.header;
        let rolls = header.time_max.saturating_sub(header.time_min);
        let times = header.time_min <= header.time_max && rolls <= NTIME_ROLL_LIMIT;
        // Another target in the transcript would choose whose work is paid, and cost nothing; another name would
        // have shares found on one round counted as another's.
        if !times || header.bits != lanes.bits || job.id != lanes.job {
            return turn.tell(Event::OutOfOrder);
        }
        let orders: Vec<Order> = lanes
            .assigned
            .iter()
            .filter_map(|Assigned { slice, z, .. }| {
                let txid = lanes.txids.get(usize::from(slice.lane.0))?;
                Some(Order {
                    job: job.id,
                    height: lanes.height,
                    slice: *slice,
                    version: header.version,
                    previous_block: header.previous_block,
                    merkle_root: merkle_root(*txid, &header.merkle_path),
                    bits: header.bits,
                    time_min: header.time_min,
                    time_max: header.time_max,
                    z: *z,
                })
            })
            .collect();
        let event = Event::Hashing { seq: lanes.seq, z };
        self.hashing.trim_jobs();
        self.hashing.jobs.insert(job.id, z);
        self.hashing.runs = !orders.is_empty();
        turn.out.act(Action::Mine(orders));
        turn.tell(event);
    }

    /// A round is held: its job may have come while its ledger was being checked.
    pub(super) fn job_waited(&mut self, turn: &mut Turn<'_>, round: RoundId) {
        let waited = |job: &mut Job| job.round == round;
        let job = self
            .joined()
            .and_then(|joined| joined.waiting_job.take_if(waited));
        if let Some(job) = job {
            self.job(turn, job);
        }
    }

    pub(super) fn share_found(&mut self, turn: &mut Turn<'_>, found: FoundShare) {
        let seq = self.next_share;
        let FoundShare {
            job,
            lane,
            version,
            time,
            nonce,
        } = found;
        let share = Share {
            seq,
            job,
            lane,
            version,
            time,
            nonce,
        };
        let Some(work) = self.hashing.work(job) else {
            return;
        };
        self.next_share = seq.saturating_add(1);
        if self.hashing.unanswered.len() >= SENT_LIMIT
            && let Some((oldest, _)) = self.hashing.unanswered.pop_first()
        {
            self.hashing.again.remove(&oldest);
            self.hashing.too_fast.remove(&oldest);
        }
        self.hashing.unanswered.insert(seq, (share, work));
        // Found without a session, it is sent in the next one.
        if matches!(self.state, State::Joined(_)) {
            turn.send(ToCoordinator::Share(share));
        }
    }

    pub(super) fn share_ack(&mut self, turn: &mut Turn<'_>, ack: &ShareAck) {
        let Some(joined) = self.joined() else { return };
        // Any other window's record is here already or may never come: nothing would be checked.
        let (window, open) = (ack.window, joined.ledger.seq().next());
        if window != open {
            return self.leave(turn, Event::WrongWindow { window, open });
        }
        let answered = ack
            .seqs
            .iter()
            .filter_map(|seq| self.hashing.answered(*seq));
        let answered: Vec<(Share, Work)> = answered.collect();
        let shares = answered.len();
        let acknowledged = self.hashing.acknowledged.count(window, answered);
        let own = self.own_work.entry(window).or_default();
        // A process before this one may have found the same shares, so the two are not added.
        *own = acknowledged.max(*own);
        turn.out.persist(Record::OwnWork { window, work: *own });
        turn.tell(Event::SharesAcknowledged { shares, window });
        self.send_more(turn, shares);
    }

    /// Its work is done, and it counts if it comes later. What is found meanwhile is sent at once all the
    /// same: it may be a block.
    fn hold_back(&mut self, turn: &mut Turn<'_>, reject: ShareReject) {
        let (share, (least, most)) = (reject.seq, RATE_WAIT);
        let after = Millis(reject.got).clamp(least, most);
        self.hashing.too_fast.insert(share);
        self.hashing
            .held_back
            .get_or_insert(HeldBack { share, after });
        turn.tell(Event::ShareHeldBack { after });
    }

    pub(super) fn share_reject(&mut self, turn: &mut Turn<'_>, reject: ShareReject) {
        let is_unanswered = self.hashing.unanswered.contains_key(&reject.seq);
        if reject.code == RejectCode::RateLimited && is_unanswered {
            return self.hold_back(turn, reject);
        }
        let answered = self.hashing.answered(reject.seq);
        if let (Some((share, _)), RejectCode::Stale) = (&answered, reject.code) {
            self.hashing.forget_stale(share.job);
        }
        let known = answered.is_some();
        // What told us that it counts was lost with the session before. Of a share of this session nothing
        // was told: such an answer would have it counted nowhere where we look.
        let known = known && reject.seq < self.hashing.session;
        if known && reject.code == RejectCode::Duplicate && reject.got > 0 {
            let window = WindowSeq(reject.got);
            turn.tell(Event::ShareCounted { window });
        } else {
            turn.tell(Event::ShareRefused(reject));
        }
        self.send_more(turn, 1);
    }
}
