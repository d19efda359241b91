//! Message bytes by kind, and the distribution of times.

use std::collections::BTreeMap;
use std::time::Duration;

use super::player::Kind;

/// Message bytes: protobuf, without the frames of gRPC, HTTP/2 and TCP.
#[derive(Clone, Debug, Default)]
pub struct Traffic {
    /// From the coordinator.
    pub received: BTreeMap<Kind, u64>,
    /// To it.
    pub sent: BTreeMap<Kind, u64>,
}

impl Traffic {
    /// Notes a received message.
    pub fn note_received(&mut self, kind: Kind, bytes: usize) {
        *self.received.entry(kind).or_default() += bytes as u64;
    }

    /// Notes a sent message.
    pub fn note_sent(&mut self, kind: Kind, bytes: usize) {
        *self.sent.entry(kind).or_default() += bytes as u64;
    }

    /// Adds another participant's.
    pub fn add(&mut self, other: &Traffic) {
        add(&mut self.received, &other.received);
        add(&mut self.sent, &other.sent);
    }

    /// What came and went since an earlier count.
    pub fn since(&self, earlier: &Traffic) -> Traffic {
        Traffic {
            received: since(&self.received, &earlier.received),
            sent: since(&self.sent, &earlier.sent),
        }
    }
}

type Bytes = BTreeMap<Kind, u64>;

fn add(sum: &mut Bytes, more: &Bytes) {
    for (kind, bytes) in more {
        *sum.entry(*kind).or_default() += bytes;
    }
}

fn since(now: &Bytes, earlier: &Bytes) -> Bytes {
    let before = |kind: &Kind| earlier.get(kind).copied().unwrap_or(0);
    now.iter()
        .map(|(kind, bytes)| (*kind, bytes - before(kind)))
        .collect()
}

/// The value below which this part of the values lies, by nearest rank; zero of none.
pub fn percentile(values: impl Iterator<Item = Duration>, part: f64) -> Duration {
    let mut values: Vec<Duration> = values.collect();
    values.sort_unstable();
    let rank = (part * values.len() as f64).ceil() as usize;
    values
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let millis = |n: u64| Duration::from_millis(n);
        let values = || [5, 1, 4, 2, 3].into_iter().map(millis);
        assert_eq!(percentile(values(), 0.5), millis(3));
        assert_eq!(percentile(values(), 0.99), millis(5));
        assert_eq!(percentile(values(), 0.2), millis(1));
        assert_eq!(percentile(std::iter::empty(), 0.5), Duration::ZERO);
    }
}
