//! Writes the log on a thread of its own: a terminal that is stopped, or a pipe that nobody reads,
//! holds up nobody who has something to say.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use tracing::{Level, Metadata};
use tracing_subscriber::fmt::MakeWriter;

/// Lines that wait to be written; more of the usual news are left out, and how many is said later.
const USUAL_LIMIT: usize = 4_096;
/// Warnings and errors have as much room again. Strangers can cause them, so it ends somewhere.
const LIMIT: usize = 2 * USUAL_LIMIT;
/// Bytes of one write, about.
const CHUNK: usize = 64 << 10;
/// Part of the 2 s in which a daemon must be gone.
const FLUSH_WITHIN: Duration = Duration::from_millis(300);

enum Task {
    Line(Vec<u8>),
    /// Answered, by dropping it, when all before it is written.
    Flush(#[allow(dead_code, reason = "only dropped")] Sender<()>),
}

/// The way to the thread.
#[derive(Clone)]
pub(super) struct LogWriter {
    tasks: Sender<Task>,
    waiting: Arc<AtomicUsize>,
    left_out: Arc<AtomicU64>,
}

/// The log's end: what was said is written when this is dropped.
#[must_use]
pub struct LogGuard(LogWriter);

impl LogGuard {
    /// Has what was said so far written whenever that is asked for.
    pub fn flusher(&self) -> impl Fn() + Send + Sync + 'static {
        let writer = self.0.clone();
        move || {
            writer.flush(FLUSH_WITHIN);
        }
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.0.flush(FLUSH_WITHIN);
    }
}

impl LogWriter {
    /// Starts the thread. It tells by `tell_left_out` how many lines were not written.
    pub(super) fn start(
        out: impl Write + Send + 'static,
        tell_left_out: impl Fn(u64) + Send + 'static,
    ) -> io::Result<(Self, LogGuard)> {
        let (tasks, received) = channel();
        let writer = Self {
            tasks,
            waiting: Arc::default(),
            left_out: Arc::default(),
        };
        let (waiting, left_out) = (writer.waiting.clone(), writer.left_out.clone());
        let after_each = move |lines| {
            // After the write: what is being written is in memory too.
            waiting.fetch_sub(lines, Ordering::Relaxed);
            match left_out.swap(0, Ordering::Relaxed) {
                0 => {}
                lines => tell_left_out(lines),
            }
        };
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_all(out, &received, after_each))?;
        Ok((writer.clone(), LogGuard(writer)))
    }

    /// Never waits.
    fn say(&self, line: &[u8], limit: usize) {
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= limit {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return;
        }
        // The thread ends with the process only.
        let _ = self.tasks.send(Task::Line(line.to_vec()));
    }

    /// Waits until all that was said is written; says whether it was, within this time.
    fn flush(&self, within: Duration) -> bool {
        let (done, flushed) = channel();
        let _ = self.tasks.send(Task::Flush(done));
        flushed.recv_timeout(within) == Err(RecvTimeoutError::Disconnected)
    }
}

/// Writes until every way to it is gone, and says how many lines there were after each time. A log that cannot be
/// written must not stop the daemon.
fn write_all(mut out: impl Write, tasks: &Receiver<Task>, after_each: impl Fn(usize)) {
    while let Ok(first) = tasks.recv() {
        let (mut chunk, mut lines, mut flushed) = (Vec::new(), 0, None);
        let mut next = Some(first);
        while let Some(task) = next {
            match task {
                Task::Line(line) => {
                    chunk.extend(line);
                    lines += 1;
                }
                Task::Flush(done) => {
                    flushed = Some(done);
                    break;
                }
            }
            next = match chunk.len() < CHUNK {
                true => tasks.try_recv().ok(),
                false => None,
            };
        }
        let _ = out.write_all(&chunk).and_then(|()| out.flush());
        drop(flushed);
        after_each(lines);
    }
}

/// Takes one line.
pub(super) struct LineWriter<'a> {
    writer: &'a LogWriter,
    limit: usize,
}

impl Write for LineWriter<'_> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.writer.say(line, self.limit);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = LineWriter<'a>;

    fn make_writer(&'a self) -> LineWriter<'a> {
        LineWriter {
            writer: self,
            limit: USUAL_LIMIT,
        }
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> LineWriter<'a> {
        let limit = match *metadata.level() {
            Level::ERROR | Level::WARN => LIMIT,
            _ => USUAL_LIMIT,
        };
        LineWriter {
            writer: self,
            limit,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A terminal: says when something is written to it, and takes it when it is let.
    struct Gate {
        asked: mpsc::Sender<()>,
        open: mpsc::Receiver<()>,
        written: mpsc::Sender<Vec<u8>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.asked.send(()).unwrap();
            // Opened for good when the other end is dropped.
            let _ = self.open.recv();
            self.written.send(bytes.to_vec()).unwrap();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_log_that_nobody_reads_holds_nobody_up_and_loses_the_usual_news_first() {
        let (asks, asked) = mpsc::channel();
        let (opens, open) = mpsc::channel();
        let (writes, written) = mpsc::channel();
        let (tells, told) = mpsc::channel();
        let gate = Gate {
            asked: asks,
            open,
            written: writes,
        };
        let tell = move |lines| tells.send(lines).unwrap();
        let (writer, guard) = LogWriter::start(gate, tell).unwrap();
        writer.say(b"first\n", USUAL_LIMIT);
        asked.recv_timeout(Duration::from_secs(60)).unwrap();
        for _ in 0..USUAL_LIMIT + 9 {
            writer.say(b"usual\n", USUAL_LIMIT);
        }
        assert_eq!(writer.left_out.load(Ordering::Relaxed), 10);
        for _ in 0..LIMIT {
            writer.say(b"error\n", LIMIT);
        }
        assert_eq!(writer.waiting.load(Ordering::Relaxed), LIMIT);
        assert!(!writer.flush(Duration::from_millis(1)), "nothing is read");

        drop(opens);
        assert!(writer.flush(Duration::from_secs(60)));
        drop(guard);
        let left_out = 10 + u64::try_from(USUAL_LIMIT).unwrap();
        assert_eq!(told.recv(), Ok(left_out));
        let lines = written.try_iter().collect::<Vec<_>>().concat();
        let count = |word: &str| String::from_utf8_lossy(&lines).matches(word).count();
        assert_eq!(count("usual"), USUAL_LIMIT - 1);
        assert_eq!(count("error"), LIMIT - USUAL_LIMIT);
        assert!(lines.starts_with(b"first\nusual\n"));
    }
}
