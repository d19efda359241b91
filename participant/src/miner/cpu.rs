//! The hasher of a participant without devices: a few threads, each with its own nonces.
//!
//! A thread is told of its jobs over its own channel, and waits on that same channel whenever it has
//! nothing to do: without a job, ahead of its rate, or at the end of its space. So new jobs or the
//! end of the program wake it at once. Of several jobs, one per slice, it takes a batch each in turn,
//! and looks at the channel after each batch.

use std::io;
use std::num::{NonZeroU32, NonZeroU64};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc as shares;
use tokio::sync::mpsc::error::TrySendError;

use super::kernel::{Kernel, KernelChoice};
use super::pace::Pace;
use super::{FoundShare, Hasher, HeaderSearch, MiningJob, SearchSpace};

/// How often a thread looks at the clock while all headers up to now are done.
const CLOCK_TICK: Duration = Duration::from_millis(200);

/// How long a thread holds a share back when the participant is behind with the earlier ones.
const FULL_TICK: Duration = Duration::from_millis(5);

/// How a CPU hasher works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuSettings {
    pub threads: NonZeroU32,
    /// Hashes per second of all threads together; `None` for as many as they can.
    pub rate_limit: Option<NonZeroU64>,
    /// How the inner loop is computed.
    pub kernel: KernelChoice,
}

/// Threads that search headers. Dropping it stops and joins them.
pub struct CpuHasher {
    workers: Vec<Worker>,
    progress: Arc<Progress>,
    /// Counts the orders.
    last: u64,
}

struct Worker {
    /// Taken on drop, which tells the thread to end.
    orders: Option<Sender<Orders>>,
    taken: Arc<Taken>,
    thread: Option<JoinHandle<()>>,
}

/// What a thread is told.
struct Orders {
    number: u64,
    jobs: Vec<MiningJob>,
    sent: Instant,
}

/// What a thread last began on.
#[derive(Default)]
struct Taken {
    number: AtomicU64,
    /// From the sending of the order to its first hash.
    nanos: AtomicU64,
}

#[derive(Default)]
struct Progress {
    hashes: AtomicU64,
    /// Threads that have a job and may hash on it.
    busy: AtomicU32,
}

impl CpuHasher {
    /// Starts the threads, which wait for a job. Shares go to `shares`; when that is full, the
    /// threads wait, and when it is closed, they end.
    pub fn start(
        settings: CpuSettings,
        kernel: Kernel,
        shares: shares::Sender<FoundShare>,
    ) -> io::Result<Self> {
        let count = thread_count(settings);
        let progress = Arc::new(Progress::default());
        let mut hasher = Self {
            workers: Vec::new(),
            progress: Arc::clone(&progress),
            last: 0,
        };
        for index in 0..count {
            let (sender, receiver) = channel();
            let taken = Arc::<Taken>::default();
            let thread = Thread {
                index,
                count,
                kernel,
                rate: rate_of(settings.rate_limit, index, count),
                orders: receiver,
                shares: shares.clone(),
                progress: Arc::clone(&progress),
                taken: Arc::clone(&taken),
            };
            let handle = std::thread::Builder::new()
                .name(format!("hasher-{index}"))
                .spawn(move || thread.run())?;
            hasher.workers.push(Worker {
                orders: Some(sender),
                taken,
                thread: Some(handle),
            });
        }
        Ok(hasher)
    }

    /// Threads that have not yet stopped after their jobs were taken away. Once it is 0, no more
    /// shares come.
    pub fn busy_threads(&self) -> u32 {
        self.progress.busy.load(Ordering::Acquire)
    }

    /// How long the slowest thread took to begin on the last jobs; `None` until all have.
    pub fn last_switch(&self) -> Option<Duration> {
        let of = |worker: &Worker| {
            let begun = worker.taken.number.load(Ordering::Acquire) == self.last;
            begun.then(|| Duration::from_nanos(worker.taken.nanos.load(Ordering::Relaxed)))
        };
        let all: Option<Vec<Duration>> = self.workers.iter().map(of).collect();
        all?.into_iter().max()
    }
}

