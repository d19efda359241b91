//! The same with what stands between a miner and its pace: the limit on its shares, beyond which one is
//! refused and sent again later, as `participant::hashing` does.

use std::collections::BTreeMap;

use super::*;
use crate::coordinator::live::GENERATIONS;
use crate::coordinator::member::{REFUSED_LIMIT, ShareRate};

/// What a connection carries of a miner whose shares are far too easy, shares per second.
const CARRIED: u64 = 2_000;
/// What a participant remembers of its unanswered shares, and the shortest time that it waits.
const SENT_LIMIT: usize = 65_536;
const SHORTEST_WAIT: u64 = 10;

/// A participant of a hashrate that is refused what comes too fast.
struct Limited {
    miner: Miner,
    rate: ShareRate,
    window: usize,
    found: u64,
    /// Shares that are sent again, newest first: their windows and z.
    again: BTreeMap<u64, (usize, u8)>,
    held_back: Option<Millis>,
    /// Bad shares in a row, and sessions that they ended.
    bad: u32,
    closed: u32,
}

impl Limited {
    fn new(suggested: u64, seed: u64) -> Self {
        Self {
            miner: Miner::new(suggested, seed),
            rate: ShareRate::default(),
            window: 0,
            found: 0,
            again: BTreeMap::new(),
            held_back: None,
            bad: 0,
            closed: 0,
        }
    }

    /// Sends a share; whether an answer came that lets the next one go.
    fn send(&mut self, now: Millis, seq: u64, (window, z): (usize, u8)) -> bool {
        let in_time = self.rate.take(now, &self.miner.settings);
        let stale = window + GENERATIONS <= self.window;
        if stale {
            self.bad += 1;
            if self.bad > REFUSED_LIMIT {
                (self.bad, self.closed) = (0, self.closed + 1);
            }
        }
        match in_time {
            Err(wait) => {
                if self.again.len() >= SENT_LIMIT {
                    self.again.pop_first();
                }
                self.again.insert(seq, (window, z));
                let until = now.after(Millis(wait.max(SHORTEST_WAIT)));
                self.held_back.get_or_insert(until);
                false
            }
            Ok(()) => {
                if stale {
                    // So are all that wait of the same job.
                    self.again.retain(|_, (of, _)| *of != window);
                } else {
                    self.bad = 0;
                    self.miner.pace.count_share(now, z);
                }
                true
            }
        }
    }

    fn send_more(&mut self, now: Millis) {
        while self.held_back.is_none()
            && let Some((seq, share)) = self.again.pop_last()
        {
            self.send(now, seq, share);
        }
    }

    /// Sends again what may come up to this time.
    fn until(&mut self, now: Millis) {
        while let Some(at) = self.held_back.take_if(|at| *at <= now) {
            self.send_more(at);
        }
    }

    /// Issues a job, hashes a window; its z.
    fn window(&mut self, hashrate: f64) -> u8 {
        let z = self.miner.pace.z();
        self.miner.pace.issued(self.miner.now, z, 96);
        let interval = self.miner.settings.share_interval;
        for _ in 0..WINDOW / interval.0 {
            let seconds = interval.0 as f64 / 1_000.0;
            let mean = hashrate * seconds / 2f64.powi(i32::from(z));
            let found = poisson(&mut self.miner.dice, mean).min(CARRIED * interval.0 / 1_000);
            for share in 0..found {
                let now = self.miner.now.after(Millis(share * interval.0 / found));
                self.until(now);
                self.found += 1;
                if self.send(now, self.found, (self.window, z)) {
                    self.send_more(now);
                }
            }
            self.miner.now = self.miner.now.after(interval);
            self.until(self.miner.now);
            self.miner.pace.judge(self.miner.now, &self.miner.settings);
        }
        self.window += 1;
        z
    }
}

/// The most by which a suggestion can be wrong is that of one who says nothing.
#[test]
fn a_start_that_is_far_too_easy_is_mended_though_most_shares_are_refused_for_their_rate() {
    for wrong_by in [-60, -40, -20, -10, -5, 20] {
        let mut taken = Vec::new();
        for (seed, hashrate) in (0..).zip(hashrates().step_by(6)) {
            let suggested = (hashrate * 2f64.powi(wrong_by)) as u64;
            let mut miner = Limited::new(suggested, seed);
            let zs: Vec<u8> = (0..60).map(|_| miner.window(hashrate)).collect();
            let right = |z: &u8| off(hashrate, *z).abs() <= 1.25;
            taken.push(zs.iter().rposition(|z| !right(z)).map_or(0, |at| at + 1));
            assert_eq!(miner.closed, 0, "{hashrate:e}, {wrong_by}: {zs:?}");
            assert!(miner.again.is_empty(), "{hashrate:e}, {wrong_by}");
        }
        taken.sort_unstable();
        println!("wrong by {wrong_by} bits: {taken:?} windows");
        assert!(taken[taken.len() / 2] <= 8, "{wrong_by}: {taken:?}");
        assert!(taken[taken.len() - 1] <= 25, "{wrong_by}: {taken:?}");
    }
}
