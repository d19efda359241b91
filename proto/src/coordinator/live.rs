//! Committed rounds: their jobs, and for how long work on them counts.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use bitcoin::hashes::Hash;

use super::event::{LiveNumber, LiveRecord};
use super::{Action, Coordinator, Event, Record, RoundKind, Turn};
use crate::deadline::Deadline;
use crate::id::{Identity, JobId, LaneIndex, PeerId, RoundId, RoundSeq, WindowSeq};
use crate::lane::Assigned;
use crate::message::{Job, ToParticipant};
use crate::template::Template;
use crate::terms::{CheckedTerms, HeaderTerms};
use crate::window::BlockPayouts;

/// Newest committed rounds whose shares are credited: a late share on the last lane is paid.
pub(super) const GENERATIONS: usize = 2;
/// Committed rounds remembered at most, so that a block found on any of their lanes is still submitted.
const LIVE_LIMIT: usize = 4_096;
/// Windows after which a round is forgotten. Its block is booked within 1,024 windows of its proposal,
/// or every participant disputes it (SPEC.md, 9); some are left for the node's verdict.
pub(super) const LIVE_WINDOWS: u64 = 1_000;

impl LiveRecord {
    /// Its number.
    pub fn seq(&self) -> RoundSeq {
        self.inputs.seq
    }

    /// Signers, the coordinator included; 0: a direct round.
    pub fn signers(&self) -> usize {
        self.inputs.signers.len()
    }

    /// Names its work in shares.
    pub fn job(&self) -> JobId {
        self.inputs.job()
    }

    /// What a block of one of its lanes pays.
    pub(super) fn payouts(&self, lane: LaneIndex) -> BlockPayouts {
        let coinbase = self.coinbases.get(usize::from(lane.0));
        let txid = coinbase.map(|coinbase| coinbase.compute_txid().to_byte_array());
        let txid = txid.unwrap_or_default();
        BlockPayouts::new(&self.params, &self.inputs, txid, &self.payees)
    }

    fn terms(&self) -> CheckedTerms {
        CheckedTerms::computed(
            self.params.clone(),
            self.round,
            self.inputs.clone(),
            self.assignments.clone(),
            self.coinbases.clone(),
            HeaderTerms::of(&self.template, self.params.ntime_roll),
        )
    }

    /// Direct rounds, which may be for a few only, and next-height rounds, which last a moment, make
    /// nobody's work stale.
    pub(super) fn makes_stale(&self) -> bool {
        !self.inputs.is_direct() && self.kind == RoundKind::Present
    }

    /// A next-height round, now that its previous block is there.
    fn on_tip_of(&self, tip: &Template) -> Self {
        Self {
            template: Arc::new(self.template.on_tip_of(tip)),
            ..self.clone()
        }
    }

    fn is_same_work(&self, other: &Self) -> bool {
        self.round == other.round && self.template.previous_block == other.template.previous_block
    }
}

/// What became of an accepted share.
#[derive(Clone, Copy, Debug)]
pub(super) struct Credit {
    /// The window in which it counts.
    pub(super) window: WindowSeq,
    /// The session to which it was acknowledged last, in this run.
    pub(super) told: Option<PeerId>,
}

/// A participant that got a job on a round.
pub(super) struct Given {
    /// What its shares are judged by, whatever its z becomes later.
    pub(super) z: u8,
    /// Its slices, here so that a share is one look into the round.
    pub(super) slices: Box<[Assigned]>,
    /// Hashes of its accepted shares. No other's are among them: a header is in one slice. Looked up only, so that
    /// their order is nobody's; one may be the whole pool, and then there are millions.
    pub(super) seen: HashMap<[u8; 32], Credit>,
}

impl Given {
    pub(super) fn of(z: u8, slices: &[Assigned]) -> Self {
        Self {
            z,
            slices: slices.into(),
            seen: HashMap::new(),
        }
    }
}

/// A committed round that may still be hashed.
pub(super) struct LiveRound {
    pub(super) number: LiveNumber,
    pub(super) of: Arc<LiveRecord>,
    /// Sessions that were shown its proposal, or still hold it from one before.
    pub(super) shown: BTreeSet<PeerId>,
    /// What its shares are judged by.
    pub(super) terms: Arc<CheckedTerms>,
    /// Who got a job on it.
    pub(super) given: BTreeMap<Identity, Given>,
    /// Whether its shares count, not only its blocks.
    pub(super) credits: bool,
}

impl LiveRound {
    pub(super) fn new(number: LiveNumber, of: Arc<LiveRecord>, shown: BTreeSet<PeerId>) -> Self {
        Self {
            number,
            terms: Arc::new(of.terms()),
            of,
            shown,
            given: BTreeMap::new(),
            credits: true,
        }
    }

    /// Forgets whose shares count: only blocks do.
    pub(super) fn make_stale(&mut self) {
        self.credits = false;
        self.given.clear();
        self.shown.clear();
    }
}

/// The committed round of the next height.
pub(super) struct Ahead {
    pub(super) of: Arc<LiveRecord>,
    pub(super) shown: BTreeSet<PeerId>,
}

