//! Nothing is signed or hashed whose ledger the participant's own follower has not checked.

use tutti_proto::coordinator;
use tutti_proto::deadline::Millis;
use tutti_proto::follower::FollowError;
use tutti_proto::id::WindowSeq;
use tutti_proto::message::AbortReason;
use tutti_proto::participant::{Event, Input, LedgerFault};
use tutti_proto::plan::PlanError;
use tutti_proto::window::LedgerHead;
use tutti_tests::sim::{World, WorldOptions};

const SECOND: Millis = Millis(1_000);
/// The miner whose ledger is checked by hand: the last of four.
const FOLLOWER: usize = 3;

/// Four miners, one of which follows; the three others hash. Only what is signed pays.
fn pool() -> World {
    pool_with(0)
}

fn pool_with(direct_payees: u16) -> World {
    let mut world = World::new(WorldOptions {
        followers: 1,
        direct_payees,
        ..WorldOptions::default()
    });
    (0..4).for_each(|miner| world.connect(miner));
    world.new_tip();
    it_waits(&mut world);
    world
}

fn it_waits(world: &mut World) {
    world.run_until(SECOND, "a proposal waits for the check", |world| {
        world.miners[FOLLOWER].core.waits_for_check().is_some()
    });
}

/// Lets so much of the world's time pass.
fn run_for(world: &mut World, time: Millis) {
    let end = world.now.after(time);
    while world.next_at().is_some_and(|at| at <= end) {
        world.step();
    }
}

fn others_hash(world: &World) -> bool {
    (0..FOLLOWER).all(|miner| world.miners[miner].hashed().is_some())
}

fn head(world: &World) -> LedgerHead {
    world.coordinator.ledger().head()
}

fn checked(world: &mut World) {
    let head = head(world);
    world.tell_miner(FOLLOWER, Input::LedgerChecked(head));
}

fn refusals(world: &World) -> Vec<&PlanError> {
    let news = world.miners[FOLLOWER].events.iter();
    let refused = news.filter_map(|event| match event {
        Event::PlanRefused { error, .. } => Some(error),
        _ => None,
    });
    refused.collect()
}

#[test]
fn a_proposal_waits_for_the_check_and_is_signed_after_it() {
    let mut world = pool();
    run_for(&mut world, Millis(200));
    assert!(!others_hash(&world), "it is asked to sign, and waits");
    // Another head is not this one.
    let other = LedgerHead {
        hash: [9; 32],
        ..head(&world)
    };
    world.tell_miner(FOLLOWER, Input::LedgerChecked(other));
    run_for(&mut world, Millis(200));
    assert!(!others_hash(&world));
    checked(&mut world);
    world.run_until(SECOND, "everyone hashes", World::all_hash_last_round);
    assert_eq!(world.coordinator.last_committed().unwrap().1, 1 + 4);
    assert!(world.miners[FOLLOWER].core.waits_for_check().is_none());
    // What was checked before it was proposed does not wait.
    assert_eq!(refusals(&world), Vec::<&PlanError>::new());
}

#[test]
fn who_does_not_come_to_check_holds_up_nobody_and_hashes_nothing_unchecked() {
    let mut world = pool();
    world.tell_miner(FOLLOWER, Input::CheckIsLate);
    world.run_until(SECOND, "the others hash", others_hash);
    let window = WindowSeq(1);
    assert_eq!(refusals(&world), [&PlanError::Unchecked(window)]);
    let failed = world.events.iter().find_map(|event| match event {
        coordinator::Event::AttemptFailed {
            reason, culprits, ..
        } => Some((*reason, culprits.clone())),
        _ => None,
    });
    let follower = world.miners[FOLLOWER].identity();
    assert_eq!(failed, Some((AbortReason::SignerLeft, vec![follower])));
    // It is not asked again at once: the next attempts are proposed to it as a payee, and wait too.
    world.settle();
    assert_eq!(world.miners[FOLLOWER].orders, []);
    assert_eq!(world.coordinator.last_committed().unwrap().1, 1 + 3);
    // Once it has checked, it hashes as a payee of the next round.
    world.new_tip();
    it_waits(&mut world);
    checked(&mut world);
    world.run_until(SECOND, "everyone hashes", World::all_hash_last_round);
}

#[test]
fn only_the_newest_proposal_is_worth_waiting_for() {
    let mut world = pool();
    let first = head(&world);
    world.new_tip();
    it_waits(&mut world);
    run_for(&mut world, Millis(100));
    assert_ne!(head(&world), first);
    world.tell_miner(FOLLOWER, Input::LedgerChecked(first));
    run_for(&mut world, Millis(100));
    let accepted = |event: &Event| matches!(event, Event::PlanAccepted { .. });
    let events = &world.miners[FOLLOWER].events;
    assert!(!events.iter().any(accepted), "that attempt is over");
    checked(&mut world);
    world.run_until(SECOND, "everyone hashes", World::all_hash_last_round);
}

#[test]
fn a_direct_rounds_job_waits_with_it() {
    let mut world = pool_with(4);
    run_for(&mut world, Millis(200));
    // It came on what nobody had to sign; the follower, asked to sign, holds up the signed round.
    assert!(others_hash(&world));
    assert!(
        world
            .coordinator
            .last_committed()
            .is_some_and(|(_, signers)| signers == 0)
    );
    assert_eq!(world.miners[FOLLOWER].orders, []);
    checked(&mut world);
    assert!(world.miners[FOLLOWER].hashed().is_some());
    let news = &world.miners[FOLLOWER].events;
    let unsigned = |event: &Event| matches!(event, Event::UnsignedJob { .. });
    assert!(!news.iter().any(unsigned));
    world.run_until(SECOND, "everyone hashes", World::all_hash_last_round);
}

#[test]
fn a_false_ledger_is_left_for_good() {
    let mut world = pool();
    let window = WindowSeq(1);
    let fault = LedgerFault::Followed(FollowError::Root(window));
    world.tell_miner(FOLLOWER, Input::LedgerFalse(fault.clone()));
    world.run_until(SECOND, "the others hash", others_hash);
    let miner = &world.miners[FOLLOWER];
    assert!(miner.events.contains(&Event::LedgerFalse(fault)));
    assert_eq!(miner.orders, []);
    assert!(miner.peer.is_none(), "it has left");
}
