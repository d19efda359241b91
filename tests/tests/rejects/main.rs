//! Control messages that are refused: the code arrives at their sender, nothing has changed, and
//! the honest participants' next round commits.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod expect;
mod expiry;
mod messages;

use tutti_proto::coordinator::{Record, Settings};
use tutti_proto::deadline::Millis;
use tutti_proto::id::{RoundId, SerialId};
use tutti_proto::message::proposal_digest;
use tutti_proto::message::{
    AnnouncedSlot, SLOTS_LIMIT, Share, Slots, ToCoordinator, ToParticipant, TxAddOutput,
    TxComplete, TxRemoveOutput,
};
use tutti_proto::reject::RejectCode;
use tutti_tests::sim::{Mood, World, WorldOptions, identity_key, script};

use expect::{refusals, refused, state, turned_away};
use messages::{
    AUX, NOWHERE, STRANGER, abort, add, announced, answer, join, joined_stranger, output,
    public_slots, removal, serial_of, signatures, slots,
};

const SECOND: Millis = Millis(1_000);
const HONEST: usize = 3;

fn pool(settings: Settings) -> World {
    let mut world = World::new(WorldOptions {
        miners: HONEST as u16,
        settings: Settings {
            z_min: 3,
            z_max: 3,
            ..settings
        },
        ..WorldOptions::default()
    });
    for miner in 0..HONEST {
        world.connect(miner);
    }
    world.new_tip();
    world.run_until(SECOND, "the first round", World::all_hash_last_round);
    world
}

/// All honest miners sign and hash a further round.
fn goes_on(world: &mut World) {
    let last = world.coordinator.last_committed().unwrap().0;
    world.new_tip();
    world.run_until(Millis(5_000), "a round after the refusals", |w| {
        w.coordinator
            .last_committed()
            .is_some_and(|(round, signers)| round != last && signers == HONEST + 1)
            && w.all_hash_last_round()
    });
    for miner in &world.miners {
        assert!(miner.peer.is_some(), "no honest miner was cut off");
    }
    // The next height's round is signed too: whoever leaves now leaves nobody waiting.
    world.settle();
}

/// A round whose proposal is out: miner 0 was silent, all others have signed.
fn signing(world: &mut World) -> RoundId {
    world.miners[0].mood = Mood::SilentSigner;
    world.new_tip();
    world.settle();
    let mut proposals = world.told.iter().filter_map(|(_, message)| match message {
        ToParticipant::Proposal(proposal) => Some(proposal.plan.round),
        _ => None,
    });
    proposals.next_back().unwrap()
}

#[test]
fn before_it_has_joined_a_session_may_only_join() {
    let mut world = pool(Settings::default());
    let share = Share {
        seq: 1,
        job: world.miners[0].orders[0].job,
        lane: world.miners[0].orders[0].slice.lane,
        version: 0,
        time: 0,
        nonce: 0,
    };
    let everything_else = [
        add(STRANGER, 4_001),
        // Even with a miner's own valid signature.
        add(1, 4_001),
        ToCoordinator::TxRemoveOutput(removal(1, serial_of(&world, 0))),
        slots(STRANGER, public_slots(1, 4)),
        ToCoordinator::TxComplete(TxComplete { round: NOWHERE }),
        signatures(STRANGER, NOWHERE, 2),
        abort(STRANGER, NOWHERE),
        ToCoordinator::Share(share),
    ];
    for message in everything_else {
        let peer = world.connect_stranger();
        turned_away(&mut world, peer, message, RejectCode::NotJoined);
    }
    goes_on(&mut world);
}

#[test]
fn a_join_is_refused_unless_its_identity_signed_this_sessions_challenge() {
    let mut world = pool(Settings::default());
    let (first, second) = (world.connect_stranger(), world.connect_stranger());
    let replayed = join(&world, first, STRANGER);
    turned_away(&mut world, second, replayed, RejectCode::BadSignature);

    let peer = world.connect_stranger();
    let ToCoordinator::Join(mut others) = join(&world, peer, STRANGER) else {
        unreachable!("join gives a join")
    };
    others.identity = world.miners[0].identity();
    turned_away(
        &mut world,
        peer,
        ToCoordinator::Join(others),
        RejectCode::BadSignature,
    );

    let peer = world.connect_stranger();
    let own = join(&world, peer, 0);
    turned_away(&mut world, peer, own, RejectCode::NotYou);
    goes_on(&mut world);
}

