//! What the scenario tests stand on: a deterministic world of real protocol cores.

#![forbid(unsafe_code)]

pub mod sim;
