//! Framing an honest signer. What the coordinator shows must convict it before everyone; else it
//! convicts the coordinator.

use tutti_proto::deadline::Millis;
use tutti_proto::id::{Identity, RoundId};
use tutti_proto::message::{
    AbortReason, Blame, Evidence, FalseBlame, Proposal, ToParticipant, TxAbort, TxAborted,
};
use tutti_proto::participant::Event;
use tutti_tests::sim::{World, identity_key};

use crate::liar::lie_in_proposals;
use crate::pool::{
    AUX, MINERS, Mark, goes_on, last_proposal, open_attempt, pool, signatures_of, slot_of, told,
};

const VICTIM: usize = 0;

fn aborted(round: RoundId, identity: Identity, evidence: Option<Evidence>) -> ToParticipant {
    let blamed = vec![Blame { identity, evidence }];
    let reason = AbortReason::BadPartialSignature;
    ToParticipant::TxAborted(TxAborted::sign(
        &identity_key(0),
        round,
        reason,
        blamed,
        &AUX,
    ))
}

/// In an attempt that all but the last have signed, the first is blamed with this evidence before
/// everyone. It is cleared, and nobody stays.
fn frames(evidence: impl Fn(&World, &Proposal) -> Evidence, error: FalseBlame) {
    let mut world = pool();
    let attempt = open_attempt(&mut world);
    let (round, identity) = (attempt.plan.round, world.miners[VICTIM].identity());
    let lie = aborted(round, identity, Some(evidence(&world, &attempt)));
    let mark = Mark::of(&world);
    for miner in 0..MINERS {
        told(&mut world, miner, lie.clone());
        let cleared = Event::FalseBlame {
            round,
            identity,
            error,
        };
        assert_eq!(mark.news(&world, miner), [cleared], "miner {miner}");
        assert_eq!(world.miners[miner].orders, [], "miner {miner} has left");
    }
    goes_on(&mut world);
}

#[test]
fn shows_valid_partial_signatures_as_bad_ones() {
    let evidence = |world: &World, attempt: &Proposal| Evidence::BadPartial {
        slot: slot_of(world, VICTIM, attempt),
        signatures: signatures_of(world, VICTIM, attempt.plan.round),
    };
    frames(evidence, FalseBlame::ValidPartials);
}

#[test]
fn shows_partial_signatures_of_another_round() {
    let evidence = |world: &World, attempt: &Proposal| {
        let before = world
            .told
            .iter()
            .rev()
            .find_map(|(_, message)| match message {
                ToParticipant::Proposal(told) if told.plan.round != attempt.plan.round => {
                    Some(told.plan.round)
                }
                _ => None,
            });
        Evidence::BadPartial {
            slot: slot_of(world, VICTIM, attempt),
            signatures: signatures_of(world, VICTIM, before.unwrap()),
        }
    };
    frames(evidence, FalseBlame::NotItsOwn);
}

#[test]
fn shows_anothers_slot() {
    let evidence = |world: &World, attempt: &Proposal| Evidence::BadPartial {
        slot: slot_of(world, 1, attempt),
        signatures: signatures_of(world, VICTIM, attempt.plan.round),
    };
    frames(evidence, FalseBlame::NotItsOwn);
}

#[test]
fn shows_another_slot_of_the_same_signer() {
    let evidence = |world: &World, attempt: &Proposal| Evidence::BadPartial {
        slot: slot_of(world, VICTIM, &first_proposal(world)),
        signatures: signatures_of(world, VICTIM, attempt.plan.round),
    };
    frames(evidence, FalseBlame::NotItsOwn);
}

fn first_proposal(world: &World) -> Proposal {
    let mut told = world.told.iter().filter_map(|(_, message)| match message {
        ToParticipant::Proposal(told) => Some(told.clone()),
        _ => None,
    });
    told.next().unwrap()
}

#[test]
fn shows_partial_signatures_that_it_spoiled_itself() {
    let evidence = |world: &World, attempt: &Proposal| {
        let mut signatures = signatures_of(world, VICTIM, attempt.plan.round);
        signatures.partials.swap(0, 1);
        Evidence::BadPartial {
            slot: slot_of(world, VICTIM, attempt),
            signatures,
        }
    };
    frames(evidence, FalseBlame::NotItsOwn);
}

#[test]
fn shows_a_refusal_that_was_never_signed() {
    let evidence = |_: &World, attempt: &Proposal| {
        let reason = AbortReason::PlanMismatch;
        Evidence::Refused(TxAbort::sign(
            &identity_key(0),
            attempt.plan.round,
            reason,
            &AUX,
        ))
    };
    frames(evidence, FalseBlame::NotItsOwn);
}

#[test]
fn shows_a_refusal_of_another_round() {
    let evidence = |_: &World, _: &Proposal| {
        let (key, round) = (identity_key(1), RoundId([0xab; 32]));
        Evidence::Refused(TxAbort::sign(&key, round, AbortReason::Policy, &AUX))
    };
    frames(evidence, FalseBlame::NotItsOwn);
}

