//! The inner loop of hashing, by the fastest means of the CPU at hand.
//!
//! All kernels do the same: of many nonces of one header, tell which have a hash that begins with
//! enough zero bits. They compute the first 32 bits of a hash only; whoever asks checks the rest.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod choice;
mod lanes;
mod limit;
mod portable;
mod sha256;
#[cfg(target_arch = "x86_64")]
mod sha_ni;
mod steps;
mod work;

use std::fmt;

pub use choice::{KernelChoice, KernelError};
pub use limit::Demand;
pub use steps::Steps;
pub use work::Work;

/// A way to hash that this CPU has: only [`Kernel::available`] makes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel(Kind);

/// All ways, whether this CPU has them or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Portable,
    #[cfg(target_arch = "x86_64")]
    ShaNi,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Kernel {
    /// The one that needs nothing of the CPU.
    pub const PORTABLE: Self = Self(Kind::Portable);

    /// All that this CPU has.
    pub fn available() -> Vec<Self> {
        let mut all = vec![Self::PORTABLE];
        #[cfg(target_arch = "x86_64")]
        {
            let sha_ni = is_x86_feature_detected!("sha") && is_x86_feature_detected!("sse4.1");
            let avx2 = is_x86_feature_detected!("avx2");
            let avx512 =
                is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
            let kinds = [
                (sha_ni, Kind::ShaNi),
                (avx2, Kind::Avx2),
                (avx512, Kind::Avx512),
            ];
            all.extend(
                kinds
                    .into_iter()
                    .filter_map(|(has, kind)| has.then_some(Self(kind))),
            );
        }
        all
    }

    /// As the configuration, the log and the status call it.
    pub fn name(self) -> &'static str {
        match self.0 {
            Kind::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Kind::ShaNi => "sha-ni",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => "avx512",
        }
    }

    /// Tells, in ascending order, of the nonces whose hash has no bit of `mask` in its last word.
    #[cfg_attr(
        target_arch = "x86_64",
        expect(unsafe_code, reason = "instructions that not every CPU has")
    )]
    pub fn search(self, work: &Work, nonces: Nonces, mask: u32, found: &mut dyn FnMut(u32)) {
        match self.0 {
            Kind::Portable => portable::search(work, nonces, mask, found),
            // SAFETY: `available`, which alone makes such a kernel, saw that the CPU has sha and sse4.1,
            // which is all that this function enables; it takes no pointers.
            #[cfg(target_arch = "x86_64")]
            Kind::ShaNi => unsafe { sha_ni::search(work, nonces, mask, found) },
            // SAFETY: as above, with avx2.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 => unsafe { avx2::search(work, nonces, mask, found) },
            // SAFETY: as above, with avx512f and avx512bw.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx512 => unsafe { avx512::search(work, nonces, mask, found) },
        }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Consecutive nonces, beginning again with 0 after the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonces {
    pub first: u32,
    pub count: u32,
}

impl Nonces {
    fn all(self) -> impl Iterator<Item = u32> {
        (0..self.count).map(move |place| self.first.wrapping_add(place))
    }

    /// As vectors of so many; the last may have fewer.
    #[cfg(target_arch = "x86_64")]
    fn groups(self, lanes: u32) -> impl Iterator<Item = Self> {
        (0..self.count)
            .step_by(lanes as usize)
            .map(move |place| Self {
                first: self.first.wrapping_add(place),
                count: lanes.min(self.count - place),
            })
    }

    /// Tells of those whose bit is set.
    #[cfg(target_arch = "x86_64")]
    #[cold]
    fn report(self, hits: u32, found: &mut dyn FnMut(u32)) {
        let hit = |place: &u32| hits >> place & 1 == 1;
        (0..self.count)
            .filter(hit)
            .for_each(|place| found(self.first.wrapping_add(place)));
    }
}
