//! Other people's outputs.

use tutti_proto::audit::Auditor;
use tutti_proto::coordinator::{Event, Record, Settings};
use tutti_proto::deadline::Millis;
use tutti_proto::id::SerialId;
use tutti_proto::message::{ToCoordinator, TxAddOutput, TxRemoveOutput};
use tutti_proto::reject::RejectCode;
use tutti_proto::roster::PROPOSED_CHANGES;
use tutti_tests::sim::{Archive, World, WorldOptions, identity_key, script};

use crate::pool::{AUX, MINERS, Mark, SECOND, goes_on, open_attempt, pool, pool_of, work};
use crate::stranger::{STRANGER, coordinator, joined, output, refused};

fn serial_of(world: &World, miner: usize) -> SerialId {
    let identity = world.miners[miner].identity();
    world.coordinator.roster().active(&identity).unwrap().0
}

#[test]
fn removes_anothers_output() {
    let mut world = pool();
    let peer = joined(&mut world, STRANGER);
    let serial = serial_of(&world, 0);
    let victim = world.miners[0].identity();
    let own = TxRemoveOutput::sign(&identity_key(STRANGER), &coordinator(), serial, &AUX);
    // In its own name: it has no such output.
    let message = ToCoordinator::TxRemoveOutput(own.clone());
    refused(&mut world, peer, message, RejectCode::NotYourOutput);
    // In the owner's name: that is another session's.
    let theirs = TxRemoveOutput {
        identity: victim,
        ..own
    };
    let message = ToCoordinator::TxRemoveOutput(theirs);
    refused(&mut world, peer, message, RejectCode::NotYou);
    // Even the owner's own words, should they ever leak.
    let leaked = TxRemoveOutput::sign(&identity_key(1), &coordinator(), serial, &AUX);
    let message = ToCoordinator::TxRemoveOutput(leaked);
    refused(&mut world, peer, message, RejectCode::NotYou);
    goes_on(&mut world);
}

#[test]
fn moves_anothers_serial_id_to_its_own_script() {
    let mut world = pool();
    let peer = joined(&mut world, STRANGER);
    let serial = serial_of(&world, 0);
    let message = ToCoordinator::TxAddOutput(output(STRANGER, serial.0));
    refused(&mut world, peer, message, RejectCode::SerialTaken);
    // The victim's output with the stranger's script, in the victim's name but not in its hand.
    let theirs = TxAddOutput {
        identity: world.miners[0].identity(),
        ..output(STRANGER, 9_001)
    };
    let message = ToCoordinator::TxAddOutput(theirs);
    refused(&mut world, peer, message, RejectCode::NotYou);
    goes_on(&mut world);
}

#[test]
fn swaps_the_script_of_a_signed_output() {
    let mut world = pool();
    let peer = joined(&mut world, STRANGER);
    let swapped = TxAddOutput {
        script: script(99),
        ..output(STRANGER, 9_001)
    };
    let message = ToCoordinator::TxAddOutput(swapped);
    refused(&mut world, peer, message, RejectCode::BadSignature);
    goes_on(&mut world);
}

#[test]
fn takes_the_operators_place() {
    let mut world = pool();
    let peer = joined(&mut world, STRANGER);
    for serial in [0, 2] {
        let message = ToCoordinator::TxAddOutput(output(STRANGER, serial));
        refused(&mut world, peer, message, RejectCode::SerialParity);
    }
    goes_on(&mut world);
}

#[test]
fn registers_more_outputs_than_it_may() {
    let mut world = pool();
    let peer = joined(&mut world, STRANGER);
    for serial in [9_001, 9_003] {
        world.say(peer, ToCoordinator::TxAddOutput(output(STRANGER, serial)));
    }
    let message = ToCoordinator::TxAddOutput(output(STRANGER, 9_005));
    refused(&mut world, peer, message, RejectCode::OutputQuota);
    goes_on(&mut world);
}

