//! What the scenario tests stand on: a deterministic world of real protocol cores.

pub mod sim;
