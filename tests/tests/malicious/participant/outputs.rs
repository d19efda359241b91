//! Other people's outputs.

use tutti_proto::id::SerialId;
use tutti_proto::message::{ToCoordinator, TxAddOutput, TxRemoveOutput};
use tutti_proto::reject::RejectCode;
use tutti_tests::sim::{World, identity_key, script};

use crate::pool::{AUX, goes_on, pool};
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
