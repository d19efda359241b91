//! Crediting a bump otherwise than its proof says, so that the others pay for what nobody spent.

use tutti_proto::coordinator::Found;
use tutti_proto::participant::{Event, StateError};
use tutti_proto::payout::ANCHOR_SAT;
use tutti_proto::window::{Credit, CreditError, LedgerError, WindowRecord};
use tutti_tests::sim::World;

use super::amounts::lie_in_windows;
use super::carries::pool_with_a_booked_block;
use crate::pool::{MINERS, Mark, goes_on};

const FEE: u64 = 1_500;

/// A pool that booked a block, whose payout the first miner bumped.
fn pool_with_a_bump() -> (World, Found, Credit) {
    let (world, booking) = pool_with_a_booked_block();
    let found = world.last_found().unwrap();
    assert_eq!(found.hash, booking.block);
    let credit = world.bump(&found, &world.miners[0].identity(), FEE, 3);
    (world, found, credit.unwrap())
}

/// Windows with these credits end the session of everyone, for this reason.
fn everyone_leaves_over(mut world: World, credits: Vec<Credit>, error: CreditError) {
    let mark = Mark::of(&world);
    let window = world.coordinator.ledger().seq().next();
    lie_in_windows(&mut world, move |record: &mut WindowRecord| {
        record.credits.clone_from(&credits);
    });
    world.new_tip();
    world.settle();
    let lie = Event::BadState(StateError::Ledger(LedgerError::Credit { window, error }));
    for miner in 0..MINERS {
        mark.names(&world, miner, &lie);
        assert_eq!(world.miners[miner].orders, []);
    }
    assert_eq!(mark.signed(&world), []);
    goes_on(&mut world);
}

#[test]
fn credits_more_than_the_bump_cost() {
    let (world, _, mut credit) = pool_with_a_bump();
    let follows = credit.sat;
    assert_eq!(u64::from(follows), FEE - ANCHOR_SAT);
    credit.sat += 1;
    let claimed = credit.sat;
    let error = CreditError::OtherAmount { claimed, follows };
    everyone_leaves_over(world, vec![credit], error);
}

#[test]
fn credits_somebody_else() {
    let (world, _, mut credit) = pool_with_a_bump();
    credit.identity = world.coordinator.identity();
    everyone_leaves_over(world, vec![credit], CreditError::OtherIdentity);
}

#[test]
fn credits_a_bump_twice_in_a_window() {
    let (world, _, credit) = pool_with_a_bump();
    let twice = vec![credit.clone(), credit];
    everyone_leaves_over(world, twice, CreditError::Again);
}

#[test]
fn credits_a_bump_again_in_a_later_window() {
    let (mut world, _, credit) = pool_with_a_bump();
    let input = tutti_proto::coordinator::Input::Credit(Box::new(credit.clone()));
    world.tell_coordinator(input);
    goes_on(&mut world);
    let owed = world.coordinator.ledger().check_credit(&credit);
    assert_eq!(owed, Err(CreditError::Again), "it was credited once");
    everyone_leaves_over(world, vec![credit], CreditError::Again);
}

#[test]
fn credits_a_bump_of_a_block_that_nobody_found() {
    let (world, _, mut credit) = pool_with_a_bump();
    credit.block[31] ^= 1;
    everyone_leaves_over(world, vec![credit], CreditError::NotBooked);
}

#[test]
fn credits_a_bump_of_a_payout_that_nobody_waited_for() {
    let (world, found, honest) = pool_with_a_bump();
    let who = world.miners[0].identity();
    let early = world.bump(&found, &who, FEE, 2);
    assert_eq!(early, None, "an honest finder gives none");
    let mut lenient = found.clone();
    lenient.payouts.bump_credit_after = 1;
    let mut early = world.bump(&lenient, &who, FEE, 2).unwrap();
    early.proof.payouts = honest.proof.payouts.clone();
    let from = found.payouts.credited_from();
    let height = from - 1;
    everyone_leaves_over(world, vec![early], CreditError::TooEarly { height, from });
}

#[test]
fn credits_by_other_parameters_than_the_round_had() {
    let (world, mut found, _) = pool_with_a_bump();
    found.payouts.bump_credit_after = 1;
    let who = world.miners[0].identity();
    let early = world.bump(&found, &who, FEE, 2).unwrap();
    everyone_leaves_over(world, vec![early], CreditError::OtherPayouts);
}
