//! Live rounds outlive the coordinator's process and a participant's session: work on them counts,
//! once, and whoever comes back goes on with them.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use bitcoin::Block;
use bitcoin::consensus::deserialize;
use bitcoin::hashes::Hash;
use tutti_proto::coordinator::{Event, Record, Settings};
use tutti_proto::deadline::Millis;
use tutti_proto::id::{JobId, SerialId, WindowSeq};
use tutti_proto::message::{OutputExpired, ShareReject, ToCoordinator, ToParticipant};
use tutti_proto::participant::{self, FoundShare, Input};
use tutti_proto::reject::RejectCode;
use tutti_proto::window::Scoring;
use tutti_proto::work::header_hash;
use tutti_tests::sim::{Mood, PowerLoss, World, WorldOptions};

const SECOND: Millis = Millis(1_000);

fn pool_with(settings: Settings) -> World {
    let mut world = World::new(WorldOptions {
        miners: 3,
        settings,
        ..WorldOptions::default()
    });
    for miner in 0..3 {
        world.connect(miner);
    }
    world.new_tip();
    world.run_until(SECOND, "the first round", World::all_hash_last_round);
    world.settle();
    world
}

fn pool() -> World {
    pool_with(WorldOptions::default().settings)
}

fn come_back(world: &mut World) {
    let miners = 0..world.miners.len();
    come_back_with(world, miners);
}

fn come_back_with(world: &mut World, miners: std::ops::Range<usize>) {
    for miner in miners {
        world.connect(miner);
    }
    world.settle();
}

fn proposals(world: &World) -> usize {
    let events = world.events.iter();
    events
        .filter(|e| matches!(e, Event::Proposed { .. }))
        .count()
}

fn stored(world: &World) -> usize {
    let records = world.records.iter();
    records
        .filter(|r| matches!(r, Record::Share { .. }))
        .count()
}

fn acknowledged(world: &World, from: usize) -> usize {
    let told = world.told[from..].iter();
    told.map(|(_, message)| match message {
        ToParticipant::ShareAck(ack) => ack.seqs.len(),
        _ => 0,
    })
    .sum()
}

fn own_work(world: &World, miner: usize) -> u128 {
    let windows = world.miners[miner].own_work.values();
    windows.map(|work| work.0).sum()
}

/// The node's tip is the same: nobody waits for a round.
#[test]
fn after_a_restart_everyone_goes_on_with_the_same_job_and_its_work_counts() {
    let mut world = pool();
    let jobs: Vec<JobId> = world.miners.iter().map(|m| m.orders[0].job).collect();
    let rounds = proposals(&world);
    world.kill_coordinator();
    assert!(world.miners.iter().all(|miner| !miner.orders.is_empty()));
    world.template();
    come_back(&mut world);
    assert_eq!(proposals(&world), rounds, "no round was needed");
    for (miner, job) in jobs.iter().enumerate() {
        assert!(world.miners[miner].ordered, "it got its job again");
        assert_eq!(world.miners[miner].orders[0].job, *job);
        let before = stored(&world);
        world.share(miner);
        world.settle();
        assert_eq!(stored(&world), before + 1);
    }
    // And it is refreshed when it would have been.
    world.run_until(Millis(31_000), "a refreshed round", |w| {
        proposals(w) > rounds && w.all_hash_last_round()
    });
}

/// Whether the template or the participants come first makes no difference.
#[test]
fn who_is_back_before_the_template_gets_its_job_with_it() {
    let mut world = pool();
    let job = world.miners[0].orders[0].job;
    let rounds = proposals(&world);
    world.kill_coordinator();
    come_back(&mut world);
    assert!(!world.miners[0].ordered, "the tip is not known");
    world.template();
    world.settle();
    assert!(world.miners.iter().all(|miner| miner.ordered));
    assert_eq!(world.miners[0].orders[0].job, job);
    assert_eq!(proposals(&world), rounds);
}

