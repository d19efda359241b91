//! How long it takes until every thread of the hasher is on a new job.

use std::io;
use std::num::NonZeroU32;
use std::time::Duration;

use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, CompactTarget, TxMerkleNode};
use tokio::sync::mpsc;
use tutti_participant::miner::{
    CpuHasher, CpuSettings, Hasher, Kernel, KernelChoice, MiningJob, SliceError, TimeRange,
    VersionSpace,
};

const SWITCHES: u32 = 1_000;

/// Between two orders; long enough for all threads to hash full batches again.
const PAUSE: Duration = Duration::from_millis(3);

/// Times from an order until the last thread began on it, ascending.
#[derive(Clone, Debug)]
pub struct Switches(Vec<Duration>);

impl Switches {
    /// The time that so many of a thousand did not exceed.
    pub fn per_mille(&self, place: usize) -> Duration {
        let index = (self.0.len() * place / 1_000).min(self.0.len().saturating_sub(1));
        self.0.get(index).copied().unwrap_or_default()
    }
}

/// From one job to another where the threads hash, or from none to one where they are `idle`.
pub fn switches(threads: NonZeroU32, kernel: Kernel, idle: bool) -> io::Result<Switches> {
    // Nothing is found, so nobody needs to take it.
    let (found, _shares) = mpsc::channel(1);
    let settings = CpuSettings {
        threads,
        rate_limit: None,
        kernel: KernelChoice::Auto,
    };
    let mut hasher = CpuHasher::start(settings, kernel, found)?;
    let mut times = Vec::new();
    for id in 0..SWITCHES {
        if idle {
            hasher.set_jobs(Vec::new());
            settled(&hasher);
        }
        hasher.set_jobs(vec![job(id).map_err(io::Error::other)?]);
        times.push(settled(&hasher));
    }
    times.sort_unstable();
    Ok(Switches(times))
}

/// Sleeps, so that measuring takes no core from the threads that are measured.
fn settled(hasher: &CpuHasher) -> Duration {
    loop {
        std::thread::sleep(PAUSE);
        if let Some(took) = hasher.last_switch() {
            return took;
        }
    }
}

fn job(id: u32) -> Result<MiningJob, SliceError> {
    Ok(MiningJob {
        id: id.into(),
        lane: 0,
        versions: VersionSpace::new(0x2000_0000, 0x1fff_e000)?,
        prev_hash: BlockHash::hash(&id.to_le_bytes()),
        merkle_root: TxMerkleNode::hash(b"root"),
        bits: CompactTarget::from_consensus(0x1700_0000),
        times: TimeRange::new(1_700_000_000, 1_700_000_600)?,
        zero_bits: 80,
    })
}