#[test]
fn a_full_pool_turns_newcomers_away_but_not_a_member_that_reconnects() {
    let mut world = pool(Settings {
        members_max: HONEST,
        ..Settings::default()
    });
    let peer = world.connect_stranger();
    let message = join(&world, peer, STRANGER);
    turned_away(&mut world, peer, message, RejectCode::PoolFull);
    goes_on(&mut world);

    let (before, from) = (state(&world), world.told.len());
    let old = world.miners[0].peer.unwrap();
    world.connect(0);
    world.settle();
    assert_eq!(refusals(&world, from), [(old, RejectCode::Replaced)]);
    assert_eq!(world.closed.last(), Some(&old));
    assert_eq!(state(&world).joined, before.joined);
    assert_eq!(state(&world).roster, before.roster);
    goes_on(&mut world);
}

#[test]
fn the_second_session_of_an_identity_replaces_the_first() {
    let mut world = pool(Settings::default());
    let old = joined_stranger(&mut world);
    let (before, from) = (state(&world), world.told.len());
    let new = joined_stranger(&mut world);
    assert_eq!(refusals(&world, from), [(old, RejectCode::Replaced)]);
    assert_eq!(world.closed.last(), Some(&old));
    assert_eq!(state(&world), before, "one member as before");
    let again = join(&world, new, STRANGER);
    refused(&mut world, new, again, RejectCode::AlreadyJoined);
    goes_on(&mut world);
}

#[test]
fn outputs_are_refused_by_owner_signature_number_and_quota() {
    use RejectCode::*;
    let mut world = pool(Settings::default());
    let peer = joined_stranger(&mut world);
    let taken = serial_of(&world, 0);
    let forged = TxAddOutput {
        signature: output(1, 4_001).signature,
        ..output(STRANGER, 4_001)
    };
    let moved = TxAddOutput {
        script: script(1),
        ..output(STRANGER, 4_001)
    };
    let for_another_pool = TxAddOutput::sign(
        &identity_key(STRANGER),
        &identity_key(1).identity(),
        SerialId(4_001),
        script(STRANGER),
        &AUX,
    );
    let cases = [
        (add(1, 4_001), NotYou),
        (ToCoordinator::TxAddOutput(forged), BadSignature),
        (ToCoordinator::TxAddOutput(moved), BadSignature),
        (ToCoordinator::TxAddOutput(for_another_pool), BadSignature),
        (add(STRANGER, 4_000), SerialParity),
        (add(STRANGER, 0), SerialParity),
        (add(STRANGER, taken), SerialTaken),
    ];
    for (message, code) in cases {
        refused(&mut world, peer, message, code);
    }
    for serial in [4_001, 4_003] {
        world.say(peer, add(STRANGER, serial));
    }
    assert_eq!(world.coordinator.roster().len(), HONEST + 3);
    refused(&mut world, peer, add(STRANGER, 4_005), OutputQuota);
    refused(&mut world, peer, add(STRANGER, 4_001), SerialTaken);

    let theirs = ToCoordinator::TxRemoveOutput(removal(1, taken));
    refused(&mut world, peer, theirs, NotYou);
    let unsigned = TxRemoveOutput {
        signature: removal(1, 4_001).signature,
        ..removal(STRANGER, 4_001)
    };
    refused(
        &mut world,
        peer,
        ToCoordinator::TxRemoveOutput(unsigned),
        BadSignature,
    );
    for serial in [taken, 4_005, 0] {
        let message = ToCoordinator::TxRemoveOutput(removal(STRANGER, serial));
        refused(&mut world, peer, message, NotYourOutput);
    }
    goes_on(&mut world);
}

