//! Committed rounds: their jobs, and for how long work on them counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Action, Coordinator, Event, Record, RoundKind, Turn};
use crate::deadline::Deadline;
use crate::id::{Identity, JobId, PeerId, RoundId, WindowSeq};
use crate::message::{Job, ToParticipant};
use crate::template::Template;
use crate::terms::{CheckedTerms, HeaderTerms};

/// Newest committed rounds whose shares are credited: a late share on the last lane is paid.
pub(super) const GENERATIONS: usize = 2;
/// Committed rounds remembered at most, so that a block found on any of their lanes is still submitted.
const LIVE_LIMIT: usize = 4_096;
/// Windows after which a round is forgotten. Its block is booked within 1,024 windows of its proposal,
/// or every participant disputes it (SPEC.md, 9); some are left for the node's verdict.
pub(super) const LIVE_WINDOWS: u64 = 1_000;

/// A committed round that may still be hashed.
pub(super) struct LiveRound {
    kind: RoundKind,
    pub(super) round: RoundId,
    pub(super) job: JobId,
    /// Signers, the coordinator included; 0: a direct round.
    pub(super) signers: usize,
    pub(super) template: Arc<Template>,
    pub(super) terms: CheckedTerms,
    /// What a block of it would do to the carries.
    pub(super) carry: BTreeMap<Identity, i64>,
    /// Sessions that were shown its proposal.
    shown: BTreeSet<PeerId>,
    /// Who got a job on it, and the z that its shares are judged by.
    pub(super) z: BTreeMap<Identity, u8>,
    /// Hashes of accepted shares.
    pub(super) seen: BTreeSet<[u8; 32]>,
}

impl LiveRound {
    pub(super) fn new(
        kind: RoundKind,
        template: Arc<Template>,
        terms: CheckedTerms,
        carry: BTreeMap<Identity, i64>,
        shown: BTreeSet<PeerId>,
    ) -> Self {
        let inputs = &terms.terms().inputs;
        let (seq, signers) = (inputs.seq, inputs.signers.len());
        let direct = u64::from(inputs.is_direct());
        Self {
            kind,
            round: terms.round(),
            job: JobId(seq.0.saturating_mul(2).saturating_add(direct)),
            signers,
            template,
            terms,
            carry,
            shown,
            z: BTreeMap::new(),
            seen: BTreeSet::new(),
        }
    }

    /// Direct rounds, which may be for a few only, and next-height rounds, which last a moment, make
    /// nobody's work stale.
    fn makes_stale(&self) -> bool {
        self.signers > 0 && self.kind == RoundKind::Present
    }

    /// A next-height round, now that its previous block is there.
    fn on_tip_of(mut self, tip: &Template, ntime_roll: u32) -> Self {
        self.template = Arc::new(self.template.on_tip_of(tip));
        self.terms = self
            .terms
            .under(HeaderTerms::of(&self.template, ntime_roll));
        self
    }
}

impl Coordinator {
    /// Makes a committed round the one to hash on, for those of its participants that are named.
    pub(super) fn go_live(
        &mut self,
        turn: &mut Turn<'_>,
        mut live: LiveRound,
        to: BTreeSet<Identity>,
    ) {
        // A direct round that is made again, for those who came later, is the round it was.
        let again = |old: &LiveRound| {
            old.round == live.round && old.template.previous_block == live.template.previous_block
        };
        if let Some(place) = self.live.iter().position(again) {
            let shown = std::mem::take(&mut live.shown);
            live = self.live.remove(place);
            live.shown = shown;
        } else {
            // Before any job of it: whoever follows the shares needs it to judge the first.
            let terms = live.terms.terms().clone();
            turn.out.persist(Record::Terms(live.round, terms));
        }
        self.live.push(live);
        if self.live.len() > LIVE_LIMIT {
            self.live.remove(0);
        }
        let mut newer = 0;
        for live in self.live.iter_mut().rev() {
            if newer >= GENERATIONS {
                // What comes late for it is work for nobody, unless it is a block.
                live.z.clear();
                live.seen.clear();
                live.shown.clear();
            }
            newer += usize::from(live.makes_stale());
        }
        self.issue_job(turn, to);
    }

