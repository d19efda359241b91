//! A pool on loopback for the bench `round_net`: the coordinator is a process of its own, a real
//! node gives it templates, and this process plays all participants.
//!
//! The participants are real to the coordinator: each has its identity, its connection, its slots,
//! and answers each proposal with partial signatures of its own. What they share is the part that
//! is not the coordinator's: all of them hold the same replicated state, so one of them keeps it
//! ([`replica`]), checks each proposal once for all, and the others only sign what it checked
//! ([`player`]). Slots are made between rounds. Nobody writes to disk and nobody hashes, beyond the
//! one header of a share. What signing is left is kept out of the coordinator's time by holding all
//! answers back until all are made ([`crowd::Crowd::follow`]).
//!
//! What the messages look like is known to [`player`] and [`replica`] only.

pub mod cpu;
pub mod crowd;
pub mod echo;
mod http2;
pub mod limit;
pub mod link;
pub mod player;
pub mod pool;
pub mod replica;
mod task;
pub mod traffic;
