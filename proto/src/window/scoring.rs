//! Whose work a block pays: the weights of a round, from the ledger's spans.

use super::{Ledger, Span, Tally, add_all, total, works};
use crate::id::WindowSeq;
use crate::work::{Work, WorkOverflow};

/// Which work counts. Fixed by the pool for everybody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Scoring {
    /// The newest windows, until they reach a depth.
    #[default]
    Pplns = 0,
    /// The windows of the newest height in which there was any work.
    Epoch = 1,
}

impl Scoring {
    /// Decodes the wire's number.
    pub fn from_code(code: u32) -> Option<Self> {
        [Self::Pplns, Self::Epoch]
            .into_iter()
            .find(|scoring| scoring.code() == code)
    }

    /// The wire's number.
    pub fn code(self) -> u32 {
        u32::from(self as u8)
    }
}

impl Ledger {
    /// Weight of each identity under a scoring; the depth is PPLNS's.
    pub fn scored(&self, scoring: Scoring, depth: Work) -> Result<Tally, WorkOverflow> {
        match scoring {
            Scoring::Pplns => self.weights(depth),
            Scoring::Epoch => self.epoch_weights(),
        }
    }

    /// The first window whose work counts under a scoring, or may be told apart from what counts: what
    /// is needed to recompute the weights from shares.
    pub fn counts_from(&self, scoring: Scoring, depth: Work) -> Result<WindowSeq, WorkOverflow> {
        let mut first = self.seq().next();
        let (mut missing, mut epoch) = (depth.0, None);
        let spans: Vec<&Span> = self.spans().collect();
        for (place, span) in spans.iter().enumerate().rev() {
            let sum = total(&span.tally)?.0;
            let counts = match scoring {
                Scoring::Pplns => missing > 0,
                Scoring::Epoch => epoch.is_none_or(|epoch| epoch == span.height),
            };
            if sum > 0 && counts {
                let before = place.checked_sub(1).and_then(|before| spans.get(before));
                first = before.map_or(WindowSeq(0), |before| before.last).next();
                epoch = Some(span.height);
                missing = missing.saturating_sub(sum);
            }
        }
        Ok(first)
    }

    /// PPLNS: each identity's work in the newest windows that together reach `depth`; the oldest one
    /// that is needed counts pro rata, rounded down.
    pub fn weights(&self, depth: Work) -> Result<Tally, WorkOverflow> {
        sum(&self.newest(depth)?)
    }

    /// Epoch: each identity's work in all spans of the height of the newest span that has any.
    pub fn epoch_weights(&self) -> Result<Tally, WorkOverflow> {
        sum(&self.epoch()?)
    }

    /// The spans that a scoring counts, newest first, and how much of each.
    pub fn counted(
        &self,
        scoring: Scoring,
        depth: Work,
    ) -> Result<Vec<CountedSpan<'_>>, WorkOverflow> {
        match scoring {
            Scoring::Pplns => self.newest(depth),
            Scoring::Epoch => self.epoch(),
        }
    }

    fn newest(&self, depth: Work) -> Result<Vec<CountedSpan<'_>>, WorkOverflow> {
        let mut newest = Vec::new();
        let mut missing = depth.0;
        for place in (0..self.spans.len()).rev() {
            let Some(mut counted) = self.whole(place)? else {
                continue;
            };
            counted.counted.0 = counted.total.0.min(missing);
            missing -= counted.counted.0;
            newest.push(counted);
            if missing == 0 {
                break;
            }
        }
        Ok(newest)
    }

    fn epoch(&self) -> Result<Vec<CountedSpan<'_>>, WorkOverflow> {
        let mut spans: Vec<CountedSpan<'_>> = Vec::new();
        for place in (0..self.spans.len()).rev() {
            let of_epoch = |span: &CountedSpan<'_>| {
                let newest = spans.first().map_or(span, |newest| newest);
                newest.span.height == span.span.height
            };
            let counted = self.whole(place)?.filter(of_epoch);
            spans.extend(counted);
        }
        Ok(spans)
    }

    /// A span, counted whole; none if nobody worked in it.
    fn whole(&self, place: usize) -> Result<Option<CountedSpan<'_>>, WorkOverflow> {
        let span_at = |place: usize| self.spans.get(place).map(|kept| &kept.span);
        let Some(span) = span_at(place) else {
            return Ok(None);
        };
        let before = place.checked_sub(1).and_then(span_at);
        let total = total(&span.tally)?;
        Ok((total != Work::ZERO).then_some(CountedSpan {
            span,
            first: before.map_or(WindowSeq(1), |before| before.last.next()),
            total,
            counted: total,
        }))
    }
}

