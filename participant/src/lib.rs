//! A miner's daemon: it checks, signs, holds payouts, hashes and gets paid.
//!
//! It holds no rule of the protocol: those are `tutti_proto::participant`. Here are the socket, the
//! disk, the chain, the hasher, and what a person sees.

pub mod amount;
pub mod audit;
pub mod bump;
pub mod chain;
pub mod cli;
pub mod client;
pub mod config;
pub mod crash;
pub mod date;
pub mod driver;
mod faults;
pub mod follow;
pub mod init;
pub mod keys;
pub mod miner;
pub mod news;
pub mod payouts;
pub mod proof;
pub mod segments;
pub mod settle;
pub mod status;
pub mod store;
pub mod wallet;
pub mod watch;
