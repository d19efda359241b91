//! A full payee set: outputs that nobody needs make room, and no others.

use tutti_proto::coordinator::{Input, Record, Settings};
use tutti_proto::deadline::Millis;
use tutti_proto::id::{PeerId, SerialId};
use tutti_proto::message::{
    Holds, OutputExpired, ToCoordinator, ToParticipant, TxAddOutput, TxRemoveOutput,
};
use tutti_proto::participant::{self, Event, StateError};
use tutti_proto::reject::RejectCode;
use tutti_proto::roster::CHANGES_LIMIT;
use tutti_proto::window::BOOKING_WINDOWS;
use tutti_tests::sim::{World, WorldOptions, identity_key, script};

use crate::expect::{refusals, refused};
use crate::messages::{STRANGER, add, join, removal, serial_of};
use crate::{HONEST, SECOND, goes_on, pool};

/// The operator, the honest miners, and one more.
const FULL: usize = HONEST + 2;

fn full_pool() -> World {
    pool(Settings {
        payees_max: FULL,
        ..Settings::default()
    })
}

fn joins(world: &mut World, key: u16) -> PeerId {
    let peer = world.connect_stranger();
    let message = join(world, peer, key);
    world.say(peer, message);
    peer
}

fn leaves(world: &mut World, peer: PeerId) {
    world.tell_coordinator(Input::Disconnected { peer });
}

fn has(world: &World, serial_id: u64) -> bool {
    world
        .coordinator
        .roster()
        .payee(SerialId(serial_id))
        .is_some()
}

/// An output, and to whom its change was told.
type Told = Vec<(PeerId, u64)>;

/// What was said of the payee set since `from`: expired, added.
fn changes(world: &World, from: usize) -> (Told, Told) {
    let (mut expired, mut added) = (Vec::new(), Vec::new());
    for (peer, message) in &world.told[from..] {
        match message {
            ToParticipant::OutputExpired(OutputExpired { serial_id }) => {
                expired.push((*peer, serial_id.0));
            }
            ToParticipant::TxAddOutput(TxAddOutput { serial_id, .. }) => {
                added.push((*peer, serial_id.0));
            }
            _ => {}
        }
    }
    (expired, added)
}

#[test]
fn the_output_of_someone_absent_who_never_worked_makes_room() {
    let mut world = full_pool();
    let first = joins(&mut world, STRANGER);
    world.say(first, add(STRANGER, 4_001));
    leaves(&mut world, first);
    assert_eq!(world.coordinator.roster().len(), FULL);

    let second = joins(&mut world, STRANGER + 1);
    let from = world.told.len();
    world.say(second, add(STRANGER + 1, 4_003));
    assert!(!has(&world, 4_001) && has(&world, 4_003));
    // Everyone hears of both, in this order, and has the same set afterwards: they sign a round.
    let (expired, added) = changes(&world, from);
    assert_eq!((expired.len(), added.len()), (HONEST + 1, HONEST + 1));
    assert!(expired.iter().all(|(_, serial_id)| *serial_id == 4_001));
    assert!(added.iter().all(|(_, serial_id)| *serial_id == 4_003));
    world.settle();
    goes_on(&mut world);
    for miner in &world.miners {
        assert!(
            !miner
                .events
                .iter()
                .any(|event| matches!(event, Event::BadState(_)))
        );
    }
    // The one that expired registers again when it comes back and there is room.
    leaves(&mut world, second);
    let again = joins(&mut world, STRANGER);
    // Not while shares of the job that the other was given may come.
    refused(
        &mut world,
        again,
        add(STRANGER, 4_001),
        RejectCode::PoolFull,
    );
    (0..2).for_each(|_| goes_on(&mut world));
    world.say(again, add(STRANGER, 4_001));
    assert!(has(&world, 4_001) && !has(&world, 4_003));
}

