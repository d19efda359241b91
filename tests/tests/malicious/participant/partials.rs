//! Partial signatures that are not what their signer owes.

use tutti_proto::deadline::Millis;
use tutti_proto::message::{
    AbortReason, Evidence, Proposal, ToCoordinator, ToParticipant, TxSignatures,
};
use tutti_proto::musig::PartialSignature;
use tutti_proto::participant::Event;
use tutti_proto::reject::RejectCode;
use tutti_tests::sim::World;

use crate::pool::{MINERS, Mark, goes_on, open_attempt, pool, signatures_of};
use crate::stranger::{answer, refused};

/// The miner that lies; the test speaks for it while it is silent itself.
const LIAR: usize = MINERS - 1;
const LIARS_KEY: u16 = MINERS as u16;

fn partials(attempt: &Proposal, partials: Vec<PartialSignature>) -> ToCoordinator {
    ToCoordinator::TxSignatures(answer(LIARS_KEY, attempt, partials))
}

/// The liar's answer fails the attempt; it is named before everyone with what it signed itself, and
/// the next attempt is committed at once without it.
fn is_convicted(mut world: World, answer: impl Fn(&World, &Proposal) -> ToCoordinator) {
    let attempt = open_attempt(&mut world);
    let mark = Mark::of(&world);
    let answer = answer(&world, &attempt);
    let (liar, peer) = (
        world.miners[LIAR].identity(),
        world.miners[LIAR].peer.unwrap(),
    );
    let asked_at = world.now;
    world.say(peer, answer);
    world.settle();
    assert!(
        world.now.since(asked_at) < Millis(200),
        "no deadline was waited for"
    );
    assert_eq!(
        mark.failures(&world),
        [(AbortReason::BadPartialSignature, vec![liar])]
    );
    assert_eq!(mark.committed(&world).last().map(|c| c.1), Some(MINERS));
    for miner in 0..LIAR {
        let convicted = |event: &Event| match event {
            Event::Aborted(aborted) => {
                let blame = &aborted.blamed[0];
                aborted.round == attempt.plan.round
                    && blame.identity == liar
                    && matches!(blame.evidence, Some(Evidence::BadPartial { .. }))
            }
            _ => false,
        };
        assert!(
            mark.news(&world, miner).iter().any(convicted),
            "miner {miner}"
        );
        let hashed = world.miners[miner].hashed().unwrap();
        assert_eq!(
            Some(hashed.round),
            mark.committed(&world).last().map(|c| c.0)
        );
        assert!(hashed.payees.iter().any(|payee| payee.identity == liar) || no_work_yet(&world));
    }
    goes_on(&mut world);
}

/// Without any work in the ledger the signers share equally, so whoever does not sign is not paid.
fn no_work_yet(world: &World) -> bool {
    world.recorded_work().is_empty()
}

fn worked() -> World {
    let mut world = pool();
    for miner in 0..MINERS {
        crate::pool::work(&mut world, miner, 1);
    }
    goes_on(&mut world);
    world
}

#[test]
fn sends_a_bad_partial_signature() {
    for bad in 0..2 {
        is_convicted(worked(), |world, attempt| {
            // One is enough, whichever it is; the other is somebody's, and valid.
            let mut signed = signatures_of(world, 0, attempt.plan.round).partials;
            signed[bad] = PartialSignature::parse(&[1; 32]).unwrap();
            partials(attempt, signed)
        });
    }
}

#[test]
fn replays_its_partial_signatures_of_an_earlier_round() {
    is_convicted(worked(), |world, attempt| {
        let earlier = world
            .told
            .iter()
            .rev()
            .find_map(|(_, message)| match message {
                ToParticipant::Commit(commit) => Some(commit.round),
                _ => None,
            });
        let signed = signatures_of(world, LIAR, earlier.unwrap());
        partials(attempt, signed.partials)
    });
}

