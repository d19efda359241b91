//! Rounds between real cores: committed, followed, restarted without whoever fails.

use tutti_proto::coordinator::{Event, RoundKind, Settings};
use tutti_proto::deadline::Millis;
use tutti_proto::message::AbortReason;
use tutti_proto::policy::subsidy;
use tutti_proto::window::Scoring;
use tutti_proto::work::Work;
use tutti_tests::sim::{Mood, World, WorldOptions};

const SECOND: Millis = Millis(1_000);
/// A quarter of the refresh time, after which newcomers get a round, and a moment more.
const GATHERED: Millis = Millis(8_000);

fn pool(miners: u16) -> World {
    let mut world = World::new(WorldOptions {
        miners,
        ..WorldOptions::default()
    });
    for miner in 0..usize::from(miners) {
        world.connect(miner);
    }
    world.new_tip();
    world
}

fn committed(world: &World) -> Vec<(u64, u32, usize)> {
    let all = world.events.iter().filter_map(|event| match event {
        Event::Committed {
            kind: RoundKind::Present,
            seq,
            attempt,
            signers,
            ..
        } => Some((seq.0, attempt.0, *signers)),
        _ => None,
    });
    all.collect()
}

fn failures(world: &World) -> Vec<(AbortReason, usize)> {
    let all = world.events.iter().filter_map(|event| match event {
        Event::AttemptFailed {
            reason, culprits, ..
        } => Some((*reason, culprits.len())),
        _ => None,
    });
    all.collect()
}

#[test]
fn every_miner_holds_the_signed_payout_before_it_hashes() {
    let mut world = pool(5);
    world.run_until(
        SECOND,
        "a committed round at all miners",
        World::all_hash_last_round,
    );
    assert_eq!(
        committed(&world).last().map(|c| c.2),
        Some(6),
        "five miners and the coordinator sign"
    );
    for miner in &world.miners {
        let held = miner.hashed().unwrap();
        assert_eq!(held.lanes.len(), 2);
        for lane in &held.lanes {
            let coinbase: u64 = lane
                .coinbase
                .output
                .iter()
                .map(|out| out.value.to_sat())
                .sum();
            assert_eq!(
                coinbase,
                subsidy(bitcoin::Network::Regtest, held.height) + 1_234
            );
            assert_eq!(
                lane.payouts[0].input[0].previous_output.txid,
                lane.coinbase.compute_txid()
            );
        }
    }
}

/// So many that sums of nonces that were made ahead are corrected, and not made again.
#[test]
fn who_leaves_and_who_comes_between_rounds_does_not_spoil_the_sums() {
    let mut world = World::new(WorldOptions {
        miners: 90,
        lanes: 1,
        settings: Settings {
            free_signers: 100,
            ..Settings::default()
        },
        ..WorldOptions::default()
    });
    for miner in 0..89 {
        world.connect(miner);
    }
    world.new_tip();
    world.run_until(SECOND, "the first round", World::all_hash_last_round);
    world.settle();
    // By then the next round's signers are expected.
    let soon = world.now.after(Millis(20));
    while world
        .coordinator
        .next_deadline()
        .is_some_and(|at| at <= soon)
    {
        world.step();
    }
    world.disconnect(3);
    world.connect(89);
    world.settle();
    let before = committed(&world).len();
    world.new_tip();
    world.run_until(SECOND, "the next round", |w| committed(w).len() > before);
    let next = committed(&world)[before];
    assert_eq!((next.1, next.2), (0, 90), "the first attempt, by all");
    assert_eq!(failures(&world), []);
}

#[test]
fn shares_move_the_split_of_the_next_round() {
    let mut world = pool(3);
    world.run_until(SECOND, "the first round", World::all_hash_last_round);
    for _ in 0..6 {
        world.share(0);
        world.settle();
    }
    for _ in 0..2 {
        world.share(1);
        world.settle();
    }
    let before = committed(&world).len();
    world.new_tip();
    world.run_until(SECOND, "the next round", |w| {
        committed(w).len() > before && w.all_hash_last_round()
    });
    let held = world.miners[2].hashed().unwrap();
    let of = |miner: usize| {
        held.payees
            .iter()
            .find(|p| p.identity == world.miners[miner].identity())
    };
    let (a, b) = (of(0).unwrap(), of(1).unwrap());
    assert_eq!((a.work, b.work), (Work(48), Work(16)));
    assert!(a.sat.abs_diff(3 * b.sat) <= 3, "{} and {}", a.sat, b.sat);
    assert!(of(2).is_none(), "no work, no output");
    assert_eq!(
        world.miners[0].own_work.values().next_back(),
        Some(&Work(48))
    );
}

