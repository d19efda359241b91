//! When a daemon bumps by itself: a payout that the node's mempool does not take alone, or that
//! blocks pass by.

use bitcoin::Amount;

use super::Feerate;

/// What a daemon may do by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BumpPolicy {
    /// Blocks that a ripe payout waits before its first bump, and before each further one. 0: it
    /// bumps as soon as the node wants more than the payout pays.
    pub after_blocks: u32,
    /// Blocks within which the node's estimate is to have it mined: what pays the estimate is given as many.
    pub target_blocks: u16,
    /// Highest feerate of payout and child together.
    pub feerate_max: Feerate,
    /// Most that all children of one payout may cost: only the last one is mined, so this is the
    /// highest fee of a child.
    pub cost_max: Amount,
}

/// What a payout was seen to pay, at one tip after another. Whoever raises it, all give that some blocks:
/// else each of its payees would raise, at one tip, what the one before has just made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What it was raised to last, or the least since.
    pub pays: Feerate,
    /// The tip at which that was first seen; none: nobody raised it.
    pub raised_at: Option<u32>,
}

impl Seen {
    /// Of a payout that pays this alone.
    pub const fn alone(pays: Feerate) -> Self {
        Self {
            pays,
            raised_at: None,
        }
    }

    /// Of one that we have just raised: a look at it may come a block later.
    pub const fn raised(tip: u32, pays: Feerate) -> Self {
        Self {
            pays,
            raised_at: Some(tip),
        }
    }

    /// Takes a look. A raise is by half at least, or to the estimate: less would cost next to nothing and
    /// hold up all others. A child that is gone was none.
    #[must_use]
    pub fn then(self, tip: u32, pays: Feerate, estimate: Option<Feerate>) -> Self {
        let before = self.pays;
        if pays < before {
            return Self::alone(pays);
        }
        let reaches = estimate.is_some_and(|estimate| before < estimate && estimate <= pays);
        let is_raise = pays > before && (reaches || pays >= before.half_more());
        match is_raise {
            true => Self::raised(tip, pays),
            false => self,
        }
    }

    /// Blocks that passed it by since a tip, or since it was raised if that was later.
    pub fn blocks_waited(self, tip: u32, since: u32) -> u32 {
        let since = self.raised_at.map_or(since, |raised| raised.max(since));
        tip.saturating_sub(since)
    }
}

/// A ripe payout that is not in the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Blocks in which it could have been mined and was not, since its fee was raised last, by whomever.
    pub blocks_waited: u32,
    /// What it pays now, with its child if that pays more.
    pub pays: Feerate,
    /// The least that the node's mempool takes now.
    pub mempool_min: Feerate,
    /// What the node estimates for a prompt confirmation, if it can say.
    pub estimate: Option<Feerate>,
    /// What this daemon lifted it to before. It pays less if somebody replaced the child and took the
    /// replacement back (replacement cycling).
    pub lifted_to: Option<Feerate>,
}

/// What a node estimates for a confirmation within some blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeeEstimate {
    Feerate(Feerate),
    /// It has seen too few transactions.
    TooFewSeen,
    /// It never says: it runs with -blocksonly.
    Disabled,
}

impl FeeEstimate {
    /// If it gives one.
    pub fn feerate(self) -> Option<Feerate> {
        match self {
            Self::Feerate(feerate) => Some(feerate),
            Self::TooFewSeen | Self::Disabled => None,
        }
    }
}

/// Why a bump is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BumpCause {
    /// The mempool takes nothing so cheap, so the payout is relayed by its child only.
    BelowMempoolMinimum { mempool_min: Feerate },
    /// Blocks passed it by, and the node estimates that more is needed.
    PassedBy { blocks: u32, estimate: Feerate },
    /// Blocks passed it by although the estimate, if there is one, says that it pays enough; then as many as the
    /// estimate is for.
    PassedByUnexplained { blocks: u32 },
    /// A bump of ours is not in the mempool any more, and nothing that pays as much.
    ChildLost { pays: Feerate },
}

/// What to do about a payout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Wait,
    /// Lift payout and child to the target.
    Bump {
        target: Feerate,
        cause: BumpCause,
    },
    /// A bump is due, and the policy's highest feerate is paid already.
    Capped {
        wanted: Feerate,
    },
}

