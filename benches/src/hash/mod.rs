//! What `hash` measures with.

mod peer;
mod rate;
mod switch;

pub use peer::minerd;
pub use rate::{Machine, bitcoin_hashes};
pub use switch::{Switches, switches};