#[test]
fn slots_are_refused_by_number_nonces_signature_and_repetition() {
    use RejectCode::*;
    let mut world = pool(Settings::default());
    let peer = joined_stranger(&mut world);
    let nonces = usize::from(world.coordinator.params().nonces_per_slot);
    let two = public_slots(2, nonces);
    // One slot in another's name spoils the announcement.
    let mixed = Slots {
        slots: vec![
            announced(STRANGER, two[0].clone()),
            announced(1, two[1].clone()),
        ],
    };
    let mut changed = announced(STRANGER, two[0].clone());
    changed.slot.nonces.swap(0, 1);
    let changed = Slots {
        slots: vec![changed],
    };
    let elsewhere = identity_key(1).identity();
    let elsewhere = AnnouncedSlot::sign(&identity_key(STRANGER), &elsewhere, two[0].clone(), &AUX);
    let for_another_pool = Slots {
        slots: vec![elsewhere],
    };
    let cases = [
        (
            slots(STRANGER, public_slots(SLOTS_LIMIT + 1, nonces)),
            SlotQuota,
        ),
        (slots(STRANGER, public_slots(1, nonces - 1)), SlotQuota),
        (slots(STRANGER, public_slots(1, nonces + 1)), SlotQuota),
        (slots(STRANGER, public_slots(1, 0)), SlotQuota),
        (ToCoordinator::Slots(mixed), BadSignature),
        (ToCoordinator::Slots(changed), BadSignature),
        (ToCoordinator::Slots(for_another_pool), BadSignature),
        (
            slots(STRANGER, vec![two[0].clone(), two[0].clone()]),
            DuplicateSlot,
        ),
    ];
    for (message, code) in cases {
        refused(&mut world, peer, message, code);
    }
    // The refused announcements left nothing behind: the same slots are new to the coordinator.
    let from = world.told.len();
    world.say(peer, slots(STRANGER, two.clone()));
    assert_eq!(refusals(&world, from), []);
    refused(&mut world, peer, slots(STRANGER, two), DuplicateSlot);
    // It holds two now, so that as many as may be held at once are too many.
    let more = slots(STRANGER, public_slots(SLOTS_LIMIT, nonces));
    refused(&mut world, peer, more, SlotQuota);
    goes_on(&mut world);
}

#[test]
fn words_about_a_round_that_is_not_being_signed_are_stale() {
    let mut world = pool(Settings::default());
    let peer = joined_stranger(&mut world);
    let (last, _) = world.coordinator.last_committed().unwrap();
    let complete = |round| ToCoordinator::TxComplete(TxComplete { round });
    let cases = [
        complete(NOWHERE),
        signatures(STRANGER, NOWHERE, 2),
        signatures(STRANGER, last, 2),
        abort(STRANGER, NOWHERE),
    ];
    for message in cases {
        refused(&mut world, peer, message, RejectCode::StaleRound);
    }
    // A payee's agreement or refusal may come after the signers have finished.
    let from = world.told.len();
    world.say(peer, complete(last));
    world.say(peer, abort(STRANGER, last));
    assert_eq!(world.told.len(), from);

    signing(&mut world);
    refused(&mut world, peer, complete(NOWHERE), RejectCode::StaleRound);
    refused(
        &mut world,
        peer,
        signatures(STRANGER, last, 2),
        RejectCode::StaleRound,
    );
    refused(
        &mut world,
        peer,
        abort(STRANGER, NOWHERE),
        RejectCode::StaleRound,
    );
    finish_signing(&mut world);
}

#[test]
fn partial_signatures_are_refused_from_the_wrong_hand_and_in_the_wrong_number() {
    use RejectCode::*;
    let mut world = pool(Settings::default());
    let peer = joined_stranger(&mut world);
    let round = signing(&mut world);
    let mut proposals = world.told.iter().filter_map(|(_, message)| match message {
        ToParticipant::Proposal(proposal) => Some(&proposal.plan),
        _ => None,
    });
    let plan = proposals.next_back().unwrap();
    let proposal = proposal_digest(&plan.inputs, &plan.round, &plan.nonces);
    let silent = world.miners[0].peer.unwrap();
    let signed = world.miners[1].peer.unwrap();
    let payouts = usize::from(world.coordinator.params().lanes);
    let cases = [
        (peer, signatures(STRANGER, round, payouts), NotExpected),
        // In the silent signer's name, over another connection.
        (peer, signatures(1, round, payouts), NotExpected),
        (signed, signatures(2, round, payouts), NotExpected),
        (silent, signatures(1, round, 0), PartialCount),
        (silent, signatures(1, round, payouts - 1), PartialCount),
        (silent, signatures(1, round, payouts + 1), PartialCount),
        // Signed for other nonces, as another proposal of this attempt may have had.
        (silent, signatures(1, round, payouts), StaleRound),
        (silent, answer(2, round, proposal, payouts), BadSignature),
        // A refusal that another signed would be evidence against nobody.
        (silent, abort(2, round), BadSignature),
        (peer, abort(1, round), BadSignature),
    ];
    for (peer, message, code) in cases {
        refused(&mut world, peer, message, code);
    }
    // Whoever does not sign cannot stop the round either.
    let (before, from) = (state(&world), world.told.len());
    world.say(peer, abort(STRANGER, round));
    assert_eq!((state(&world), world.told.len()), (before, from));
    finish_signing(&mut world);
}

