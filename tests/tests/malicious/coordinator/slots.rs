//! Asking twice for one slot: whoever signed two messages with one nonce would have given its key
//! away, and whoever signed two payouts of one coinbase its money.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use tutti_proto::deadline::Millis;
use tutti_proto::id::{Attempt, Identity, RoundId};
use tutti_proto::message::ToParticipant;
use tutti_proto::musig::SlotKey;
use tutti_proto::participant::Event;
use tutti_proto::plan::{PlanError, ProposedPlan, RoundInputs, Signer};
use tutti_tests::sim::{Mood, World, identity_key};

use crate::liar::{Replica, lie_in_proposals, proposal};
use crate::pool::{MINERS, Mark, goes_on, last_proposal, pool, told};
use crate::stranger::{STRANGER, fresh_slots};

/// The first slot of everyone that was named.
type Named = Rc<RefCell<BTreeMap<Identity, SlotKey>>>;

/// Names the first slots of all miners again in every proposal that `again` chooses.
fn ask_again(world: &mut World, again: impl Fn(&RoundInputs) -> bool + 'static) -> Named {
    let named = Named::default();
    let first = named.clone();
    lie_in_proposals(world, move |_, replica, plan| {
        let coordinator = replica.params.coordinator;
        let mut named = named.borrow_mut();
        let mut lie = plan.clone();
        for signer in &mut lie.inputs.signers {
            let slot = named.entry(signer.identity).or_insert(signer.key);
            if signer.identity != coordinator && again(&plan.inputs) {
                signer.key = *slot;
            }
        }
        match lie == *plan {
            true => lie,
            false => replica.plan(&lie),
        }
    });
    first
}

/// Every miner signs at most one of the rounds that named its first slot, and names the lie.
fn no_slot_signs_twice(world: &World, mark: &Mark, named: &Named) {
    let coordinator = world.coordinator.identity();
    let proposals = mark.proposals(world);
    let mut asked_twice = 0;
    for (identity, key) in named
        .borrow()
        .iter()
        .filter(|(who, _)| **who != coordinator)
    {
        let names = |plan: &ProposedPlan| plan.own_key(identity) == Some(*key);
        let mut asked: Vec<RoundId> = proposals
            .iter()
            .map(|(_, told)| &told.plan)
            .filter(|plan| names(plan))
            .map(|plan| plan.round)
            .collect();
        asked.sort();
        asked.dedup();
        let signed: Vec<RoundId> = mark
            .signed(world)
            .into_iter()
            .filter(|(who, round)| who == identity && asked.contains(round))
            .map(|(_, round)| round)
            .collect();
        assert!(
            signed.len() <= 1,
            "{identity:?} signed {signed:?} with one slot"
        );
        asked_twice += usize::from(asked.len() > 1);
        let miner = world
            .miners
            .iter()
            .position(|m| m.identity() == *identity)
            .unwrap();
        if asked.len() > 1 {
            assert!(mark.refusals(world, miner).contains(&&PlanError::OurSlot));
        }
    }
    assert!(asked_twice >= MINERS - 1, "{asked_twice} were asked twice");
}

#[test]
fn asks_for_one_slot_in_two_rounds() {
    let mut world = pool();
    let mark = Mark::of(&world);
    let tip = world.chain.height() + 2;
    let named = ask_again(&mut world, move |inputs| inputs.height > tip);
    world.new_tip();
    world.settle();
    // Committed truly; the next tip's rounds ask again.
    assert!(!mark.committed(&world).is_empty());
    world.new_tip();
    world.settle();
    no_slot_signs_twice(&world, &mark, &named);
    goes_on(&mut world);
}

#[test]
fn asks_for_one_slot_in_the_round_of_the_next_height() {
    let mut world = pool();
    let mark = Mark::of(&world);
    let present = world.chain.height() + 2;
    let named = ask_again(&mut world, move |inputs| inputs.height != present);
    world.new_tip();
    world.settle();
    assert_eq!(
        mark.committed(&world).len(),
        1,
        "the present round was a true one"
    );
    no_slot_signs_twice(&world, &mark, &named);
    goes_on(&mut world);
}

