//! Which windows are kept, whatever the policy is.

use tutti_proto::id::WindowSeq;

/// What decides which segments may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// The last closed window.
    pub(super) last: WindowSeq,
    /// The operator's policy: so many of the newest; 0: all.
    pub(super) policy: u64,
    /// The first window whose work has a weight now.
    pub(super) counts_from: WindowSeq,
    /// The first window that explains a found block which is not settled.
    pub(super) explains_from: Option<WindowSeq>,
}

impl Kept {
    /// The first window that must stay; none if all do.
    pub(super) fn first(&self) -> Option<WindowSeq> {
        if self.policy == 0 {
            return None;
        }
        let policy = WindowSeq(self.last.0.saturating_add(1).saturating_sub(self.policy));
        let first = policy.min(self.counts_from);
        Some(
            self.explains_from
                .map_or(first, |explains| first.min(explains)),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(policy: u64, counts_from: u64, explains_from: Option<u64>) -> Option<u64> {
        let kept = Kept {
            last: WindowSeq(1_000),
            policy,
            counts_from: WindowSeq(counts_from),
            explains_from: explains_from.map(WindowSeq),
        };
        kept.first().map(|first| first.0)
    }

    #[test]
    fn the_policy_never_reaches_what_counts_or_explains_an_unsettled_block() {
        assert_eq!(first(0, 1, None), None, "all are kept");
        assert_eq!(first(100, 950, None), Some(901));
        assert_eq!(first(100, 500, None), Some(500));
        assert_eq!(first(100, 950, Some(300)), Some(300));
        assert_eq!(first(100, 950, Some(940)), Some(901));
        assert_eq!(first(5_000, 950, None), Some(0));
    }
}
