//! Committed rounds: their jobs, and for how long work on them counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::Transaction;
use bitcoin::hashes::Hash;

use super::{Coordinator, Event, RoundKind, Turn};
use crate::deadline::Deadline;
use crate::header::merkle_root;
use crate::id::{Identity, JobId, PeerId, RoundId, RoundSeq};
use crate::lane::Assignments;
use crate::message::{Job, ToParticipant};
use crate::template::Template;

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
    pub(super) coinbases: Vec<Transaction>,
    pub(super) template: Arc<Template>,
    pub(super) assignments: Arc<Assignments>,
    /// What a block of it would do to the carries.
    pub(super) carry: BTreeMap<Identity, i64>,
    /// Sessions that were shown its proposal.
    shown: BTreeSet<PeerId>,
    /// Merkle root of each lane.
    pub(super) roots: Vec<[u8; 32]>,
    /// Who got a job on it, and the z that its shares are judged by, whatever z becomes later.
    pub(super) z: BTreeMap<Identity, u8>,
    /// Hashes of accepted shares.
    pub(super) seen: BTreeSet<[u8; 32]>,
}

impl LiveRound {
    pub(super) fn new(
        (kind, seq, round): (RoundKind, RoundSeq, RoundId),
        signers: usize,
        coinbases: Vec<Transaction>,
        template: Arc<Template>,
        assignments: Arc<Assignments>,
        carry: BTreeMap<Identity, i64>,
        shown: BTreeSet<PeerId>,
    ) -> Self {
        let direct = u64::from(signers == 0);
        let mut live = Self {
            kind,
            round,
            job: JobId(seq.0.saturating_mul(2).saturating_add(direct)),
            signers,
            coinbases,
            template,
            assignments,
            carry,
            shown,
            roots: Vec::new(),
            z: BTreeMap::new(),
            seen: BTreeSet::new(),
        };
        live.root();
        live
    }

    /// Direct rounds, which may be for a few only, and next-height rounds, which last a moment, make
    /// nobody's work stale.
    fn makes_stale(&self) -> bool {
        self.signers > 0 && self.kind == RoundKind::Present
    }

    fn root(&mut self) {
        let path = &self.template.merkle_path;
        let root = |tx: &Transaction| merkle_root(tx.compute_txid().to_byte_array(), path);
        self.roots = self.coinbases.iter().map(root).collect();
    }

    /// A next-height round, now that its previous block is there.
    fn on_tip_of(mut self, tip: &Template) -> Self {
        self.template = Arc::new(self.template.on_tip_of(tip));
        self.root();
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
        for identity in to {
            self.issue_job(turn, identity);
        }
    }

    /// Gives a participant the newest committed round with its present z.
    fn issue_job(&mut self, turn: &mut Turn<'_>, identity: Identity) {
        let (Some(live), Some(member)) = (self.live.last_mut(), self.members.get_mut(&identity))
        else {
            return;
        };
        // Who came after the proposal could not check it, and would refuse the job.
        if live.assignments.of(&identity).is_empty() || !live.shown.contains(&member.peer) {
            return;
        }
        let template = &live.template;
        let job = Job {
            id: live.job,
            round: live.round,
            version: template.version,
            bits: template.bits,
            previous_block: template.previous_block,
            time_min: template.time_min.max(template.time),
            time_max: template.time.saturating_add(self.params.ntime_roll),
            merkle_path: template.merkle_path.clone(),
            z: *live.z.entry(identity).or_insert_with(|| {
                member.pace.issued(turn.now);
                member.pace.z()
            }),
        };
        turn.send(member.peer, ToParticipant::Job(job));
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
        let mut idle: BTreeSet<Identity> = self.assignments.iter().map(|(_, who)| who).collect();
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
            let live = next.on_tip_of(tip);
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
