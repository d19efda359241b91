//! Twenty identities without work that want no round to be committed.

use std::collections::BTreeMap;

use tutti_proto::coordinator::Event;
use tutti_proto::deadline::Millis;
use tutti_proto::id::{Identity, PeerId};
use tutti_proto::message::{AbortReason, ToCoordinator, ToParticipant, TxAbort};
use tutti_proto::plan::ProposedPlan;
use tutti_proto::reject::RejectCode;
use tutti_tests::sim::{Mood, World, WorldOptions, identity_key};

use crate::pool::{AUX, MINERS, Mark, SECOND, goes_on, last_proposal, pool, told, work};
use crate::stranger::{STRANGER, announced, fresh_slots, signer};

const WORKING: usize = 3;
const STALLING: u16 = 20;
const TIPS: u32 = 20;

/// Three who work, with their work in the ledger; twenty others are not here yet.
fn worked() -> World {
    let mut world = World::new(WorldOptions {
        miners: WORKING as u16 + STALLING,
        ..WorldOptions::default()
    });
    for miner in 0..WORKING {
        world.connect(miner);
    }
    world.new_tip();
    world.run_until(SECOND, "the first round", World::all_hash_last_round);
    for miner in 0..WORKING {
        work(&mut world, miner, 2);
    }
    let mark = Mark::of(&world);
    world.new_tip();
    world.run_until(SECOND, "their work in the ledger", |w| {
        !mark.committed(w).is_empty()
    });
    world.settle();
    world
}

/// Then the twenty come.
fn besieged(mood: Mood) -> World {
    let mut world = worked();
    for miner in WORKING..world.miners.len() {
        world.miners[miner].mood = mood;
        world.connect(miner);
    }
    world.settle();
    world
}

/// Over many tips: every round is committed after at most two lost attempts, signed by all who work,
/// and none of these is ever without a job.
fn holds_out(mut world: World, limit: Millis) -> Mark {
    let first = Mark::of(&world);
    for _ in 0..TIPS {
        let mark = Mark::of(&world);
        world.new_tip();
        let end = world.now.after(limit);
        while mark.committed(&world).is_empty() {
            assert!(world.step() && world.now <= end, "no round in {limit:?}");
            let working = &world.miners[..WORKING];
            assert!(working.iter().all(|miner| !miner.orders.is_empty()));
        }
        // The next height's round, too.
        let end = world.now.after(limit);
        while signed_ahead(&mark, &world).is_none() {
            assert!(world.step() && world.now <= end, "none for the next height");
        }
        let lost = mark.failures(&world).len();
        assert!(lost <= 4, "{lost} attempts of two rounds");
        let round = mark.committed(&world)[0].0;
        for miner in &world.miners[..WORKING] {
            let mut held = miner.held.iter();
            assert!(held.any(|held| held.round == round));
        }
        for miner in 0..WORKING {
            work(&mut world, miner, 1);
        }
    }
    world.assert_sound();
    for event in first.log(&world) {
        if let Event::Committed {
            attempt, signers, ..
        } = event
        {
            assert!(attempt.0 <= 2, "attempt {attempt}");
            assert!(*signers > WORKING, "{signers} signers");
        }
    }
    let by_work = |(_, culprits): &(AbortReason, Vec<Identity>)| {
        let working = world.miners[..WORKING].iter();
        working
            .clone()
            .any(|miner| culprits.contains(&miner.identity()))
    };
    assert!(
        !first.failures(&world).iter().any(by_work),
        "nobody who works is blamed"
    );
    assert!(!first.failures(&world).is_empty(), "they did try");
    first
}

/// The attempt with which the round of the next height was committed.
fn signed_ahead(mark: &Mark, world: &World) -> Option<u32> {
    use tutti_proto::coordinator::RoundKind;
    mark.log(world).iter().find_map(|event| match event {
        Event::Committed {
            kind: RoundKind::NextHeight,
            attempt,
            ..
        } => Some(attempt.0),
        _ => None,
    })
}

#[test]
fn twenty_identities_without_work_are_silent() {
    holds_out(besieged(Mood::SilentSigner), Millis(4_500));
}

