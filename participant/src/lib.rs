//! A miner's daemon: it checks, signs, holds payouts, hashes and gets paid.

pub mod bump;
pub mod chain;
pub mod keys;
pub mod miner;
pub mod wallet;
