//! An honest pool, what happened in it since a moment, and that it goes on.

use std::collections::BTreeSet;

use tutti_proto::coordinator::{self, RoundKind};
use tutti_proto::deadline::Millis;
use tutti_proto::id::{Identity, PeerId, RoundId};
use tutti_proto::message::{
    AbortReason, AnnouncedSlot, Job, Proposal, ToCoordinator, ToParticipant, TxSignatures,
};
use tutti_proto::participant::{Event, Input};
use tutti_proto::plan::PlanError;
use tutti_proto::reject::RejectCode;
use tutti_tests::sim::{Mood, World, WorldOptions};

pub const AUX: [u8; 32] = [5; 32];
pub const SECOND: Millis = Millis(1_000);
pub const MINERS: usize = 4;
/// Back-offs of a few failures in a row, and the refreshes after them.
const SOON: Millis = Millis(400_000);

/// Four miners; the first round and that of the next height are committed.
pub fn pool() -> World {
    pool_of(WorldOptions::default(), MINERS)
}

/// A pool of which the first so many miners are connected and hash.
pub fn pool_of(options: WorldOptions, connected: usize) -> World {
    let mut world = World::new(options);
    for miner in 0..connected {
        world.connect(miner);
    }
    world.new_tip();
    world.run_until(SECOND, "the first round", World::all_hash_last_round);
    world.settle();
    world
}

/// Shares of a miner, acknowledged.
pub fn work(world: &mut World, miner: usize, shares: usize) {
    for _ in 0..shares {
        world.share(miner);
        world.settle();
    }
}

/// Gives a miner a message as if its coordinator had sent it.
pub fn told(world: &mut World, miner: usize, message: ToParticipant) {
    world.tell_miner(miner, Input::Received(message));
}

/// Once the lies are over, all honest miners sign and hash a fresh round.
pub fn goes_on(world: &mut World) {
    world.lies = None;
    for miner in &mut world.miners {
        miner.mood = Mood::Honest;
    }
    let mark = Mark::of(world);
    world.new_tip();
    let all = world.miners.len() + 1;
    let end = world.now.after(SOON);
    let done = |world: &World| {
        let last = mark.committed(world).pop();
        last.map(|(_, signers)| signers) == Some(all) && world.all_hash_last_round()
    };
    while !done(world) {
        // Who left a liar comes back.
        for miner in 0..world.miners.len() {
            if world.miners[miner].peer.is_none() {
                forgive(world, miner);
                world.connect(miner);
            }
        }
        assert!(
            world.step() && world.now <= end,
            "the pool did not go on: {:?}",
            &world.events[world.events.len().saturating_sub(8)..]
        );
    }
    world.settle();
    for miner in &world.miners {
        assert!(miner.peer.is_some() && !miner.orders.is_empty());
    }
}

/// Whoever caught the liar has proof of it, and comes back only because its owner wants it to.
fn forgive(world: &mut World, miner: usize) {
    let coordinator = world.coordinator.identity();
    let miner = &mut world.miners[miner];
    if !miner.proofs.is_empty() {
        for proof in &miner.proofs {
            assert_eq!(proof.verify(&coordinator), Ok(()));
        }
        miner.forgive();
    }
}

/// A moment, to look at what came after it.
pub struct Mark {
    news: Vec<usize>,
    log: usize,
    said: usize,
    told: usize,
}

impl Mark {
    pub fn of(world: &World) -> Self {
        Self {
            news: world
                .miners
                .iter()
                .map(|miner| miner.events.len())
                .collect(),
            log: world.events.len(),
            said: world.said.len(),
            told: world.told.len(),
        }
    }

