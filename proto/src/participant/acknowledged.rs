//! What this process was told to count in the open window: each share once, whatever its number.
//!
//! The coordinator counts a share once, and acknowledges one that comes again in a later session. A hasher
//! may find a share again: so that no honest pool owes us more than it counted, the second answer adds nothing.

use std::collections::BTreeSet;

use crate::id::{JobId, LaneIndex, WindowSeq};
use crate::message::Share;
use crate::work::Work;

/// Shares of a window that are remembered, some 10 MB: hours of the coordinator's default rate. What is
/// acknowledged beyond them is not counted here.
const SHARES_LIMIT: usize = 262_144;

/// What is rolled of a header, and of which job.
type Header = (JobId, LaneIndex, i32, u32, u32);

/// Acknowledged work of one window.
#[derive(Default)]
pub(super) struct Acknowledged {
    window: WindowSeq,
    work: Work,
    shares: BTreeSet<Header>,
}

impl Acknowledged {
    /// Counts these shares, which are acknowledged in this window, and says what it has now.
    pub(super) fn count(&mut self, window: WindowSeq, shares: Vec<(Share, Work)>) -> Work {
        if self.window != window {
            *self = Self {
                window,
                ..Self::default()
            };
        }
        for (share, work) in shares {
            if self.shares.len() < SHARES_LIMIT && self.shares.insert(header(&share)) {
                self.work = self.work.checked_add(work).unwrap_or(self.work);
            }
        }
        self.work
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
        assert_eq!(
            acknowledged.count(window.next(), shares(0..1, 30)),
            Work(8),
            "of the window before nothing"
        );
    }

    #[test]
    fn what_is_remembered_of_a_window_is_bounded_and_so_is_what_counts() {
        let mut acknowledged = Acknowledged::default();
        let limit = u32::try_from(SHARES_LIMIT).unwrap();
        let most = Work(8 * u128::from(limit));
        let window = WindowSeq(1);
        assert_eq!(acknowledged.count(window, shares(0..limit + 5, 1)), most);
        assert_eq!(
            acknowledged.count(window, shares(limit..limit + 5, 1)),
            most
        );
        assert_eq!(acknowledged.shares.len(), SHARES_LIMIT);
    }
}