/// Consecutive windows, as far as a scoring counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CountedSpan<'a> {
    /// The windows, summed.
    pub span: &'a Span,
    /// Oldest window in it.
    pub first: WindowSeq,
    /// All work in it.
    pub total: Work,
    /// How much of that counts: less than all of it only in the oldest span that is needed.
    pub counted: Work,
}

impl CountedSpan<'_> {
    /// How much of some work in it counts, rounded down.
    pub fn part_of(&self, work: Work) -> Work {
        match self.counted == self.total {
            true => work,
            false => Work(pro_rata(work.0, self.counted.0, self.total.0)),
        }
    }
}

/// What counts of each identity's work, together.
fn sum(spans: &[CountedSpan<'_>]) -> Result<Tally, WorkOverflow> {
    let mut weights = Tally::new();
    for counted in spans {
        let works = works(&counted.span.tally);
        let counts = works.map(|(identity, work)| (identity, counted.part_of(work)));
        add_all(&mut weights, counts)?;
    }
    weights.retain(|_, work| *work != Work::ZERO);
    Ok(weights)
}

/// `floor(work * part / whole)`, for `part < whole`.
fn pro_rata(work: u128, part: u128, whole: u128) -> u128 {
    match work.checked_mul(part) {
        Some(product) => product / whole,
        None => {
            let wide =
                ethnum::U256::from(work) * ethnum::U256::from(part) / ethnum::U256::from(whole);
            wide.as_u128()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{grow_at, who};
    use super::*;

    #[test]
    fn the_oldest_window_that_is_needed_counts_pro_rata() {
        let mut ledger = Ledger::default();
        grow_at(&mut ledger, 1, &[(1, 100), (2, 300)]);
        grow_at(&mut ledger, 1, &[(2, 100)]);
        let weights = ledger.weights(Work(200)).unwrap();
        assert_eq!(
            weights,
            Tally::from([(who(1), Work(25)), (who(2), Work(175))])
        );
        assert_eq!(ledger.weights(Work(10_000)).unwrap()[&who(2)], Work(400));
        assert_eq!(
            ledger.weights(Work(50)).unwrap(),
            Tally::from([(who(2), Work(50))])
        );
    }

    #[test]
    fn the_first_window_that_counts_is_that_of_the_oldest_span_that_does() {
        let mut ledger = Ledger::default();
        let from = |ledger: &Ledger, depth| {
            let first = ledger.counts_from(Scoring::Pplns, Work(depth));
            first.unwrap().0
        };
        assert_eq!(from(&ledger, 100), 1, "nothing is older than the first");
        for _ in 0..200 {
            grow_at(&mut ledger, 1, &[(1, 10)]);
        }
        grow_at(&mut ledger, 1, &[]);
        assert_eq!(from(&ledger, 10), 200);
        assert_eq!(from(&ledger, 11), 199);
        // The windows 1 to 64, and 65 to 128, were merged.
        assert_eq!(from(&ledger, 730), 65);
        assert_eq!(from(&ledger, 10_000), 1);
        let epoch = ledger.counts_from(Scoring::Epoch, Work(1)).unwrap();
        assert_eq!(epoch, WindowSeq(1));
        grow_at(&mut ledger, 2, &[(1, 1)]);
        grow_at(&mut ledger, 3, &[]);
        let epoch = ledger.counts_from(Scoring::Epoch, Work(1)).unwrap();
        assert_eq!(epoch, WindowSeq(202));
    }

    #[test]
    fn an_epoch_is_the_newest_height_with_any_work() {
        let mut ledger = Ledger::default();
        let scored = |ledger: &Ledger| ledger.scored(Scoring::Epoch, Work(1)).unwrap();
        assert_eq!(scored(&ledger), Tally::new());
        grow_at(&mut ledger, 100, &[(1, 5)]);
        grow_at(&mut ledger, 100, &[(1, 1), (2, 7)]);
        let first = Tally::from([(who(1), Work(6)), (who(2), Work(7))]);
        assert_eq!(scored(&ledger), first);
        grow_at(&mut ledger, 101, &[]);
        assert_eq!(scored(&ledger), first, "nothing is done at 101 yet");
        grow_at(&mut ledger, 101, &[(3, 1)]);
        assert_eq!(scored(&ledger), Tally::from([(who(3), Work(1))]));
        // A reorganisation: the height before is mined once more.
        grow_at(&mut ledger, 100, &[(3, 2)]);
        let again = Tally::from([(who(1), Work(6)), (who(2), Work(7)), (who(3), Work(2))]);
        assert_eq!(scored(&ledger), again);
    }
}
