//! The order in which a slice is searched: nonce innermost, then version, then time.
//!
//! With which version and nonce each time begins may be drawn: whoever searches the same slice again begins elsewhere,
//! or would find first what was found already.

use super::{MiningJob, TimeRange, VersionSpace};

/// Consecutive nonces of one version and time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    pub version: i32,
    pub time: u32,
    pub first_nonce: u32,
    /// At least 1.
    pub count: u32,
}

impl Run {
    pub fn nonces(&self) -> impl Iterator<Item = u32> + use<> {
        let first = u64::from(self.first_nonce);
        (first..first + u64::from(self.count)).map(|nonce| nonce as u32)
    }
}

/// What is left to search of a slice, or of one thread's share of its nonces.
#[derive(Clone, Debug)]
pub struct SearchSpace {
    versions: VersionSpace,
    times: TimeRange,
    /// This thread's nonces, the end excluded.
    first_nonce: u64,
    end_nonce: u64,
    /// With what each time begins instead of the first version and nonce.
    begin: Begin,
    /// The next header to hash; `None` once the last one was handed out.
    at: Option<Position>,
    /// The time last handed out, so that an exhausted space can go on with later times.
    last_time: Option<u32>,
}

#[derive(Clone, Copy, Debug)]
struct Position {
    version: u32,
    time: u32,
    /// Nonces of this version and time that were handed out.
    taken: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Begin {
    /// Free version bits that are flipped: every version is still there once.
    flipped: u32,
    /// By so much the nonces are rotated.
    rotated: u64,
}

const ALL_NONCES: u64 = 1 << 32;

impl SearchSpace {
    /// The whole slice of a job.
    pub fn new(job: &MiningJob) -> Self {
        Self::part(job, 0, 1)
    }

    /// The `index`-th of `count` parts, which together are the slice and have nothing in common.
    pub fn part(job: &MiningJob, index: u32, count: u32) -> Self {
        let bound = |i: u32| ALL_NONCES * u64::from(i) / u64::from(count.max(1));
        let (first_nonce, end_nonce) = (bound(index), bound(index + 1));
        let mut space = Self {
            versions: job.versions,
            times: job.times,
            first_nonce,
            end_nonce,
            begin: Begin::default(),
            at: None,
            last_time: None,
        };
        space.at = (first_nonce < end_nonce).then(|| space.start_of(job.times.first));
        space
    }

    /// Begins elsewhere, as the draw says; what it covers stays the same.
    pub fn beginning_at(mut self, draw: u64) -> Self {
        self.begin = Begin {
            flipped: (draw >> 32) as u32 & self.versions.free,
            rotated: draw & u64::from(u32::MAX),
        };
        self
    }

    /// Restricts the nonces further; for searching near a known one.
    pub fn with_nonces(mut self, first: u32, count: u32) -> Self {
        self.first_nonce = self.first_nonce.max(u64::from(first));
        self.end_nonce = self.end_nonce.min(u64::from(first) + u64::from(count));
        self.at = (self.first_nonce < self.end_nonce).then(|| self.start_of(self.times.first));
        self
    }

    /// The time of the next header; `None` when nothing is left.
    pub fn next_time(&self) -> Option<u32> {
        self.at.map(|at| at.time)
    }

    /// Takes at most `max` headers off the space.
    pub fn take_run(&mut self, max: u32) -> Option<Run> {
        let at = self.at?;
        let all = self.end_nonce - self.first_nonce;
        let nonce = self.first_nonce + (self.begin.rotated + at.taken) % all;
        let left = (all - at.taken).min(self.end_nonce - nonce);
        let count = left.min(u64::from(max.max(1)));
        let taken = at.taken + count;
        self.last_time = Some(at.time);
        self.at = if taken < all {
            Some(Position { taken, ..at })
        } else {
            self.next_row(at)
        };
        Some(Run {
            version: (at.version ^ self.begin.flipped).cast_signed(),
            time: at.time,
            first_nonce: nonce as u32,
            count: count as u32,
        })
    }

    /// Goes on with the times of a re-issued job, without any header twice.
    pub(super) fn continue_with(&mut self, times: TimeRange) {
        self.times = times;
        let next = match (self.at, self.last_time) {
            (Some(at), _) if at.time >= times.first => Some(at),
            (None, Some(last)) => last
                .checked_add(1)
                .map(|time| self.start_of(time.max(times.first))),
            _ => Some(self.start_of(times.first)),
        };
        self.at = next.filter(|at| at.time <= times.last && self.first_nonce < self.end_nonce);
    }