/// The round that was signed ahead is there when the tip changed meanwhile.
#[test]
fn after_a_restart_on_a_new_tip_everyone_moves_to_the_round_signed_ahead() {
    let mut world = pool();
    world.run_until(SECOND, "the next height signed ahead", |w| {
        w.miners[0].held.len() >= 2
    });
    world.settle();
    world.kill_coordinator();
    come_back(&mut world);
    let from = world.events.len();
    world.new_tip();
    let next_height = world.events[from..].iter().find_map(|event| match event {
        Event::NextHeight { job, jobs, .. } => Some((*job, *jobs)),
        _ => None,
    });
    let (_, jobs) = next_height.unwrap();
    assert_eq!(jobs, 3, "all hold it from the life before");
}

/// Its acknowledgement was lost with the power: it counts once, and its finder learns that it does.
#[test]
fn a_share_whose_acknowledgement_was_lost_counts_once_and_is_acknowledged_again() {
    let mut world = pool();
    world.share(0);
    world.settle();
    let work = own_work(&world, 0);
    assert_eq!(work, 8);
    world.coordinator_power = Some(PowerLoss::AfterSave);
    world.share(0);
    world.settle();
    let kept = stored(&world);
    assert_eq!((kept, own_work(&world, 0)), (2, work), "stored, not told");
    world.template();
    let from = world.told.len();
    come_back(&mut world);
    assert_eq!(acknowledged(&world, from), 1);
    assert_eq!(world.share_rejects(from), []);
    assert_eq!(stored(&world), kept, "it is not counted again");
    assert_eq!(own_work(&world, 0), 2 * work);
    // Nobody disputes the window's record.
    world.new_tip();
    world.run_until(SECOND, "a round", World::all_hash_last_round);
    assert_eq!(world.recorded_work()[&world.miners[0].identity()], 2 * work);
    assert!(world.miners.iter().all(|miner| miner.peer.is_some()));
}

/// In this session it was told already: the participant's numbers would count it twice.
#[test]
fn within_one_session_the_same_share_is_a_duplicate() {
    let mut world = pool();
    world.share(0);
    world.settle();
    let (share, open) = (
        world.last_share(0).unwrap(),
        world.coordinator.ledger().seq().0 + 1,
    );
    for again in [false, true] {
        if again {
            world.kill_coordinator();
            world.template();
            come_back(&mut world);
            // The first of a new session is acknowledged.
            let (from, peer) = (world.told.len(), world.miners[0].peer.unwrap());
            world.say(peer, ToCoordinator::Share(share));
            assert_eq!((acknowledged(&world, from), stored(&world)), (1, 1));
        }
        let (from, peer) = (world.told.len(), world.miners[0].peer.unwrap());
        world.say(peer, ToCoordinator::Share(share));
        let duplicate = ShareReject {
            seq: share.seq,
            code: RejectCode::Duplicate,
            got: open,
            want: open,
        };
        assert_eq!(world.share_rejects(from), [duplicate]);
        assert_eq!(acknowledged(&world, from), 0);
    }
    assert_eq!(stored(&world), 1);
}

/// The hasher may come back to a job that it left, and to what it found of it.
#[test]
fn a_share_that_is_found_again_in_a_later_session_counts_once_for_its_finder_too() {
    let mut world = pool();
    let found = world.miners[0].find_share().unwrap();
    for sessions in 1..=3 {
        world.tell_miner(0, Input::ShareFound(found));
        world.settle();
        assert_eq!(world.share_rejects(0), [], "in {sessions} sessions");
        assert_eq!((stored(&world), own_work(&world, 0)), (1, 8));
        world.disconnect(0);
        world.connect(0);
        world.settle();
    }
    world.share(0);
    world.settle();
    assert_eq!((stored(&world), own_work(&world, 0)), (2, 16));
    nobody_is_accused(&mut world);
    assert_eq!(world.recorded_work()[&world.miners[0].identity()], 16);
}