impl Hasher for CpuHasher {
    fn set_jobs(&mut self, jobs: Vec<MiningJob>) {
        self.last += 1;
        let sent = Instant::now();
        for worker in self.workers.iter().filter_map(|w| w.orders.as_ref()) {
            // A thread is gone only after the receiver of its shares is gone too.
            let _ = worker.send(Orders {
                number: self.last,
                jobs: jobs.clone(),
                sent,
            });
        }
    }

    fn hashes(&self) -> u64 {
        self.progress.hashes.load(Ordering::Relaxed)
    }
}

impl Drop for CpuHasher {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            worker.orders = None;
        }
        for thread in self.workers.iter_mut().filter_map(|w| w.thread.take()) {
            // A panic of the thread was reported when it happened.
            let _ = thread.join();
        }
    }
}

/// No more threads than hashes per second, or some would have a rate of zero.
fn thread_count(settings: CpuSettings) -> u32 {
    let threads = settings.threads.get();
    match settings.rate_limit {
        Some(limit) => limit.get().min(u64::from(threads)) as u32,
        None => threads,
    }
}

/// A thread's part of the limit; the parts sum up to it.
fn rate_of(limit: Option<NonZeroU64>, index: u32, count: u32) -> Option<NonZeroU64> {
    let (limit, count) = (limit?.get(), u64::from(count));
    let extra = u64::from(u64::from(index) < limit % count);
    NonZeroU64::new(limit / count + extra)
}

/// What one thread owns.
struct Thread {
    index: u32,
    count: u32,
    kernel: Kernel,
    rate: Option<NonZeroU64>,
    orders: Receiver<Orders>,
    shares: shares::Sender<FoundShare>,
    progress: Arc<Progress>,
    taken: Arc<Taken>,
}

/// What is being searched. It outlives a stop, so that the same work resumes where it was.
struct Search {
    headers: HeaderSearch,
    space: SearchSpace,
    /// The first time may be hashed on whatever the own clock says: the pool chose it.
    first_time: u32,
}

/// Why a thread stopped hashing.
enum Interrupt {
    /// The jobs were replaced, or taken away.
    Orders(Orders),
    /// The hasher was dropped or nobody takes shares any more.
    End,
}

/// What a thread may do next.
enum Turn {
    /// Search the job of this index.
    Hash(usize),
    /// All headers up to now are done; more come with the time.
    WaitForClock,
    /// All headers are done.
    Exhausted,
}

impl Thread {
    fn run(self) {
        let mut searches = Vec::new();
        let mut next = self.wait();
        loop {
            match next {
                Interrupt::End => return,
                Interrupt::Orders(orders) if orders.jobs.is_empty() => {
                    self.begin(orders.number, orders.sent);
                    next = self.wait();
                }
                Interrupt::Orders(orders) => {
                    searches = self.take_up(searches, orders.jobs);
                    self.begin(orders.number, orders.sent);
                    self.progress.busy.fetch_add(1, Ordering::AcqRel);
                    next = self.hash(&mut searches);
                    self.progress.busy.fetch_sub(1, Ordering::AcqRel);
                }
            }
        }
    }

