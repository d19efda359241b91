//! What the check of the coordinator's ledger has to say.

use std::time::Duration;

use super::daemon::millis;
use super::{News, debug, error, info, warn};

/// How far the ledger is checked, and what hinders.
#[derive(Clone, Debug)]
pub enum CheckEvent<'a> {
    /// All shares of the ledger up to this window are good.
    Checked { window: u64, shares: u64 },
    /// The check begins after this window.
    Begins { window: u64 },
    /// These windows are not checked.
    Skipped { first: u64, last: u64 },
    /// What was checked before is damaged.
    SetAside { why: &'a str },
    /// Some shares of this window are good.
    Sampled { window: u64, samples: usize },
    /// Nobody answered for a window's sample.
    Unanswered { window: u64, why: &'a str },
    /// So many windows are not answered; the coordinator is left for a while.
    Silent { windows: usize, pause: Duration },
    /// A closed window is kept.
    Kept { window: u64, file: &'a str },
    /// The ledger cannot be checked now.
    Unchecked { why: &'a str, retry: Duration },
}

impl From<CheckEvent<'_>> for News {
    fn from(event: CheckEvent<'_>) -> Self {
        match event {
            CheckEvent::Checked { window, shares } => debug(
                "ledger_checked",
                format!("window {window} is good: all of its {shares} shares were checked"),
            )
            .with("window", window)
            .with("shares", shares),
            CheckEvent::Begins { window } => info(
                "check_begins",
                format!("the ledger is checked from the state after window {window} on"),
            )
            .with("window", window),
            CheckEvent::Skipped { first, last } => warn(
                "ledger_skipped",
                format!(
                    "windows {first} to {last} are not checked: the pool does not keep them any more; the check \
                     starts anew from the state after them, which enough signers of a round signed \
                     (policy.signers_min). Unless this participant was away for long, the pool hides something"
                ),
            )
            .with("first", first)
            .with("last", last),
            CheckEvent::SetAside { why } => warn("checked_set_aside", why).with("why", why),
            CheckEvent::Sampled { window, samples } => debug(
                "ledger_sampled",
                format!("window {window}: {samples} shares picked at random are good"),
            )
            .with("window", window)
            .with("samples", samples),
            CheckEvent::Unanswered { window, why } => warn(
                "window_unanswered",
                format!(
                    "the coordinator does not show the shares of window {window} that were picked at random ({why}); \
                     they are asked for again later"
                ),
            )
            .with("window", window)
            .with("why", why),
            CheckEvent::Silent { windows, pause } => error(
                "ledger_silent",
                format!(
                    "the coordinator left the samples of {windows} windows unanswered: work that was made up can \
                     be hidden so. Nothing is signed or hashed for it; joining again in {pause:.1?}. If this goes \
                     on, set ledger.check = \"full\" or use another pool"
                ),
            )
            .with("windows", windows)
            .with("pause_ms", millis(pause)),
            CheckEvent::Kept { window, file } => {
                debug("window_kept", format!("kept window {window} as {file}"))
                    .with("window", window)
                    .with("file", file)
            }
            CheckEvent::Unchecked { why, retry } => warn(
                "ledger_unchecked",
                format!(
                    "the ledger cannot be checked ({why}), and what is not checked is not signed; trying again in {retry:.1?}"
                ),
            )
            .with("why", why)
            .with("retry_ms", millis(retry)),
        }
    }
}
