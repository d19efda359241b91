//! Committed rounds: their jobs, and for how long work on them counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bitcoin::Transaction;
use bitcoin::hashes::Hash;

use super::{Coordinator, Event, Turn};
use crate::deadline::Deadline;
use crate::header::merkle_root;
use crate::id::{Identity, JobId, PeerId, RoundId, RoundSeq};
use crate::lane::Assignments;
use crate::message::{Job, ToParticipant};
use crate::template::Template;

/// Newest committed rounds whose shares are credited: a late share on the last lane is paid.
pub(super) const GENERATIONS: usize = 2;
/// Committed rounds of one height remembered, so that a block found on any of its lanes is still
/// submitted: a day and a half of rounds at the default refresh.
const LIVE_LIMIT: usize = 4_096;

/// A committed round that may still be hashed.
pub(super) struct LiveRound {
    pub(super) round: RoundId,
    pub(super) job: JobId,
    /// Signers, the coordinator included; 0: a direct round.
    pub(super) signers: usize,
    pub(super) coinbases: Vec<Transaction>,
    pub(super) template: Arc<Template>,
    pub(super) assignments: Assignments,
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
        (seq, round): (RoundSeq, RoundId),
        signers: usize,
        coinbases: Vec<Transaction>,
        template: Arc<Template>,
        assignments: Assignments,
        carry: BTreeMap<Identity, i64>,
        shown: BTreeSet<PeerId>,
    ) -> Self {
        let direct = u64::from(signers == 0);
        let mut live = Self {
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
    /// Makes a committed round the one to hash on.
    pub(super) fn go_live(&mut self, turn: &mut Turn<'_>, live: LiveRound) {
        self.live.push(live);
        if self.live.len() > LIVE_LIMIT {
            self.live.remove(0);
        }
        if let Some(stale) = self.live.len().checked_sub(GENERATIONS + 1) {
            // What came late for these is work for nobody, unless it is a block.
            self.live[stale].z.clear();
            self.live[stale].seen.clear();
        }
        if self.hashes_tip() {
            self.deadlines.disarm(Deadline::Direct);
        }
        let members: Vec<Identity> = self.members.keys().copied().collect();
        for identity in members {
            self.issue_job(turn, identity);
        }
    }

    /// Gives a participant the newest committed round with its present z.
    fn issue_job(&mut self, turn: &mut Turn<'_>, identity: Identity) {
        let (Some(live), Some(member)) = (self.live.last_mut(), self.members.get(&identity)) else {
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
            z: member.pace.z,
        };
        live.z.insert(identity, member.pace.z);
        turn.send(member.peer, ToParticipant::Job(job));
    }

    /// Whether this session of the participant hashes the newest committed round, and that is a
    /// signed one of the present tip.
    pub(super) fn has_signed_job(&self, identity: &Identity) -> bool {
        let Some((live, member)) = self.live.last().zip(self.members.get(identity)) else {
            return false;
        };
        let hashed = live.z.contains_key(identity) && live.shown.contains(&member.peer);
        hashed && live.signers > 0 && self.hashes_tip()
    }

    /// Whether a committed round of the present tip is there.
    pub(super) fn hashes_tip(&self) -> bool {
        let tip = self
            .template
            .as_ref()
            .map(|template| template.previous_block);
        let newest = self.live.last().map(|live| live.template.previous_block);
        newest.is_some() && newest == tip
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
            self.go_live(turn, live);
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
