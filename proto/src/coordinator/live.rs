//! Committed rounds: their jobs, and for how long work on them counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Coordinator, Turn};
use crate::deadline::Deadline;
use crate::header::merkle_root;
use crate::id::{Identity, JobId, PeerId, RoundId};
use crate::lane::Assignments;
use crate::message::{Job, ToParticipant};
use crate::plan::CheckedPlan;
use crate::template::Template;

/// Newest committed rounds whose shares are credited: a late share on the last lane is paid.
pub(super) const GENERATIONS: usize = 2;
/// Committed rounds remembered, so that a block found on an older lane is still submitted.
const LIVE_LIMIT: usize = 64;

/// A committed round that may still be hashed.
pub(super) struct LiveRound {
    pub(super) plan: CheckedPlan,
    pub(super) template: Arc<Template>,
    pub(super) assignments: Assignments,
    /// What a block of it would do to the carries.
    pub(super) carry: BTreeMap<Identity, i64>,
    /// Sessions that were shown its proposal.
    shown: BTreeSet<PeerId>,
    /// Merkle root of each lane.
    pub(super) roots: Vec<[u8; 32]>,
    /// Hashes of accepted shares.
    pub(super) seen: BTreeSet<[u8; 32]>,
}

/// A job as one participant got it: its shares are judged by this z, whatever z becomes later.
pub(super) struct IssuedJob {
    pub(super) identity: Identity,
    pub(super) round: RoundId,
    pub(super) z: u8,
}

impl LiveRound {
    pub(super) fn new(
        plan: CheckedPlan,
        template: Arc<Template>,
        assignments: Assignments,
        carry: BTreeMap<Identity, i64>,
        shown: BTreeSet<PeerId>,
    ) -> Self {
        let roots = plan
            .lanes()
            .iter()
            .map(|lane| merkle_root(lane.txid, &template.merkle_path))
            .collect();
        Self {
            plan,
            template,
            assignments,
            carry,
            shown,
            roots,
            seen: BTreeSet::new(),
        }
    }
}

impl Coordinator {
    /// Makes a committed round the one to hash on.
    pub(super) fn go_live(&mut self, turn: &mut Turn<'_>, live: LiveRound) {
        self.live.push(live);
        if self.live.len() > LIVE_LIMIT {
            self.live.remove(0);
        }
        self.forget_old_jobs();
        let members: Vec<Identity> = self.members.keys().copied().collect();
        for identity in members {
            self.issue_job(turn, identity);
        }
    }

    /// Gives a participant the newest committed round with its present z.
    fn issue_job(&mut self, turn: &mut Turn<'_>, identity: Identity) {
        let (Some(live), Some(member)) = (self.live.last(), self.members.get(&identity)) else {
            return;
        };
        // Who came after the proposal could not check it, and would refuse the job.
        if live.assignments.of(&identity).is_empty() || !live.shown.contains(&member.peer) {
            return;
        }
        let id = self.next_job;
        self.next_job = JobId(id.0.saturating_add(1));
        let (round, z, peer) = (live.plan.round(), member.pace.z, member.peer);
        let template = &live.template;
        let job = Job {
            id,
            round,
            version: template.version,
            previous_block: template.previous_block,
            time_min: template.time_min.max(template.time),
            time_max: template.time.saturating_add(self.params.ntime_roll),
            merkle_path: template.merkle_path.clone(),
            z,
        };
        self.jobs.insert(id, IssuedJob { identity, round, z });
        turn.send(peer, ToParticipant::Job(job));
    }

    /// Whether this session of the participant hashes the newest committed round.
    pub(super) fn has_job(&self, identity: &Identity) -> bool {
        let newest = self.live.last().map(|live| live.plan.round());
        let mut jobs = self.jobs.values();
        jobs.any(|job| job.identity == *identity && Some(job.round) == newest)
    }

    /// On a new tip only the last round is remembered: its late shares are work for this pool.
    pub(super) fn tip_changed(&mut self, _turn: &mut Turn<'_>) {
        let last = self.live.pop();
        self.live.clear();
        self.live.extend(last);
        self.forget_old_jobs();
    }

    fn forget_old_jobs(&mut self) {
        let rounds: BTreeSet<RoundId> = self.live.iter().map(|live| live.plan.round()).collect();
        self.jobs.retain(|_, job| rounds.contains(&job.round));
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
