//! What makes a share count: every rule with its numbers, and what is left of an accepted share.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod blocks;
mod jobs;
mod pool;
mod rate;
mod rules;
mod stored;
