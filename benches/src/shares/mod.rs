//! Load on a coordinator's share intake, and the limit that it is compared with.

pub mod flood;
pub mod follow;
pub mod limit;
pub mod load;
pub mod network;
mod turns;
