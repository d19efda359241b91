//! Hashes and instructions per second of one core.
//!
//! The machine has other work too, which only ever makes a run slower: of many short ones, the fastest
//! counts.

use std::hint::black_box;
use std::time::{Duration, Instant};

use bitcoin::hashes::{Hash, sha256d};
use tutti_participant::miner::kernel::{Demand, Kernel, Nonces, Work};

/// Time for one figure.
const SPAN: Duration = Duration::from_millis(400);

/// Hashes of one run: some tenths of a millisecond with the fastest kernel, as the hasher does it.
const RUN: u32 = 10_000;

/// The core that all figures are of.
#[derive(Clone, Copy, Debug)]
pub struct Machine {
    /// Additions per second of which each needs the one before: the clock, as long as it lasts.
    pub hertz: f64,
}

impl Machine {
    pub fn measure() -> Self {
        Self {
            hertz: per_second(|| dependent(50_000)),
        }
    }

    /// Hashes per second.
    pub fn hashes(self, kernel: Kernel) -> f64 {
        let work = Work::new([0x6a09_e667; 8], [1, 2, 3]);
        let mut first = 0_u32;
        per_second(|| {
            let nonces = Nonces { first, count: RUN };
            first = first.wrapping_add(RUN);
            kernel.search(black_box(&work), nonces, u32::MAX, &mut |nonce| {
                black_box(nonce);
            });
            u64::from(RUN)
        })
    }

    /// Such instructions per second, if none waits for another.
    pub fn instructions(self, kernel: Kernel, demand: &Demand) -> f64 {
        per_second(|| kernel.instructions_alone(demand, 2_000))
    }
}

/// Hashes per second of whole headers, one after the other, by the library that all here use.
pub fn bitcoin_hashes() -> f64 {
    let mut header = [7; 80];
    per_second(|| {
        for nonce in 0_u32..1_000 {
            header[76..].copy_from_slice(&nonce.to_le_bytes());
            black_box(sha256d::Hash::hash(black_box(&header)));
        }
        1_000
    })
}

fn per_second(mut run: impl FnMut() -> u64) -> f64 {
    let started = Instant::now();
    let mut best = 0.0_f64;
    while started.elapsed() < SPAN {
        let start = Instant::now();
        let count = run();
        best = best.max(count as f64 / start.elapsed().as_secs_f64());
    }
    best
}

/// Instructions of one cycle each, in pairs that no compiler makes one of.
fn dependent(pairs: u64) -> u64 {
    let (mask, step) = black_box((0x5555_u64, 0x1234_5677_u64));
    let mut x = step;
    for _ in 0..pairs {
        x = (x ^ mask).wrapping_add(step);
    }
    black_box(x);
    2 * pairs
}