    /// Gives the newest committed round to those of these who can hash it.
    fn issue_job(&mut self, turn: &mut Turn<'_>, mut to: BTreeSet<Identity>) {
        let Some(live) = self.live.last_mut() else {
            return;
        };
        // Who came after the proposal could not check it, and would refuse the job.
        to.retain(|identity| {
            let member = self.members.get(identity);
            member.is_some_and(|member| live.shown.contains(&member.peer))
        });
        let mut peers = Vec::with_capacity(to.len());
        for identity in to {
            let z = live.terms.terms().assignments.z(&identity);
            let Some((z, member)) = z.zip(self.members.get_mut(&identity)) else {
                continue;
            };
            live.z.entry(identity).or_insert_with(|| {
                member.pace.issued(turn.now, z);
                z
            });
            peers.push(member.peer);
        }
        let job = Job {
            id: live.job,
            round: live.round,
            header: live.terms.terms().header.clone(),
        };
        if !peers.is_empty() {
            let message = ToParticipant::Job(job);
            turn.out.act(Action::Broadcast { peers, message });
        }
    }

    /// The first window that may hold shares of rounds whose shares still count: with the shares from
    /// it on, none counts twice.
    pub fn credits_from(&self) -> WindowSeq {
        let open = self.ledger.seq().next();
        let counting = self.live.iter().filter(|live| !live.z.is_empty());
        // A round's number is that of the window that its proposal closed.
        let first = counting
            .map(|live| (live.job.0 / 2).saturating_add(1))
            .min();
        first.map_or(open, |first| WindowSeq(first).min(open))
    }

    /// How many rounds went live after the one at this place that make work stale.
    pub(super) fn age(&self, place: usize) -> usize {
        let newer = self.live.iter().skip(place.saturating_add(1));
        newer.filter(|live| live.makes_stale()).count()
    }

    /// Committed rounds of the present tip.
    fn on_tip(&self) -> impl Iterator<Item = &LiveRound> {
        let tip = self
            .template
            .as_ref()
            .map(|template| template.previous_block);
        let of_tip = move |live: &&LiveRound| Some(live.template.previous_block) == tip;
        self.live.iter().filter(of_tip)
    }

    /// Whether a committed round of the present tip is there.
    pub(super) fn hashes_tip(&self) -> bool {
        self.on_tip().next().is_some()
    }

    /// Whether this session of the participant has a job on a signed round of the present tip.
    pub(super) fn has_signed_job(&self, identity: &Identity) -> bool {
        self.on_tip()
            .any(|live| live.signers > 0 && self.has_job(live, identity))
    }

    fn has_job(&self, live: &LiveRound, identity: &Identity) -> bool {
        let member = self.members.get(identity);
        live.z.contains_key(identity) && member.is_some_and(|m| live.shown.contains(&m.peer))
    }

    /// Participants that could hash and have no job on the present tip.
    pub(super) fn idle(&self) -> BTreeSet<Identity> {
        let mut idle: BTreeSet<Identity> = self.assignments.owners().collect();
        idle.retain(|who| self.members.contains_key(who));
        idle.retain(|who| !self.on_tip().any(|live| self.has_job(live, who)));
        idle
    }

    /// Forgets rounds whose blocks could not be booked any more.
    pub(super) fn forget_unbookable(&mut self) {
        let oldest = self.ledger.seq().0.saturating_sub(LIVE_WINDOWS);
        self.live.retain(|live| live.job.0 / 2 >= oldest);
        drop(self.next_height.take_if(|next| next.job.0 / 2 < oldest));
    }

    pub(super) fn is_committed(&self, round: &RoundId) -> bool {
        let next_height = self.next_height.as_ref();
        let mut known = self.live.iter().chain(next_height);
        known.any(|live| live.round == *round)
    }

    /// On a new tip everyone moves to what was signed ahead for it. Rounds of the height before are
    /// remembered: their late shares are work for this pool, and their blocks may yet win.
    pub(super) fn tip_changed(&mut self, turn: &mut Turn<'_>, tip: &Template) {
        self.live
            .retain(|live| live.template.height.saturating_add(1) >= tip.height);
        let fits = |next: &mut LiveRound| next.template.height == tip.height;
        if let Some(next) = self.next_height.take_if(fits) {
            let live = next.on_tip_of(tip, self.params.ntime_roll);
            let (job, height) = (live.job, tip.height);
            self.go_live(turn, live, self.members.keys().copied().collect());
            let jobs = self.live.last().map_or(0, |live| live.z.len());
            turn.tell(Event::NextHeight { job, height, jobs });
        }
        let outdated = |next: &mut LiveRound| next.template.height <= tip.height;
        drop(self.next_height.take_if(outdated));
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
