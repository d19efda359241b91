//! A pool in one thread: the real state machines of both roles on a virtual network and clock.
//!
//! Everything follows from one seed. What a node persists survives its restart; what it does not
//! persist is gone. Messages of one direction of one connection arrive in order.

mod miner;
mod world;

pub use miner::{Miner, Mood};
pub use world::{Delivery, World, WorldOptions, identity_key, script};