/// A direct round that is made again, for those who come later, is the same work: whoever is restarted
/// meanwhile finds what the process before it found, and knows nothing of that.
#[test]
fn what_a_restarted_miner_finds_again_makes_it_accuse_nobody() {
    // How much of it, and how many more shares. What is certain is the most that a process was told.
    for (again, more, least) in [(2, 0, 16), (2, 1, 24), (0, 1, 16), (1, 3, 32)] {
        let mut world = direct_pool();
        let job = world.miners[0].orders[0];
        let window = world.coordinator.ledger().seq().next();
        let found: Vec<_> = (0..2)
            .map(|_| world.miners[0].find_share().unwrap())
            .collect();
        let find = |world: &mut World, shares: &[FoundShare]| {
            for share in shares {
                world.tell_miner(0, Input::ShareFound(*share));
                world.settle();
            }
        };
        find(&mut world, &found);
        assert_eq!(own_work(&world, 0), 16);
        world.disconnect(0);
        world.miners[0].restart();
        world.connect(0);
        world.run_until(Millis(3_000), "the same round again", |w| {
            !w.miners[0].orders.is_empty()
        });
        assert_eq!(world.miners[0].orders[0], job);
        assert_eq!(world.coordinator.ledger().seq().next(), window);
        find(&mut world, &found[..again]);
        for _ in 0..more {
            world.share(0);
            world.settle();
        }
        assert_eq!(world.share_rejects(0), []);
        assert_eq!(stored(&world), 2 + more, "what came again is no new work");
        nobody_is_accused(&mut world);
        assert_eq!(world.miners[0].own_work[&window].0, least);
    }
}

/// Nobody signs, so all hash a direct round.
fn direct_pool() -> World {
    let mut world = World::new(WorldOptions {
        miners: 3,
        ..WorldOptions::default()
    });
    for miner in 0..3 {
        world.connect(miner);
        world.miners[miner].mood = Mood::SilentSigner;
    }
    world.new_tip();
    let direct = |world: &World| world.miners.iter().all(|miner| !miner.orders.is_empty());
    world.run_until(SECOND, "a direct round", direct);
    world
}

/// The window closes, and everyone goes on.
fn nobody_is_accused(world: &mut World) {
    let open = world.coordinator.ledger().seq().next();
    for miner in &mut world.miners {
        miner.mood = Mood::Honest;
    }
    world.new_tip();
    world.run_until(Millis(5_000), "a signed round", |w| {
        let signed = w.coordinator.last_committed();
        let is_signed = signed.is_some_and(|(_, signers)| signers > 1);
        w.coordinator.ledger().seq() >= open && is_signed && w.all_hash_last_round()
    });
    world.settle();
    for miner in &world.miners {
        let accuses =
            |event: &&participant::Event| matches!(event, participant::Event::WorkMissing { .. });
        assert_eq!(miner.events.iter().find(accuses), None);
        assert!(miner.peer.is_some());
    }
}

/// Its window was closed before it came again: the refusal names the window in which it counts.
#[test]
fn a_share_of_a_closed_window_is_a_duplicate_that_names_its_window() {
    let mut world = pool();
    let window = world.coordinator.ledger().seq().next();
    world.coordinator_power = Some(PowerLoss::AfterSave);
    world.share(0);
    world.settle();
    world.template();
    // The others come back first, and a round closes the window.
    world.connect(1);
    world.connect(2);
    world.settle();
    let closed = world.coordinator.ledger().seq();
    world.run_until(Millis(31_000), "a refreshed round", |w| {
        w.coordinator.ledger().seq() > closed
    });
    assert!(world.coordinator.ledger().seq() >= window);
    let kept = stored(&world);
    world.connect(0);
    world.settle();
    let counted = world.miners[0].events.iter().find_map(|event| match event {
        participant::Event::ShareCounted { window } => Some(*window),
        _ => None,
    });
    assert_eq!(counted, Some(window));
    assert_eq!(stored(&world), kept);
}

#[test]
fn what_was_found_without_a_session_is_sent_in_the_next_one_and_counts() {
    let mut world = pool();
    world.kill_coordinator();
    for _ in 0..100 {
        world.share(0);
    }
    assert_eq!(stored(&world), 0);
    world.template();
    come_back(&mut world);
    assert_eq!(stored(&world), 100, "all, a few at a time");
    assert_eq!(own_work(&world, 0), 800);
}

