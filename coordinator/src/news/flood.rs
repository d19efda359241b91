//! What strangers cause as often as they like is told so many times a second: a log on a disk would else be as long
//! as they want, and a journal that drops what is too much would drop our errors with it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Events that a peer can cause with every message or connection.
const BY_STRANGERS: [&str; 7] = [
    "connections_full",
    "join_overdue",
    "joined",
    "left",
    "refused",
    "resumed",
    "share_refused",
];
/// Lines of each of these in a second.
const LINES: u32 = 100;
const SECOND: Duration = Duration::from_secs(1);

/// The present second.
pub(super) struct Flood(Mutex<[Option<Told>; BY_STRANGERS.len()]>);

struct Told {
    since: Instant,
    lines: u32,
    left_out: u64,
}

impl Flood {
    pub(super) const fn new() -> Self {
        Self(Mutex::new([const { None }; BY_STRANGERS.len()]))
    }

    /// Whether this event may be told now, and how many were left out in the seconds before.
    pub(super) fn take(&self, event: &str, now: Instant) -> Option<u64> {
        let Some(place) = BY_STRANGERS.iter().position(|name| *name == event) else {
            return Some(0);
        };
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let told = told[place].get_or_insert(Told {
            since: now,
            lines: 0,
            left_out: 0,
        });
        let is_new = now.saturating_duration_since(told.since) >= SECOND;
        if is_new {
            (told.since, told.lines) = (now, 0);
        }
        if told.lines >= LINES {
            told.left_out = told.left_out.saturating_add(1);
            return None;
        }
        told.lines += 1;
        Some(match is_new {
            true => std::mem::take(&mut told.left_out),
            false => 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_strangers_is_counted_and_crowds_nothing_else_out() {
        let (flood, now) = (Flood::new(), Instant::now());
        let told = (0..LINES + 9).filter(|_| flood.take("refused", now).is_some());
        assert_eq!(told.count(), usize::try_from(LINES).unwrap());
        assert_eq!(flood.take("share_refused", now), Some(0));
        assert_eq!(flood.take("block_waiting", now), Some(0));
        let almost = now + SECOND - Duration::from_millis(1);
        assert_eq!(flood.take("refused", almost), None);
        assert_eq!(flood.take("refused", now + SECOND), Some(10));
        assert_eq!(flood.take("refused", now + SECOND), Some(0));
    }
}
