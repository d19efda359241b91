//! Independent computations on all cores. What comes out, and in which order, is as on one core.

use std::iter::Enumerate;
use std::num::NonZero;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, mpsc};
use std::thread::{self, Builder};
use std::vec;

static CORES: LazyLock<usize> =
    LazyLock::new(|| thread::available_parallelism().map_or(1, NonZero::get));

type Job = Box<dyn FnOnce() + Send>;

/// Threads that wait for something to do, one for each other core: to start one when it is needed, and to
/// have libsecp256k1 set up in it, takes a tenth of a millisecond.
static OTHERS: LazyLock<mpsc::Sender<Job>> = LazyLock::new(|| {
    let (jobs, queue) = mpsc::channel::<Job>();
    let queue = Arc::new(Mutex::new(queue));
    for _ in 1..*CORES {
        let queue = queue.clone();
        // Without it there is the caller.
        let _ = Builder::new().name("core".to_owned()).spawn(move || {
            loop {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok(job) = next else {
                    return;
                };
                // Whoever waits for its results learns of a panic by their absence.
                let _ = catch_unwind(AssertUnwindSafe(job));
            }
        });
    }
    jobs
});

/// Items, and what is to be done with each.
struct Work<T, R> {
    left: Mutex<Enumerate<vec::IntoIter<T>>>,
    of: Box<dyn Fn(T) -> R + Send + Sync>,
}

impl<T, R> Work<T, R> {
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

/// Computations that other threads have begun, and that whoever wants the results finishes with them.
pub(crate) struct Ahead<T, R> {
    work: Arc<Work<T, R>>,
    reports: mpsc::Receiver<(usize, R)>,
    done: Vec<(usize, R)>,
    count: usize,
}

impl<T: Send + 'static, R: Send + 'static> Ahead<T, R> {
    /// Begins to apply `of` to each item: on another thread if there are `least` of them, else at once.
    pub(crate) fn start(
        items: Vec<T>,
        least: usize,
        of: impl Fn(T) -> R + Send + Sync + 'static,
    ) -> Self {
        let is_long = items.len() >= least.max(1);
        let mut ahead = Self::on(usize::from(is_long), items, of, |job| {
            // One of its own: it may be busy for long.
            let _ = Builder::new().spawn(job);
        });
        if !is_long {
            let done = &mut ahead.done;
            ahead.work.run(|place, result| done.push((place, result)));
        }
        ahead
    }

    fn on(
        threads: usize,
        items: Vec<T>,
        of: impl Fn(T) -> R + Send + Sync + 'static,
        hand: impl Fn(Job),
    ) -> Self {
        let count = items.len();
        let left = Mutex::new(items.into_iter().enumerate());
        let work = Arc::new(Work {
            left,
            of: Box::new(of),
        });
        let (report, reports) = mpsc::channel();
        for _ in 0..threads {
            let (work, report) = (work.clone(), report.clone());
            // Without another thread there is the one that finishes.
            hand(Box::new(move || {
                work.run(|place, result| {
                    // Whoever asked is there until it has all of them, or wants none.
                    let _ = report.send((place, result));
                });
            }));
        }
        Self {
            work,
            reports,
            done: Vec::with_capacity(count),
            count,
        }
    }

    /// Does what nobody has begun, waits for what others have, and gives all results in the order of
    /// the items.
    pub(crate) fn finish(mut self) -> Vec<R> {
        self.complete();
        self.done.sort_unstable_by_key(|(place, _)| *place);
        self.done.into_iter().map(|(_, result)| result).collect()
    }

    /// The same, but keeps the results.
    pub(crate) fn complete(&mut self) {
        let done = &mut self.done;
        self.work.run(|place, result| done.push((place, result)));
        while self.done.len() < self.count {
            match self.reports.recv() {
                Ok(of_another) => self.done.push(of_another),
                Err(_) => panic!("another thread has panicked"),
            }
        }
    }
}

/// Applies `of` to each item. Another thread is worth `least` items: it has to be woken.
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
    Ahead::on(threads - 1, items, of, |job| {
        let _ = OTHERS.send(job);
    })
    .finish()
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

    #[test]
    fn a_panic_elsewhere_leaves_the_threads() {
        if *CORES == 1 {
            return; // There is no other thread.
        }
        let me = thread::current().id();
        for _ in 0..100 {
            // Waits until another thread has taken an item, which then panics.
            let (taken, was_taken) = mpsc::channel();
            let was_taken = Mutex::new(was_taken);
            let panicked = catch_unwind(AssertUnwindSafe(|| {
                each(vec![(); 2], 1, move |()| {
                    if thread::current().id() == me {
                        was_taken.lock().unwrap().recv().unwrap();
                    } else {
                        taken.send(()).unwrap();
                        panic!("on another thread");
                    }
                })
            }));
            assert!(panicked.is_err());
        }
    }
}