    fn begin(&self, number: u64, sent: Instant) {
        let nanos = u64::try_from(sent.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.taken.nanos.store(nanos, Ordering::Relaxed);
        self.taken.number.store(number, Ordering::Release);
    }

    /// Begins the jobs, or goes on where the same work was left.
    fn take_up(&self, mut previous: Vec<Search>, jobs: Vec<MiningJob>) -> Vec<Search> {
        let take_up = |job: MiningJob| {
            let same = |search: &Search| search.headers.job().is_same_work(&job);
            match previous.iter().position(same) {
                Some(index) => previous.swap_remove(index).reissued(job),
                // This process, or one before it, may have begun the same work already.
                None => Search {
                    space: SearchSpace::part(&job, self.index, self.count)
                        .beginning_at(rand::random()),
                    first_time: job.times.first,
                    headers: HeaderSearch::new(job, self.kernel),
                },
            }
        };
        jobs.into_iter().map(take_up).collect()
    }

    fn hash(&self, searches: &mut [Search]) -> Interrupt {
        let mut pace = Pace::new(self.rate, Instant::now());
        let mut found = Vec::new();
        let mut last = 0;
        loop {
            if let Some(interrupt) = self.interrupt() {
                return interrupt;
            }
            match next_turn(searches, last) {
                Turn::Hash(index) => last = index,
                Turn::Exhausted => return self.wait(),
                Turn::WaitForClock => {
                    if let Some(interrupt) = self.wait_for(CLOCK_TICK) {
                        return interrupt;
                    }
                    continue;
                }
            }
            let search = &mut searches[last];
            let Some(run) = search.space.take_run(pace.batch()) else {
                continue;
            };
            let start = Instant::now();
            search.headers.search(run, |share| found.push(share));
            pace.learn(run.count, start.elapsed());
            let count = u64::from(run.count);
            self.progress.hashes.fetch_add(count, Ordering::Relaxed);
            for share in found.drain(..) {
                if let Some(interrupt) = self.deliver(share) {
                    return interrupt;
                }
            }
            let rest = pace.rest_after(run.count, Instant::now());
            if let Some(interrupt) = rest.and_then(|rest| self.wait_for(rest)) {
                return interrupt;
            }
        }
    }

    /// Hands a share over. A job that comes while the channel is full costs the shares at hand.
    fn deliver(&self, share: FoundShare) -> Option<Interrupt> {
        loop {
            match self.shares.try_send(share) {
                Ok(()) => return None,
                Err(TrySendError::Closed(_)) => return Some(Interrupt::End),
                Err(TrySendError::Full(_)) => {
                    if let Some(interrupt) = self.wait_for(FULL_TICK) {
                        return Some(interrupt);
                    }
                }
            }
        }
    }

    /// Jobs that came meanwhile.
    fn interrupt(&self) -> Option<Interrupt> {
        match self.orders.try_recv() {
            Ok(orders) => Some(self.newest(orders)),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => Some(Interrupt::End),
        }
    }

    /// Jobs that come within the time given.
    fn wait_for(&self, time: Duration) -> Option<Interrupt> {
        match self.orders.recv_timeout(time) {
            Ok(orders) => Some(self.newest(orders)),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => Some(Interrupt::End),
        }
    }

    /// The next jobs, whenever they come.
    fn wait(&self) -> Interrupt {
        match self.orders.recv() {
            Ok(orders) => self.newest(orders),
            Err(_) => Interrupt::End,
        }
    }

    /// Skips jobs that were replaced before this thread saw them.
    fn newest(&self, orders: Orders) -> Interrupt {
        Interrupt::Orders(self.orders.try_iter().last().unwrap_or(orders))
    }
}

impl Search {
    /// The same headers under a new id, share target and time range.
    fn reissued(mut self, job: MiningJob) -> Self {
        self.space.continue_with(job.times);
        self.first_time = job.times.first;
        self.headers.reissue(job);
        self
    }
}

/// The first search after `last` whose next header may be hashed now.
fn next_turn(searches: &[Search], last: usize) -> Turn {
    let mut turn = Turn::Exhausted;
    for step in 1..=searches.len() {
        let index = (last + step) % searches.len();
        let search = &searches[index];
        match search.space.next_time() {
            None => {}
            Some(time) if time <= search.first_time || u64::from(time) <= unix_time() => {
                return Turn::Hash(index);
            }
            Some(_) => turn = Turn::WaitForClock,
        }
    }
    turn
}

fn unix_time() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs())
}
