//! How fast shares may come, good ones and bad ones.

use tutti_proto::coordinator::Settings;
use tutti_proto::deadline::Millis;
use tutti_proto::id::{JobId, LaneIndex};
use tutti_proto::message::{Share, ShareReject, ToCoordinator};
use tutti_proto::participant::{self, Input};
use tutti_proto::reject::RejectCode;
use tutti_tests::sim::{World, WorldOptions};

use crate::pool::{BLOCK, pool, pool_with, refresh, shares};

/// A miner may send five shares at once and two per second, and the first has sent so many.
fn pool_after(sent: usize) -> World {
    let mut world = pool_with(Settings {
        shares_burst: 5,
        shares_per_second: 2,
        ..WorldOptions::default().settings
    });
    world.settle();
    for _ in 0..sent {
        world.share(0);
    }
    world.settle();
    assert_eq!(shares(&world).len(), 5);
    world
}

/// The first miner's next share with so many zero bits, which its core knows nothing of.
fn next_share(world: &mut World, seq: u64, zero_bits: u8) -> Share {
    let found = world.miners[0].hash_until(zero_bits).unwrap();
    Share {
        seq,
        job: found.job,
        lane: found.lane,
        version: found.version,
        time: found.time,
        nonce: found.nonce,
    }
}

fn is_too_fast(reject: &ShareReject) -> bool {
    reject.code == RejectCode::RateLimited
}

#[test]
fn beyond_its_rate_a_share_is_refused_with_the_numbers_and_a_block_never() {
    let mut world = pool_after(5);
    let from = world.told.len();
    let peer = world.miners[0].peer.unwrap();
    let share = next_share(&mut world, 1_000, 0);
    world.say(peer, ToCoordinator::Share(share));
    let refused = world.share_rejects(from);
    assert_eq!(refused.len(), 1);
    let ShareReject {
        code, got, want, ..
    } = refused[0];
    assert_eq!((code, want), (RejectCode::RateLimited, 2));
    assert!((1..=500).contains(&got), "{got} ms");
    assert_eq!(shares(&world).len(), 5);
    // Whoever joins again has no other burst.
    world.disconnect(0);
    world.connect(0);
    world.settle();
    let (from, peer) = (world.told.len(), world.miners[0].peer.unwrap());
    let share = next_share(&mut world, 1_500, 0);
    world.say(peer, ToCoordinator::Share(share));
    let refused = world.share_rejects(from);
    assert!(
        refused.len() == 1 && is_too_fast(&refused[0]),
        "{refused:?}"
    );
    let (from, peer) = (world.told.len(), world.miners[0].peer.unwrap());
    let share = next_share(&mut world, 2_000, BLOCK);
    world.say(peer, ToCoordinator::Share(share));
    assert_eq!(world.share_rejects(from), [], "a block is a block");
    assert_eq!((shares(&world).len(), world.blocks.len()), (6, 1));
}

/// It is told until there is time for it, and is one share all the same.
#[test]
fn a_share_that_comes_too_fast_again_and_again_makes_no_share_harder() {
    let mut world = pool_with(Settings {
        z_min: 1,
        z_max: 20,
        shares_burst: 3,
        shares_per_second: 1,
        ..Settings::default()
    });
    world.settle();
    let z = world.miners[0].orders[0].z;
    for _ in 0..3 {
        world.share(0);
    }
    world.settle();
    let share = next_share(&mut world, 1_000, 0);
    let (from, peer) = (world.told.len(), world.miners[0].peer.unwrap());
    for _ in 0..40 {
        world.say(peer, ToCoordinator::Share(share));
    }
    assert_eq!(world.share_rejects(from).len(), 40);
    assert!(world.share_rejects(from).iter().all(is_too_fast));
    refresh(&mut world);
    assert_eq!(world.miners[0].orders[0].z, z);
}