/// Found in a hundred seconds, told in one: that is no pace.
#[test]
fn what_was_found_without_a_session_makes_no_share_harder() {
    let mut world = pool_with(Settings {
        z_min: 1,
        z_max: 20,
        ..Settings::default()
    });
    let z = world.miners[0].orders[0].z;
    for restart in [true, false] {
        match restart {
            true => world.kill_coordinator(),
            false => (0..3).for_each(|miner| world.disconnect(miner)),
        }
        let before = stored(&world);
        for _ in 0..20 {
            world.share(0);
        }
        if restart {
            world.template();
        }
        come_back(&mut world);
        assert_eq!(stored(&world), before + 20);
        let rounds = proposals(&world);
        world.run_until(Millis(31_000), "a refreshed round", |w| {
            proposals(w) > rounds && w.all_hash_last_round()
        });
        world.settle();
        assert_eq!(world.miners[0].orders[0].z, z, "restart: {restart}");
    }
}

#[test]
fn without_a_coordinator_hashing_ends_after_some_attempts() {
    let mut world = pool();
    world.disconnect(0);
    let mut attempts = 1;
    while !world.miners[0].orders.is_empty() {
        attempts += 1;
        assert!(attempts <= 10, "two minutes of back-off");
        world.tell_miner(0, Input::Disconnected);
    }
    assert_eq!(attempts, 10);
    world.connect(0);
    world.settle();
    assert!(world.miners[0].ordered, "back, it goes on");
}

/// Invariant 7 for a block: the power fails when it is stored and not handed over.
#[test]
fn a_block_that_was_stored_and_not_handed_over_is_made_again() {
    let mut world = pool();
    let found = world.miners[0].hash_until(16).unwrap();
    world.coordinator_power = Some(PowerLoss::AfterSave);
    world.tell_miner(0, Input::ShareFound(found));
    world.settle();
    assert_eq!(world.blocks.len(), 0);
    let restored = world.restored().unwrap();
    let candidate = world.records.iter().find_map(|record| match record {
        Record::Candidate(found) => Some(found.clone()),
        _ => None,
    });
    let candidate = candidate.unwrap();
    let block: Block = deserialize(&restored.open_block(&candidate).unwrap()).unwrap();
    assert_eq!(block.block_hash().to_byte_array(), candidate.hash);
    assert_eq!(header_hash(&candidate.header), candidate.hash);
    assert!(block.check_merkle_root());
}

/// A participant that kept its z would otherwise start anew, and could choose the better of two.
#[test]
fn within_a_round_there_is_one_z_across_restarts() {
    let settings = Settings {
        z_min: 1,
        z_max: 20,
        ..Settings::default()
    };
    let mut world = pool_with(settings);
    let z = world.miners[0].orders[0].z;
    let settings = |w: &mut World| w.settings_mut().z_min = 9;
    settings(&mut world);
    world.kill_coordinator();
    world.template();
    come_back(&mut world);
    assert!(world.miners[0].ordered);
    assert_eq!(
        world.miners[0].orders[0].z, z,
        "the round's, whatever a new one has"
    );
}

/// Live rounds are forgotten as their tips are passed: what is stored stays bounded.
#[test]
fn what_is_kept_of_live_rounds_is_removed_with_them() {
    let mut world = pool();
    for _ in 0..20 {
        world.new_tip();
        world.run_until(SECOND, "a round", World::all_hash_last_round);
        world.settle();
    }
    let restored = world.restored().unwrap();
    assert!(restored.live() <= 6, "{} of two heights", restored.live());
    assert!(restored.credits_from() > WindowSeq(world.coordinator.ledger().seq().0 - 8));
}

#[test]
fn the_open_window_keeps_its_height_over_a_restart() {
    let heights = |killed: bool| {
        let mut world = World::new(WorldOptions {
            miners: 3,
            scoring: Scoring::Epoch,
            ..WorldOptions::default()
        });
        for miner in 0..3 {
            world.connect(miner);
        }
        world.new_tip();
        world.run_until(SECOND, "the first round", World::all_hash_last_round);
        world.settle();
        for miner in 0..3 {
            world.share(miner);
            world.settle();
            if killed {
                world.kill_coordinator();
                come_back(&mut world);
            }
            world.new_tip();
            world.settle();
        }
        let closed = world.records.iter().filter_map(|record| match record {
            Record::WindowClosed(closed) => Some((closed.record.height, closed.record.shares)),
            _ => None,
        });
        let worked: Vec<(u32, u64)> = closed.filter(|(_, shares)| *shares > 0).collect();
        assert_eq!(worked.len(), 3, "{worked:?}");
        worked
    };
    assert_eq!(heights(true), heights(false));
}

