//! A pool in one thread: the real state machines of both roles on a virtual network, chain and clock.
//!
//! Everything follows from one seed. What a node persists survives its restart; what it does not
//! persist is gone. An observer judges every message and every record by SPEC.md's invariants.

mod archive;
mod bumped;
mod chain;
mod flow;
mod followed;
mod invariants;
mod miner;
mod model;
mod mutation;
mod network;
mod past;
mod plant;
mod traces;
mod trial;
mod world;

pub use archive::{Archive, ArchiveError};
pub use chain::Chain;
pub use miner::{Miner, Mood};
pub use mutation::Mutator;
pub use network::{Delivery, Network, Weather};
pub use past::{close_window, empty_windows};
pub use plant::Plant;
pub use trial::{Outcome, Trial};
pub use world::{Lies, PowerLoss, World, WorldOptions, identity_key, script};
