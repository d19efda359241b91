//! How much a thread hashes before it looks up: never for long, and no more than its hashrate allows.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

/// Hashing between two looks at the job channel. With what the channel and the taking up of a job cost,
/// a thread that the CPU is not taken away from leaves a stale job well within 1 ms.
const BATCH_TIME: Duration = Duration::from_micros(250);

/// Batches are multiples of this, which all kernels' vectors divide, and start with it.
const BATCH_UNIT: u32 = 64;

/// More than any CPU's thread hashes within [`BATCH_TIME`].
const MAX_BATCH: u32 = 1 << 20;

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
    /// What the thread hashes within [`BATCH_TIME`], going by its last batches.
    full: u32,
}

impl Pace {
    pub(super) fn new(rate: Option<NonZeroU64>, now: Instant) -> Self {
        Self {
            rate,
            due: now,
            full: BATCH_UNIT,
        }
    }

    /// How many headers to hash before the next look at the job channel.
    pub(super) fn batch(&self) -> u32 {
        match self.rate {
            None => self.full,
            Some(rate) => (rate.get() / BATCHES_PER_SECOND).clamp(1, u64::from(self.full)) as u32,
        }
    }

    /// Learns from a batch how large the next ones may be. A thread that lost the CPU meanwhile begins
    /// small again and doubles.
    pub(super) fn learn(&mut self, hashes: u32, took: Duration) {
        if hashes < self.full {
            return; // Too few to tell.
        }
        let nanos = took.as_nanos().max(1);
        let fitting = u128::from(hashes) * BATCH_TIME.as_nanos() / nanos;
        let most = self.full.saturating_mul(2).min(MAX_BATCH);
        let fitting = u32::try_from(fitting).unwrap_or(most).min(most);
        self.full = (fitting / BATCH_UNIT * BATCH_UNIT).max(BATCH_UNIT);
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
        assert_eq!(Pace::new(None, now).rest_after(u32::MAX, now), None);
    }

    /// Lets a thread of this speed do so many batches and says how long the last one took.
    fn batch_time(pace: &mut Pace, per_second: u64, batches: u32) -> Duration {
        let mut took = Duration::ZERO;
        for _ in 0..batches {
            let batch = pace.batch();
            took = Duration::from_nanos(u64::from(batch) * 1_000_000_000 / per_second);
            pace.learn(batch, took);
        }
        took
    }

    #[test]
    fn a_batch_is_short_at_any_speed_and_long_enough_at_most() {
        let now = Instant::now();
        for speed in [300_000, 3_000_000, 35_000_000, 1_000_000_000] {
            let took = batch_time(&mut Pace::new(None, now), speed, 30);
            assert!(took <= BATCH_TIME, "{took:?} at {speed} H/s");
            assert!(took >= BATCH_TIME / 2, "{took:?} at {speed} H/s");
        }
    }

    #[test]
    fn a_thread_that_lost_the_cpu_hashes_full_batches_again() {
        let mut pace = Pace::new(None, Instant::now());
        batch_time(&mut pace, 30_000_000, 30);
        let full = pace.batch();
        pace.learn(full, Duration::from_secs(10));
        assert_eq!(pace.batch(), BATCH_UNIT);
        batch_time(&mut pace, 30_000_000, 30);
        assert_eq!(pace.batch(), full);
    }

    #[test]
    fn batches_within_a_limit_are_no_longer_than_without_one() {
        let mut pace = Pace::new(NonZeroU64::new(1_000_000_000), Instant::now());
        let took = batch_time(&mut pace, 30_000_000, 30);
        assert!((BATCH_TIME / 2..=BATCH_TIME).contains(&took), "{took:?}");
    }
}
