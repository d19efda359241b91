//! How long to wait before the next attempt.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(250);
const LAST: Duration = Duration::from_secs(30);

/// Doubles each time, by default from 0.25 s to 30 s.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    next: Duration,
    last: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new(FIRST, LAST)
    }
}

impl Backoff {
    /// One that begins with `first` and grows no longer than `last`.
    pub fn new(first: Duration, last: Duration) -> Self {
        Self { next: first, last }
    }

    /// The next wait: at least half of the nominal one, so that a thousand participants that lost
    /// their coordinator together do not come back together. `random` is uniform.
    pub fn next(&mut self, random: u32) -> Duration {
        let nominal = self.next;
        self.next = nominal.saturating_mul(2).min(self.last);
        let half = nominal / 2;
        let part = u64::try_from(half.as_micros()).unwrap_or(u64::MAX);
        // Two hours in microseconds, times 2^32, are still 64 bits.
        half + Duration::from_micros(part.saturating_mul(u64::from(random)) >> 32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_from_a_quarter_second_to_half_a_minute() {
        let mut longest = Backoff::default();
        let waits: Vec<_> = (0..10)
            .map(|_| longest.next(u32::MAX).as_millis())
            .collect();
        assert_eq!(waits[..4], [249, 499, 999, 1_999]);
        assert_eq!(waits[9], 29_999);
        let mut shortest = Backoff::default();
        assert_eq!(shortest.next(0), FIRST / 2);
        for _ in 0..20 {
            shortest.next(0);
        }
        assert_eq!(shortest.next(0), LAST / 2);
    }
}