#[test]
fn an_epoch_pays_the_work_of_one_height() {
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
    let paid = |world: &World| {
        let held = world.miners[2].hashed().unwrap();
        let of = |miner: usize| {
            let identity = world.miners[miner].identity();
            let mut payees = held.payees.iter();
            payees.find(|p| p.identity == identity).map(|p| p.work.0)
        };
        [of(0), of(1), of(2)]
    };
    let round = |world: &mut World| {
        let before = committed(world).len();
        world.run_until(Millis(40_000), "the next round", |w| {
            committed(w).len() > before && w.all_hash_last_round()
        });
        world.settle();
    };
    world.share(0);
    world.settle();
    world.new_tip();
    round(&mut world);
    assert_eq!(paid(&world), [Some(8), None, None], "the height before's");
    world.share(1);
    world.settle();
    round(&mut world);
    assert_eq!(paid(&world), [None, Some(8), None], "this height's only");
    world.share(2);
    world.share(1);
    world.settle();
    round(&mut world);
    assert_eq!(paid(&world), [None, Some(16), Some(8)]);
    world.new_tip();
    round(&mut world);
    assert_eq!(paid(&world), [None, Some(16), Some(8)]);
}

#[test]
fn a_silent_signer_is_left_out_and_still_paid() {
    let mut world = pool(5);
    world.run_until(SECOND, "the first round", World::all_hash_last_round);
    world.share(4);
    world.settle();
    world.miners[4].mood = Mood::SilentSigner;
    let before = committed(&world).len();
    world.new_tip();
    world.settle();
    let hashing = world.miners[0].orders.clone();
    assert!(
        !hashing.is_empty(),
        "miners go on with the last committed round meanwhile"
    );
    world.run_until(Millis(3_000), "a round without the silent signer", |w| {
        committed(w).len() > before
    });
    assert_eq!(failures(&world), [(AbortReason::Timeout, 1)]);
    assert_eq!(committed(&world).last().map(|c| (c.1, c.2)), Some((1, 5)));
    world.settle();
    let held = world.miners[0].hashed().unwrap();
    let silent = world.miners[4].identity();
    assert!(
        held.payees
            .iter()
            .any(|payee| payee.identity == silent && payee.sat > 0)
    );
    assert!(
        world.all_hash_last_round(),
        "the silent one holds the payout and hashes too"
    );
}

#[test]
fn a_bad_partial_signature_names_its_author_and_nobody_else() {
    let mut world = pool(5);
    world.miners[2].mood = Mood::BadPartials;
    world.run_until(SECOND, "a round", World::all_hash_last_round);
    let named: Vec<_> = world
        .events
        .iter()
        .filter_map(|event| match event {
            Event::AttemptFailed {
                culprits,
                reason: AbortReason::BadPartialSignature,
                ..
            } => Some(culprits.clone()),
            _ => None,
        })
        .collect();
    assert_eq!(named, [vec![world.miners[2].identity()]]);
}

#[test]
fn a_signer_that_leaves_costs_one_attempt_at_once() {
    let mut world = pool(4);
    world.run_until(SECOND, "the first round", World::all_hash_last_round);
    let before = committed(&world).len();
    world.miners[1].mood = Mood::SilentSigner;
    world.new_tip();
    let proposed_at = world.now;
    world.disconnect(1);
    world.run_until(SECOND, "the next round", |w| committed(w).len() > before);
    assert!(
        world.now.since(proposed_at) < Millis(100),
        "no deadline was waited for"
    );
    assert_eq!(failures(&world), [(AbortReason::SignerLeft, 1)]);
}