#[test]
fn sends_anothers_partial_signatures_as_its_own() {
    is_convicted(worked(), |world, attempt| {
        let signed = signatures_of(world, 0, attempt.plan.round);
        partials(attempt, signed.partials)
    });
}

/// What is refused at once does not even end the attempt: the liar may still say what it owes.
fn is_refused(answer: impl Fn(&World, &Proposal) -> TxSignatures, code: RejectCode) {
    let mut world = pool();
    let attempt = open_attempt(&mut world);
    let mark = Mark::of(&world);
    let answer = answer(&world, &attempt);
    let peer = world.miners[LIAR].peer.unwrap();
    refused(&mut world, peer, ToCoordinator::TxSignatures(answer), code);
    assert_eq!(mark.failures(&world), []);
    goes_on(&mut world);
}

#[test]
fn repeats_anothers_signatures_word_by_word() {
    is_refused(
        |world, attempt| signatures_of(world, 0, attempt.plan.round),
        RejectCode::BadSignature,
    );
}

#[test]
fn repeats_its_own_signatures_of_an_earlier_round_word_by_word() {
    is_refused(
        |world, attempt| {
            let earlier = world.said.iter().find_map(|(who, said)| match said {
                ToCoordinator::TxSignatures(signed) if *who == world.miners[LIAR].identity() => {
                    Some(signed.clone())
                }
                _ => None,
            });
            let earlier = earlier.unwrap();
            assert_ne!(earlier.round, attempt.plan.round);
            earlier
        },
        RejectCode::StaleRound,
    );
}

#[test]
fn signs_in_anothers_hand() {
    is_refused(
        |world, attempt| {
            let signed = signatures_of(world, 0, attempt.plan.round);
            answer(50, attempt, signed.partials)
        },
        RejectCode::BadSignature,
    );
}

#[test]
fn signs_only_some_of_the_payouts() {
    is_refused(
        |world, attempt| {
            let mut signed = signatures_of(world, 0, attempt.plan.round).partials;
            signed.pop();
            answer(LIARS_KEY, attempt, signed)
        },
        RejectCode::PartialCount,
    );
}

/// The right partial signatures, as the answer to a proposal that was never made.
#[test]
fn answers_another_proposal() {
    is_refused(
        |world, attempt| {
            let signed = signatures_of(world, 0, attempt.plan.round);
            let mut other = attempt.clone();
            other.plan.nonces.swap(0, 1);
            answer(LIARS_KEY, &other, signed.partials)
        },
        RejectCode::StaleRound,
    );
}

#[test]
fn signs_a_second_time() {
    let mut world = pool();
    let attempt = open_attempt(&mut world);
    let peer = world.miners[0].peer.unwrap();
    let again = signatures_of(&world, 0, attempt.plan.round);
    let again = ToCoordinator::TxSignatures(again);
    refused(&mut world, peer, again, RejectCode::NotExpected);
    goes_on(&mut world);
}

#[test]
fn signs_an_attempt_that_was_aborted() {
    let mut world = pool();
    let attempt = open_attempt(&mut world);
    let mark = Mark::of(&world);
    let round = attempt.plan.round;
    let late = signatures_of(&world, 0, round);
    world.run_until(Millis(3_000), "the next attempt", |w| {
        !mark.committed(w).is_empty() && w.all_hash_last_round()
    });
    world.settle();
    // Late answers are no news, to nobody: they change nothing.
    let (told, records) = (world.told.len(), world.records.len());
    let last = world.coordinator.last_committed();
    let peer = world.miners[0].peer.unwrap();
    world.say(peer, ToCoordinator::TxSignatures(late));
    world.settle();
    assert_eq!((world.told.len(), world.records.len()), (told, records));
    assert_eq!(world.coordinator.last_committed(), last);
    assert_ne!(last.map(|(round, _)| round), Some(round));
    assert!(
        world
            .miners
            .iter()
            .all(|m| m.hashed().unwrap().round != round)
    );
    goes_on(&mut world);
}