    fn next_row(&self, at: Position) -> Option<Position> {
        if let Some(version) = self.versions.next(at.version) {
            return Some(Position {
                version,
                time: at.time,
                taken: 0,
            });
        }
        let time = at.time.checked_add(1).filter(|t| *t <= self.times.last)?;
        Some(self.start_of(time))
    }

    fn start_of(&self, time: u32) -> Position {
        Position {
            version: self.versions.first(),
            time,
            taken: 0,
        }
    }
}

/// One header at a time: version, time, nonce.
impl Iterator for SearchSpace {
    type Item = (i32, u32, u32);

    fn next(&mut self) -> Option<Self::Item> {
        self.take_run(1)
            .map(|run| (run.version, run.time, run.first_nonce))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bitcoin::hashes::Hash;
    use bitcoin::{BlockHash, CompactTarget, TxMerkleNode};

    use super::*;

    fn times(first: u32, last: u32) -> TimeRange {
        TimeRange::new(first, last).expect("a valid range")
    }

    /// Two versions, four nonces.
    fn space(range: TimeRange) -> SearchSpace {
        let job = MiningJob {
            id: 1,
            lane: 0,
            versions: VersionSpace::new(0x2000_0000, 1 << 20).expect("a valid space"),
            prev_hash: BlockHash::all_zeros(),
            merkle_root: TxMerkleNode::all_zeros(),
            bits: CompactTarget::from_consensus(0x207f_ffff),
            times: range,
            zero_bits: 0,
        };
        SearchSpace::new(&job).with_nonces(0, 4)
    }

    /// Takes up to `max` headers, none of which may have been seen before.
    fn take(space: &mut SearchSpace, seen: &mut BTreeSet<(i32, u32, u32)>, max: usize) -> usize {
        let new: Vec<_> = space.take(max).collect();
        for header in &new {
            assert!(seen.insert(*header), "{header:?} came twice");
        }
        new.len()
    }

    #[test]
    fn an_exhausted_space_goes_on_with_later_times_only() {
        let mut seen = BTreeSet::new();
        let mut space = space(times(100, 101));
        assert_eq!(take(&mut space, &mut seen, 1_000), 16);
        space.continue_with(times(100, 101));
        assert_eq!(take(&mut space, &mut seen, 1_000), 0);
        space.continue_with(times(100, 103));
        assert_eq!(take(&mut space, &mut seen, 1_000), 16);
    }

    #[test]
    fn wherever_it_begins_a_space_is_the_same_headers_once() {
        let whole: BTreeSet<_> = space(times(100, 102)).collect();
        let mut first = BTreeSet::new();
        for draw in [0, 1, 2, 3, 1 << 52, 1 << 52 | 6, u64::MAX] {
            for max in [1, 3, u32::MAX] {
                let mut space = space(times(100, 102)).beginning_at(draw);
                let mut seen = BTreeSet::new();
                while let Some(run) = space.take_run(max) {
                    for nonce in run.nonces() {
                        let header = (run.version, run.time, nonce);
                        if seen.is_empty() {
                            first.insert(header);
                        }
                        assert!(seen.insert(header), "{header:?} came twice");
                    }
                }
                assert_eq!(seen, whole, "{draw:#x}");
            }
        }
        assert_eq!(first.len(), 7, "each draw is another beginning: {first:?}");
        assert!(first.iter().all(|(_, time, _)| *time == 100));
    }

    #[test]
    fn a_reissued_space_goes_on_where_it_was() {
        for draw in [0, 1, 1 << 52 | 3, u64::MAX] {
            let mut seen = BTreeSet::new();
            let mut space = space(times(100, 110)).beginning_at(draw);
            take(&mut space, &mut seen, 11);
            space.continue_with(times(101, 110));
            assert_eq!(take(&mut space, &mut seen, 5), 5);
            space.continue_with(times(105, 106));
            assert_eq!(take(&mut space, &mut seen, 1_000), 16);
            space.continue_with(times(100, 107));
            assert_eq!(take(&mut space, &mut seen, 1_000), 8);
            assert!(space.next_time().is_none());
        }
    }

    #[test]
    fn earlier_times_never_come_back() {
        let mut seen = BTreeSet::new();
        let mut space = space(times(105, 105));
        take(&mut space, &mut seen, 3);
        space.continue_with(times(100, 104));
        assert_eq!(take(&mut space, &mut seen, 1_000), 0);
        space.continue_with(times(100, 106));
        assert_eq!(take(&mut space, &mut seen, 1_000), 8);
    }
}