#[test]
fn all_silent_together_blames_the_network_and_backs_nobody_off() {
    let mut world = pool(4);
    world.run_until(SECOND, "the first round", World::all_hash_last_round);
    for miner in &mut world.miners {
        miner.mood = Mood::SilentSigner;
    }
    let before = committed(&world).len();
    world.new_tip();
    world.run_until(Millis(3_000), "the attempt's end", |w| {
        !failures(w).is_empty()
    });
    assert_eq!(
        committed(&world).len(),
        before,
        "the coordinator alone is no signer set"
    );
    assert!(
        world.miners.iter().all(|miner| !miner.orders.is_empty()),
        "nobody is idle"
    );
    let blamed = world.events.iter().any(|e| {
        matches!(
            e,
            Event::AttemptFailed {
                network_blamed: true,
                ..
            }
        )
    });
    assert!(blamed);
    for miner in &mut world.miners {
        miner.mood = Mood::Honest;
    }
    let before = committed(&world).len();
    world.new_tip();
    world.run_until(SECOND, "a round with all again", |w| {
        committed(w).len() > before
    });
    assert_eq!(committed(&world).last().map(|c| c.2), Some(5));
}

#[test]
fn a_late_joiner_gets_a_slice_without_a_new_template() {
    let mut world = pool(3);
    world.disconnect(2);
    world.run_until(SECOND, "a round of two", World::all_hash_last_round);
    world.connect(2);
    world.run_until(GATHERED, "a round of three", |w| {
        w.all_hash_last_round() && !w.miners[2].orders.is_empty()
    });
}

#[test]
fn the_coordinator_restarts_into_the_same_window_and_payees() {
    use tutti_proto::coordinator::{Record, Restored};
    let mut world = pool(3);
    world.run_until(SECOND, "the first round", World::all_hash_last_round);
    for _ in 0..5 {
        world.share(0);
        world.settle();
    }
    let mut restored = Restored::default();
    for record in &world.records {
        restored
            .apply(&world.coordinator.identity(), record.clone())
            .unwrap();
    }
    let shares = world
        .records
        .iter()
        .filter(|r| matches!(r, Record::Share { .. }))
        .count();
    assert_eq!(shares, 5);
    world.restart_coordinator(restored);
    for miner in 0..3 {
        world.connect(miner);
    }
    let before = committed(&world).len();
    world.new_tip();
    world.run_until(SECOND, "a round after the restart", |w| {
        committed(w).len() > before && w.all_hash_last_round()
    });
    let held = world.miners[1].hashed().unwrap();
    let first = held
        .payees
        .iter()
        .find(|p| p.identity == world.miners[0].identity())
        .unwrap();
    assert_eq!(first.work, Work(40), "five shares of z = 3");
}

#[test]
fn a_reconnected_miner_hashes_again_without_waiting_for_a_template() {
    let mut world = pool(3);
    world.run_until(SECOND, "the first round", World::all_hash_last_round);
    world.disconnect(1);
    assert!(
        !world.miners[1].orders.is_empty(),
        "it goes on with what it holds"
    );
    world.connect(1);
    world.run_until(GATHERED, "a job for the one that came back", |w| {
        w.miners[1].ordered && w.miners[1].hashed().is_some_and(|held| held.signers > 1)
    });
}

#[test]
fn a_crowd_without_any_work_is_not_left_to_the_coordinators_key_alone() {
    let mut world = pool(20);
    world.run_until(SECOND, "a round of twenty", World::all_hash_last_round);
    let (_, _, signers) = committed(&world).last().copied().unwrap();
    assert_eq!(signers, 17, "sixteen free places and the coordinator");
}

#[test]
fn announcing_slots_over_and_over_brings_no_round_nearer() {
    let mut world = pool(3);
    world.run_until(SECOND, "the first round", World::all_hash_last_round);
    let before = committed(&world).len();
    let until = world.now.after(Millis(20_000));
    while world.now < until
        && world
            .coordinator
            .next_deadline()
            .is_some_and(|at| at < until)
    {
        world.connect(2);
        world.settle();
        world.disconnect(2);
        assert!(world.step());
    }
    let forced = committed(&world).len() - before;
    assert!(
        forced <= 3,
        "{forced} rounds in 20 s; a quarter of the refresh time is 7.5 s"
    );
}
