//! Final signatures that complete nothing, and payouts of other amounts.

use tutti_proto::id::RoundId;
use tutti_proto::message::{Commit, ToParticipant};
use tutti_proto::musig::{AggregateKey, AggregateNonce, Session, SigningSlot};
use tutti_proto::participant::Event;
use tutti_proto::payout;
use tutti_proto::plan::CompleteError;
use tutti_proto::reject::RejectCode;
use tutti_tests::sim::World;

use crate::liar::{Replica, lie_in_proposals};
use crate::pool::{MINERS, Mark, goes_on, pool};

/// Lies in the commit of the next round: nobody holds it, and nobody hashes on it though told to.
fn nobody_holds(mut lie: impl FnMut(Commit) -> Commit + 'static, expected: Option<CompleteError>) {
    let mut world = pool();
    let mark = Mark::of(&world);
    world.lies = Some(Box::new(move |_, message| {
        vec![match message {
            ToParticipant::Commit(commit) => ToParticipant::Commit(lie(commit)),
            message => message,
        }]
    }));
    world.new_tip();
    world.settle();
    let (round, _) = mark.committed(&world)[0];
    is_not_hashed(&world, &mark, round, expected);
    goes_on(&mut world);
}

fn is_not_hashed(world: &World, mark: &Mark, round: RoundId, expected: Option<CompleteError>) {
    for miner in 0..MINERS {
        assert!(mark.signed_by(world, miner).contains(&round));
        if let Some(error) = expected {
            mark.names(world, miner, &Event::BadCommit(error));
        }
        mark.names(world, miner, &Event::UnsignedJob { round });
        let Some(hashed) = world.miners[miner].hashed() else {
            panic!("it goes on with what was signed ahead for this tip");
        };
        assert_ne!(hashed.round, round);
        assert!(
            world.miners[miner]
                .held
                .iter()
                .all(|held| held.round != round)
        );
    }
}

#[test]
fn commits_with_a_bad_signature() {
    nobody_holds(
        |mut commit| {
            commit.signatures[1][63] ^= 1;
            commit
        },
        Some(CompleteError::BadSignature(1)),
    );
}

#[test]
fn commits_with_too_few_signatures() {
    nobody_holds(
        |mut commit| {
            commit.signatures.pop();
            commit
        },
        Some(CompleteError::Count { got: 1, payouts: 2 }),
    );
}

#[test]
fn commits_with_the_signatures_of_another_round() {
    // The round of the present height gets the last signatures that were made, for the next one.
    let mut world = pool();
    let last = world
        .told
        .iter()
        .rev()
        .find_map(|(_, message)| match message {
            ToParticipant::Commit(commit) => Some(commit.signatures.clone()),
            _ => None,
        });
    let signatures = last.unwrap();
    goes_on(&mut world);
    nobody_holds(
        move |commit| Commit {
            signatures: signatures.clone(),
            ..commit
        },
        Some(CompleteError::BadSignature(0)),
    );
}

#[test]
fn commits_to_another_round_than_the_one_that_was_signed() {
    nobody_holds(
        |commit| Commit {
            round: RoundId([0xcc; 32]),
            ..commit
        },
        None,
    );
}

#[test]
fn signs_payouts_of_other_amounts_alone() {
    let mut world = pool();
    let mark = Mark::of(&world);
    let mut replica = Replica::of(&world);
    let mut own = Vec::new();
    world.lies = Some(Box::new(move |_, message| {
        replica.follow(&message);
        vec![match message {
            ToParticipant::Proposal(told) => {
                own = own_signatures(&replica.compute(&told.plan));
                ToParticipant::Proposal(told)
            }
            ToParticipant::Commit(commit) => ToParticipant::Commit(Commit {
                signatures: own.clone(),
                ..commit
            }),
            message => message,
        }]
    }));
    world.new_tip();
    world.settle();
    let (round, _) = mark.committed(&world)[0];
    is_not_hashed(&world, &mark, round, Some(CompleteError::BadSignature(0)));
    goes_on(&mut world);
}

/// A sat is moved from the second payee of every payout to the first; the operator's key signs.
fn own_signatures(plan: &tutti_proto::plan::CheckedPlan) -> Vec<[u8; 64]> {
    use rand::SeedableRng;
    let mut dice = rand::rngs::StdRng::seed_from_u64(1);
    let mut signatures = Vec::new();
    for lane in plan.lanes() {
        let (slot, public) = SigningSlot::generate(&mut dice, 1);
        let key = AggregateKey::new(vec![public.key], &payout::leaf_hash(&plan.round().0)).unwrap();
        let mut moved = plan.unsigned(lane).remove(0);
        moved.output[0].value += bitcoin::Amount::ONE_SAT;
        moved.output[1].value -= bitcoin::Amount::ONE_SAT;
        let sighash = payout::sighash(&moved, &lane.coinbase.output[0]);
        let nonce = AggregateNonce::sum(public.nonces.iter()).unwrap();
        let sessions = [Session::new(&key, &nonce, &sighash)];
        let partials = slot.sign(&key, &sessions).unwrap();
        let signature = sessions[0]
            .combine(&key, &sighash, partials.iter())
            .unwrap();
        assert!(key.verify(&sighash, &signature));
        signatures.push(signature);
    }
    signatures
}

#[test]
fn shows_a_wrong_aggregate_nonce() {
    let mut world = pool();
    let mark = Mark::of(&world);
    lie_in_proposals(&mut world, |_, _, plan| {
        let mut lie = plan.clone();
        lie.nonces.swap(0, 1);
        lie
    });
    world.new_tip();
    world.settle();
    // What they sign answers this proposal and no other: it adds up to nothing.
    let round = mark.proposals(&world)[0].1.plan.round;
    for miner in 0..MINERS {
        let peer = world.miners[miner].peer.unwrap();
        assert!(
            mark.rejects(&world)
                .contains(&(peer, RejectCode::StaleRound))
        );
        assert_eq!(mark.signed_by(&world, miner), [round].into());
        let held = world.miners[miner].held.iter();
        assert!(held.clone().all(|held| held.round != round));
    }
    assert_eq!(mark.committed(&world), []);
    goes_on(&mut world);
}
