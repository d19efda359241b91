//! What a fault of our own code ends. A daemon that lacks one of its threads only looks alive: it hands over no block
//! any more, or broadcasts no payout, and nobody sees it. So the process ends, and is started again by whatever looks
//! after it; all that was acknowledged or is to be kept is on the disk.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::panic::{self, PanicHookInfo};
use std::{process, thread};

use crate::log::LogGuard;

/// A panic.
#[derive(Debug)]
pub struct Fault<'a> {
    /// The thread's name.
    pub thread: &'a str,
    /// What the panic says.
    pub why: &'a str,
    /// Where in the source it is.
    pub place: Option<String>,
    /// Who called that, where the environment asks for it.
    pub backtrace: Option<String>,
}

/// What a fault ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ends {
    /// The daemon.
    Process,
    /// What it was about: whoever called answers for it.
    Call,
}

/// From now on every fault is told and judged by `tell`, and the process ends at one that is to end it, once the log
/// is written.
pub fn watch(log: &LogGuard, tell: impl Fn(&Fault<'_>) -> Ends + Send + Sync + 'static) {
    let flush = log.flusher();
    panic::set_hook(Box::new(move |panic| {
        let thread = thread::current();
        let trace = Backtrace::capture();
        let fault = Fault {
            thread: thread.name().unwrap_or("unnamed"),
            why: why(panic),
            place: panic.location().map(ToString::to_string),
            backtrace: (trace.status() == BacktraceStatus::Captured).then(|| trace.to_string()),
        };
        if tell(&fault) == Ends::Process {
            flush();
            process::exit(1);
        }
    }));
}

fn why<'a>(panic: &'a PanicHookInfo<'_>) -> &'a str {
    let said = panic.payload();
    let text = said.downcast_ref::<String>().map(String::as_str);
    let text = text.or(said.downcast_ref::<&str>().copied());
    text.unwrap_or("no reason given")
}