/// So many identities move as often as they may in a window.
fn many_change(world: &mut World) {
    let each = 8;
    let identities = u16::try_from(PROPOSED_CHANGES / each + 1).unwrap();
    for key in STRANGER..STRANGER + identities {
        let peer = joined(world, key);
        let mut serial = 20_001 + 1_000 * u64::from(key);
        world.say(peer, ToCoordinator::TxAddOutput(output(key, serial)));
        for _ in 0..(each - 1) / 2 {
            let next = serial + 2;
            world.say(peer, ToCoordinator::TxAddOutput(output(key, next)));
            let old = SerialId(serial);
            let removal = TxRemoveOutput::sign(&identity_key(key), &coordinator(), old, &AUX);
            world.say(peer, ToCoordinator::TxRemoveOutput(removal));
            serial = next;
        }
        world.say(peer, ToCoordinator::TxAddOutput(output(key, serial + 2)));
    }
}

/// Every round that was ever live was proposed on a set that is soon found, and is checked.
fn sets_are_soon_found(world: &World) {
    let archive = Archive::of(world).unwrap();
    let mut auditor = Auditor::new(archive.params.name());
    for segment in &archive.segments {
        auditor.segment(segment).unwrap();
    }
    let totals = auditor.totals();
    assert!(totals.rounds_checked > 0);
    assert_eq!(totals.rounds_unchecked, 0);
    let (mut window, mut sets) = (0, Vec::new());
    let mut proposed = archive
        .terms
        .iter()
        .map(|terms| terms.terms().inputs.clone());
    let mut roster = tutti_proto::roster::Roster::default();
    for record in &world.records {
        match record {
            Record::OutputAdded(output) => {
                roster.add_output(&coordinator(), output.clone()).unwrap();
            }
            Record::OutputRemoved(removal) => {
                let (who, serial_id) = (removal.identity, removal.serial_id);
                roster.remove_output(who, serial_id).unwrap();
            }
            Record::WindowClosed(end) => {
                window = end.record.seq.0;
                sets.clear();
            }
            Record::Terms(..) => {
                let inputs = proposed.next().unwrap();
                if inputs.ledger.seq.0 == window {
                    let place = sets.iter().position(|set| *set == inputs.roster);
                    assert!(place.is_some_and(|changes| changes <= PROPOSED_CHANGES));
                }
            }
            _ => {}
        }
        let set = roster.digest();
        if sets.last() != Some(&set) {
            sets.push(set);
        }
    }
}

/// Whoever follows looks for a round's payee set among those of a window, and hashes each.
#[test]
fn changes_outputs_while_an_attempt_is_signed() {
    let mut world = pool();
    work(&mut world, 0, 2);
    let first = open_attempt(&mut world);
    many_change(&mut world);
    let mark = Mark::of(&world);
    world.run_until(Millis(3_000), "the next attempt", |world| {
        !mark.committed(world).is_empty()
    });
    let second = &mark.proposals(&world)[0].1.plan.inputs;
    assert_eq!(second.attempt.0, 1);
    // Its window begins with what was changed.
    assert_eq!(second.seq.0, first.plan.inputs.seq.0 + 1);
    world.settle();
    work(&mut world, 0, 2);
    goes_on(&mut world);
    sets_are_soon_found(&world);
}

#[test]
fn changes_outputs_before_a_direct_round() {
    let mut world = pool_of(
        WorldOptions {
            settings: Settings {
                direct_after: Millis(500),
                ..WorldOptions::default().settings
            },
            ..WorldOptions::default()
        },
        MINERS,
    );
    work(&mut world, 0, 2);
    // Nobody of them has a job on the next tip that was signed ahead.
    for miner in 0..MINERS {
        world.disconnect(miner);
        world.miners[miner].restart();
    }
    (0..MINERS).for_each(|miner| world.connect(miner));
    world.settle();
    let first = open_attempt(&mut world);
    many_change(&mut world);
    let mark = Mark::of(&world);
    let direct = |world: &World| {
        let mut log = mark.log(world).iter();
        log.find_map(|event| match event {
            Event::Direct { seq, .. } => Some(seq.0),
            _ => None,
        })
    };
    world.run_until(SECOND, "a direct round", |world| direct(world).is_some());
    assert_eq!(direct(&world), Some(first.plan.inputs.seq.0 + 1));
    world.settle();
    work(&mut world, 0, 2);
    world.run_until(Millis(3_000), "the next attempt", |world| {
        !mark.committed(world).is_empty()
    });
    world.settle();
    work(&mut world, 1, 2);
    goes_on(&mut world);
    sets_are_soon_found(&world);
}
