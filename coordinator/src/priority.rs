//! Threads whose work nobody waits for in the moment in which a round is signed.

/// What such a thread takes where all want to run is a quarter of a core, so that it is never still at the
/// last round's work when the next round begins.
#[cfg(target_os = "linux")]
const NICE: i32 = 5;

/// Lowers the priority of this thread, which on Linux a thread has of its own.
pub(crate) fn give_way() {
    // Without it rounds are only later.
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(None, NICE);
}
