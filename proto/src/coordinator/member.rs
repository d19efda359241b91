//! A participant that has joined: its slots, its quota, its standing.

use std::collections::VecDeque;
use std::sync::Arc;

use super::pace::Pace;
use crate::coordinator::{LiveNumber, Settings};
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

/// Bad shares in a row after which a session ends: a miner whose rounds or clock went wrong is told why
/// far earlier, and at the pace that z aims at these are hours.
pub(super) const REFUSED_LIMIT: u32 = 512;

/// How fast an identity's shares come, against how fast they may. Outlives its connections.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ShareRate {
    /// When the last share would have come at the rate allowed, microseconds.
    due: u64,
}

impl ShareRate {
    /// Counts a share, if it may come now; else says in how many milliseconds it may.
    pub(super) fn take(&mut self, now: Millis, settings: &Settings) -> Result<(), u64> {
        let step = 1_000_000 / u64::from(settings.shares_per_second.max(1));
        let most = step.saturating_mul(u64::from(settings.shares_burst.max(1).saturating_sub(1)));
        let now = now.0.saturating_mul(1_000);
        let due = self.due.max(now);
        let early = due.saturating_sub(now).saturating_sub(most);
        if early > 0 {
            return Err(early.div_ceil(1_000));
        }
        self.due = due.saturating_add(step);
        Ok(())
    }

    /// Whether it is as if no share had ever come.
    pub(super) fn is_idle(&self, now: Millis) -> bool {
        self.due <= now.0.saturating_mul(1_000)
    }
}

/// A participant that has joined.
pub(super) struct Member {
    pub(super) peer: PeerId,
    /// Announced and unused, oldest first.
    pub(super) slots: VecDeque<Arc<AnnouncedSlot>>,
    pub(super) pace: Pace,
    pub(super) share_rate: ShareRate,
    /// The round that it got a job on last in this session, and whether that one is signed.
    pub(super) hashes: Option<(bool, LiveNumber)>,
    quota: u32,
    quota_at: Millis,
    /// Answers to proposals that it was shown and has not given.
    answers: u32,
    /// Messages refused beyond the quota, less those that came back since.
    overdrawn: u32,
    /// Shares refused, for another reason than their rate, since one was accepted.
    refused: u32,
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
            share_rate: ShareRate::default(),
            peer,
            slots: VecDeque::new(),
            pace: Pace::new(hashrate, settings),
            hashes: None,
            quota: settings.quota,
            quota_at: now,
            answers: 0,
            overdrawn: 0,
            refused: 0,
        }
    }

    /// A share was accepted.
    pub(super) fn share_accepted(&mut self) {
        self.refused = 0;
    }

    /// A share was refused that would be at any rate; says whether the peer cannot be listening to it.
    pub(super) fn share_refused(&mut self) -> bool {
        self.refused = self.refused.saturating_add(1);
        self.refused > REFUSED_LIMIT
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let settings = Settings {
            shares_burst: 3,
            shares_per_second: 4,
            ..Settings::default()
        };
        let mut rate = ShareRate::default();
        assert!(rate.is_idle(Millis(0)));
        for _ in 0..3 {
            assert_eq!(rate.take(Millis(1_000), &settings), Ok(()));
        }
        assert_eq!(rate.take(Millis(1_000), &settings), Err(250));
        assert_eq!(rate.take(Millis(1_100), &settings), Err(150));
        assert_eq!(rate.take(Millis(1_250), &settings), Ok(()));
        assert_eq!(rate.take(Millis(1_250), &settings), Err(250));
        let refused_cost_nothing = rate.take(Millis(1_500), &settings);
        assert_eq!(refused_cost_nothing, Ok(()));
        assert!(!rate.is_idle(Millis(2_249)) && rate.is_idle(Millis(2_250)));
        for _ in 0..3 {
            assert_eq!(rate.take(Millis(9_000), &settings), Ok(()));
        }
        assert_eq!(rate.take(Millis(9_000), &settings), Err(250));
    }
}
