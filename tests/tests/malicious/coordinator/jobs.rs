//! Jobs on lanes whose payouts nobody holds.

use tutti_proto::deadline::Millis;
use tutti_proto::id::{JobId, RoundId};
use tutti_proto::message::{Job, ToParticipant};
use tutti_proto::params::NTIME_ROLL_LIMIT;
use tutti_proto::participant::Event;
use tutti_tests::sim::World;

use crate::pool::{MINERS, Mark, goes_on, last_job, open_attempt, pool, told};

/// Gives the miner a job: it says what is wrong with it, and hashes what it hashed before.
fn is_not_hashed(world: &mut World, miner: usize, job: Job, lie: &Event) {
    let mark = Mark::of(world);
    let before = world.miners[miner].orders.clone();
    assert!(!before.is_empty());
    told(world, miner, ToParticipant::Job(job));
    assert_eq!(mark.news(world, miner), std::slice::from_ref(lie));
    assert_eq!(world.miners[miner].orders, before);
}

fn job_of(world: &World, miner: usize, round: RoundId) -> Job {
    Job {
        round,
        ..last_job(world, miner)
    }
}

#[test]
fn gives_a_job_on_lanes_that_nobody_signed() {
    let mut world = pool();
    let round = RoundId([0xdd; 32]);
    for miner in 0..MINERS {
        let job = job_of(&world, miner, round);
        is_not_hashed(&mut world, miner, job, &Event::UnsignedJob { round });
    }
    goes_on(&mut world);
}

#[test]
fn gives_the_job_before_the_commit() {
    let mut world = pool();
    let round = open_attempt(&mut world).plan.round;
    for miner in 0..MINERS {
        // All but one have signed it themselves; none holds the others' signatures.
        let job = job_of(&world, miner, round);
        is_not_hashed(&mut world, miner, job, &Event::UnsignedJob { round });
    }
    goes_on(&mut world);
}

#[test]
fn gives_a_job_on_the_lanes_of_an_aborted_attempt() {
    let mut world = pool();
    let round = open_attempt(&mut world).plan.round;
    let mark = Mark::of(&world);
    world.run_until(Millis(3_000), "the next attempt", |w| {
        !mark.committed(w).is_empty() && w.all_hash_last_round()
    });
    for miner in 0..MINERS {
        assert!(mark.news(&world, miner).iter().any(|event| matches!(
            event,
            Event::Aborted(aborted) if aborted.round == round
        )));
        let job = job_of(&world, miner, round);
        is_not_hashed(&mut world, miner, job, &Event::UnsignedJob { round });
    }
    goes_on(&mut world);
}

#[test]
fn gives_the_job_of_a_round_of_another_process() {
    let mut world = pool();
    let job = last_job(&world, 0);
    world.disconnect(0);
    world.miners[0].restart();
    world.connect(0);
    world.settle();
    let mark = Mark::of(&world);
    let round = job.round;
    // It holds the payouts, on disk, but not the slices that the job is about.
    told(&mut world, 0, ToParticipant::Job(job));
    assert_eq!(mark.news(&world, 0), [Event::UnsignedJob { round }]);
    assert_eq!(world.miners[0].orders, []);
    goes_on(&mut world);
}

#[test]
fn gives_a_job_whose_time_no_node_accepts() {
    let mut world = pool();
    let honest = last_job(&world, 0);
    let first = honest.header.time_min;
    for time_max in [first + NTIME_ROLL_LIMIT + 1, first - 1] {
        let mut job = honest.clone();
        job.header.time_max = time_max;
        is_not_hashed(&mut world, 0, job, &Event::OutOfOrder);
    }
    goes_on(&mut world);
}

#[test]
fn names_a_job_as_another_rounds() {
    let mut world = pool();
    let honest = last_job(&world, 0);
    let JobId(id) = honest.id;
    // A round's before and after it, and the direct round's of the same number.
    for id in [id - 2, id + 2, id + 1, 0, u64::MAX] {
        let job = Job {
            id: JobId(id),
            ..honest.clone()
        };
        is_not_hashed(&mut world, 0, job, &Event::OutOfOrder);
    }
    goes_on(&mut world);
}