#[test]
fn asks_again_for_the_slots_of_an_aborted_attempt() {
    let mut world = pool();
    let mark = Mark::of(&world);
    let named = ask_again(&mut world, |inputs| inputs.attempt.0 > 0);
    world.miners[MINERS - 1].mood = Mood::SilentSigner;
    world.new_tip();
    world.run_until(Millis(3_000), "the attempt's end", |w| {
        !mark.failures(w).is_empty()
    });
    world.settle();
    no_slot_signs_twice(&world, &mark, &named);
    goes_on(&mut world);
}

#[test]
fn asks_again_for_a_slot_of_a_plan_that_was_refused() {
    let mut world = pool();
    let mark = Mark::of(&world);
    let named = Named::default();
    let first = named.clone();
    let mut refused = None;
    lie_in_proposals(&mut world, move |_, replica, plan| {
        let mut named = first.borrow_mut();
        let mut lie = plan.clone();
        if !plan.inputs.is_direct() && *refused.get_or_insert(plan.round) == plan.round {
            let signers = plan.inputs.signers.iter();
            named.extend(signers.map(|signer| (signer.identity, signer.key)));
            // Refused for another reason, so that nobody signs with it.
            lie.coinbases.pop();
            return lie;
        }
        let coordinator = replica.params.coordinator;
        let others = |signer: &&mut Signer| signer.identity != coordinator;
        for signer in lie.inputs.signers.iter_mut().filter(others) {
            signer.key = named[&signer.identity];
        }
        replica.plan(&lie)
    });
    world.new_tip();
    // All refuse, and are asked again when their back-off is over.
    let asked_again = |world: &World| mark.proposals(world).len() >= 2 * MINERS;
    world.run_until(Millis(20_000), "another proposal", asked_again);
    world.settle();
    let lies: Vec<RoundId> = mark
        .proposals(&world)
        .iter()
        .map(|(_, told)| told.plan.round)
        .collect();
    let mut signed = mark.signed(&world);
    signed.retain(|(_, round)| lies.contains(round));
    assert_eq!(signed, [], "neither the first time nor the second");
    no_slot_signs_twice(&world, &mark, &named);
    goes_on(&mut world);
}

/// Everything is told twice in one attempt; the second time as `change` makes it.
fn asks_twice_in_one_attempt(
    change: impl Fn(&mut ProposedPlan) + 'static,
    is_answer: impl Fn(&World, &Mark, usize) -> bool,
) {
    let mut world = pool();
    let mark = Mark::of(&world);
    world.lies = Some(Box::new(move |_, message| match message {
        ToParticipant::Proposal(told) => {
            let mut again = told.plan.clone();
            change(&mut again);
            vec![ToParticipant::Proposal(told), proposal(again)]
        }
        message => vec![message],
    }));
    world.new_tip();
    world.settle();
    for miner in 0..MINERS {
        let news = mark.news(&world, miner);
        assert!(is_answer(&world, &mark, miner), "{news:?}");
        let signed = mark.signed(&world).into_iter();
        let own = signed.filter(|(who, _)| *who == world.miners[miner].identity());
        assert_eq!(
            own.count(),
            mark.signed_by(&world, miner).len(),
            "each round once"
        );
    }
    goes_on(&mut world);
}

#[test]
fn tells_the_same_proposal_twice() {
    asks_twice_in_one_attempt(
        |_| {},
        |world, mark, miner| {
            let refusals = mark.refusals(world, miner);
            let newer = |e: &&PlanError| matches!(e, PlanError::NotNewer { .. });
            !refusals.is_empty() && refusals.iter().all(newer)
        },
    );
}

