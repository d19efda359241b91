//! The parts of one task, each polled when it was woken. What wakes another part of the same task costs no turn of
//! the runtime, as between tasks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use atomic_waker::AtomicWaker;

/// Parts of a task at most.
pub(super) const PARTS: usize = 15;
/// Set while the task looks at its parts: whoever wakes one then need not wake the task.
const AWAKE: u16 = 1 << PARTS;
/// So often parts may wake each other before others have their turn.
const ROUNDS: usize = 16;

/// Which parts were woken.
#[derive(Default)]
pub(super) struct Parts {
    woken: AtomicU16,
    task: AtomicWaker,
}

struct Part {
    parts: Arc<Parts>,
    bit: u16,
}

impl Wake for Part {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.parts.wake(self.bit);
    }
}

impl Parts {
    /// What wakes a part, which is due from now on.
    pub(super) fn add(self: &Arc<Self>, part: usize) -> Waker {
        let bit = 1 << part;
        self.wake(bit);
        let parts = self.clone();
        Arc::new(Part { parts, bit }).into()
    }

    fn wake(&self, bit: u16) {
        if self.woken.fetch_or(bit, Ordering::AcqRel) == 0 {
            self.task.wake();
        }
    }

    /// Has the parts polled that were woken, the lowest first, until none is, or one of them ends the task.
    pub(super) fn poll<T>(
        &self,
        context: &mut Context<'_>,
        mut poll: impl FnMut(usize) -> Poll<T>,
    ) -> Poll<T> {
        self.task.register(context.waker());
        for _ in 0..ROUNDS {
            let mut woken = self.woken.swap(AWAKE, Ordering::AcqRel) & !AWAKE;
            while woken != 0 {
                let part = woken.trailing_zeros();
                woken &= woken - 1;
                if let Poll::Ready(end) = poll(part as usize) {
                    return Poll::Ready(end);
                }
            }
            let asleep = self
                .woken
                .compare_exchange(AWAKE, 0, Ordering::AcqRel, Ordering::Acquire);
            if asleep.is_ok() {
                return Poll::Pending;
            }
        }
        // What is left is still marked, and this is not told again.
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::thread;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Woken {
        fn times(&self) -> usize {
            self.0.swap(0, Ordering::Relaxed)
        }
    }

    #[test]
    fn who_is_woken_is_polled_and_who_wakes_another_part_wakes_no_task() {
        let task = Arc::<Woken>::default();
        let waker = task.clone().into();
        let mut context = Context::from_waker(&waker);
        let parts = Arc::<Parts>::default();
        let wakers = [0, 1, 2].map(|part| parts.add(part));
        let poll = |context: &mut _, wakes: &[(usize, usize)]| {
            let (mut polled, mut wakes) = (Vec::new(), wakes.to_vec());
            let asleep = parts.poll(context, |part| {
                polled.push(part);
                wakes.retain(|(by, whom)| {
                    if *by == part {
                        wakers[*whom].wake_by_ref();
                    }
                    *by != part
                });
                Poll::<()>::Pending
            });
            assert!(asleep.is_pending());
            polled
        };
        assert_eq!(poll(&mut context, &[]), [0, 1, 2], "all are new");
        assert_eq!(poll(&mut context, &[]), [0; 0]);
        assert_eq!(task.times(), 0);
        wakers[1].wake_by_ref();
        wakers[1].wake_by_ref();
        wakers[2].wake_by_ref();
        assert_eq!(task.times(), 1, "the task is on its way");
        // The first of all is polled again for what the others had for it.
        assert_eq!(poll(&mut context, &[(1, 0), (2, 2)]), [1, 2, 0, 2]);
        assert_eq!(task.times(), 0);
    }

    #[test]
    fn parts_that_wake_each_other_for_ever_let_others_have_their_turn() {
        let task = Arc::<Woken>::default();
        let waker = task.clone().into();
        let mut context = Context::from_waker(&waker);
        let parts = Arc::<Parts>::default();
        let wakes = parts.add(0);
        for _ in 0..3 {
            let mut polled = 0;
            let turn = parts.poll(&mut context, |_| {
                polled += 1;
                wakes.wake_by_ref();
                Poll::<()>::Pending
            });
            assert!(turn.is_pending());
            assert_eq!((polled, task.times()), (ROUNDS, 1), "and has another");
        }
    }

    #[test]
    fn no_word_from_another_thread_is_lost() {
        const WORDS: usize = 100_000;
        let parts = Arc::<Parts>::default();
        let (said, told) = (Arc::<AtomicUsize>::default(), parts.add(3));
        let me = thread::current();
        let waker = Arc::new(Unparks(me)).into();
        let mut context = Context::from_waker(&waker);
        let teller = thread::spawn({
            let said = said.clone();
            move || {
                for word in 1..=WORDS {
                    said.store(word, Ordering::Release);
                    told.wake_by_ref();
                }
            }
        });
        let mut heard = 0;
        while heard < WORDS {
            let heard = &mut heard;
            let asleep = parts.poll(&mut context, |_| {
                *heard = said.load(Ordering::Acquire);
                Poll::<()>::Pending
            });
            assert!(asleep.is_pending());
            if *heard < WORDS {
                thread::park();
            }
        }
        teller.join().unwrap();
    }

    struct Unparks(thread::Thread);

    impl Wake for Unparks {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
}
