//! Leaving at every step of the protocol. Nobody waits for who is gone, and nobody else loses a hash.

use tutti_proto::deadline::Millis;
use tutti_proto::message::{AbortReason, ToCoordinator, ToParticipant};
use tutti_tests::sim::{World, WorldOptions};

use crate::pool::{MINERS, Mark, goes_on, pool, pool_of, work};

/// The miner that leaves.
const LEAVER: usize = MINERS - 1;

/// What the leaver was told or has said since it connected.
struct Step<'a> {
    told: Vec<&'a ToParticipant>,
    said: Vec<&'a ToCoordinator>,
}

impl Step<'_> {
    fn was_told(&self, what: fn(&ToParticipant) -> bool) -> bool {
        self.told.iter().any(|message| what(message))
    }

    fn has_said(&self, what: fn(&ToCoordinator) -> bool) -> bool {
        self.said.iter().any(|message| what(message))
    }
}

fn step(world: &World) -> Step<'_> {
    let peer = world.miners[LEAVER].peer.unwrap();
    let identity = world.miners[LEAVER].identity();
    let told = world.told.iter().filter(|(to, _)| *to == peer);
    let said = world.said.iter().filter(|(who, _)| *who == identity);
    Step {
        told: told.map(|(_, message)| message).collect(),
        said: said.map(|(_, message)| message).collect(),
    }
}

/// The steps at which it leaves, and how many attempts that may cost.
type Row = (&'static str, fn(&Step<'_>) -> bool, usize);

const STEPS: [Row; 10] = [
    ("connected", |_| true, 0),
    (
        "challenged",
        |step| step.was_told(|m| matches!(m, ToParticipant::Challenge(_))),
        0,
    ),
    (
        "join said",
        |step| step.has_said(|m| matches!(m, ToCoordinator::Join(_))),
        0,
    ),
    (
        "output said",
        |step| step.has_said(|m| matches!(m, ToCoordinator::TxAddOutput(_))),
        0,
    ),
    (
        "slots said",
        |step| step.has_said(|m| matches!(m, ToCoordinator::Slots(_))),
        0,
    ),
    (
        "proposal told",
        |step| step.was_told(|m| matches!(m, ToParticipant::Proposal(_))),
        1,
    ),
    (
        "tx_complete said",
        |step| step.has_said(|m| matches!(m, ToCoordinator::TxComplete(_))),
        1,
    ),
    (
        "signatures said",
        |step| step.has_said(|m| matches!(m, ToCoordinator::TxSignatures(_))),
        1,
    ),
    (
        "commit told",
        |step| step.was_told(|m| matches!(m, ToParticipant::Commit(_))),
        1,
    ),
    (
        "job told",
        |step| step.was_told(|m| matches!(m, ToParticipant::Job(_))),
        1,
    ),
];

#[test]
fn disconnects_at_every_step() {
    for (name, reached, attempts) in STEPS {
        let mut world = pool_of(WorldOptions::default(), LEAVER);
        for miner in 0..LEAVER {
            work(&mut world, miner, 1);
        }
        let mark = Mark::of(&world);
        world.connect(LEAVER);
        let end = world.now.after(Millis(20_000));
        while !reached(&step(&world)) {
            assert!(world.step() && world.now < end, "{name} is never reached");
        }
        // The next height's proposal comes with a commit, or just after it: it may have been asked to sign
        // that too.
        let told = step(&world).told.into_iter().rev();
        let mut since = told.take_while(|m| !matches!(m, ToParticipant::Commit(_)));
        let asked = since.any(|m| matches!(m, ToParticipant::Proposal(_)));
        let attempts = attempts.min(usize::from(asked));
        let left_at = world.now;
        world.disconnect(LEAVER);
        let leaver = world.miners[LEAVER].identity();
        // The others lose nothing: not their jobs, and not even the time of a deadline.
        world.settle();
        let failed = vec![(AbortReason::SignerLeft, vec![leaver]); attempts];
        assert_eq!(mark.failures(&world), failed, "{name}");
        assert!(world.now.since(left_at) < Millis(200), "{name}");
        for miner in 0..LEAVER {
            assert!(
                !world.miners[miner].orders.is_empty(),
                "{name}: miner {miner}"
            );
        }
        let mark = Mark::of(&world);
        world.new_tip();
        world.settle();
        assert_eq!(mark.failures(&world), [], "{name}");
        assert_eq!(mark.committed(&world).last().map(|c| c.1), Some(LEAVER + 1));
        assert!(world.all_hash_last_round(), "{name}");
        goes_on(&mut world);
    }
}

/// Its signature is there, so the attempt does not need it any more.
#[test]
fn disconnects_after_its_signature_arrived() {
    let mut world = pool();
    let slow = world.miners[0].peer.unwrap();
    world.network.stall(slow, world.now.after(Millis(500)));
    let mark = Mark::of(&world);
    world.new_tip();
    let half = world.now.after(Millis(250));
    while world.network.next_at().is_some_and(|at| at < half) {
        assert!(world.step());
    }
    assert_eq!(mark.committed(&world), []);
    world.disconnect(LEAVER);
    world.settle();
    assert_eq!(mark.failures(&world)[..], [], "of the present round");
    assert_eq!(
        mark.committed(&world)[0].1,
        MINERS + 1,
        "the leaver's key signs"
    );
    assert!(world.all_hash_last_round());
    goes_on(&mut world);
}

#[test]
fn disconnects_and_returns_without_end() {
    let mut world = pool();
    for miner in 0..LEAVER {
        work(&mut world, miner, 1);
    }
    goes_on(&mut world);
    let mark = Mark::of(&world);
    for _ in 0..50 {
        world.disconnect(LEAVER);
        world.settle();
        world.connect(LEAVER);
        world.settle();
        let working = &world.miners[..LEAVER];
        assert!(working.iter().all(|miner| !miner.orders.is_empty()));
    }
    // Its joins are no reason to make the others' work stale: rounds come at their own pace.
    assert!(
        mark.committed(&world).len() <= 1,
        "{:?}",
        mark.committed(&world)
    );
    goes_on(&mut world);
}
