//! Telling one history today and another tomorrow, or to others: what is signed cannot be taken back.

use tutti_proto::equivocation::Subject;
use tutti_proto::message::{SignedHead, ToParticipant, WindowClosed};
use tutti_proto::participant::Event;
use tutti_proto::work::Work;
use tutti_tests::sim::{World, identity_key};

use crate::liar::{Replica, proposal};
use crate::pool::{AUX, MINERS, Mark, SECOND, goes_on, last_proposal, pool, told, work};

/// Miners that hold proof that checks, and what it is about.
fn convinced(world: &World) -> Vec<(usize, Subject)> {
    let coordinator = world.coordinator.identity();
    let proofs = world.miners.iter().enumerate().flat_map(|(number, miner)| {
        let proofs = miner.proofs.iter();
        proofs.map(move |proof| (number, *proof))
    });
    let check = |(number, proof): (usize, tutti_proto::equivocation::Equivocation)| {
        assert_eq!(proof.verify(&coordinator), Ok(()));
        (number, proof.subject)
    };
    proofs.map(check).collect()
}

/// Whoever holds proof stays away, whatever is said, and however often its process starts.
fn stays_away(world: &mut World, miner: usize) {
    for restart in [false, true] {
        let mark = Mark::of(world);
        world.disconnect(miner);
        if restart {
            world.miners[miner].restart();
        }
        world.connect(miner);
        world.settle();
        let coordinator = world.coordinator.identity();
        assert_eq!(mark.news(world, miner), [Event::Convicted(coordinator)]);
        assert!(world.miners[miner].peer.is_none());
        assert_eq!(world.miners[miner].orders, []);
    }
}

#[test]
fn tells_one_miner_a_window_and_everyone_else_another() {
    for restarted in [false, true] {
        let mut world = pool();
        work(&mut world, 0, 1);
        let victim = world.miners[1].peer.unwrap();
        let operator = world.coordinator.identity();
        let window = world.coordinator.ledger().seq().next();
        let mut lied = Replica::of(&world);
        world.lies = Some(Box::new(move |peer, message| {
            vec![match message {
                ToParticipant::WindowClosed(closed) if peer == victim => {
                    let mut record = closed.record(&lied.roster).unwrap();
                    record.tally.insert(operator, Work(1 << 40));
                    lied.closed(record)
                }
                message => message,
            }]
        }));
        world.new_tip();
        world.settle();
        world.lies = None;
        assert_eq!(convinced(&world), [], "it has seen one history only");
        world.disconnect(1);
        if restarted {
            // What it was told is on its disk.
            world.miners[1].restart();
        }
        world.connect(1);
        world.settle();
        // The welcome is of a later window; a liar that starts over from its true past meets the same.
        let head = world.records.iter().find_map(|record| match record {
            tutti_proto::coordinator::Record::WindowClosed(next) => {
                (next.record.seq == window.next()).then_some(next.record.previous)
            }
            _ => None,
        });
        let head = tutti_proto::window::LedgerHead {
            seq: window,
            hash: head.unwrap(),
        };
        let record = world.records.iter().find_map(|record| match record {
            tutti_proto::coordinator::Record::WindowClosed(closed)
                if closed.record.seq == window =>
            {
                Some(closed.record.clone())
            }
            _ => None,
        });
        let mark = Mark::of(&world);
        let closed = WindowClosed {
            record: record.unwrap(),
            payees: Vec::new(),
            head: SignedHead::sign(&identity_key(0), head, &AUX),
        };
        told(&mut world, 1, ToParticipant::WindowClosed(closed));
        world.settle();
        assert_eq!(convinced(&world), [(1, Subject::Head(window))]);
        assert!(matches!(
            mark.news(&world, 1),
            [Event::Equivocation(proof)] if proof.subject == Subject::Head(window)
        ));
        stays_away(&mut world, 1);
        goes_on(&mut world);
    }
}

#[test]
fn rolls_the_ledger_back_and_closes_a_window_again() {
    let mut world = pool();
    work(&mut world, 0, 1);
    goes_on(&mut world);
    let past = world.records.clone();
    let closed_once = world.coordinator.ledger().seq().next();
    work(&mut world, 1, 2);
    world.new_tip();
    world.settle();
    assert!(world.coordinator.ledger().seq() >= closed_once);
    // Its disk is put back to where it was before, without the last windows' shares.
    world.records = past;
    let restored = world.restored().unwrap();
    world.restart_coordinator(restored);
    for miner in 0..MINERS {
        world.connect(miner);
    }
    world.new_tip();
    let end = world.now.after(SECOND);
    while world.miners.iter().any(|miner| miner.proofs.is_empty()) && world.now < end {
        assert!(world.step());
    }
    let convinced = convinced(&world);
    for miner in 0..MINERS {
        assert!(
            convinced.contains(&(miner, Subject::Head(closed_once))),
            "miner {miner}: {convinced:?}"
        );
        assert!(world.miners[miner].peer.is_none());
    }
}

#[test]
fn proposes_one_attempt_twice() {
    let mut world = pool();
    let proposed = last_proposal(&world);
    let replica = Replica::of(&world);
    let mut other = proposed.plan.clone();
    other.inputs.reward += 1;
    let mark = Mark::of(&world);
    // The same again is a network's fault.
    told(&mut world, 0, ToParticipant::Proposal(proposed.clone()));
    assert_eq!(convinced(&world), []);
    let subject = Subject::Proposal(other.inputs.seq, other.inputs.attempt);
    told(&mut world, 1, proposal(replica.plan(&other)));
    world.settle();
    assert_eq!(convinced(&world), [(1, subject)]);
    assert_eq!(mark.signed_by(&world, 1), [].into());
    stays_away(&mut world, 1);
    goes_on(&mut world);
}

#[test]
fn signs_no_head() {
    let mut world = pool();
    let mark = Mark::of(&world);
    world.lies = Some(Box::new(|_, message| {
        vec![match message {
            ToParticipant::WindowClosed(mut closed) => {
                closed.head = SignedHead::sign(&identity_key(9), closed.head.head, &AUX);
                ToParticipant::WindowClosed(closed)
            }
            message => message,
        }]
    }));
    let window = world.coordinator.ledger().seq().next();
    world.new_tip();
    world.settle();
    for miner in 0..MINERS {
        mark.names(&world, miner, &Event::UnsignedHead(window));
        assert_eq!(world.miners[miner].orders, []);
    }
    assert_eq!(mark.signed(&world), []);
    goes_on(&mut world);
}