/// Decides whether a bump is due. A lost child is made again at once: whoever takes it out pays each
/// time, and we pay once. `after_more` are further blocks that this daemon leaves to others.
pub fn decide(policy: &BumpPolicy, pending: &Pending, after_more: u32) -> Decision {
    let Pending {
        pays, mempool_min, ..
    } = *pending;
    if let Some(lifted) = pending.lifted_to.filter(|lifted| *lifted > pays) {
        // Below the mempool's minimum the node would not take it. Where no more is allowed, it is due as any other.
        let wanted = match lifted < mempool_min {
            true => mempool_min.half_more(),
            false => lifted,
        };
        let target = wanted.min(policy.feerate_max);
        if target > pays && target >= mempool_min {
            let cause = BumpCause::ChildLost { pays };
            return Decision::Bump { target, cause };
        }
    }
    let after = policy.after_blocks.saturating_add(after_more);
    if pending.blocks_waited < after {
        return Decision::Wait;
    }
    let Some((wanted, cause)) = wanted(policy, pending) else {
        return Decision::Wait;
    };
    let target = wanted.min(policy.feerate_max);
    if target <= pays {
        return Decision::Capped { wanted };
    }
    Decision::Bump { target, cause }
}

fn wanted(policy: &BumpPolicy, pending: &Pending) -> Option<(Feerate, BumpCause)> {
    let Pending {
        blocks_waited: blocks,
        pays,
        mempool_min,
        estimate,
        ..
    } = *pending;
    if pays < mempool_min {
        // Half as much again: the minimum rises while a mempool is full.
        let wanted = mempool_min.half_more().max(estimate.unwrap_or(mempool_min));
        return Some((wanted, BumpCause::BelowMempoolMinimum { mempool_min }));
    }
    if blocks == 0 {
        return None;
    }
    match estimate {
        Some(estimate) if estimate > pays => {
            Some((estimate, BumpCause::PassedBy { blocks, estimate }))
        }
        Some(_) if blocks < u32::from(policy.target_blocks) => None,
        _ => Some((pays.half_more(), BumpCause::PassedByUnexplained { blocks })),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn rate(sat: u64) -> Feerate {
        Feerate::from_sat_per_kvb(sat)
    }

    const POLICY: BumpPolicy = BumpPolicy {
        after_blocks: 2,
        target_blocks: 4,
        feerate_max: rate(50_000),
        cost_max: Amount::from_sat(10_000),
    };

    fn pending(blocks_waited: u32, pays: u64) -> Pending {
        Pending {
            blocks_waited,
            pays: rate(pays),
            mempool_min: rate(1_000),
            estimate: None,
            lifted_to: None,
        }
    }

    #[test]
    fn a_lost_child_is_made_again_at_once() {
        let lost = Pending {
            lifted_to: Some(rate(5_000)),
            ..pending(0, 1_000)
        };
        let cause = BumpCause::ChildLost { pays: rate(1_000) };
        let target = rate(5_000);
        assert_eq!(decide(&POLICY, &lost, 9), Decision::Bump { target, cause });
        let there = Pending {
            pays: rate(5_000),
            ..lost
        };
        assert_eq!(decide(&POLICY, &there, 9), Decision::Wait);
    }

    #[test]
    fn a_lost_child_that_the_mempool_would_not_take_any_more_is_made_again_above_its_minimum() {
        let lost = |mempool_min| Pending {
            lifted_to: Some(rate(5_000)),
            mempool_min: rate(mempool_min),
            ..pending(0, 1_000)
        };
        let cause = BumpCause::ChildLost { pays: rate(1_000) };
        for (mempool_min, target) in [(5_000, 5_000), (5_001, 7_502), (40_000, 50_000)] {
            let target = rate(target);
            let again = Decision::Bump { target, cause };
            assert_eq!(decide(&POLICY, &lost(mempool_min), 9), again);
        }
        // Not where the node would refuse the most that is allowed: not at once.
        assert_eq!(decide(&POLICY, &lost(50_001), 9), Decision::Wait);
    }

    #[test]
    fn a_payout_that_nothing_passed_by_waits() {
        for blocks in 0..2 {
            assert_eq!(decide(&POLICY, &pending(blocks, 1_000), 0), Decision::Wait);
        }
        assert_eq!(decide(&POLICY, &pending(4, 1_000), 3), Decision::Wait);
    }

    #[test]
    fn what_the_estimate_asks_is_paid_and_without_one_half_as_much_again() {
        let unexplained = BumpCause::PassedByUnexplained { blocks: 2 };
        assert_eq!(
            decide(&POLICY, &pending(2, 1_000), 0),
            Decision::Bump {
                target: rate(1_500),
                cause: unexplained
            }
        );
        let estimated = Pending {
            estimate: Some(rate(9_000)),
            ..pending(2, 1_000)
        };
        assert!(matches!(
            decide(&POLICY, &estimated, 0),
            Decision::Bump {
                target,
                cause: BumpCause::PassedBy { .. }
            } if target == rate(9_000)
        ));
    }

    #[test]
    fn what_pays_the_estimate_is_given_the_blocks_that_the_estimate_is_for() {
        let paid = |blocks| Pending {
            estimate: Some(rate(9_000)),
            ..pending(blocks, 9_000)
        };
        for blocks in 0..4 {
            assert_eq!(decide(&POLICY, &paid(blocks), 0), Decision::Wait);
        }
        let cause = BumpCause::PassedByUnexplained { blocks: 4 };
        let target = rate(13_500);
        assert_eq!(
            decide(&POLICY, &paid(4), 0),
            Decision::Bump { target, cause }
        );
        // The estimate has risen meanwhile: no word of it says that this suffices.
        let risen = Pending {
            estimate: Some(rate(9_001)),
            ..paid(2)
        };
        assert!(matches!(decide(&POLICY, &risen, 0), Decision::Bump { .. }));
    }

    /// One of those who may bump a payout, as a daemon does: by what it sees and by its own bumps.
    struct Daemon {
        policy: BumpPolicy,
        more: u32,
        seen: Seen,
        bumped_at: Option<u32>,
        lifted_to: Option<Feerate>,
    }

    impl Daemon {
        fn new(policy: BumpPolicy, more: u32) -> Self {
            Self {
                policy,
                more,
                seen: Seen::alone(rate(1_000)),
                bumped_at: None,
                lifted_to: None,
            }
        }

        /// What it lifts a payout to that is ripe since tip 0.
        fn look(&mut self, tip: u32, pays: Feerate, estimate: Option<Feerate>) -> Option<Feerate> {
            self.seen = self.seen.then(tip, pays, estimate);
            let (since, more) = self.bumped_at.map_or((0, self.more), |tip| (tip, 0));
            let pending = Pending {
                blocks_waited: self.seen.blocks_waited(tip, since),
                pays,
                mempool_min: rate(1_000),
                estimate,
                lifted_to: self.lifted_to,
            };
            let decision = decide(&self.policy, &pending, more);
            let Decision::Bump { target, .. } = decision else {
                return None;
            };
            (self.bumped_at, self.lifted_to) = (Some(tip), Some(target));
            Some(target)
        }
    }

    /// Who bumped, by place, and to what, tip by tip: at each they look in turn, some times.
    fn taking_turns(
        daemons: &mut [Daemon],
        tips: u32,
        estimate: Option<Feerate>,
    ) -> Vec<(u32, usize, u64)> {
        let (mut pays, mut bumps) = (rate(1_000), Vec::new());
        for tip in 0..=tips {
            for _ in 0..3 {
                for (place, daemon) in daemons.iter_mut().enumerate() {
                    if let Some(target) = daemon.look(tip, pays, estimate) {
                        pays = target;
                        bumps.push((tip, place, target.sat_per_kvb()));
                    }
                }
            }
        }
        bumps
    }

    #[test]
    fn of_all_who_may_bump_at_a_tip_one_does_and_as_blocks_pass_by_it_is_raised_further() {
        // All 230 payees of a shard are due at once, as those are whom a larger part goes before.
        let mut all: Vec<Daemon> = (0..230).map(|_| Daemon::new(POLICY, 12)).collect();
        let mut raised = taking_turns(&mut all, 18, None).into_iter();
        let (tip, first, _) = raised.next().unwrap();
        assert_eq!((tip, first), (14, 0));
        // From then on the one that has bumped is first.
        assert_eq!(raised.collect::<Vec<_>>(), [(16, 0, 2_250), (18, 0, 3_375)]);
    }

    #[test]
    fn payees_leave_a_payout_alone_that_the_coordinator_has_just_lifted_to_the_estimate() {
        let eager = BumpPolicy {
            after_blocks: 1,
            target_blocks: 3,
            ..POLICY
        };
        let slow = BumpPolicy {
            after_blocks: 6,
            target_blocks: 6,
            ..POLICY
        };
        // It has coins again only when the payees are due.
        let mut daemons = [
            Daemon::new(eager, 5),
            Daemon::new(slow, 0),
            Daemon::new(slow, 2),
        ];
        let estimate = Some(rate(5_000));
        assert_eq!(
            taking_turns(&mut daemons, 13, estimate),
            [(6, 0, 5_000), (9, 0, 7_500), (12, 0, 11_250),]
        );
        // And where it may pay no more, the first of them goes on.
        daemons[0] = Daemon::new(eager, 1_000);
        daemons[1] = Daemon::new(slow, 0);
        daemons[2] = Daemon::new(slow, 2);
        assert_eq!(
            taking_turns(&mut daemons, 13, estimate),
            [(6, 1, 5_000), (12, 1, 7_500)]
        );
    }

    #[test]
    fn a_raise_by_next_to_nothing_holds_up_nobody_nor_does_one_that_is_taken_back() {
        let seen = Seen::alone(rate(1_000));
        let little = seen.then(3, rate(1_400), None);
        assert_eq!(little, seen);
        // Little by little it is one, too.
        let half = little.then(4, rate(1_500), None);
        assert_eq!(half.raised_at, Some(4));
        assert_eq!((half.blocks_waited(9, 2), half.blocks_waited(9, 7)), (5, 2));
        assert_eq!(half.then(5, rate(1_500), None), half);
        // To the estimate, and not beyond it.
        let estimate = Some(rate(1_600));
        assert_eq!(half.then(5, rate(1_600), estimate).raised_at, Some(5));
        assert_eq!(half.then(5, rate(1_601), Some(rate(1_500))), half);
        let back = half.then(5, rate(1_000), estimate);
        assert_eq!(back, seen);
    }

    #[test]
    fn an_eager_policy_bumps_at_once_what_the_mempool_does_not_take() {
        let eager = BumpPolicy {
            after_blocks: 0,
            ..POLICY
        };
        let full = Pending {
            mempool_min: rate(4_000),
            ..pending(0, 1_000)
        };
        assert!(matches!(
            decide(&eager, &full, 0),
            Decision::Bump { target, .. } if target == rate(6_000)
        ));
        assert_eq!(decide(&eager, &pending(0, 1_000), 0), Decision::Wait);
    }

    proptest! {
        #[test]
        fn a_bump_always_raises_and_never_beyond_the_cap(
            blocks in 0u32..20, pays in 0u64..100_000, min in 100u64..100_000,
            estimate in proptest::option::of(100u64..100_000), more in 0u32..5,
        ) {
            let pending = Pending {
                blocks_waited: blocks,
                pays: rate(pays),
                mempool_min: rate(min),
                estimate: estimate.map(rate),
                lifted_to: None,
            };
            match decide(&POLICY, &pending, more) {
                Decision::Bump { target, .. } => {
                    prop_assert!(target > pending.pays && target <= POLICY.feerate_max);
                    prop_assert!(blocks >= POLICY.after_blocks + more);
                }
                Decision::Capped { wanted } => {
                    prop_assert!(wanted.min(POLICY.feerate_max) <= pending.pays);
                }
                Decision::Wait => {
                    let suffices = pays >= min && estimate.is_some_and(|estimate| estimate <= pays);
                    let is_early = suffices && blocks < u32::from(POLICY.target_blocks);
                    prop_assert!(is_early || blocks < POLICY.after_blocks + more);
                }
            }
        }
    }
}
