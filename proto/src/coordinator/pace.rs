//! Variable difficulty: whole leading-zero bits toward one share per interval and participant.
//!
//! A pure function of what was issued when, and of how many shares came of it. z changes only with a
//! round's job, so shares are counted from the moment that the job with this z was issued. Counts are
//! Poisson: a step is made only where the count says that the pace is off by more than a factor of
//! two (a little less where it was not measured yet), whatever its luck; then it goes where the count
//! points, which may be many bits away. After such a step the pace is off by half a bit or little more,
//! and at a constant hashrate it stays there.
//!
//! Whoever comes back brings at once what it found while it was away, of which nobody knows how long it
//! took: that says nothing of the pace.

use crate::coordinator::Settings;
use crate::deadline::Millis;

/// How clearly a count must show that the pace is off.
struct Clarity {
    /// Fewer shares do not show that it is too fast.
    fewest: u64,
    /// Sixteenths: how many times too fast or too slow it may be.
    factor: u64,
    /// Standard deviations by which the count must be beyond that.
    deviations: u64,
}

/// Of a pace that was measured: chance alone shows as much of a right one once in 50,000 measures.
const SURE: Clarity = Clarity {
    fewest: 24,
    factor: 32,
    deviations: 3,
};
/// Of one that is a suggestion, or came of silence: to be right soon matters more.
const UNSURE: Clarity = Clarity {
    fewest: 12,
    factor: 24,
    deviations: 2,
};
/// Of a long count: what is less than two times off is seen only by it.
const LONG: Clarity = Clarity {
    fewest: 24,
    factor: 24,
    deviations: 3,
};
/// Shares that make a step sure: what they point to is right to a sixth of a bit.
const MEASURED: u64 = 100;
/// Intervals of a long count, about an hour and a half.
const LONG_COUNT: u64 = 512;
/// Intervals after which older shares count half, so that a measure does not outlive its hashrate.
const MEMORY: u64 = 32;
/// Intervals without a step after which a pace counts as measured.
const SETTLED: u64 = 96;
/// Silent intervals after which a participant of which no share ever came is given easier ones, and
/// one that was given easier ones before still easier ones.
const SILENT: u64 = 3;
/// Bits of the first step after silence, which says only that the pace is too slow, not by how much:
/// of a newcomer, whose hashrate is a mere suggestion, and of another. Doubled with each further one.
const NEWCOMER_STEP: u8 = 8;
const SILENT_STEP: u8 = 4;
/// Fractional bits of an interval.
const FRACTION: u32 = 8;

/// One participant's pace.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    /// Leading zero bits of the next job, if its blocks have as many.
    z: u8,
    /// What the last job had, since when, and its shares.
    measure: Option<Measure>,
    /// No share has ever come.
    newcomer: bool,
    /// Steps in a row that followed silence.
    silent: u32,
    /// Enough shares came of it, or of the one that it was stepped to from.
    sure: bool,
    /// Shares that come before were found at some time before it came back.
    counts_from: Millis,
}

#[derive(Clone, Copy, Debug)]
struct Measure {
    z: u8,
    /// More could not be asked for, whatever the pace.
    is_most: bool,
    since: Millis,
    shares: u64,
    /// The long count.
    long_since: Millis,
    long_shares: u64,
}

impl Pace {
    /// Starts from a suggested hashrate, hashes per second.
    pub(super) fn new(hashrate: u64, settings: &Settings) -> Self {
        let hashes = u128::from(hashrate) * u128::from(settings.share_interval.0) / 1_000;
        let z = u8::try_from(square_log2(hashes).saturating_add(1) / 2).unwrap_or(u8::MAX);
        Self {
            z: z.clamp(settings.z_min, settings.z_max),
            measure: None,
            newcomer: true,
            silent: 0,
            sure: false,
            counts_from: Millis(0),
        }
    }

    /// It went on hashing while it was away. What it found comes now, within an interval.
    pub(super) fn came_back(&mut self, now: Millis, settings: &Settings) {
        if self.measure.is_none() {
            self.counts_from = now.after(settings.share_interval);
        }
    }

    /// Leading zero bits of the next job.
    pub(super) fn z(&self) -> u8 {
        self.z
    }

