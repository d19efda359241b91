//! Settlement: how a found block's payout gets into the chain. Pure: what a daemon's own node shows
//! comes in, what to do goes out. Both daemons go by the same rules, each by its own node only.

mod verdict;
mod view;

use crate::coinbase::COINBASE_MATURITY;

pub use verdict::BroadcastOutcome;
pub use view::{Alarm, ChainEnd, TipView, View};

/// Confirmations after which a payout is not looked after any more.
pub const FINAL_CONFIRMATIONS: u32 = 100;

/// How far a payout is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// The best chain does not have its block any more.
    Replaced,
    /// Its block is the tip.
    Found,
    /// This many blocks of the 100 are there, its own included.
    Maturing(u32),
    /// Nodes take the payout from now on.
    Ripe,
    /// It is in the mempool.
    Broadcast,
    /// It is in the chain; or the coinbase that pays without any is mature.
    Confirmed,
    /// So deep in the chain that nothing becomes of it any more.
    Final,
}

/// Where a node has a payout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whereabouts {
    Nowhere,
    Mempool,
    /// In the best chain, with so many blocks on it, its own included.
    Chain(u32),
}

/// What a node shows of a payout at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Blocks from the coinbase's block to the tip, both included; 0: it is not in the best chain.
    pub confirmations: u32,
    pub payout: Whereabouts,
}

impl Stage {
    /// Nothing of the past is needed: a reorganisation takes a payout back to where the chain now
    /// has it.
    pub fn of(sighting: Sighting) -> Self {
        match (sighting.payout, sighting.confirmations) {
            (_, 0) => Self::Replaced,
            (Whereabouts::Chain(FINAL_CONFIRMATIONS..), _) => Self::Final,
            (Whereabouts::Chain(_), _) => Self::Confirmed,
            (Whereabouts::Mempool, COINBASE_MATURITY..) => Self::Broadcast,
            (Whereabouts::Nowhere, COINBASE_MATURITY..) => Self::Ripe,
            // What was in the mempool before a reorganisation is not there any more.
            (_, 1) => Self::Found,
            (_, confirmations) => Self::Maturing(confirmations),
        }
    }

    /// Of a coinbase that pays by itself: mature, it is as good as confirmed.
    pub fn of_direct(confirmations: u32) -> Self {
        match Self::of(Sighting {
            confirmations,
            payout: Whereabouts::Nowhere,
        }) {
            Self::Ripe => Self::Confirmed,
            stage => stage,
        }
    }

    /// For programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Replaced => "replaced",
            Self::Found => "found",
            Self::Maturing(_) => "maturing",
            Self::Ripe => "ripe",
            Self::Broadcast => "broadcast",
            Self::Confirmed => "confirmed",
            Self::Final => "final",
        }
    }

    /// Whether the payout is to be handed to the node, at each new tip: a node forgets its mempool.
    pub fn is_due(self) -> bool {
        matches!(self, Self::Ripe | Self::Broadcast)
    }
}

/// Blocks from a height to the tip, both counted.
pub fn confirmations(height: u32, tip: u32) -> u32 {
    tip.saturating_add(1).saturating_sub(height)
}

/// The tip from which on nodes take what spends a coinbase of this height.
pub fn ripe_at(height: u32) -> u32 {
    height.saturating_add(COINBASE_MATURITY - 1)
}

/// What a daemon remembers of a payout between two looks at its node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    stage: Option<Stage>,
    /// The tip at which it was first seen ripe: miners can have had it from then on.
    ripe_since: Option<u32>,
}

/// What changed between two looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// None: it was not looked at before.
    pub from: Option<Stage>,
    pub to: Stage,
}

impl Progress {
    /// Takes a look; says whether the payout is further, or further back, than before. Blocks that
    /// only ripen it are not news.
    pub fn observe(&mut self, tip: u32, sighting: Sighting) -> Option<Transition> {
        let to = Stage::of(sighting);
        let from = self.stage.replace(to);
        self.ripe_since = match to {
            Stage::Ripe | Stage::Broadcast => {
                Some(self.ripe_since.map_or(tip, |since| since.min(tip)))
            }
            _ => None,
        };
        let ripening = matches!(
            (from, to),
            (Some(Stage::Maturing(_) | Stage::Found), Stage::Maturing(_))
        );
        (from != Some(to) && !ripening).then_some(Transition { from, to })
    }

    pub fn stage(&self) -> Option<Stage> {
        self.stage
    }

    /// Blocks that could have had the payout and did not.
    pub fn blocks_waited(&self, tip: u32) -> u32 {
        self.ripe_since.map_or(0, |since| tip.saturating_sub(since))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sighting(confirmations: u32, payout: Whereabouts) -> Sighting {
        Sighting {
            confirmations,
            payout,
        }
    }

    #[test]
    fn a_block_goes_from_found_to_final() {
        let mut progress = Progress::default();
        let mut stages = Vec::new();
        for tip in 100..=300u32 {
            let payout = match tip {
                ..=199 => Whereabouts::Nowhere,
                200..=201 => Whereabouts::Mempool,
                _ => Whereabouts::Chain(tip - 201),
            };
            let seen = progress.observe(tip, sighting(confirmations(100, tip), payout));
            stages.extend(seen.map(|t| (tip, t.to)));
        }
        assert_eq!(
            stages,
            [
                (100, Stage::Found),
                (199, Stage::Ripe),
                (200, Stage::Broadcast),
                (202, Stage::Confirmed),
            ]
        );
        assert_eq!(ripe_at(100), 199);
        let last = progress.observe(301, sighting(202, Whereabouts::Chain(100)));
        assert_eq!(last.map(|t| t.to), Some(Stage::Final));
    }

    #[test]
    fn a_reorg_of_any_depth_leads_back_to_what_the_chain_shows_now() {
        for depth in 1..=101u32 {
            // The payout was mined at h + 100; then the last `depth` blocks are replaced.
            let mut progress = Progress::default();
            progress.observe(200, sighting(101, Whereabouts::Chain(1)));
            let tip = 200 - depth;
            let left = confirmations(100, tip);
            let seen = progress.observe(tip, sighting(left, Whereabouts::Nowhere));
            let expected = match depth {
                1 => Stage::Ripe,
                101 => Stage::Replaced,
                100 => Stage::Found,
                _ => Stage::Maturing(101 - depth),
            };
            assert_eq!(seen.map(|t| t.to), Some(expected), "depth {depth}");
        }
    }

    proptest! {
        #[test]
        fn no_past_changes_what_a_sighting_means(
            past in proptest::collection::vec((0u32..120, 0u32..3, 0u32..400), 0..8),
            last in (0u32..120, 0u32..3, 0u32..400),
        ) {
            let whereabouts = |kind, tip: u32| match kind {
                0 => Whereabouts::Nowhere,
                1 => Whereabouts::Mempool,
                _ => Whereabouts::Chain(tip + 1),
            };
            let mut progress = Progress::default();
            for (confirmations, kind, tip) in past {
                progress.observe(tip, sighting(confirmations, whereabouts(kind, tip)));
            }
            let (confirmations, kind, tip) = last;
            let now = sighting(confirmations, whereabouts(kind, tip));
            progress.observe(tip, now);
            prop_assert_eq!(progress.stage(), Some(Stage::of(now)));
            // Said again: no news.
            prop_assert_eq!(progress.observe(tip, now), None);
            prop_assert!(progress.blocks_waited(tip) <= tip);
        }
    }
}
