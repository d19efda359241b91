//! Holding a thread to a hashrate: small batches, each due when the ones before are paid off.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// Headers between two looks at the job channel: a fraction of a millisecond of hashing, so a
/// thread leaves a stale job within 1 ms.
const MAX_BATCH: u32 = 512;

/// A slow miner's batches, so that its shares come evenly.
const BATCHES_PER_SECOND: u64 = 20;

/// A thread is put to sleep only when it is this far ahead, since every sleep costs a wake-up.
const MIN_PAUSE: Duration = Duration::from_millis(5);

/// A thread that did not get the CPU catches up with this much at most.
const MAX_DEBT: Duration = Duration::from_millis(250);

/// One thread's schedule.
pub(super) struct Pace {
    rate: Option<NonZeroU64>,
    /// When the hashes done so far were due.
    due: Instant,
}

impl Pace {
    pub(super) fn new(rate: Option<NonZeroU64>, now: Instant) -> Self {
        Self { rate, due: now }
    }

    /// How many headers to hash before the next look at the job channel.
    pub(super) fn batch(&self) -> u32 {
        match self.rate {
            None => MAX_BATCH,
            Some(rate) => (rate.get() / BATCHES_PER_SECOND).clamp(1, u64::from(MAX_BATCH)) as u32,
        }
    }

    /// Counts hashes done and says how long to rest, if at all.
    pub(super) fn rest_after(&mut self, hashes: u32, now: Instant) -> Option<Duration> {
        let rate = self.rate?;
        let nanos = u64::from(hashes) * 1_000_000_000 / rate.get();
        let earliest = now.checked_sub(MAX_DEBT).unwrap_or(now);
        self.due = self.due.max(earliest) + Duration::from_nanos(nanos);
        let ahead = self.due.saturating_duration_since(now);
        (ahead >= MIN_PAUSE).then_some(ahead)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes_within(rate: u64, span: Duration) -> u64 {
        let start = Instant::now();
        let mut pace = Pace::new(NonZeroU64::new(rate), start);
        let (mut now, mut hashes) = (start, 0);
        while now < start + span {
            let batch = pace.batch();
            hashes += u64::from(batch);
            // Hashing itself takes no time here; only the pauses move the clock.
            if let Some(rest) = pace.rest_after(batch, now) {
                now += rest;
            }
        }
        hashes
    }

    #[test]
    fn the_rate_is_kept() {
        for rate in [1, 7, 1_000, 20_000, 100_000, 3_000_000] {
            let hashes = hashes_within(rate, Duration::from_secs(100));
            let wanted = rate * 100;
            assert!(
                hashes.abs_diff(wanted) <= wanted / 100 + 1,
                "{hashes} instead of {wanted} hashes"
            );
        }
    }

    #[test]
    fn a_thread_that_was_not_scheduled_does_not_make_up_for_all_of_it() {
        let start = Instant::now();
        let mut pace = Pace::new(NonZeroU64::new(1_000), start);
        let late = start + Duration::from_secs(60);
        let mut hashes = 0;
        while pace.rest_after(1, late).is_none() {
            hashes += 1;
        }
        assert!(hashes <= 260, "{hashes} hashes in one burst");
    }

    #[test]
    fn an_unlimited_thread_never_rests() {
        let now = Instant::now();
        assert_eq!(Pace::new(None, now).rest_after(MAX_BATCH, now), None);
    }
}
