//! Whether a state's spans are the sums of windows that are known one by one: a state that somebody
//! names is a claim about them.

use std::collections::{BTreeMap, BTreeSet};

use super::{Ledger, MERGE, Span, Tally, add_all, works};
use crate::id::{Identity, WindowSeq};
use crate::work::{Work, WorkOverflow};

/// What of a window is in a span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WindowWork {
    /// The window's height.
    pub height: u32,
    /// Its tally.
    pub tally: Tally,
}

/// What a state says otherwise than its windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpanError {
    /// Its spans are others than the schedule makes.
    #[error("its spans are not those that {0} windows are merged into")]
    Schedule(WindowSeq),
    /// A span has another height than its newest window.
    #[error(
        "windows {first} to {last} are of height {claimed} in it, the newest of them is of {follows}"
    )]
    Height {
        /// Oldest window of the span.
        first: WindowSeq,
        /// Newest one.
        last: WindowSeq,
        /// What the state says.
        claimed: u32,
        /// What the window's record says.
        follows: u32,
    },
    /// A span gives somebody other work than its windows.
    #[error(
        "it gives {who:.16} {claimed} hashes in windows {first} to {last}, their shares have {follows}"
    )]
    Work {
        /// Oldest window of the span.
        first: WindowSeq,
        /// Newest one.
        last: WindowSeq,
        /// Who.
        who: Identity,
        /// What the state says.
        claimed: Work,
        /// What the windows' tallies say.
        follows: Work,
    },
    /// A sum overflows.
    #[error("{0}")]
    Overflow(#[from] WorkOverflow),
}

impl Ledger {
    /// Compares with the last windows, without a gap: every span of these alone must be their sum. Of
    /// spans with older windows in them nothing is said.
    pub fn check_spans(&self, windows: &BTreeMap<WindowSeq, WindowWork>) -> Result<(), SpanError> {
        let Some(oldest) = windows.keys().next() else {
            return Ok(());
        };
        let shape = self.spans().map(|span| (span.level, span.last));
        if !shape.eq(schedule(self.seq())) {
            return Err(SpanError::Schedule(self.seq()));
        }
        let mut first = WindowSeq(1);
        for span in self.spans() {
            if first >= *oldest {
                check_span(span, first, windows)?;
            }
            first = span.last.next();
        }
        Ok(())
    }
}

fn check_span(
    span: &Span,
    first: WindowSeq,
    windows: &BTreeMap<WindowSeq, WindowWork>,
) -> Result<(), SpanError> {
    let last = span.last;
    let mut tally = Tally::new();
    for (_, window) in windows.range(first..=last) {
        add_all(&mut tally, works(&window.tally))?;
    }
    let height = windows.get(&last).map(|window| window.height);
    if let Some(follows) = height.filter(|height| *height != span.height) {
        let claimed = span.height;
        return Err(SpanError::Height {
            first,
            last,
            claimed,
            follows,
        });
    }
    let everyone: BTreeSet<&Identity> = span.tally.keys().chain(tally.keys()).collect();
    let other = everyone
        .into_iter()
        .find(|who| span.tally.get(*who) != tally.get(*who));
    let work = |tally: &Tally, who: &Identity| tally.get(who).copied().unwrap_or_default();
    match other {
        None => Ok(()),
        Some(who) => Err(SpanError::Work {
            first,
            last,
            who: *who,
            claimed: work(&span.tally, who),
            follows: work(&tally, who),
        }),
    }
}

/// Level and newest window of each span that so many windows are merged into, oldest first.
fn schedule(last: WindowSeq) -> impl Iterator<Item = (u8, WindowSeq)> {
    let merge = MERGE as u64;
    let (mut levels, mut spans, mut windows) = (Vec::new(), last.0, 1u64);
    loop {
        let merged = (spans / merge).saturating_sub(1);
        levels.push((spans - merged * merge, windows));
        if merged == 0 {
            break;
        }
        (spans, windows) = (merged, windows.saturating_mul(merge));
    }
    let levels = (0u8..).zip(levels).collect::<Vec<_>>().into_iter().rev();
    let spans =
        levels.flat_map(|(level, (count, windows))| (0..count).map(move |_| (level, windows)));
    spans.scan(WindowSeq(0), |last, (level, windows)| {
        last.0 = last.0.saturating_add(windows);
        Some((level, *last))
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{grow_at, who};
    use super::*;

    fn work(record: &super::super::WindowRecord) -> (WindowSeq, WindowWork) {
        let (height, tally) = (record.height, record.tally.clone());
        (record.seq, WindowWork { height, tally })
    }

    #[test]
    fn every_state_of_an_honest_ledger_is_the_sum_of_its_windows() {
        let (mut ledger, mut windows) = (Ledger::default(), BTreeMap::new());
        for window in 1..=9_000u128 {
            let height = u32::try_from(window / 7).unwrap();
            let record = grow_at(&mut ledger, height, &[(1, window), (2, window % 3)]);
            windows.extend([work(&record)]);
            if window < 300 || window.is_multiple_of(64) {
                assert_eq!(ledger.check_spans(&windows), Ok(()), "{window}");
            }
        }
        assert!(ledger.spans().any(|span| span.level == 2));
        let newest = windows.split_off(&WindowSeq(8_000));
        assert_eq!(ledger.check_spans(&newest), Ok(()));
    }

    #[test]
    fn a_state_that_says_otherwise_than_its_windows_is_told_from_one_that_does_not() {
        let (mut honest, mut windows) = (Ledger::default(), BTreeMap::new());
        for _ in 0..200 {
            let record = grow_at(&mut honest, 5, &[(1, 10)]);
            windows.extend([work(&record)]);
        }
        let with = |change: &dyn Fn(&mut Vec<Span>)| {
            let mut ledger = honest.clone();
            let mut spans: Vec<Span> = honest.spans().cloned().collect();
            change(&mut spans);
            ledger.spans = spans.into_iter().map(super::super::Kept::new).collect();
            ledger.check_spans(&windows)
        };
        let (first, last) = (WindowSeq(65), WindowSeq(128));
        let stolen = with(&|spans| {
            spans[1].tally.insert(who(2), Work(1));
        });
        let (claimed, follows) = (Work(1), Work(0));
        let expected = SpanError::Work {
            first,
            last,
            who: who(2),
            claimed,
            follows,
        };
        assert_eq!(stolen, Err(expected));
        let (claimed, follows) = (6, 5);
        let expected = SpanError::Height {
            first,
            last,
            claimed,
            follows,
        };
        assert_eq!(with(&|spans| spans[1].height = 6), Err(expected));
        // As one span that begins before all that is known.
        let merged = with(&|spans| {
            let last = spans.pop().unwrap();
            *spans = vec![last];
        });
        assert_eq!(merged, Err(SpanError::Schedule(WindowSeq(200))));
        let newest = windows.split_off(&WindowSeq(66));
        assert_eq!(honest.check_spans(&newest), Ok(()));
    }
}
