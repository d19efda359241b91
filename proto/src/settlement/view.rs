//! Time dilation: a node that was cut off believes a payout immature that is ripe. Its view is held
//! against the clock and against the tip that the coordinator mines on.

/// Seconds between two blocks, on average.
const BLOCK_S: u64 = 600;
/// A tip of this age comes by chance once in eighteen years (e^-12 a block).
const STALE_S: u64 = 2 * 3_600;
/// Within this time a block reaches all nodes; a difference that lasts longer is none of relay.
const RELAY_S: u64 = 120;

/// A chain's last block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChainEnd {
    pub height: u32,
    pub hash: [u8; 32],
}

/// The own node's tip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TipView {
    pub end: ChainEnd,
    /// The block's own time, seconds since 1970.
    pub time: u64,
}

/// What is wrong with the own node's view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Alarm {
    /// No block for so long that the node may be cut off.
    Stale { age_s: u64 },
    /// The coordinator mines on a higher block.
    Behind { blocks: u32 },
    /// The coordinator mines on a block of the own node's height or below that the own node does not
    /// have there.
    OtherBranch { height: u32 },
}

impl Alarm {
    /// For programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stale { .. } => "stale",
            Self::Behind { .. } => "behind",
            Self::OtherBranch { .. } => "other_branch",
        }
    }
}

/// Compares the own node's tip with the clock and with the coordinator's tip, over time.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// Blocks come when they are due: not so in regtest, where the clock says nothing.
    clock: bool,
    pool: Option<ChainEnd>,
    /// Since when the coordinator's tip and ours differ, seconds.
    differs_since: Option<u64>,
}

impl View {
    pub fn new(clock: bool) -> Self {
        Self {
            clock,
            pool: None,
            differs_since: None,
        }
    }

    /// The block that the coordinator lets its miners work on.
    pub fn pool_tip(&mut self, end: ChainEnd) {
        self.pool = Some(end);
    }

    /// The coordinator's tip, as far as it is known.
    pub fn pool(&self) -> Option<ChainEnd> {
        self.pool
    }

    /// Judges the own tip at the time `now`. `own_at` is the hash that the own node's best chain has
    /// at the height of the coordinator's tip, if it has one there.
    pub fn judge(&mut self, own: &TipView, own_at: Option<[u8; 32]>, now: u64) -> Vec<Alarm> {
        let age_s = now.saturating_sub(own.time);
        let mut alarms = Vec::new();
        if self.clock && age_s > STALE_S {
            alarms.push(Alarm::Stale { age_s });
        }
        let difference = self.pool.and_then(|pool| match own_at {
            _ if pool.height > own.end.height => Some(Alarm::Behind {
                blocks: pool.height - own.end.height,
            }),
            Some(hash) if hash != pool.hash => Some(Alarm::OtherBranch {
                height: pool.height,
            }),
            _ => None,
        });
        match difference {
            None => self.differs_since = None,
            Some(alarm) => {
                let since = *self.differs_since.get_or_insert(now);
                // Two blocks do not come within the time that one needs to be relayed.
                let far = matches!(alarm, Alarm::Behind { blocks: 2.. });
                if far || now.saturating_sub(since) >= RELAY_S {
                    alarms.push(alarm);
                }
            }
        }
        alarms
    }

    /// The height that the best chain may have by any evidence: a payout that is ripe there is
    /// handed to the node, which judges it. Refused, it is as before.
    pub fn highest_by_any_evidence(&self, own: &TipView, now: u64) -> u32 {
        let by_pool = self.pool.map_or(0, |pool| pool.height);
        let age_s = now.saturating_sub(own.time);
        let by_clock = if self.clock && age_s > STALE_S {
            let blocks = u32::try_from(age_s / BLOCK_S).unwrap_or(u32::MAX);
            own.end.height.saturating_add(blocks)
        } else {
            0
        };
        own.end.height.max(by_pool).max(by_clock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn tip(height: u32, age_s: u64) -> TipView {
        TipView {
            end: ChainEnd {
                height,
                hash: [1; 32],
            },
            time: NOW - age_s,
        }
    }

    fn end(height: u32, byte: u8) -> ChainEnd {
        ChainEnd {
            height,
            hash: [byte; 32],
        }
    }

    #[test]
    fn an_old_tip_is_an_alarm_and_evidence_for_ripe_payouts() {
        let mut view = View::new(true);
        assert_eq!(view.judge(&tip(100, 7_200), None, NOW), []);
        let stale = tip(100, 7_201);
        assert_eq!(
            view.judge(&stale, None, NOW),
            [Alarm::Stale { age_s: 7_201 }]
        );
        assert_eq!(view.highest_by_any_evidence(&stale, NOW), 112);
        let mut regtest = View::new(false);
        assert_eq!(regtest.judge(&stale, None, NOW), []);
        assert_eq!(regtest.highest_by_any_evidence(&stale, NOW), 100);
    }

    #[test]
    fn one_block_behind_is_relay_for_a_while_and_two_are_not() {
        let mut view = View::new(false);
        view.pool_tip(end(101, 9));
        assert_eq!(view.judge(&tip(100, 0), None, NOW), []);
        let behind = [Alarm::Behind { blocks: 1 }];
        assert_eq!(view.judge(&tip(100, 0), None, NOW + 120), behind);
        view.pool_tip(end(199, 9));
        assert_eq!(
            view.judge(&tip(100, 0), None, NOW),
            [Alarm::Behind { blocks: 99 }]
        );
        assert_eq!(view.highest_by_any_evidence(&tip(100, 0), NOW), 199);
        assert_eq!(view.judge(&tip(199, 0), Some([9; 32]), NOW), []);
    }

    #[test]
    fn another_branch_is_told_once_relay_cannot_explain_it() {
        let mut view = View::new(false);
        view.pool_tip(end(98, 9));
        assert_eq!(view.judge(&tip(100, 0), Some([1; 32]), NOW), []);
        assert_eq!(
            view.judge(&tip(100, 0), Some([1; 32]), NOW + 121),
            [Alarm::OtherBranch { height: 98 }]
        );
        // Our node follows.
        assert_eq!(view.judge(&tip(100, 0), Some([9; 32]), NOW + 122), []);
        assert_eq!(view.judge(&tip(100, 0), Some([1; 32]), NOW + 123), []);
    }
}