#[test]
fn the_output_of_someone_present_makes_no_room() {
    let mut world = full_pool();
    let first = joins(&mut world, STRANGER);
    world.say(first, add(STRANGER, 4_001));
    let second = joins(&mut world, STRANGER + 1);
    refused(
        &mut world,
        second,
        add(STRANGER + 1, 4_003),
        RejectCode::PoolFull,
    );
    // Whoever has a place moves within it.
    let from = world.told.len();
    world.say(first, add(STRANGER, 4_005));
    assert_eq!(refusals(&world, from), []);
    assert!(has(&world, 4_005));
    goes_on(&mut world);
}

#[test]
fn the_output_of_someone_absent_with_work_makes_no_room() {
    let mut world = full_pool();
    let first = joins(&mut world, STRANGER);
    world.say(first, add(STRANGER, 4_001));
    let serial_id = serial_of(&world, 2);
    world.share(2);
    world.settle();
    world.disconnect(2);
    // Its share is in the open window, and after the next round's proposal in the ledger.
    for _ in 0..2 {
        let second = joins(&mut world, STRANGER + 1);
        refused(
            &mut world,
            second,
            add(STRANGER + 1, 4_003),
            RejectCode::PoolFull,
        );
        assert!(has(&world, serial_id));
        world.new_tip();
        world.run_until(SECOND, "a round without it", World::all_hash_last_round);
    }
    world.connect(2);
    world.settle();
    goes_on(&mut world);
}

/// Whoever follows the ledger takes more for a lie: nobody brings the pool so far.
#[test]
fn a_window_with_many_changes_takes_no_more_of_anybody_but_the_next_one_does() {
    let mut world = pool(Settings::default());
    let coordinator = world.coordinator.identity();
    let key = identity_key(STRANGER + 1);
    let serial_id = SerialId(4_003);
    let output = TxAddOutput::sign(&key, &coordinator, serial_id, script(9), &[1; 32]);
    let removal = TxRemoveOutput::sign(&key, &coordinator, serial_id, &[1; 32]);
    let before = world.records.iter().rev();
    let is_change = |record: &&Record| !matches!(record, Record::WindowClosed(_));
    let open = before.take_while(is_change).filter(|record| {
        matches!(
            record,
            Record::OutputAdded(_) | Record::OutputRemoved(_) | Record::OutputExpired(_)
        )
    });
    // A thousand are the coordinator's own, and there is room for a last one that makes room for itself.
    let left = CHANGES_LIMIT - 1_000 - open.count();
    let twice = [Record::OutputAdded(output), Record::OutputRemoved(removal)];
    let changes = twice.iter().cycle().take(left / 2 * 2).cloned();
    world.restore(changes.collect());
    world.template();
    for miner in 0..HONEST {
        world.connect(miner);
    }
    world.settle();
    let first = joins(&mut world, STRANGER);
    refused(
        &mut world,
        first,
        add(STRANGER, 4_001),
        RejectCode::PoolFull,
    );
    // Nor may who is here move, but it asks again in the next window.
    let moved = script(77);
    world.tell_miner(0, participant::Input::PayoutScript(moved.clone()));
    world.settle();
    let mover = world.miners[0].identity();
    let is_paid_there = |world: &World| {
        let active = world.coordinator.roster().active(&mover);
        active.is_some_and(|(_, payee)| payee.script == moved)
    };
    assert!(!is_paid_there(&world));
    goes_on(&mut world);
    assert!(is_paid_there(&world));
    let from = world.told.len();
    world.say(first, add(STRANGER, 4_001));
    assert_eq!(refusals(&world, from), []);
    assert!(has(&world, 4_001));
}

/// A refused message changes nothing, not even for those who could make room.
#[test]
fn nobody_makes_room_for_an_output_that_is_refused() {
    let mut world = full_pool();
    let first = joins(&mut world, STRANGER);
    world.say(first, add(STRANGER, 4_001));
    leaves(&mut world, first);
    let second = joins(&mut world, STRANGER + 1);
    let taken = serial_of(&world, 0);
    for (serial_id, code) in [
        (4_002, RejectCode::SerialParity),
        (taken, RejectCode::SerialTaken),
        (4_001, RejectCode::SerialTaken),
    ] {
        refused(&mut world, second, add(STRANGER + 1, serial_id), code);
        assert!(has(&world, 4_001));
    }
    goes_on(&mut world);
}

