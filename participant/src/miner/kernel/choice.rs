//! Which kernel hashes: the fastest of those that hash right, or the one that was asked for.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, Instant};

use thiserror::Error;

use super::sha256::INITIAL_STATE;
use super::{Kernel, Nonces, Work};

/// What the configuration may name, besides `auto`.
const NAMES: [&str; 4] = ["portable", "sha-ni", "avx2", "avx512"];

/// Nonces hashed to see whether a kernel is right; so few that every kernel is done at once.
const PROBE: Nonces = Nonces {
    // Over the end of all nonces, and no multiple of any vector's lanes.
    first: u32::MAX - 1_000,
    count: 2_003,
};
/// One in 16 of the probe's nonces is to be found.
const PROBE_MASK: u32 = 0xf000_0000;

/// One run of the comparison of speeds, and how many there are: the best one counts, since the others
/// were disturbed.
const RUN: Nonces = Nonces {
    first: 0,
    count: 4_096,
};
const RUNS: u32 = 5;

/// Which kernel is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KernelChoice {
    /// The fastest.
    #[default]
    Auto,
    /// The one of this name.
    Named(&'static str),
}

/// Why a kernel cannot be used.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum KernelError {
    #[error("there is no kernel {name:?}: {}", KernelChoice::allowed())]
    Unknown { name: String },
    #[error(
        "this CPU cannot run the kernel {name:?}; it can run {available}, or choose itself with \"auto\""
    )]
    Lacking {
        name: &'static str,
        available: String,
    },
    #[error(
        "the kernel {name:?} computes wrong hashes on this CPU; choose \"portable\" or \"auto\""
    )]
    Wrong { name: &'static str },
}

impl FromStr for KernelChoice {
    type Err = KernelError;

    fn from_str(name: &str) -> Result<Self, KernelError> {
        if name == "auto" {
            return Ok(Self::Auto);
        }
        let known = NAMES.into_iter().find(|known| *known == name);
        known.map(Self::Named).ok_or_else(|| KernelError::Unknown {
            name: name.to_owned(),
        })
    }
}

impl fmt::Display for KernelChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Named(name) => name,
        })
    }
}

impl KernelChoice {
    /// What may be asked for, for a person.
    pub fn allowed() -> String {
        format!("auto, {} are allowed", NAMES.join(", "))
    }

    /// The kernel to hash with. Takes some milliseconds where it is to be found out.
    pub fn kernel(self) -> Result<Kernel, KernelError> {
        let available = Kernel::available();
        let Self::Named(name) = self else {
            return Ok(fastest(available));
        };
        let Some(kernel) = available.iter().find(|kernel| kernel.name() == name) else {
            let names: Vec<_> = available.into_iter().map(Kernel::name).collect();
            return Err(KernelError::Lacking {
                name,
                available: names.join(", "),
            });
        };
        match is_right(*kernel) {
            true => Ok(*kernel),
            false => Err(KernelError::Wrong { name }),
        }
    }
}

fn fastest(available: Vec<Kernel>) -> Kernel {
    let right = available.into_iter().filter(|kernel| is_right(*kernel));
    right
        .min_by_key(|kernel| time(*kernel))
        .unwrap_or(Kernel::PORTABLE)
}

/// Whether the kernel finds what the portable one does. A CPU, or what passes itself off as one, that
/// says it can but cannot would otherwise hash for nothing, silently.
fn is_right(kernel: Kernel) -> bool {
    let found = |kernel: Kernel| {
        let mut nonces = Vec::new();
        kernel.search(&any_work(), PROBE, PROBE_MASK, &mut |nonce| {
            nonces.push(nonce)
        });
        nonces
    };
    let expected = found(Kernel::PORTABLE);
    !expected.is_empty() && found(kernel) == expected
}

fn time(kernel: Kernel) -> Duration {
    let work = any_work();
    let run = |_| {
        let start = Instant::now();
        kernel.search(&work, RUN, u32::MAX, &mut |_| {});
        start.elapsed()
    };
    (0..RUNS).map(run).min().unwrap_or(Duration::MAX)
}

fn any_work() -> Work {
    Work::new(INITIAL_STATE, [0x1234_5678, 0x6553_f100, 0xffff_001d])
}
