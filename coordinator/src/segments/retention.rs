//! Which windows are kept, whatever the policy is.

use std::collections::VecDeque;

use tutti_proto::id::WindowSeq;

/// Windows for which a round is live at most.
const LIVE_WINDOWS: u64 = 1_000;
/// A round is live while it is of the present height or of the one before, and it may have been signed
/// one height ahead. One more, since the present height may be one that no window was closed at.
const LIVE_HEIGHTS: u32 = 3;

/// A closed window, on which a round that is hashed may have been proposed.
struct Boundary {
    window: WindowSeq,
    /// What was mined after it; none of the last one.
    height: Option<u32>,
    /// The first window that had a weight when it closed.
    counts_from: WindowSeq,
}

/// What explains the amounts of a block that may be found yet: on a round that was proposed when other
/// windows counted than count now.
pub(super) struct Boundaries(VecDeque<Boundary>);

impl Boundaries {
    /// At the start the last closed window is known, and not what counted in it or before: everything.
    pub(super) fn after(last: WindowSeq) -> Self {
        let unknown = (last > WindowSeq(0)).then_some(Boundary {
            window: last,
            height: None,
            counts_from: WindowSeq(0),
        });
        Self(unknown.into_iter().collect())
    }

    /// A window closed that had been opened at this height.
    pub(super) fn closed(&mut self, window: WindowSeq, height: u32, counts_from: WindowSeq) {
        if let Some(last) = self.0.back_mut() {
            last.height = Some(height);
        }
        self.0.push_back(Boundary {
            window,
            height: None,
            counts_from,
        });
        let oldest = WindowSeq(window.0.saturating_sub(LIVE_WINDOWS));
        let lowest = height.saturating_sub(LIVE_HEIGHTS);
        let over = |known: &Boundary| {
            known.window < oldest || known.height.is_some_and(|height| height < lowest)
        };
        while self.0.front().is_some_and(over) {
            self.0.pop_front();
        }
    }

    /// The first window that may explain something; none if there is no window.
    pub(super) fn first(&self) -> Option<WindowSeq> {
        self.0.iter().map(|known| known.counts_from).min()
    }
}

/// What decides which segments may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// The last closed window.
    pub(super) last: WindowSeq,
    /// The operator's policy: so many of the newest; 0: all.
    pub(super) policy: u64,
    /// The first window whose work has a weight now.
    pub(super) counts_from: WindowSeq,
    /// The first window that a block of a round which is hashed needs.
    pub(super) live_from: Option<WindowSeq>,
    /// The first window that explains a found block which is not settled.
    pub(super) explains_from: Option<WindowSeq>,
    /// The first window after the newest state from which followers start.
    pub(super) followed_from: Option<WindowSeq>,
}

impl Kept {
    /// The first window that must stay; none if all do.
    pub(super) fn first(&self) -> Option<WindowSeq> {
        if self.policy == 0 {
            return None;
        }
        let policy = WindowSeq(self.last.0.saturating_add(1).saturating_sub(self.policy));
        let pins = [self.live_from, self.explains_from, self.followed_from];
        let first = policy.min(self.counts_from);
        Some(pins.into_iter().flatten().fold(first, WindowSeq::min))
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
            live_from: None,
            explains_from: explains_from.map(WindowSeq),
            followed_from: None,
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
        let kept = Kept {
            last: WindowSeq(1_000),
            policy: 1,
            counts_from: WindowSeq(990),
            live_from: Some(WindowSeq(970)),
            explains_from: None,
            followed_from: Some(WindowSeq(980)),
        };
        assert_eq!(kept.first(), Some(WindowSeq(970)));
        let live_from = None;
        assert_eq!(Kept { live_from, ..kept }.first(), Some(WindowSeq(980)));
    }

    #[test]
    fn what_counted_when_a_live_round_was_proposed_stays_though_the_boundary_moved() {
        let mut boundaries = Boundaries::after(WindowSeq(0));
        assert_eq!(boundaries.first(), None);
        // Refreshed rounds of one height; the work of each moves the boundary.
        for window in 1..=2_000 {
            boundaries.closed(WindowSeq(window), 50, WindowSeq(window));
            let first = window.saturating_sub(LIVE_WINDOWS).max(1);
            assert_eq!(boundaries.first(), Some(WindowSeq(first)));
        }
        // The open one is of height 51, the next ones of 52 to 54.
        for height in 50..=54 {
            let window = 1_951 + u64::from(height);
            boundaries.closed(WindowSeq(window), height, WindowSeq(window));
            let first = if height < 54 { window - 1_000 } else { 2_001 };
            assert_eq!(boundaries.first(), Some(WindowSeq(first)), "{height}");
        }
    }

    #[test]
    fn after_a_restart_everything_stays_until_no_round_of_before_is_live() {
        let mut boundaries = Boundaries::after(WindowSeq(70));
        for height in 50..54 {
            assert_eq!(boundaries.first(), Some(WindowSeq(0)), "{height}");
            boundaries.closed(WindowSeq(u64::from(height) + 21), height, WindowSeq(60));
        }
        assert_eq!(boundaries.first(), Some(WindowSeq(0)));
        boundaries.closed(WindowSeq(75), 54, WindowSeq(60));
        assert_eq!(boundaries.first(), Some(WindowSeq(60)));
        let mut boundaries = Boundaries::after(WindowSeq(70));
        for window in 71..=1_070 {
            boundaries.closed(WindowSeq(window), 50, WindowSeq(60));
            assert_eq!(boundaries.first(), Some(WindowSeq(0)), "{window}");
        }
        boundaries.closed(WindowSeq(1_071), 50, WindowSeq(60));
        assert_eq!(boundaries.first(), Some(WindowSeq(60)));
    }
}
