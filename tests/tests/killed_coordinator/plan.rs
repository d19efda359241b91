//! When the coordinator is killed: all from one seed.

use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;

/// Leads to one kill.
#[derive(Clone, Copy, Debug)]
pub enum Kill {
    /// So long after the start of the process, wherever its start or its first round is then.
    After(Duration),
    /// Right after the n-th share was handed to a connection.
    Sent(u32),
    /// Right after the n-th acknowledgement was read.
    Acknowledged(u32),
    /// Right after the n-th miner was shown a proposal; each round has two, of four miners each.
    Proposed(u32),
    /// Right after the n-th miner's partial signatures were handed to its connection.
    Signed(u32),
    /// Right after the n-th miner got the final signatures.
    Committed(u32),
}

pub fn plan(rng: &mut StdRng, kills: usize) -> Vec<Kill> {
    let kill = |rng: &mut StdRng| match rng.random_range(0..10) {
        0 => Kill::After(Duration::from_millis(rng.random_range(1..400))),
        1..=3 => Kill::Sent(rng.random_range(1..1_500)),
        4..=6 => Kill::Acknowledged(rng.random_range(1..1_500)),
        7 => Kill::Proposed(rng.random_range(1..20)),
        8 => Kill::Signed(rng.random_range(1..20)),
        _ => Kill::Committed(rng.random_range(1..20)),
    };
    (0..kills).map(|_| kill(rng)).collect()
}
