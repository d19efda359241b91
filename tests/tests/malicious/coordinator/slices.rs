//! Assignments by which two would repeat each other's work.

use tutti_proto::lane::{Assigned, AssignmentError, Assignments};
use tutti_proto::message::{AssignmentsSet, ToParticipant};
use tutti_proto::participant::Event;
use tutti_proto::plan::PlanError;
use tutti_proto::wire::{FromWire, ToWire, WireReason, pb};
use tutti_tests::sim::{World, identity_key};

use crate::liar::{Replica, proposal};
use crate::pool::{MINERS, Mark, goes_on, pool};

/// One slice twice, or within a wider one: there is no way to say it.
#[test]
fn hands_out_overlapping_slices() {
    let world = pool();
    let set = AssignmentsSet {
        assignments: Replica::of(&world).assignments,
    };
    let honest = set.to_wire();
    assert_eq!(AssignmentsSet::from_wire(honest.clone()), Ok(set));
    let reason = |slices: Vec<pb::Slice>| {
        let wire = pb::ToParticipant {
            message: Some(pb::to_participant::Message::Assignments(
                pb::AssignmentsSet { slices },
            )),
        };
        ToParticipant::from_wire(wire).unwrap_err().reason
    };
    let thief = identity_key(0).identity();
    let stolen = |slice: &pb::Slice| pb::Slice {
        owner: thief.as_bytes().to_vec().into(),
        ..slice.clone()
    };

    let mut twice = honest.slices.clone();
    twice.insert(1, stolen(&twice[0]));
    assert_eq!(reason(twice), WireReason::NotAscending);

    let mut within = honest.slices.clone();
    let narrower = pb::Slice {
        prefix_len: within[0].prefix_len + 1,
        ..stolen(&within[0])
    };
    within.insert(1, narrower);
    let overlaps = AssignmentError::Overlap {
        lane: tutti_proto::id::LaneIndex(0),
        prefix: within[0].prefix as u16,
    };
    assert_eq!(reason(within), WireReason::Assignments(overlaps));
}

/// All slices of the first miner become the second's.
fn steal(world: &World, set: &Assignments) -> Assignments {
    let (victim, thief) = (world.miners[0].identity(), world.miners[1].identity());
    let z = set.z(&thief).unwrap();
    let slices = set.iter().map(|assigned| match assigned.owner == victim {
        true => Assigned {
            owner: thief,
            z,
            ..assigned
        },
        false => assigned,
    });
    let slices: Vec<Assigned> = slices.collect();
    Assignments::parse(slices, world.coordinator.params().lanes).unwrap()
}

/// The first and the third miner are told the true owners, the others a second owner of one slice.
#[test]
fn shows_two_owners_of_one_slice_to_two_halves() {
    let mut world = pool();
    let mark = Mark::of(&world);
    let told = Replica::of(&world).assignments;
    let stolen = steal(&world, &told);
    let deceived = [1, 3];
    for miner in deceived {
        let assignments = stolen.clone();
        let set = ToParticipant::Assignments(AssignmentsSet { assignments });
        crate::pool::told(&mut world, miner, set);
    }
    world.new_tip();
    world.settle();
    for miner in deceived {
        assert_eq!(mark.refusals(&world, miner)[0], &PlanError::Assignments);
        assert_eq!(mark.signed_by(&world, miner), [].into());
        assert_eq!(world.miners[miner].orders, [], "it has left");
    }
    goes_on(&mut world);
}

/// The same, with a proposal for each half: both compute, and the halves' signatures do not meet.
#[test]
fn shows_each_half_a_proposal_with_its_own_owners() {
    let mut world = pool();
    let mark = Mark::of(&world);
    let mut replica = Replica::of(&world);
    let mut deceiving = replica.clone();
    deceiving.assignments = steal(&world, &replica.assignments);
    let assignments = deceiving.assignments.clone();
    let deceived = [1, 3].map(|miner: usize| world.miners[miner].peer.unwrap());
    for miner in [1, 3] {
        let assignments = assignments.clone();
        let set = ToParticipant::Assignments(AssignmentsSet { assignments });
        crate::pool::told(&mut world, miner, set);
    }
    world.lies = Some(Box::new(move |peer, message| {
        replica.follow(&message);
        deceiving.follow(&message);
        match message {
            ToParticipant::Proposal(told) if deceived.contains(&peer) => {
                vec![proposal(deceiving.plan(&told.plan))]
            }
            message => vec![message],
        }
    }));
    world.new_tip();
    world.settle();
    let signed: Vec<_> = (0..MINERS)
        .map(|miner| mark.signed_by(&world, miner))
        .collect();
    assert_eq!((&signed[0], &signed[1]), (&signed[2], &signed[3]));
    assert_ne!(signed[0], signed[1], "each half signed another round");
    assert_eq!(mark.committed(&world), []);
    for miner in 0..MINERS {
        let held = |event: &Event| matches!(event, Event::Holding { .. });
        assert!(!mark.news(&world, miner).iter().any(held));
    }
    goes_on(&mut world);
}
