//! Instruction counts of the hot paths.

mod baseline;
mod callgrind;
mod path;

pub use baseline::{Baseline, Counts};
pub use callgrind::{count, rustc};
pub use path::{HotPath, PATHS};
