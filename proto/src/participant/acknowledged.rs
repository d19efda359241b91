//! What this process was told to count in the open window: each share once, whatever its number.
//!
//! The coordinator counts a share once, and acknowledges one that comes again in a later session. A hasher
//! may find a share again: so that no honest pool owes us more than it counted, the second answer adds nothing.

use std::collections::{BTreeMap, BTreeSet};

use crate::id::{JobId, LaneIndex, WindowSeq};
use crate::message::Share;
use crate::work::Work;

/// Shares of a window that are remembered, some 10 MB: hours of the coordinator's default rate. Of more only the
/// work is counted: a hasher does not come back to so many.
const SHARES_LIMIT: usize = 262_144;

/// What is rolled of a header, and of which job.
type Header = (JobId, LaneIndex, i32, u32, u32);

/// Acknowledged work of the windows whose records are still to come. Whoever is told of an earlier window
/// meanwhile knows the later one's still.
#[derive(Default)]
pub(super) struct Acknowledged(BTreeMap<WindowSeq, Counted>);

#[derive(Default)]
struct Counted {
    work: Work,
    shares: BTreeSet<Header>,
}

impl Acknowledged {
    /// Counts these shares, which are acknowledged in this window, and says what it has now.
    pub(super) fn count(&mut self, window: WindowSeq, shares: Vec<(Share, Work)>) -> Work {
        let counted = self.0.entry(window).or_default();
        for (share, work) in shares {
            let header = header(&share);
            let is_new = match counted.shares.len() < SHARES_LIMIT {
                true => counted.shares.insert(header),
                false => !counted.shares.contains(&header),
            };
            if is_new {
                counted.work = counted.work.checked_add(work).unwrap_or(counted.work);
            }
        }
        counted.work
    }

    /// Windows up to this one are closed.
    pub(super) fn closed(&mut self, window: WindowSeq) {
        self.0.retain(|open, _| *open > window);
    }
}

fn header(share: &Share) -> Header {
    let Share {
        seq: _,
        job,
        lane,
        version,
        time,
        nonce,
    } = *share;
    (job, lane, version, time, nonce)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Shares of these nonces and this work, under numbers that differ each time.
    fn shares(nonces: std::ops::Range<u32>, first_seq: u64) -> Vec<(Share, Work)> {
        let share = |(nonce, seq)| Share {
            seq,
            job: JobId(1),
            lane: LaneIndex(0),
            version: 4,
            time: 5,
            nonce,
        };
        let numbered = nonces.zip(first_seq..);
        numbered.map(|each| (share(each), Work(8))).collect()
    }

    #[test]
    fn a_share_counts_once_in_a_window_whatever_its_number() {
        let mut acknowledged = Acknowledged::default();
        let window = WindowSeq(7);
        assert_eq!(acknowledged.count(window, shares(0..2, 1)), Work(16));
        assert_eq!(acknowledged.count(window, shares(1..3, 9)), Work(24));
        assert_eq!(acknowledged.count(window, Vec::new()), Work(24));
        // Each difference is another header.
        let of = |change: fn(&mut Share)| {
            let mut other = shares(0..1, 20);
            change(&mut other[0].0);
            other
        };
        for (change, sum) in [
            (of(|share| share.job = JobId(2)), 32),
            (of(|share| share.lane = LaneIndex(1)), 40),
            (of(|share| share.version = 5), 48),
            (of(|share| share.time = 6), 56),
        ] {
            assert_eq!(acknowledged.count(window, change), Work(sum));
        }
        let next = window.next();
        assert_eq!(acknowledged.count(next, shares(0..1, 30)), Work(8));
        // Told of the earlier one again, which may be a trick, it knows both.
        assert_eq!(acknowledged.count(window, Vec::new()), Work(56));
        assert_eq!(acknowledged.count(next, shares(1..2, 40)), Work(16));
        acknowledged.closed(window);
        assert_eq!(acknowledged.count(next, Vec::new()), Work(16));
        assert_eq!(acknowledged.0.len(), 1);
    }

    #[test]
    fn what_is_remembered_of_a_window_is_bounded_and_what_counts_is_not() {
        let mut acknowledged = Acknowledged::default();
        let limit = u32::try_from(SHARES_LIMIT).unwrap();
        let work = |shares: u32| Work(8 * u128::from(shares));
        let window = WindowSeq(1);
        let sum = acknowledged.count(window, shares(0..limit + 5, 1));
        assert_eq!(sum, work(limit + 5));
        // Of those that are remembered none counts again.
        assert_eq!(acknowledged.count(window, shares(limit - 5..limit, 1)), sum);
        assert_eq!(acknowledged.0[&window].shares.len(), SHARES_LIMIT);
    }
}
