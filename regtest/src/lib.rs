//! The harness: everything that runs Tutti against a real Bitcoin Core in regtest.

pub mod bitcoind;
pub mod node;