    /// What a miner told its log.
    pub fn news<'a>(&self, world: &'a World, miner: usize) -> &'a [Event] {
        &world.miners[miner].events[self.news[miner]..]
    }

    /// Whether a miner told exactly this of all things that end a session or refuse a plan.
    #[track_caller]
    pub fn names(&self, world: &World, miner: usize, lie: &Event) {
        let news = self.news(world, miner);
        assert!(
            news.contains(lie),
            "miner {miner} was to say {lie:?}: {news:?}"
        );
    }

    /// Plans that a miner refused.
    pub fn refusals<'a>(&self, world: &'a World, miner: usize) -> Vec<&'a PlanError> {
        let refused = |event: &'a Event| match event {
            Event::PlanRefused { error, .. } => Some(error),
            _ => None,
        };
        self.news(world, miner).iter().filter_map(refused).collect()
    }

    /// Who signed which round.
    pub fn signed(&self, world: &World) -> Vec<(Identity, RoundId)> {
        let signed = |(who, said): &(Identity, ToCoordinator)| match said {
            ToCoordinator::TxSignatures(signatures) => Some((*who, signatures.round)),
            _ => None,
        };
        world.said[self.said..].iter().filter_map(signed).collect()
    }

    /// Rounds that a miner signed.
    pub fn signed_by(&self, world: &World, miner: usize) -> BTreeSet<RoundId> {
        let identity = world.miners[miner].identity();
        let signed = self.signed(world).into_iter();
        signed
            .filter(|(who, _)| *who == identity)
            .map(|(_, round)| round)
            .collect()
    }

    /// The coordinator's log.
    pub fn log<'a>(&self, world: &'a World) -> &'a [coordinator::Event] {
        &world.events[self.log..]
    }

    /// Committed rounds of the present height, and how many signed each.
    pub fn committed(&self, world: &World) -> Vec<(RoundId, usize)> {
        let committed = self.log(world).iter().filter_map(|event| match event {
            coordinator::Event::Committed {
                kind: RoundKind::Present,
                round,
                signers,
                ..
            } => Some((*round, *signers)),
            _ => None,
        });
        committed.collect()
    }

    /// Failed attempts, and who was blamed for each.
    pub fn failures(&self, world: &World) -> Vec<(AbortReason, Vec<Identity>)> {
        let failed = self.log(world).iter().filter_map(|event| match event {
            coordinator::Event::AttemptFailed {
                reason, culprits, ..
            } => Some((*reason, culprits.clone())),
            _ => None,
        });
        failed.collect()
    }

    /// Messages that the coordinator refused.
    pub fn rejects(&self, world: &World) -> Vec<(PeerId, RejectCode)> {
        let told = world.told[self.told..].iter();
        told.filter_map(|(peer, message)| match message {
            ToParticipant::Reject(reject) => Some((*peer, reject.code)),
            _ => None,
        })
        .collect()
    }

    /// Proposals that were told, to each peer.
    pub fn proposals(&self, world: &World) -> Vec<(PeerId, Proposal)> {
        let told = world.told[self.told..].iter();
        told.filter_map(|(peer, message)| match message {
            ToParticipant::Proposal(proposal) => Some((*peer, proposal.clone())),
            _ => None,
        })
        .collect()
    }
}

/// The last proposal that was told.
pub fn last_proposal(world: &World) -> Proposal {
    Mark {
        news: Vec::new(),
        log: 0,
        said: 0,
        told: 0,
    }
    .proposals(world)
    .pop()
    .unwrap()
    .1
}

/// The last job of a miner.
pub fn last_job(world: &World, miner: usize) -> Job {
    let peer = world.miners[miner].peer.unwrap();
    let jobs = world.told.iter().rev();
    let mut jobs = jobs.filter_map(|(to, message)| match message {
        ToParticipant::Job(job) if *to == peer => Some(job.clone()),
        _ => None,
    });
    jobs.next().unwrap()
}

/// What a miner signed of a round.
pub fn signatures_of(world: &World, miner: usize, round: RoundId) -> TxSignatures {
    let identity = world.miners[miner].identity();
    let mut said = world.said.iter().filter_map(|(who, said)| match said {
        ToCoordinator::TxSignatures(signed) if *who == identity && signed.round == round => {
            Some(signed.clone())
        }
        _ => None,
    });
    said.next().unwrap()
}

/// The slot of a miner that a proposal names.
pub fn slot_of(world: &World, miner: usize, proposal: &Proposal) -> AnnouncedSlot {
    let identity = world.miners[miner].identity();
    let key = proposal.plan.own_key(&identity).unwrap();
    let slots = world.said.iter().filter_map(|(who, said)| match said {
        ToCoordinator::Slots(slots) if *who == identity => Some(&slots.slots),
        _ => None,
    });
    let mut named = slots.flatten().filter(|slot| slot.slot.key == key);
    named.next().unwrap().clone()
}

/// Proposes a round in which the last miner is silent: all others have signed, nothing is committed.
pub fn open_attempt(world: &mut World) -> Proposal {
    let last = world.miners.len() - 1;
    world.miners[last].mood = Mood::SilentSigner;
    world.new_tip();
    world.settle();
    last_proposal(world)
}
