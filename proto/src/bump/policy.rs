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
    /// Highest feerate of payout and child together.
    pub feerate_max: Feerate,
    /// Most that all children of one payout may cost: only the last one is mined, so this is the
    /// highest fee of a child.
    pub cost_max: Amount,
}

/// A ripe payout that is not in the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// Blocks in which it could have been mined and was not.
    pub blocks_waited: u32,
    /// What it pays now, with its child if it has one.
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
    /// Blocks passed it by although the estimate, if there is one, says that it pays enough.
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
    let Some((wanted, cause)) = wanted(pending) else {
        return Decision::Wait;
    };
    let target = wanted.min(policy.feerate_max);
    if target <= pays {
        return Decision::Capped { wanted };
    }
    Decision::Bump { target, cause }
}

fn wanted(pending: &Pending) -> Option<(Feerate, BumpCause)> {
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
                Decision::Wait => prop_assert!(blocks < POLICY.after_blocks + more),
            }
        }
    }
}
