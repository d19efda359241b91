//! The harness: everything that runs Tutti against a real Bitcoin Core in regtest.

#![forbid(unsafe_code)]

pub mod binaries;
pub mod bitcoind;
pub mod daemon;
pub mod demo;
pub mod interop;
pub mod node;
pub mod place;
pub mod pool;
pub mod proxy;