#[test]
fn asks_for_a_second_signature_under_other_nonces() {
    asks_twice_in_one_attempt(
        |plan| plan.nonces.swap(0, 1),
        |world, mark, miner| {
            let proven = |event: &Event| matches!(event, Event::Equivocation(_));
            let coordinator = world.coordinator.identity();
            let mut proofs = world.miners[miner].proofs.iter();
            mark.news(world, miner).iter().any(proven)
                && proofs.all(|proof| proof.verify(&coordinator).is_ok())
        },
    );
}

#[test]
fn names_one_miner_twice_in_one_round() {
    let mut world = pool();
    let mark = Mark::of(&world);
    let victim = world.miners[0].identity();
    let spare = announced(&world, victim);
    lie_in_proposals(&mut world, move |_, replica, plan| {
        let mut lie = plan.clone();
        let own = plan.own_key(&victim);
        let key = spare.iter().copied().find(|key| Some(*key) != own).unwrap();
        let coordinator = replica.params.coordinator;
        let other = lie.inputs.signers.iter_mut();
        let mut other = other.filter(|s| s.identity != coordinator && s.identity != victim);
        if let Some(signer) = other.next() {
            *signer = Signer {
                identity: victim,
                key,
            };
        }
        lie.inputs.signers.sort_by_key(|signer| signer.key);
        lie.round = lie.inputs.round_id(&replica.params);
        lie
    });
    world.new_tip();
    world.settle();
    let refusals = mark.refusals(&world, 0);
    assert!(matches!(refusals[0], PlanError::Signers(_)), "{refusals:?}");
    assert_eq!(mark.signed_by(&world, 0), [].into());
    goes_on(&mut world);
}

#[test]
fn gives_a_miners_slot_to_another() {
    let mut world = pool();
    let mark = Mark::of(&world);
    let (victim, other) = (world.miners[0].identity(), world.miners[1].identity());
    lie_in_proposals(&mut world, move |_, replica, plan| {
        let mut lie = plan.clone();
        for signer in &mut lie.inputs.signers {
            signer.identity = match signer.identity {
                who if who == victim => other,
                who if who == other => victim,
                who => who,
            };
        }
        replica.plan(&lie)
    });
    world.new_tip();
    world.settle();
    for miner in [0, 1] {
        assert_eq!(mark.refusals(&world, miner)[0], &PlanError::OurSlot);
        assert_eq!(mark.signed_by(&world, miner), [].into());
    }
    goes_on(&mut world);
}

/// Slot keys that a miner has announced, newest first.
fn announced(world: &World, identity: Identity) -> Vec<SlotKey> {
    use tutti_proto::message::ToCoordinator;
    let said = world
        .said
        .iter()
        .rev()
        .filter_map(|(who, said)| match said {
            ToCoordinator::Slots(slots) if *who == identity => Some(&slots.slots),
            _ => None,
        });
    said.flatten().map(|slot| slot.slot.key).collect()
}

/// Each is right, signed by others than the miner, and remembered for as long as its block may be booked.
#[test]
fn proposes_attempts_without_end() {
    let mut world = pool();
    let mark = Mark::of(&world);
    let plan = last_proposal(&world).plan;
    let replica = Replica::of(&world);
    let coordinator = world.coordinator.identity();
    let sybil = |attempt: u32| Signer {
        identity: identity_key(STRANGER).identity(),
        key: fresh_slots(u64::from(attempt), 1)[0].key,
    };
    let mut attempts = 1..1_000;
    let left = attempts.find(|attempt| {
        let mut plan = plan.clone();
        plan.inputs.attempt = Attempt(*attempt);
        let signers = &mut plan.inputs.signers;
        signers.retain(|signer| signer.identity == coordinator);
        signers.push(sybil(*attempt));
        told(&mut world, 0, proposal(replica.plan(&plan)));
        world.miners[0].peer.is_none()
    });
    assert_eq!(left, Some(64));
    assert_eq!(mark.refusals(&world, 0), [] as [&PlanError; 0]);
    let (seq, attempt) = (plan.inputs.seq, Attempt(64));
    mark.names(&world, 0, &Event::TooManyAttempts { seq, attempt });
    goes_on(&mut world);
}
