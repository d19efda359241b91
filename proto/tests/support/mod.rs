//! What the tests and the vector generator share.
#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod archive;
pub mod bump;
pub mod fourth_window;
pub mod pool;
pub mod reference_split;
pub mod seeded;
pub mod strategies;
pub mod vectors;
