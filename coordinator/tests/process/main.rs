//! The coordinator as a real process.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod blocks;
#[path = "../support/files.rs"]
mod files;
mod first_start;
mod full_disk;
mod ledger;
mod metrics;
mod pool;
#[path = "../support/preload.rs"]
mod preload;
mod reorgs;
mod segments;
mod sessions;
mod startup;
mod support;
