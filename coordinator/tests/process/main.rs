//! The coordinator as a real process.

mod pool;
mod startup;
mod support;
