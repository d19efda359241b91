//! What a kernel asks of the CPU, and how fast the CPU does just that.
//!
//! A hash takes at least as long as its instructions would if none of them waited for another: all of
//! them at the rate of the simplest one, and those of the scarcer kinds at their own rates.

use std::hint::black_box;

use super::{Kernel, Kind, Steps, portable};
#[cfg(target_arch = "x86_64")]
use super::{avx2, avx512, sha_ni};

/// Instructions of one kind, or of all kinds, that a hash cannot do without.
#[derive(Clone, Copy, Debug)]
pub struct Demand {
    pub instructions: &'static str,
    /// So many for each hash.
    pub per_hash: f64,
    scarcer: bool,
}

/// What the words of such a call begin with, so that no two are the same.
pub(super) const FIRST: [u32; 12] = [1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23];

/// Instructions done at a time.
const ADDS: u32 = 12;
/// Of three rotations each.
const BIGS: u32 = 12;
#[cfg(target_arch = "x86_64")]
const ROUNDS: u32 = 12;
#[cfg(target_arch = "x86_64")]
const SHA: u32 = 20;

impl Kernel {
    /// What each hash needs: all instructions, and the scarcer kind of them.
    pub fn demands(self) -> [Demand; 2] {
        let lanes = |lanes: u32, costs, turns| {
            let per_hash =
                |costs| f64::from(Steps::of_a_hash().instructions(costs)) / f64::from(lanes);
            [
                Demand {
                    instructions: "all",
                    per_hash: per_hash(costs),
                    scarcer: false,
                },
                Demand {
                    instructions: "rotations and shifts",
                    per_hash: per_hash(turns),
                    scarcer: true,
                },
            ]
        };
        match self.0 {
            Kind::Portable => lanes(1, portable::COSTS, portable::TURNS),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => lanes(avx2::LANES, avx2::COSTS, avx2::TURNS),
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => lanes(avx512::LANES, avx512::COSTS, avx512::TURNS),
            #[cfg(target_arch = "x86_64")]
            Kind::ShaNi => [
                Demand {
                    instructions: "sha256rnds2, sha256msg1 and sha256msg2",
                    per_hash: f64::from(sha_ni::ROUNDS_2 + sha_ni::MSG_1 + sha_ni::MSG_2),
                    scarcer: false,
                },
                Demand {
                    instructions: "sha256rnds2",
                    per_hash: f64::from(sha_ni::ROUNDS_2),
                    scarcer: true,
                },
            ],
        }
    }

    /// Does such instructions and nothing else, many times; returns how many.
    #[cfg_attr(
        target_arch = "x86_64",
        expect(unsafe_code, reason = "instructions that not every CPU has")
    )]
    pub fn instructions_alone(self, demand: &Demand, times: u32) -> u64 {
        let seed = black_box(0x9e37_79b9);
        let (sum, count) = match (self.0, demand.scarcer) {
            (Kind::Portable, false) => (portable::adds(times, seed), ADDS),
            (Kind::Portable, true) => (portable::turns(times, seed), BIGS * portable::TURNS[1]),
            // SAFETY: `available`, which alone makes a kernel, saw that the CPU has what this one's
            // functions enable, here and below; they take no pointers.
            #[cfg(target_arch = "x86_64")]
            (Kind::Avx2, false) => (unsafe { avx2::adds(times, seed) }, ADDS),
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            (Kind::Avx2, true) => (unsafe { avx2::turns(times, seed) }, BIGS * avx2::TURNS[1]),
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            (Kind::Avx512, false) => (unsafe { avx512::adds(times, seed) }, ADDS),
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            (Kind::Avx512, true) => (
                unsafe { avx512::turns(times, seed) },
                BIGS * avx512::TURNS[1],
            ),
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            (Kind::ShaNi, false) => (unsafe { sha_ni::sha_alone(times, seed) }, SHA),
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            (Kind::ShaNi, true) => (unsafe { sha_ni::rounds_alone(times, seed) }, ROUNDS),
        };
        black_box(sum);
        u64::from(times) * u64::from(count)
    }
}