impl Coordinator {
    /// Makes a committed round the one to hash on, for those of its participants that are named.
    pub(super) fn go_live(
        &mut self,
        turn: &mut Turn<'_>,
        of: Arc<LiveRecord>,
        shown: BTreeSet<PeerId>,
        to: BTreeSet<Identity>,
    ) {
        let again = self.live.iter().position(|old| old.of.is_same_work(&of));
        match again {
            // A direct round that is made again, for those who came later, is the round it was.
            Some(place) if place.saturating_add(1) == self.live.len() => {
                self.live[place].shown = shown;
            }
            Some(place) => {
                let old = self.live.remove(place);
                turn.out.persist(Record::LiveForgotten(old.number));
                let credits = true;
                self.push_live(
                    turn,
                    LiveRound {
                        shown,
                        credits,
                        ..old
                    },
                );
            }
            None => {
                let live = LiveRound::new(self.next_live, of, shown);
                // Before any job of it: whoever follows the shares needs it to judge the first.
                let terms = live.terms.terms().clone();
                turn.out.persist(Record::Terms(live.of.round, terms));
                self.push_live(turn, live);
            }
        }
        if self.live.len() > LIVE_LIMIT {
            let oldest = self.live.remove(0);
            turn.out.persist(Record::LiveForgotten(oldest.number));
        }
        let mut newer = 0;
        for live in self.live.iter_mut().rev() {
            if newer >= GENERATIONS {
                if live.credits {
                    turn.out.persist(Record::LiveStale(live.number));
                }
                // What comes late for it is work for nobody, unless it is a block.
                live.make_stale();
            }
            newer += usize::from(live.of.makes_stale());
        }
        self.issue_jobs(turn, self.live.len().saturating_sub(1), to);
    }

    fn push_live(&mut self, turn: &mut Turn<'_>, live: LiveRound) {
        let number = self.next_live;
        self.next_live = LiveNumber(number.0.saturating_add(1));
        turn.out.persist(Record::Live {
            number,
            round: live.of.clone(),
        });
        if !live.given.is_empty() {
            let z = live.given.iter().map(|(who, given)| (*who, given.z));
            let z = z.collect();
            turn.out.persist(Record::JobsIssued { number, z });
        }
        self.live.push(LiveRound { number, ..live });
    }

    /// The terms of a live round on this tip, as we computed them.
    pub fn terms(&self, round: &RoundId, tip: &[u8; 32]) -> Option<&Arc<CheckedTerms>> {
        let mut all = self.live.iter().rev().map(|live| &live.terms);
        all.find(|terms| terms.round() == *round && terms.terms().header.previous_block == *tip)
    }

    /// Gives participants a live round; that they have it is durable before they do. Says to how many.
    pub(super) fn issue_jobs(
        &mut self,
        turn: &mut Turn<'_>,
        place: usize,
        to: impl IntoIterator<Item = Identity>,
    ) -> usize {
        let Some(bits) = self.live.get(place).map(|live| live.of.template.bits) else {
            return 0;
        };
        let most = self.fewest_of_a_block(bits);
        let Some(live) = self.live.get_mut(place).filter(|live| live.credits) else {
            return 0;
        };
        let (mut issued, mut peers) = (Vec::new(), Vec::new());
        for identity in to {
            let slices = live.of.assignments.of(&identity);
            let z = slices.first().map(|first| first.z);
            let Some((z, member)) = z.zip(self.members.get_mut(&identity)) else {
                continue;
            };
            // Whose output expired is nobody's payee: the ledger would name it for ever.
            if self.roster.active(&identity).is_none() {
                continue;
            }
            // Who came after the proposal could not check it, and would refuse the job.
            if !live.shown.contains(&member.peer) {
                continue;
            }
            live.given.entry(identity).or_insert_with(|| {
                issued.push((identity, z));
                Given::of(z, slices)
            });
            member.pace.issued(turn.now, z, most);
            member.hashes = Some((live.of.signers() > 0, live.number));
            peers.push(member.peer);
        }
        let given = peers.len();
        if given > 0 {
            let message = ToParticipant::Job(Job {
                id: live.of.job(),
                round: live.of.round,
                header: live.terms.terms().header.clone(),
            });
            let message = Box::new(message);
            turn.out.act(Action::Broadcast { peers, message });
        }
        if !issued.is_empty() {
            let number = live.number;
            turn.out.persist(Record::JobsIssued { number, z: issued });
        }
        given
    }

    /// The first window that may hold shares of rounds whose shares still count: with the shares from
    /// it on, none counts twice.
    pub fn credits_from(&self) -> WindowSeq {
        let open = self.ledger.seq().next();
        let counting = self.live.iter().filter(|live| !live.given.is_empty());
        let rounds = counting.map(|live| live.of.seq());
        let ahead = self.next_height.iter().map(|next| next.of.seq());
        // A round's number is that of the window that its proposal closed.
        let first = rounds.chain(ahead).map(|seq| seq.0.saturating_add(1)).min();
        first.map_or(open, |first| WindowSeq(first).min(open))
    }

