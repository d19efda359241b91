//! The coordinator as a real process.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod ledger;
mod pool;
mod reorgs;
mod startup;
mod support;