/// The participants' side: a coordinator that takes out what it may not is left.
#[test]
fn a_participant_leaves_a_coordinator_that_lets_a_worker_expire() {
    type Pick = fn(&World) -> u64;
    let cases: [(&str, Pick); 4] = [
        ("the output of a worker", |w| serial_of(w, 1)),
        ("its own, with acknowledged work", |w| serial_of(w, 0)),
        ("the operator's", |_| 0),
        ("one that is not there", |_| 4_001),
    ];
    for (what, pick) in cases {
        let mut world = pool(Settings::default());
        // Miner 1's work is in the ledger, miner 0's not yet.
        world.share(1);
        world.settle();
        world.new_tip();
        world.run_until(SECOND, "a round that counts it", World::all_hash_last_round);
        world.settle();
        world.share(0);
        world.settle();
        let serial_id = SerialId(pick(&world));
        let expired = ToParticipant::OutputExpired(OutputExpired { serial_id });
        world.tell_miner(0, participant::Input::Received(expired));
        let expected = Event::BadState(StateError::Expired(serial_id));
        assert!(world.miners[0].events.contains(&expected), "{what}");
        assert!(world.miners[0].peer.is_none(), "{what}: it leaves");
        assert!(
            world.miners[0].orders.is_empty(),
            "{what}: and hashes nothing"
        );
    }
}

#[test]
fn a_participant_whose_own_output_expired_registers_another() {
    let mut world = pool(Settings::default());
    let serial_id = SerialId(serial_of(&world, 0));
    let expired = ToParticipant::OutputExpired(OutputExpired { serial_id });
    let from = world.told.len();
    world.tell_miner(0, participant::Input::Received(expired));
    world.settle();
    // The coordinator knows nothing of the expiry here, and so has two outputs of it.
    let (_, added) = changes(&world, from);
    assert!(!added.is_empty(), "it asks for another output");
    assert!(added.iter().all(|(_, serial)| *serial != serial_id.0));
}

/// Each change is told to everybody, and kept.
#[test]
fn whose_outputs_change_too_often_waits_for_the_next_window_and_nobody_else_does() {
    let mut world = pool(Settings::default());
    let taken = |world: &mut World, peer, message| {
        let from = world.told.len();
        world.say(peer, message);
        assert_eq!(refusals(world, from), []);
    };
    let first = joins(&mut world, STRANGER);
    let removal = |serial_id| ToCoordinator::TxRemoveOutput(removal(STRANGER, serial_id));
    taken(&mut world, first, add(STRANGER, 4_001));
    for serial_id in [4_001, 4_003, 4_005] {
        taken(&mut world, first, add(STRANGER, serial_id + 2));
        taken(&mut world, first, removal(serial_id));
    }
    taken(&mut world, first, add(STRANGER, 4_009));
    let more = || removal(4_007);
    refused(&mut world, first, more(), RejectCode::RateLimited);
    let second = joins(&mut world, STRANGER + 1);
    taken(&mut world, second, add(STRANGER + 1, 4_013));
    // A restart within the window begins no other count.
    world.kill_coordinator();
    let first = joins(&mut world, STRANGER);
    refused(&mut world, first, more(), RejectCode::RateLimited);
    (0..HONEST).for_each(|miner| world.connect(miner));
    world.settle();
    goes_on(&mut world);
    taken(&mut world, first, more());
    assert!(has(&world, 4_009) && !has(&world, 4_007));
}