#[test]
fn twenty_identities_without_work_sign_badly() {
    holds_out(besieged(Mood::BadPartials), Millis(500));
}

/// Each refuses as soon as it is asked, one by one, so that every refusal costs an attempt of its own
/// as long as one of them is asked at all.
#[test]
fn twenty_identities_without_work_refuse_one_by_one() {
    let mut world = worked();
    let peers: BTreeMap<Identity, (u16, PeerId)> = (STRANGER..STRANGER + STALLING)
        .map(|key| (identity_key(key).identity(), (key, signer(&mut world, key))))
        .collect();
    let mut refused = 0;
    for tip in 0..u64::from(TIPS) {
        let mark = Mark::of(&world);
        let mut read = world.told.len();
        world.new_tip();
        let end = world.now.after(SECOND);
        while signed_ahead(&mark, &world).is_none() {
            assert!(world.step() && world.now <= end, "tip {tip}");
            let working = &world.miners[..WORKING];
            assert!(working.iter().all(|miner| !miner.orders.is_empty()));
            let news = world.told[read..].to_vec();
            read = world.told.len();
            let refusal = news.iter().find_map(|(_, message)| match message {
                ToParticipant::Proposal(told) => refusal(&told.plan, &peers),
                _ => None,
            });
            if let Some((peer, abort)) = refusal {
                world.say(peer, ToCoordinator::TxAbort(abort));
                refused += 1;
            }
        }
        assert!(!mark.committed(&world).is_empty());
        let lost = mark.failures(&world).len();
        assert!(lost <= 4, "{lost} attempts of two rounds");
        for (key, peer) in peers.values() {
            // To be asked again, it announces as many slots as were used up.
            let seed = tip * 1_000 + u64::from(*key);
            world.say(*peer, announced(*key, fresh_slots(seed, 1)));
        }
        world.settle();
        // Past most back-offs, so that many are asked.
        world.now = world.now.after(Millis(60_000));
        for miner in 0..WORKING {
            work(&mut world, miner, 1);
        }
    }
    assert!(refused >= TIPS, "they did try: {refused}");
}

/// What the first of them that is asked to sign says.
fn refusal(
    plan: &ProposedPlan,
    peers: &BTreeMap<Identity, (u16, PeerId)>,
) -> Option<(PeerId, TxAbort)> {
    let mut asked = plan.inputs.signers.iter();
    let (key, peer) = asked.find_map(|signer| peers.get(&signer.identity))?;
    let reason = AbortReason::Policy;
    let abort = TxAbort::sign(&identity_key(*key), plan.round, reason, &AUX);
    Some((*peer, abort))
}

/// The last signer refuses, and then signs: the round is lost to it, and the next one is not.
#[test]
fn a_signer_refuses_and_signs_all_the_same() {
    let (last, mut world) = (MINERS - 1, pool());
    let (liar, peer) = (
        world.miners[last].identity(),
        world.miners[last].peer.unwrap(),
    );
    // It is shown the proposal when everybody else has signed.
    world.lies = Some(Box::new(move |to, message| match message {
        ToParticipant::Proposal(_) if to == peer => Vec::new(),
        message => vec![message],
    }));
    let mark = Mark::of(&world);
    world.new_tip();
    world.settle();
    world.lies = None;
    let proposal = last_proposal(&world);
    told(&mut world, last, ToParticipant::Proposal(proposal.clone()));
    // Its signatures are on their way.
    world.now = world.now.after(Millis(5));
    let (key, reason) = (identity_key(world.miners[last].number), AbortReason::Policy);
    let abort = TxAbort::sign(&key, proposal.plan.round, reason, &AUX);
    world.say(peer, ToCoordinator::TxAbort(abort));
    world.run_until(SECOND, "the next height's round", |world| {
        signed_ahead(&mark, world).is_some()
    });
    world.settle();
    assert_eq!(
        mark.failures(&world),
        [(AbortReason::SignerRefused, vec![liar])]
    );
    assert_eq!(signed_ahead(&mark, &world), Some(0));
    assert_eq!(mark.rejects(&world), [(peer, RejectCode::NotExpected)]);
    goes_on(&mut world);
}
