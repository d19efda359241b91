//! A coordinator's start on a store that has a pool's past.

use std::hint::black_box;
use std::path::Path;

use anyhow::{Result, ensure};
use bitcoin::Network;
use tutti_coordinator::store::Store;
use tutti_proto::coordinator::{Coordinator, Record, Settings};
use tutti_proto::params::PoolParams;
use tutti_tests::sim::{identity_key, script};

/// Records of one flush.
const BATCH: usize = 1_000;

/// Writes a store.
pub fn fill(directory: &Path, records: &[Record]) -> Result<()> {
    let mut store = Store::open(directory, Network::Regtest)?;
    for batch in records.chunks(BATCH) {
        store.save(batch)?;
    }
    Ok(())
}

/// Opens a store, reads it, and makes the state machine, of whose open window so many shares are.
pub fn start(directory: &Path, params: &PoolParams, shares: usize) -> Result<()> {
    let store = Store::open(directory, Network::Regtest)?;
    let replayed = store.replay(&params.coordinator, |_, _| ())?;
    ensure!(
        replayed.records >= shares as u64,
        "the shares were not read"
    );
    let (coordinator, _) = Coordinator::new(
        identity_key(0),
        params.clone(),
        Settings::default(),
        script(0),
        replayed.restored,
        &[1; 32],
    );
    black_box(coordinator.ledger().head());
    Ok(())
}
