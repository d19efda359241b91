//! What happens to whom, and when: all of it from the seed.

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use tutti_regtest::proxy::Direction;

/// Miners of the pool.
pub const MINERS: usize = 12;
/// Tips after the last fault.
const CALM_TIPS: usize = 2;

/// What is done to a miner.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// SIGSTOP.
    Stop,
    /// SIGKILL.
    Kill,
    /// Its connection is cut within a message, and so many of its next connections are refused.
    Cut {
        direction: Direction,
        payload: usize,
        refused: u32,
    },
}

/// When it is done.
#[derive(Clone, Copy, Debug)]
pub enum Moment {
    /// So many ms before a new tip: what the tip's round asks of it finds it gone.
    BeforeTip(u64),
    /// So many ms after the coordinator says that it has proposed the new tip's round. A cut is made
    /// ready before the tip, so that it tears one of the round's own messages.
    Signing(u64),
    /// So many ms after all others hash on the new tip.
    Hashing(u64),
}

/// One new tip, and the fault that comes with it.
#[derive(Clone, Copy, Debug)]
pub struct Episode {
    pub fault: Option<(usize, Fault, Moment)>,
    /// Time that passes before it, ms.
    pub after: u64,
}

/// A whole run.
#[derive(Clone, Debug)]
pub struct Script {
    pub stopped: usize,
    pub killed: [usize; 2],
    pub cut: usize,
    pub episodes: Vec<Episode>,
}

impl Script {
    pub fn new(seed: u64) -> Self {
        let mut dice = StdRng::seed_from_u64(seed);
        let mut miners: Vec<usize> = (0..MINERS).collect();
        miners.shuffle(&mut dice);
        let (stopped, killed, cut) = (miners[0], [miners[1], miners[2]], miners[3]);
        let mut moments = [
            Moment::Signing(dice.random_range(0..20)),
            Moment::Signing(dice.random_range(0..20)),
            Moment::BeforeTip(dice.random_range(0..100)),
            Moment::Hashing(dice.random_range(0..300)),
        ];
        moments.shuffle(&mut dice);
        let faults = [
            (stopped, Fault::Stop),
            (killed[0], Fault::Kill),
            (killed[1], Fault::Kill),
            (cut, tear(&mut dice)),
        ];
        let dealt = faults.into_iter().zip(moments);
        let mut faults: Vec<_> = dealt.map(|((who, fault), at)| (who, fault, at)).collect();
        faults.shuffle(&mut dice);
        let calm = std::iter::repeat_n(None, CALM_TIPS);
        let faults = faults.into_iter().map(Some).chain(calm);
        // One tip before any fault, to compare with.
        let episodes = std::iter::once(None).chain(faults).map(|fault| Episode {
            fault,
            after: dice.random_range(50..400),
        });
        Self {
            stopped,
            killed,
            cut,
            episodes: episodes.collect(),
        }
    }

    /// Whether nothing is done to this miner.
    pub fn spares(&self, miner: usize) -> bool {
        ![self.stopped, self.killed[0], self.killed[1], self.cut].contains(&miner)
    }
}

/// Longer than a share, so that a message of a round is torn.
fn tear(dice: &mut StdRng) -> Fault {
    let (direction, payload) = if dice.random() {
        (Direction::ToCoordinator, dice.random_range(64..128))
    } else {
        (Direction::ToParticipant, dice.random_range(64..512))
    };
    Fault::Cut {
        direction,
        payload,
        refused: dice.random_range(0..3),
    }
}
