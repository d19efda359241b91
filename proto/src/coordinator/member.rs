//! A participant that has joined: its slots, its quota, its standing.

use std::collections::VecDeque;

use super::pace::Pace;
use crate::coordinator::Settings;
use crate::deadline::Millis;
use crate::id::{Identity, PeerId};
use crate::lane::Worker;
use crate::message::AnnouncedSlot;

/// How a signer has behaved. Outlives its connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    failures: u32,
    until: Millis,
}

impl Standing {
    /// Whether it may sign now.
    pub fn may_sign(&self, now: Millis) -> bool {
        now >= self.until
    }

    /// Notes a failure: the back-off doubles with each one in a row.
    pub fn failed(&mut self, now: Millis, settings: &Settings) {
        let factor = 1u64.checked_shl(self.failures).unwrap_or(u64::MAX);
        let wait = settings
            .backoff
            .0
            .saturating_mul(factor)
            .min(settings.backoff_max.0);
        self.failures = self.failures.saturating_add(1);
        self.until = now.after(Millis(wait));
    }

    /// Whether it has behaved for so long that nothing need be remembered.
    pub fn is_forgotten(&self, now: Millis, settings: &Settings) -> bool {
        now >= self.until.after(settings.backoff_max)
    }

    /// Notes a committed round.
    pub fn signed(&mut self) {
        *self = Self::default();
    }
}

/// A participant that has joined.
pub(super) struct Member {
    pub(super) peer: PeerId,
    /// Announced and unused, oldest first.
    pub(super) slots: VecDeque<AnnouncedSlot>,
    pub(super) pace: Pace,
    quota: u32,
    quota_at: Millis,
    /// Answers to proposals that it was shown and has not given.
    answers: u32,
    /// Messages refused beyond the quota, less those that came back since.
    overdrawn: u32,
}

/// What a message's quota says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Quota {
    /// There was one left.
    Within,
    /// There was none.
    Spent,
    /// There was none, so many times that the peer cannot be listening to its refusals.
    Flooded,
}

/// Answers to one proposal: tx_complete, tx_signatures, tx_abort.
const ANSWERS: u32 = 3;
/// Answers that a peer may be late with.
const ANSWERS_LIMIT: u32 = 64 * ANSWERS;

/// A peer that is refused so many times its quota is disconnected.
const FLOOD: u32 = 8;

impl Member {
    pub(super) fn new(now: Millis, peer: PeerId, hashrate: u64, settings: &Settings) -> Self {
        Self {
            peer,
            slots: VecDeque::new(),
            pace: Pace::new(hashrate, settings),
            quota: settings.quota,
            quota_at: now,
            answers: 0,
            overdrawn: 0,
        }
    }

    /// The z of its next job, and how fast it hashes as far as this z says.
    pub(super) fn worker(&self) -> Worker {
        let z = self.pace.z();
        let rate = 1u64.checked_shl(u32::from(z)).unwrap_or(u64::MAX);
        Worker { rate, z }
    }

    /// It was shown a proposal, and may answer it beside its quota.
    pub(super) fn expect_answers(&mut self) {
        self.answers = self.answers.saturating_add(ANSWERS).min(ANSWERS_LIMIT);
    }

    /// Takes one of the answers that are expected; says whether there was one.
    pub(super) fn take_answer(&mut self) -> bool {
        let expected = self.answers > 0;
        self.answers = self.answers.saturating_sub(1);
        expected
    }

    /// Takes one message from the quota.
    pub(super) fn spend_quota(&mut self, now: Millis, settings: &Settings) -> Quota {
        let refill = settings.quota_refill.0.max(1);
        let back = now.since(self.quota_at).0 / refill;
        if back > 0 {
            let messages = u32::try_from(back).unwrap_or(u32::MAX);
            self.quota = self.quota.saturating_add(messages).min(settings.quota);
            self.overdrawn = self.overdrawn.saturating_sub(messages);
            self.quota_at = self.quota_at.after(Millis(back.saturating_mul(refill)));
        }
        if self.quota > 0 {
            self.quota -= 1;
            return Quota::Within;
        }
        self.overdrawn = self.overdrawn.saturating_add(1);
        if self.overdrawn > settings.quota.saturating_mul(FLOOD) {
            return Quota::Flooded;
        }
        Quota::Spent
    }
}

/// Candidates for the next attempt: those that announced a slot and are not backing off.
pub(super) fn is_candidate(member: &Member, standing: Option<&Standing>, now: Millis) -> bool {
    !member.slots.is_empty() && standing.is_none_or(|standing| standing.may_sign(now))
}

/// Identities that failed together are more than a third of those asked: blame the network.
pub(super) fn mass_failure(culprits: &[Identity], asked: usize) -> bool {
    // One silent signer of two is no network failure.
    culprits.len() > 1 && culprits.len().saturating_mul(3) > asked
}