/// The silent signer's time runs out; then it is honest again, and its back-off passes.
fn finish_signing(world: &mut World) {
    let rounds = |w: &World| {
        let committed = w.records.iter();
        committed
            .filter(|record| matches!(record, Record::Committed(_)))
            .count()
    };
    let before = rounds(world);
    world.run_until(Millis(5_000), "a round of those who signed", |w| {
        rounds(w) > before && w.all_hash_last_round()
    });
    world.miners[0].mood = Mood::Honest;
    world.run_until(Millis(60_000), "the silent signer in a round again", |w| {
        w.coordinator
            .last_committed()
            .is_some_and(|(_, signers)| signers == HONEST + 1)
    });
    world.settle();
    goes_on(world);
}

#[test]
fn beyond_its_quota_even_a_right_message_changes_nothing_until_it_has_waited() {
    let settings = Settings::default();
    let mut world = pool(settings);
    let peer = joined_stranger(&mut world);
    for _ in 0..settings.quota {
        refused(
            &mut world,
            peer,
            abort(STRANGER, NOWHERE),
            RejectCode::StaleRound,
        );
    }
    for _ in 0..3 {
        refused(
            &mut world,
            peer,
            add(STRANGER, 4_001),
            RejectCode::RateLimited,
        );
    }
    // One comes back per interval, and only to who waited.
    world.now = world.now.after(settings.quota_refill);
    world.say(peer, add(STRANGER, 4_001));
    assert_eq!(world.coordinator.roster().len(), HONEST + 2);
    refused(
        &mut world,
        peer,
        add(STRANGER, 4_003),
        RejectCode::RateLimited,
    );
    goes_on(&mut world);
}

/// Eight times the quota is refused in words; whoever goes on does not listen.
#[test]
fn whoever_floods_is_refused_and_then_cut_off() {
    let settings = Settings::default();
    let mut world = pool(settings);
    let peer = joined_stranger(&mut world);
    for _ in 0..settings.quota {
        world.say(peer, abort(STRANGER, NOWHERE));
    }
    for _ in 0..8 * settings.quota {
        world.say(peer, add(STRANGER, 4_001));
    }
    let codes = refusals(&world, 0);
    let limited = codes
        .iter()
        .filter(|(to, code)| (*to, *code) == (peer, RejectCode::RateLimited));
    assert_eq!(limited.count(), 8 * settings.quota as usize);
    assert_eq!(world.closed, []);
    let joined = world.coordinator.joined();
    world.say(peer, add(STRANGER, 4_001));
    assert_eq!(
        refusals(&world, 0).last(),
        Some(&(peer, RejectCode::RateLimited))
    );
    assert_eq!(world.closed, [peer]);
    assert_eq!(world.coordinator.joined(), joined - 1);
    assert_eq!(world.coordinator.roster().len(), HONEST + 1);
    goes_on(&mut world);
}

#[test]
fn whoever_waits_between_refusals_is_never_cut_off() {
    let settings = Settings::default();
    let mut world = pool(settings);
    let peer = joined_stranger(&mut world);
    for _ in 0..settings.quota {
        world.say(peer, abort(STRANGER, NOWHERE));
    }
    for _ in 0..10 * settings.quota {
        world.now = world.now.after(settings.quota_refill);
        refused(
            &mut world,
            peer,
            abort(STRANGER, NOWHERE),
            RejectCode::StaleRound,
        );
        refused(
            &mut world,
            peer,
            abort(STRANGER, NOWHERE),
            RejectCode::RateLimited,
        );
    }
    goes_on(&mut world);
}
