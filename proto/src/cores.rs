//! Independent computations on all cores. What comes out, and in which order, is as on one core.

use std::iter::Enumerate;
use std::num::NonZero;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, mpsc};
use std::thread::{self, Builder};
use std::vec;

static CORES: LazyLock<usize> =
    LazyLock::new(|| thread::available_parallelism().map_or(1, NonZero::get));

/// Items, and what is to be done with each.
struct Work<T, F> {
    left: Mutex<Enumerate<vec::IntoIter<T>>>,
    of: F,
}

impl<T, R, F: Fn(T) -> R> Work<T, F> {
    fn run(&self, mut done: impl FnMut(usize, R)) {
        loop {
            let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
            let next = left.next();
            drop(left);
            match next {
                Some((place, item)) => done(place, (self.of)(item)),
                None => return,
            }
        }
    }
}

/// Applies `of` to each item. Another thread is worth `least` items: it has to be started, and
/// libsecp256k1 to be set up in it, which takes about 0.1 ms.
///
/// Whoever is free takes the next item, and nobody waits for a thread that has none: where the other
/// cores are busy, the caller does all. No secrets: a late thread may drop its part of `of` later.
pub(crate) fn each<T, R, F>(items: Vec<T>, least: usize, of: F) -> Vec<R>
where
    T: Send + 'static,
    R: Send + 'static,
    F: Fn(T) -> R + Send + Sync + 'static,
{
    let threads = (*CORES).min(items.len() / least.max(1));
    if threads < 2 {
        return items.into_iter().map(of).collect();
    }
    let count = items.len();
    let left = Mutex::new(items.into_iter().enumerate());
    let work = Arc::new(Work { left, of });
    let (report, reports) = mpsc::channel();
    for _ in 1..threads {
        let (work, report) = (work.clone(), report.clone());
        let run = move || {
            work.run(|place, result| {
                // Whoever asked is there until it has all of them.
                let _ = report.send((place, result));
            });
        };
        // Without another thread there is this one.
        let _ = Builder::new().spawn(run);
    }
    drop(report);
    let mut all = Vec::with_capacity(count);
    work.run(|place, result| all.push((place, result)));
    while all.len() < count {
        match reports.recv() {
            Ok(done) => all.push(done),
            Err(_) => panic!("another thread has panicked"),
        }
    }
    all.sort_unstable_by_key(|(place, _)| *place);
    all.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_items() {
        for count in [0usize, 1, 2, 3, 64, 1_000] {
            let doubled = each((0..count).collect(), 1, |n: usize| 2 * n);
            assert_eq!(doubled, (0..count).map(|n| 2 * n).collect::<Vec<_>>());
        }
    }

    #[test]
    #[should_panic]
    fn a_panic_is_the_callers() {
        each((0..100).collect(), 1, |n: usize| {
            assert!(n != 7, "item {n}");
        });
    }
}
