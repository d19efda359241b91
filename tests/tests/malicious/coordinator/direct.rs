//! Coinbases that pay directly: nobody signs them, so everyone computes them before it hashes.

use tutti_proto::id::LaneIndex;
use tutti_proto::message::{AbortReason, Job, ToCoordinator, ToParticipant};
use tutti_proto::participant::Event;
use tutti_proto::plan::{DirectPlan, PlanError, RoundInputs};
use tutti_tests::sim::{World, WorldOptions};

use crate::liar::{Replica, proposal, propose_direct, txid};
use crate::pool::{MINERS, Mark, goes_on, last_job, last_proposal, pool, pool_of, told};

/// Tells everyone a direct proposal and its job. Nobody hashes it.
fn nobody_hashes(world: &mut World, lie: ToParticipant, expected: &PlanError) {
    let ToParticipant::Proposal(proposed) = &lie else {
        panic!("the lie is a proposal")
    };
    let round = proposed.plan.round;
    for miner in 0..MINERS {
        let mark = Mark::of(world);
        let orders = world.miners[miner].orders.clone();
        told(world, miner, lie.clone());
        assert_eq!(mark.refusals(world, miner), [expected]);
        let job = Job {
            round,
            ..last_job(world, miner)
        };
        told(world, miner, ToParticipant::Job(job));
        assert_eq!(world.miners[miner].orders, orders, "it hashes on as before");
        assert!(
            world.miners[miner]
                .held
                .iter()
                .all(|held| held.round != round)
        );
    }
    goes_on(world);
}

/// What the liar starts from is accepted as it is: the tests here fail by the lie alone.
#[test]
fn an_honest_direct_round_is_held_and_hashed() {
    let mut world = pool();
    let plan = Replica::of(&world).direct(&world);
    let truth = propose_direct(&plan, plan.coinbases());
    world.invariants.told(None, &truth);
    told(&mut world, 0, truth);
    let job = Job {
        id: plan.inputs().job(),
        round: plan.round(),
        ..last_job(&world, 0)
    };
    told(&mut world, 0, ToParticipant::Job(job));
    assert_eq!(world.miners[0].hashed().unwrap().round, plan.round());
    goes_on(&mut world);
}

#[test]
fn pays_a_miner_less_in_a_direct_coinbase() {
    let mut world = pool();
    let plan = Replica::of(&world).direct(&world);
    let mut coinbases = plan.coinbases().to_vec();
    coinbases[1].output[0].value += bitcoin::Amount::ONE_SAT;
    coinbases[1].output[1].value -= bitcoin::Amount::ONE_SAT;
    let lie = propose_direct(&plan, &coinbases);
    nobody_hashes(&mut world, lie, &PlanError::Coinbase(LaneIndex(1)));
}

#[test]
fn leaves_a_miner_out_of_a_direct_coinbase() {
    let mut world = pool();
    let replica = Replica::of(&world);
    let mut without = replica.clone();
    let (serial_id, payee) = without.roster.iter().last().unwrap();
    let identity = payee.identity;
    without.roster.remove_output(identity, serial_id).unwrap();
    let (plan, lie) = (replica.direct(&world), without.direct(&world));
    // Under the name of the true round, with coinbases of the false one.
    let lie = propose_direct(&plan, lie.coinbases());
    nobody_hashes(&mut world, lie, &PlanError::Coinbase(LaneIndex(0)));
}

#[test]
fn makes_a_direct_coinbase_worth_less_than_the_subsidy() {
    let mut world = pool();
    let honest = Replica::of(&world).direct(&world);
    let inputs = RoundInputs {
        reward: 4_999_999_999,
        ..honest.inputs().clone()
    };
    let round = inputs.round_id(world.coordinator.params());
    let lie = proposal(tutti_proto::plan::ProposedPlan {
        round,
        inputs: inputs.clone(),
        coinbases: honest.coinbases().iter().map(txid).collect(),
        nonces: Vec::new(),
    });
    let expected = PlanError::RewardBelowSubsidy {
        reward: inputs.reward,
        subsidy: 5_000_000_000,
        height: inputs.height,
    };
    nobody_hashes(&mut world, lie, &expected);
}

#[test]
fn proposes_a_direct_round_where_the_pool_has_none() {
    let options = WorldOptions {
        direct_payees: 0,
        ..WorldOptions::default()
    };
    let mut world = pool_of(options, MINERS);
    let mut replica = Replica::of(&world);
    replica.params.direct_payees = 4;
    let plan = replica.direct(&world);
    let lie = propose_direct(&plan, plan.coinbases());
    nobody_hashes(&mut world, lie, &PlanError::NoDirectRounds);
}

#[test]
fn proposes_a_direct_round_to_those_who_refuse_them() {
    let mut options = WorldOptions::default();
    options.policy.refuse_direct = true;
    let mut world = pool_of(options, MINERS);
    let plan = Replica::of(&world).direct(&world);
    let lie = propose_direct(&plan, plan.coinbases());
    nobody_hashes(&mut world, lie, &PlanError::Direct);
}

#[test]
fn asks_signers_for_a_direct_round() {
    let mut world = pool();
    let mark = Mark::of(&world);
    let plan: DirectPlan = Replica::of(&world).direct(&world);
    let last = last_proposal(&world).plan;
    let lie = proposal(tutti_proto::plan::ProposedPlan {
        round: plan.round(),
        inputs: plan.inputs().clone(),
        coinbases: plan.txids(),
        nonces: last.nonces,
    });
    let expected = PlanError::Nonces {
        got: 2,
        sessions: 0,
    };
    nobody_hashes(&mut world, lie, &expected);
    // No slot was named, so the refusal was not worth a word to the coordinator.
    let aborts = world.said.iter().filter(|(_, said)| {
        matches!(said, ToCoordinator::TxAbort(abort) if abort.reason == AbortReason::PlanMismatch)
    });
    assert_eq!(aborts.count(), 0);
    assert!(
        mark.news(&world, 0)
            .iter()
            .any(|e| matches!(e, Event::PlanRefused { .. }))
    );
}