/// Only what can never count shows that nobody listens.
#[test]
fn whoever_sends_again_too_fast_what_counts_already_is_not_cut_off() {
    let mut world = pool_after(5);
    let (share, peer) = (world.last_share(0).unwrap(), world.miners[0].peer.unwrap());
    let from = world.told.len();
    for _ in 0..600 {
        world.say(peer, ToCoordinator::Share(share));
    }
    let refused = world.share_rejects(from);
    assert_eq!(refused.len(), 600);
    assert!(refused.iter().all(is_too_fast));
    assert!(!world.closed.contains(&peer));
    // Others that are refused as fast cost a session.
    let bad = Share {
        lane: LaneIndex(9),
        ..share
    };
    for _ in 0..600 {
        world.say(peer, ToCoordinator::Share(bad));
    }
    assert!(world.closed.contains(&peer));
}

#[test]
fn whoever_sends_bad_shares_only_is_cut_off_and_a_good_one_begins_again() {
    let mut world = pool();
    world.settle();
    let peer = world.miners[0].peer.unwrap();
    let bad = Share {
        seq: 7,
        job: JobId(u64::MAX),
        lane: LaneIndex(0),
        version: 0,
        time: 0,
        nonce: 0,
    };
    let from = world.told.len();
    for _ in 0..512 {
        world.say(peer, ToCoordinator::Share(bad));
    }
    assert_eq!(world.share_rejects(from).len(), 512);
    assert_eq!(world.closed, []);
    // The rate is that of good ones.
    world.now = world.now.after(Millis(600_000));
    world.share(0);
    world.settle();
    assert_eq!(shares(&world).len(), 1);
    for _ in 0..512 {
        world.say(peer, ToCoordinator::Share(bad));
    }
    assert_eq!(world.closed, []);
    let joined = world.coordinator.joined();
    world.say(peer, ToCoordinator::Share(bad));
    assert_eq!(world.closed, [peer]);
    assert_eq!(world.coordinator.joined(), joined - 1);
    assert_eq!(
        world.share_rejects(from).len(),
        512 + 513,
        "each was told why"
    );
}

#[test]
fn a_share_that_came_too_early_counts_when_the_rate_is_back() {
    let mut world = pool_after(7);
    for counted in [6, 7] {
        let held = world.miners[0].core.held_back().unwrap();
        assert!((10..=500).contains(&held.after.0), "{} ms", held.after.0);
        let from = world.told.len();
        world.tell_miner(0, Input::RateIsBack);
        world.settle();
        assert_eq!(shares(&world).len(), counted - 1, "it is too early still");
        assert_eq!(world.share_rejects(from).len(), 1);
        let held = world.miners[0].core.held_back().unwrap();
        world.now = world.now.after(held.after);
        world.tell_miner(0, Input::RateIsBack);
        world.settle();
        assert_eq!(shares(&world).len(), counted);
    }
    assert_eq!(world.miners[0].core.held_back(), None);
    let heard = world.miners[0].events.iter();
    let refused = heard.filter(|event| matches!(event, participant::Event::ShareRefused(_)));
    assert_eq!(refused.count(), 0);
}

/// Else each of them takes from the rate to hear it, and whatever is found meanwhile waits behind them.
#[test]
fn of_shares_that_came_too_fast_one_is_told_that_all_are_stale() {
    let mut world = pool_after(40);
    let job = world.miners[0].orders[0].job;
    for _ in 0..2 {
        refresh(&mut world);
    }
    assert!(world.miners[0].orders[0].job > job);
    let from = world.told.len();
    world.tell_miner(0, Input::RateIsBack);
    world.settle();
    let codes: Vec<_> = world.share_rejects(from).iter().map(|r| r.code).collect();
    assert_eq!(codes, [RejectCode::Stale]);
    assert_eq!(world.miners[0].core.held_back(), None);
    world.share(0);
    world.settle();
    assert_eq!(shares(&world).len(), 6, "there is time for what is new");
}

/// The older ones are stale sooner, and while more are found than may come, not all can count.
#[test]
fn of_shares_that_came_too_fast_the_newest_comes_first() {
    let mut world = pool_after(8);
    let last = world.last_share(0).unwrap();
    let held = world.miners[0].core.held_back().unwrap();
    world.now = world.now.after(held.after);
    let from = world.said.len();
    world.tell_miner(0, Input::RateIsBack);
    world.settle();
    let first = world.said[from..]
        .iter()
        .find_map(|(_, message)| match message {
            ToCoordinator::Share(share) => Some(*share),
            _ => None,
        });
    assert_eq!(first, Some(last));
}