    /// A job with this z is issued: the present one, or that of a round of before; `most` is what its round could
    /// ask for. A participant that came back goes on with the z that it had, which says more than its hashrate's
    /// suggestion, unless that one is above what could be asked for.
    pub(super) fn issued(&mut self, now: Millis, z: u8, most: u8) {
        let is_most = z >= most && self.z > z;
        if self.measure.is_none() && z != self.z && !is_most {
            (self.z, self.newcomer) = (z, false);
        }
        let is_new = |measure: Measure| (measure.z, measure.is_most) != (z, is_most);
        if (z == self.z || is_most) && self.measure.is_none_or(is_new) {
            let since = self.counts_from.max(now);
            self.measure = Some(Measure {
                z,
                is_most,
                since,
                shares: 0,
                long_since: since,
                long_shares: 0,
            });
        }
    }

    /// A share was accepted on a job of this z. Late ones of jobs before say nothing of the present z.
    pub(super) fn count_share(&mut self, now: Millis, z: u8) {
        self.newcomer = false;
        if now < self.counts_from {
            return;
        }
        if let Some(measure) = self.measure.as_mut().filter(|measure| measure.z == z) {
            measure.shares = measure.shares.saturating_add(1);
            measure.long_shares = measure.long_shares.saturating_add(1);
            self.silent = 0;
        }
    }

    /// Decides on the z of the next job.
    pub(super) fn judge(&mut self, now: Millis, settings: &Settings) {
        let Some(measure) = &mut self.measure else {
            return;
        };
        if measure.z != self.z && !measure.is_most {
            return; // Decided; no job has been issued since.
        }
        let elapsed = now.since(measure.since).0;
        let interval = settings.share_interval.0.max(1);
        let due = |elapsed: u64| (elapsed << FRACTION) / interval;
        let clarity = if self.sure { SURE } else { UNSURE };
        let mut shown = off_by(measure.shares, due(elapsed), &clarity);
        let long = due(now.since(measure.long_since).0);
        if shown.is_none() && long >= LONG_COUNT << FRACTION {
            shown = off_by(measure.long_shares, long, &LONG);
            (measure.long_since, measure.long_shares) = (now, 0);
        }
        let due = due(elapsed);
        if let Some(bits) = shown.filter(|bits| *bits != 0) {
            self.sure = measure.shares >= MEASURED;
            self.silent += u32::from(measure.shares == 0);
            let z = i32::from(measure.z).saturating_add(bits);
            self.z = u8::try_from(z.max(0)).unwrap_or(u8::MAX);
            if measure.is_most {
                // The same z is issued again: what it shows then is counted anew.
                (measure.since, measure.shares) = (now, 0);
                (measure.long_since, measure.long_shares) = (now, 0);
            }
        } else if measure.shares == 0 && due >= SILENT << FRACTION {
            if self.newcomer || self.silent > 0 {
                self.z = measure.z;
                self.ease();
            }
        } else if due >= if self.sure { MEMORY } else { SETTLED } << FRACTION {
            measure.since = measure.since.after(Millis(elapsed / 2));
            measure.shares /= 2;
            self.z = measure.z;
            self.sure = true;
        }
        self.z = self.z.clamp(settings.z_min, settings.z_max);
    }

    /// The next of the steps that follow silence.
    fn ease(&mut self) {
        let first = match self.newcomer {
            true => NEWCOMER_STEP,
            false => SILENT_STEP,
        };
        let step = u32::from(first).checked_shl(self.silent);
        let step = step.and_then(|step| u8::try_from(step).ok());
        self.z = self.z.saturating_sub(step.unwrap_or(u8::MAX));
        self.sure = false;
        self.silent = self.silent.saturating_add(1);
    }
}

/// By how many bits z is too low for so many shares in so many due intervals (with their fraction), if
/// they show it.
fn off_by(shares: u64, due: u64, clarity: &Clarity) -> Option<i32> {
    let count = shares << FRACTION;
    // A deviation of n shares is sqrt(n), in fractions sqrt(n << FRACTION) of n << FRACTION.
    let deviation = |mean: u64| clarity.deviations * (mean << FRACTION).isqrt();
    let (most, least) = (
        due.saturating_mul(clarity.factor) / 16,
        due.saturating_mul(16) / clarity.factor,
    );
    let fast = shares >= clarity.fewest && count >= most.saturating_add(deviation(most));
    let slow = least > 0 && count.saturating_add(deviation(least)) <= least;
    if !fast && !slow {
        return None;
    }
    if shares == 0 {
        return Some(-i32::from(SILENT_STEP));
    }
    // The nearest whole number to log2(count / due): half of the whole part of log2(2 ratio^2).
    let ratio = (u128::from(count) << 32) / u128::from(due.max(1));
    let doubled = i64::from(square_log2(ratio)) + 1 - 64;
    i32::try_from(doubled.div_euclid(2)).ok()
}