/// What was signed before, and taken out, may be in anybody's hands.
#[test]
fn an_output_below_ones_other_is_refused() {
    let mut world = pool(Settings::default());
    let peer = joins(&mut world, STRANGER);
    world.say(peer, add(STRANGER, 4_003));
    refused(
        &mut world,
        peer,
        add(STRANGER, 4_001),
        RejectCode::SerialTaken,
    );
    world.say(peer, add(STRANGER, 4_005));
    assert!(has(&world, 4_003) && has(&world, 4_005));
    goes_on(&mut world);
}

/// Else what was signed before it, and taken out, could take its place.
#[test]
fn nobody_takes_out_the_output_that_is_paid() {
    let mut world = pool(Settings::default());
    let peer = joins(&mut world, STRANGER);
    let removal = |serial_id| ToCoordinator::TxRemoveOutput(removal(STRANGER, serial_id));
    world.say(peer, add(STRANGER, 4_001));
    refused(&mut world, peer, removal(4_001), RejectCode::NotYourOutput);
    world.say(peer, add(STRANGER, 4_003));
    refused(&mut world, peer, removal(4_003), RejectCode::NotYourOutput);
    world.say(peer, removal(4_001));
    assert!(has(&world, 4_003) && !has(&world, 4_001));
    goes_on(&mut world);
}

/// The ledger would name it for ever, and nothing would bound how many it names.
#[test]
fn whose_output_expired_is_given_no_job_of_a_round_that_it_was_shown() {
    let mut world = full_pool();
    let first = joins(&mut world, STRANGER);
    world.say(first, add(STRANGER, 4_001));
    let from = world.told.len();
    world.template();
    let round = |world: &World| {
        let mut told = world.told[from..].iter();
        told.find_map(|(peer, message)| match message {
            ToParticipant::Proposal(proposal) if *peer == first => Some(proposal.plan.round),
            _ => None,
        })
    };
    while round(&world).is_none() {
        assert!(world.step(), "it is shown a proposal");
    }
    let round = round(&world).unwrap();
    leaves(&mut world, first);
    world.settle();
    let of_round = |(_, message): &&(PeerId, ToParticipant)| matches!(message, ToParticipant::Job(job) if job.round == round);
    assert!(
        world.told.iter().any(|told| of_round(&told)),
        "it is hashed"
    );
    let second = joins(&mut world, STRANGER + 1);
    world.say(second, add(STRANGER + 1, 4_003));
    assert!(!has(&world, 4_001) && has(&world, 4_003));
    let again = joins(&mut world, STRANGER);
    let from = world.told.len();
    let holds = Holds {
        rounds: vec![round],
    };
    world.say(again, ToCoordinator::Holds(holds));
    world.settle();
    let mut told = world.told[from..].iter();
    assert!(!told.any(|told| told.0 == again && of_round(&told)));
    goes_on(&mut world);
}

/// It computes what a block of each round is booked with, as if it were paid by it.
#[test]
fn who_finds_no_place_takes_honest_bookings_however_long_it_waits() {
    let mut world = World::new(WorldOptions {
        miners: 2,
        lanes: 1,
        shards_max: 1,
        block_zero_bits: 10,
        settings: Settings {
            payees_max: 2,
            refresh: Millis(1_000_000_000),
            ..WorldOptions::default().settings
        },
        ..WorldOptions::default()
    });
    world.connect(0);
    world.new_tip();
    world.run_until(SECOND, "the first round", World::all_hash_last_round);
    world.settle();
    world.connect(1);
    world.settle();
    let joined = world.coordinator.ledger().seq().0;
    while world.coordinator.ledger().seq().0 <= joined + BOOKING_WINDOWS {
        world.new_tip();
        world.settle();
        world.told.clear();
        world.said.clear();
    }
    let found = world.find_block(0).unwrap();
    for _ in 0..2 {
        world.new_tip();
        world.settle();
    }
    let booked = world.coordinator.ledger().block(&found.hash);
    assert!(booked.is_some_and(|block| block.booked));
    let disputes = |event: &&Event| matches!(event, Event::WrongBooking { .. });
    assert_eq!(world.miners[1].events.iter().find(disputes), None);
    assert!(world.miners[1].peer.is_some());
}