#[test]
fn blames_somebody_who_does_not_sign() {
    let mut world = pool();
    let round = open_attempt(&mut world).plan.round;
    let identity = identity_key(77).identity();
    let mark = Mark::of(&world);
    for miner in 0..MINERS {
        told(&mut world, miner, aborted(round, identity, None));
        let error = FalseBlame::NotASigner;
        let cleared = Event::FalseBlame {
            round,
            identity,
            error,
        };
        assert_eq!(mark.news(&world, miner), [cleared]);
    }
    goes_on(&mut world);
}

#[test]
fn ends_an_attempt_without_signing_that_it_does() {
    let mut world = pool();
    let round = open_attempt(&mut world).plan.round;
    let mark = Mark::of(&world);
    for miner in 0..MINERS {
        let identity = world.miners[VICTIM].identity();
        let ToParticipant::TxAborted(mut lie) = aborted(round, identity, None) else {
            unreachable!("aborted gives a tx_aborted")
        };
        lie.reason = AbortReason::SignerLeft;
        told(&mut world, miner, ToParticipant::TxAborted(lie));
        assert_eq!(mark.news(&world, miner), [Event::UnsignedProposal]);
    }
    goes_on(&mut world);
}

/// Silence leaves no evidence, and so no conviction: it costs the attempt, and nobody leaves.
#[test]
fn blames_a_signer_for_a_silence_that_was_none() {
    let mut world = pool();
    let round = open_attempt(&mut world).plan.round;
    let mark = Mark::of(&world);
    let identity = world.miners[VICTIM].identity();
    for miner in 0..MINERS {
        let orders = world.miners[miner].orders.clone();
        told(&mut world, miner, aborted(round, identity, None));
        assert!(matches!(mark.news(&world, miner), [Event::Aborted(_)]));
        assert_eq!(world.miners[miner].orders, orders, "no hash is lost");
    }
    world.run_until(Millis(3_000), "the next attempt", |w| {
        mark.committed(w).len() == 1 && w.all_hash_last_round()
    });
    goes_on(&mut world);
}

/// One signer is shown other nonces than the others, so that its partial signatures are bad for them.
/// But it signed which nonces it answers: the others see that there are two proposals of one attempt.
#[test]
fn shows_one_signer_other_nonces_to_have_it_blamed() {
    let mut world = pool();
    let mark = Mark::of(&world);
    let victim = world.miners[VICTIM].peer.unwrap();
    lie_in_proposals(&mut world, move |peer, _, plan| {
        let mut lie = plan.clone();
        if peer == victim {
            lie.nonces.swap(0, 1);
        }
        lie
    });
    world.new_tip();
    world.settle();
    let proposals = mark.proposals(&world).into_iter();
    let (its, theirs): (Vec<_>, Vec<_>) = proposals.partition(|(peer, _)| *peer == victim);
    let (its, theirs) = (&its[0].1, &theirs[0].1);
    let (round, identity) = (theirs.plan.round, world.miners[VICTIM].identity());
    let evidence = Evidence::BadPartial {
        slot: slot_of(&world, VICTIM, theirs),
        signatures: signatures_of(&world, VICTIM, round),
    };
    let lie = aborted(round, identity, Some(evidence));
    for miner in 0..MINERS {
        told(&mut world, miner, lie.clone());
        let error = match miner {
            VICTIM => FalseBlame::ValidPartials,
            _ => FalseBlame::OtherProposal,
        };
        let cleared = Event::FalseBlame {
            round,
            identity,
            error,
        };
        mark.names(&world, miner, &cleared);
        assert_eq!(world.miners[miner].orders, [], "miner {miner} has left");
    }
    // Beside each other they are the proof: one round, two lists of nonces, one hand.
    let coordinator = world.coordinator.identity();
    assert!(theirs.verify(&coordinator).is_ok() && its.verify(&coordinator).is_ok());
    assert_eq!(its.plan.round, round);
    assert_ne!(theirs.plan.nonces, its.plan.nonces);
    assert_eq!(mark.committed(&world), []);
    goes_on(&mut world);
}

/// The control of all the above: what is true convicts, and nobody leaves over it.
#[test]
fn true_evidence_convicts() {
    let mut world = pool();
    let mark = Mark::of(&world);
    world.miners[VICTIM].mood = tutti_tests::sim::Mood::BadPartials;
    world.new_tip();
    world.settle();
    let convicted = last_aborted(&world);
    assert_eq!(
        convicted.blamed[0].identity,
        world.miners[VICTIM].identity()
    );
    assert!(matches!(
        convicted.blamed[0].evidence,
        Some(Evidence::BadPartial { .. })
    ));
    for miner in 0..MINERS {
        mark.names(&world, miner, &Event::Aborted(convicted.clone()));
        assert!(!world.miners[miner].orders.is_empty());
    }
    assert_ne!(last_proposal(&world).plan.round, convicted.round);
    goes_on(&mut world);
}

fn last_aborted(world: &World) -> TxAborted {
    let mut told = world.told.iter().filter_map(|(_, message)| match message {
        ToParticipant::TxAborted(aborted) if !aborted.blamed.is_empty() => Some(aborted.clone()),
        _ => None,
    });
    told.next().unwrap()
}