    /// Whether shares of this identity may still count, on a job that it was given.
    pub(super) fn may_work(&self, identity: &Identity) -> bool {
        let mut live = self.live.iter();
        live.any(|live| live.given.contains_key(identity))
    }

    /// How many rounds went live after the one at this place that make work stale.
    pub(super) fn age(&self, place: usize) -> usize {
        let newer = self.live.iter().skip(place.saturating_add(1));
        newer.filter(|live| live.of.makes_stale()).count()
    }

    /// Committed rounds of the present tip.
    pub(super) fn on_tip(&self) -> impl Iterator<Item = &LiveRound> {
        let tip = self
            .template
            .as_ref()
            .map(|template| template.previous_block);
        let of_tip = move |live: &&LiveRound| Some(live.of.template.previous_block) == tip;
        self.live.iter().filter(of_tip)
    }

    /// Whether anybody hashes a round of the present template's, signed or direct: the one that was
    /// signed ahead is to be replaced soon anyway.
    pub(super) fn hashes_tip(&self) -> bool {
        let Some(first) = self.of_template().map(|live| live.number).min() else {
            return false;
        };
        let mut members = self.members.values();
        members.any(|member| member.hashes.is_some_and(|(_, number)| number >= first))
    }

    fn of_template(&self) -> impl Iterator<Item = &LiveRound> {
        let present = |live: &&LiveRound| live.of.kind == RoundKind::Present;
        self.on_tip().filter(present)
    }

    /// Whether this session of the participant has a job on a signed round of the present tip, other
    /// than the one that was signed ahead.
    pub(super) fn has_signed_job(&self, identity: &Identity) -> bool {
        self.of_template()
            .any(|live| live.of.signers() > 0 && self.has_job(live, identity))
    }

    fn has_job(&self, live: &LiveRound, identity: &Identity) -> bool {
        let member = self.members.get(identity);
        live.given.contains_key(identity) && member.is_some_and(|m| live.shown.contains(&m.peer))
    }

    /// Participants that could hash and have no job on the present tip.
    pub(super) fn idle(&self) -> BTreeSet<Identity> {
        let mut idle: BTreeSet<Identity> = self.assignments.owners().collect();
        idle.retain(|who| self.members.contains_key(who));
        idle.retain(|who| !self.on_tip().any(|live| self.has_job(live, who)));
        idle
    }

    /// Forgets rounds whose blocks could not be booked any more.
    pub(super) fn forget_unbookable(&mut self, turn: &mut Turn<'_>) {
        let oldest = self.ledger.seq().0.saturating_sub(LIVE_WINDOWS);
        self.keep_live(turn, |of| of.seq().0 >= oldest);
        self.keep_ahead(turn, |of| of.seq().0 >= oldest);
    }

    fn keep_live(&mut self, turn: &mut Turn<'_>, keep: impl Fn(&LiveRecord) -> bool) {
        self.live.retain(|live| {
            let keeps = keep(&live.of);
            if !keeps {
                turn.out.persist(Record::LiveForgotten(live.number));
            }
            keeps
        });
    }

    fn keep_ahead(&mut self, turn: &mut Turn<'_>, keep: impl Fn(&LiveRecord) -> bool) {
        if self.next_height.take_if(|next| !keep(&next.of)).is_some() {
            turn.out.persist(Record::KeptAhead(None));
        }
    }

    pub(super) fn is_committed(&self, round: &RoundId) -> bool {
        let ahead = self.next_height.iter().map(|next| &next.of);
        let mut known = self.live.iter().map(|live| &live.of).chain(ahead);
        known.any(|of| of.round == *round)
    }

    /// On a new tip everyone moves to what was signed ahead for it. Rounds of the height before are
    /// remembered: their late shares are work for this pool, and their blocks may yet win.
    pub(super) fn tip_changed(&mut self, turn: &mut Turn<'_>, tip: &Template) {
        self.keep_live(turn, |of| {
            of.template.height.saturating_add(1) >= tip.height
        });
        // Of another target it would pay other work.
        let fits = |next: &mut Ahead| {
            next.of.template.height == tip.height && next.of.inputs.bits == tip.bits
        };
        if let Some(next) = self.next_height.take_if(fits) {
            turn.out.persist(Record::KeptAhead(None));
            let (job, height) = (next.of.job(), tip.height);
            let of = Arc::new(next.of.on_tip_of(tip));
            let all = self.members.keys().copied().collect();
            self.go_live(turn, of, next.shown, all);
            let jobs = self.live.last().map_or(0, |live| live.given.len());
            turn.tell(Event::NextHeight { job, height, jobs });
        }
        self.keep_ahead(turn, |of| of.template.height > tip.height);
    }

    /// Moves each z by its pace. The next round's job carries it: within one round a participant has
    /// one z, or it could submit every hash under the best of several.
    pub(super) fn judge_pace(&mut self, turn: &mut Turn<'_>) {
        for member in self.members.values_mut() {
            member.pace.judge(turn.now, &self.settings);
        }
        if !self.members.is_empty() {
            let next = turn.now.after(self.settings.share_interval);
            self.deadlines.arm(Deadline::Pace, next);
        }
    }
}