/// Who was sent a ledger with its welcome, and who was not: in the order in which they joined.
fn ledgers_told(world: &World, from: usize) -> Vec<bool> {
    let told = world.told[from..].iter();
    let told = told.filter_map(|(_, message)| match message {
        ToParticipant::Welcome(welcome) => Some(welcome.ledger.is_some()),
        _ => None,
    });
    told.collect()
}

/// All miners, and the coordinator, sign another round.
fn all_sign_the_next(world: &mut World) {
    let from = world.events.len();
    world.new_tip();
    world.run_until(SECOND, "a round of all", |w| {
        let all = |e: &Event| matches!(e, Event::Committed { signers: 4, .. });
        w.events[from..].iter().any(all) && w.all_hash_last_round()
    });
    world.settle();
    world.assert_sound();
}

#[test]
fn after_a_restart_nobody_is_sent_the_ledger_that_it_holds_and_all_go_on_to_sign() {
    let mut world = pool();
    assert_eq!(ledgers_told(&world, 0), [true; 3], "all were new");
    for restarts in 0..3 {
        for miner in 0..3 {
            world.share(miner);
        }
        world.settle();
        world.kill_coordinator();
        world.template();
        let from = world.told.len();
        come_back(&mut world);
        assert_eq!(ledgers_told(&world, from), [false; 3], "restart {restarts}");
        all_sign_the_next(&mut world);
    }
    let work = world.recorded_work();
    for miner in &world.miners {
        assert_eq!(work[&miner.identity()], 3 * 8);
    }
}

#[test]
fn who_missed_a_window_or_has_a_new_process_is_sent_the_ledger_and_goes_on_to_sign() {
    let mut world = pool();
    world.disconnect(0);
    world.next_round();
    world.disconnect(1);
    world.miners[1].restart();
    world.disconnect(2);
    let from = world.told.len();
    come_back(&mut world);
    assert_eq!(ledgers_told(&world, from), [true, true, false]);
    all_sign_the_next(&mut world);
}

/// The coordinator came up with the ledger, and went again before all were welcome.
#[test]
fn a_connection_that_is_lost_before_the_welcome_costs_nobody_its_ledger() {
    let mut world = pool();
    world.kill_coordinator();
    for miner in 0..3 {
        world.connect(miner);
    }
    // The challenges are on their way, or joins.
    world.step();
    world.kill_coordinator();
    world.template();
    let from = world.told.len();
    come_back(&mut world);
    assert_eq!(ledgers_told(&world, from), [false; 3]);
    all_sign_the_next(&mut world);
}

/// What contradicted itself is not gone on with.
#[test]
fn who_left_by_itself_is_sent_the_ledger_anew() {
    let mut world = pool();
    let expired = OutputExpired {
        serial_id: SerialId(1),
    };
    world.tell_miner(0, Input::Received(ToParticipant::OutputExpired(expired)));
    assert!(world.miners[0].peer.is_none());
    let from = world.told.len();
    world.connect(0);
    world.settle();
    assert_eq!(ledgers_told(&world, from), [true]);
    all_sign_the_next(&mut world);
}

/// What was assigned before names lanes that the pool has no more.
#[test]
fn after_a_restart_with_fewer_lanes_nobody_is_given_work_on_those_of_before() {
    let mut world = World::new(WorldOptions {
        miners: 3,
        lanes: 4,
        ..WorldOptions::default()
    });
    for miner in 0..3 {
        world.connect(miner);
    }
    world.new_tip();
    world.run_until(SECOND, "the first round", World::all_hash_last_round);
    world.settle();
    *world.lanes_mut() = 2;
    world.kill_coordinator();
    world.new_tip();
    world.now = world.now.after(Millis(20));
    // A new process, which holds no round of before.
    world.miners[0].restart();
    world.connect(0);
    world.run_until(SECOND, "a round of the lanes that there are", |world| {
        world.all_hash_last_round()
    });
    let before = stored(&world);
    world.share(0);
    world.settle();
    // The observer follows the shares, and takes terms of other lanes for a lie.
    assert_eq!(stored(&world), before + 1);
    come_back_with(&mut world, 1..3);
    world.next_round();
    assert!(world.miners.iter().all(|miner| !miner.orders.is_empty()));
}