/// Whole part of log2(n^2).
fn square_log2(n: u128) -> u32 {
    let n = n.max(1);
    // The upper half decides, and its square fits.
    let shift = n.ilog2().saturating_sub(62);
    let high = n >> shift;
    (high * high).ilog2() + 2 * shift
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    mod limited;

    /// A round's job comes at the default refresh, and is a window.
    const WINDOW: u64 = 30_000;

    fn poisson(dice: &mut StdRng, mean: f64) -> u64 {
        if mean > 500.0 {
            // Normal, by twelve uniform draws.
            let normal = (0..12).map(|_| dice.random::<f64>()).sum::<f64>() - 6.0;
            return (mean + normal * mean.sqrt()).round() as u64;
        }
        let (limit, mut product, mut n) = ((-mean).exp(), dice.random::<f64>(), 0);
        while product > limit {
            product *= dice.random::<f64>();
            n += 1;
        }
        n
    }

    /// A participant of a hashrate, seen window by window.
    struct Miner {
        pace: Pace,
        settings: Settings,
        /// Zero bits of a block.
        most: u8,
        now: Millis,
        dice: StdRng,
    }

    impl Miner {
        fn new(suggested: u64, seed: u64) -> Self {
            let settings = Settings::default();
            Self {
                pace: Pace::new(suggested, &settings),
                settings,
                most: 96,
                now: Millis(seed % 10_000),
                dice: StdRng::seed_from_u64(seed),
            }
        }

        /// Issues a job, hashes a window; its z.
        fn window(&mut self, hashrate: f64) -> u8 {
            let z = self.pace.z().min(self.most);
            self.pace.issued(self.now, z, self.most);
            for _ in 0..WINDOW / self.settings.share_interval.0 {
                let seconds = self.settings.share_interval.0 as f64 / 1_000.0;
                let mean = hashrate * seconds / 2f64.powi(i32::from(z));
                for _ in 0..poisson(&mut self.dice, mean) {
                    self.pace.count_share(self.now, z);
                }
                self.now = self.now.after(self.settings.share_interval);
                self.pace.judge(self.now, &self.settings);
            }
            z
        }
    }

    /// Bits by which a pace is off: 0 is one share per interval.
    fn off(hashrate: f64, z: u8) -> f64 {
        (hashrate * 10.0).log2() - f64::from(z)
    }

    fn hashrates() -> impl Iterator<Item = f64> {
        (12..=72).map(|quarter| 10f64.powf(f64::from(quarter) / 4.0))
    }

    #[test]
    fn a_suggested_hashrate_is_where_it_starts() {
        let settings = Settings::default();
        for (hashrate, z) in [
            (1_000, 13),
            (1_000_000_000_000, 43),
            (1_000_000_000_000_000_000, 63),
            (0, 8),
            (1, 8),
            (u64::MAX, 67),
        ] {
            assert_eq!(Pace::new(hashrate, &settings).z(), z, "{hashrate}");
        }
    }

    #[test]
    fn at_a_constant_hashrate_it_stays_within_a_factor_of_two_and_never_turns_back() {
        let (mut windows, mut off_windows, mut turns) = (0u32, 0u32, 0u32);
        for (seed, hashrate) in (0..).zip(hashrates()) {
            let mut miner = Miner::new(hashrate as u64, seed);
            let mut last = (miner.pace.z(), 0i32);
            // A day.
            for window in 0..2_880 {
                let z = miner.window(hashrate);
                let step = i32::from(z) - i32::from(last.0);
                turns += u32::from(step * last.1 < 0 && window > 40);
                last = (z, if step == 0 { last.1 } else { step });
                windows += u32::from(window > 40);
                off_windows += u32::from(window > 40 && off(hashrate, z).abs() > 1.0);
            }
        }
        assert!(off_windows * 20 <= windows, "{off_windows} of {windows}");
        println!(
            "{windows} windows: {off_windows} off by more than a factor of two, {turns} turns"
        );
        assert_eq!(turns, 0, "in {windows} windows");
    }

    /// Windows until the pace is within so many bits for good, from a wrong start.
    fn converges(hashrate: f64, wrong_by: i32, seed: u64, bits: f64) -> usize {
        let suggested = (hashrate * 2f64.powi(wrong_by)) as u64;
        let mut miner = Miner::new(suggested, seed);
        let right = |z: u8| off(hashrate, z).abs() <= bits;
        let zs: Vec<u8> = (0..60).map(|_| miner.window(hashrate)).collect();
        zs.iter().rposition(|z| !right(*z)).map_or(0, |at| at + 1)
    }

    #[test]
    fn a_start_that_is_wrong_by_twenty_bits_is_mended_within_a_few_windows() {
        for wrong_by in [-20, -10, -5, 5, 10, 20] {
            // Where neither end of the range mends it. Twenty bits too easy are a million shares per
            // interval: of these a few do.
            let mended = hashrates().filter(|h| {
                let start = (h * 10.0).log2() + f64::from(wrong_by);
                (8.0..=66.0).contains(&start)
            });
            let step = if wrong_by < -10 { 4 } else { 1 };
            let (mut taken, mut worst): (Vec<usize>, usize) = (Vec::new(), 0);
            for (seed, hashrate) in (0..).zip(mended.step_by(step)) {
                taken.push(converges(hashrate, wrong_by, seed, 1.0));
                worst = worst.max(converges(hashrate, wrong_by, seed, 1.25));
            }
            taken.sort_unstable();
            let part = |percent: usize| taken[(taken.len() - 1) * percent / 100];
            let (median, most) = (part(50), part(90));
            println!(
                "wrong by {wrong_by} bits: {median} windows, {most} for 90 %; \
                 at worst {worst} to 1.25 bits"
            );
            assert!(
                median <= 5 && most <= 12 && worst <= 25,
                "{wrong_by}: {taken:?}, {worst}"
            );
        }
    }

    #[test]
    fn a_hashrate_that_changes_is_followed() {
        for (seed, factor) in (0..).zip([1_024.0, 8.0, 1.0 / 8.0, 1.0 / 1_024.0]) {
            let hashrate = 1e12;
            let mut miner = Miner::new(hashrate as u64, seed);
            for _ in 0..200 {
                miner.window(hashrate);
            }
            let zs: Vec<u8> = (0..60).map(|_| miner.window(hashrate * factor)).collect();
            let right = |z: &u8| off(hashrate * factor, *z).abs() <= 1.2;
            assert!(zs[40..].iter().all(right), "{factor}: {zs:?}");
        }
    }

    /// On a chain of little difficulty a fast miner's z is that of a block: what it is beyond that is not forgotten,
    /// nor kept once its shares no longer show it.
    #[test]
    fn a_pace_above_what_can_be_asked_for_goes_on_being_measured() {
        for seed in 0..20 {
            let (fast, slow) = (2f64.powi(26) / 10.0, 2f64.powi(14) / 10.0);
            let mut miner = Miner::new(fast as u64, seed);
            miner.most = 22;
            for window in 0..200 {
                assert_eq!(miner.window(fast), 22);
                assert!(off(fast, miner.pace.z()).abs() < 1.2, "{seed}, {window}");
            }
            let zs: Vec<u8> = (0..200).map(|_| miner.window(slow)).collect();
            let right = |z: &u8| off(slow, *z).abs() <= 1.2;
            assert!(zs[100..].iter().all(right), "{seed}: {zs:?}");
            // Once blocks are harder than that it is asked for all of it at once.
            let mut miner = Miner::new(fast as u64, seed);
            for _ in 0..4 {
                miner.window(fast);
            }
            miner.most = 96;
            assert!(off(fast, miner.window(fast)).abs() < 1.2);
        }
    }

    #[test]
    fn a_suggestion_above_what_a_first_job_could_ask_for_is_kept() {
        let settings = Settings::default();
        let mut pace = Pace::new(1 << 40, &settings);
        let suggested = pace.z();
        assert!(suggested > 40);
        pace.issued(Millis(0), 32, 32);
        assert_eq!(pace.z(), suggested);
    }

    #[test]
    fn no_step_is_made_for_a_job_that_was_not_issued() {
        let settings = Settings::default();
        let mut pace = Pace::new(1_000_000, &settings);
        let z = pace.z();
        pace.judge(Millis(10_000_000), &settings);
        assert_eq!(pace.z(), z, "nothing to hash was given out");
        pace.issued(Millis(0), z, 96);
        pace.judge(Millis(100_000), &settings);
        let eased = pace.z();
        assert!(eased < z);
        pace.judge(Millis(900_000), &settings);
        assert_eq!(pace.z(), eased, "the easier job has not been issued");
    }

    #[test]
    fn who_comes_back_goes_on_with_the_z_of_its_job() {
        let settings = Settings::default();
        let mut pace = Pace::new(1_000, &settings);
        pace.issued(Millis(0), 40, 96);
        assert_eq!(pace.z(), 40);
        for _ in 0..100 {
            pace.count_share(Millis(5_000), 40);
        }
        pace.judge(Millis(10_000), &settings);
        let harder = pace.z();
        assert_eq!(harder, 47, "its shares are measured at once");
        pace.issued(Millis(10_000), 40, 96);
        assert_eq!(
            pace.z(),
            harder,
            "a job of before changes nothing that was measured"
        );
    }

    #[test]
    fn an_outage_moves_no_pace_that_was_right() {
        let mut moved = Vec::new();
        for seed in 0..500 {
            let hashrate = 2f64.powi(20 + i32::try_from(seed % 30).unwrap()) / 10.0;
            let mut miner = Miner::new(hashrate as u64, seed);
            let z = miner.pace.z();
            assert!(off(hashrate, z).abs() < 0.1);
            // The coordinator is away for 20 to 119 s, and knows no pace when it is back.
            let away = 20 + seed % 100;
            miner.now = miner.now.after(Millis(away * 1_000));
            miner.pace = Pace::new(1, &miner.settings);
            miner.pace.came_back(miner.now, &miner.settings);
            miner.pace.issued(miner.now, z, 96);
            assert_eq!(miner.pace.z(), z);
            let found = poisson(&mut miner.dice, away as f64 / 10.0);
            for share in 0..found {
                // Some wait for their rate.
                let now = miner.now.after(Millis(share * 50));
                miner.pace.count_share(now, z);
            }
            let zs: Vec<u8> = (0..4).map(|_| miner.window(hashrate)).collect();
            if zs.iter().any(|at| *at != z) {
                moved.push((seed, z, zs));
            }
        }
        // In two minutes chance alone moves one of some hundred that are not measured yet.
        assert!(moved.len() <= 10, "{}: {moved:?}", moved.len());
    }

    #[test]
    fn who_came_back_is_measured_from_an_interval_on_and_only_once_per_session() {
        let settings = Settings::default();
        let mut pace = Pace::new(1_000, &settings);
        pace.came_back(Millis(1_000), &settings);
        pace.issued(Millis(2_000), 40, 96);
        pace.count_share(Millis(10_999), 40);
        for _ in 0..100 {
            // Coming back again and again hides nothing.
            pace.came_back(Millis(11_000), &settings);
            pace.count_share(Millis(11_000), 40);
        }
        pace.judge(Millis(21_000), &settings);
        assert_eq!(
            pace.z(),
            47,
            "a hundred in one interval, not a hundred and one in two"
        );
    }

    #[test]
    fn shares_of_jobs_before_do_not_hurry_it() {
        let settings = Settings::default();
        let mut pace = Pace::new(1_000_000, &settings);
        let z = pace.z();
        pace.issued(Millis(0), z, 96);
        for _ in 0..1_000 {
            pace.count_share(Millis(5_000), z);
        }
        pace.judge(Millis(10_000), &settings);
        let harder = pace.z();
        assert_eq!(harder, z + 10);
        pace.issued(Millis(10_000), harder, 96);
        for _ in 0..1_000 {
            pace.count_share(Millis(15_000), z);
        }
        pace.judge(Millis(20_000), &settings);
        assert_eq!(pace.z(), harder);
    }
}
