//! The pool whose shares are judged, and what becomes of one that is submitted.

use tutti_proto::coordinator::{Record, Settings};
use tutti_proto::deadline::Millis;
use tutti_proto::header::HeaderFields;
use tutti_proto::id::RoundId;
use tutti_proto::message::{Share, ShareReject, ToCoordinator};
use tutti_proto::participant::Order;
use tutti_proto::reject::RejectCode;
use tutti_proto::share::{ShareRecord, ShareTree};
use tutti_proto::window::Tally;
use tutti_proto::work::{Work, header_hash, leading_zero_bits};
use tutti_tests::sim::{World, WorldOptions};

pub const SECOND: Millis = Millis(1_000);
pub const Z: u8 = 3;
/// Leading zero bits of a block in the simulator.
pub const BLOCK: u8 = 16;

pub fn pool() -> World {
    pool_with(WorldOptions::default().settings)
}

pub fn pool_with(settings: Settings) -> World {
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
    world
}

fn header(order: &Order, share: &Share) -> [u8; 80] {
    HeaderFields {
        version: share.version,
        previous_block: order.previous_block,
        merkle_root: order.merkle_root,
        time: share.time,
        bits: order.bits,
        nonce: share.nonce,
    }
    .serialize()
}

pub fn zeros(order: &Order, share: &Share) -> u8 {
    leading_zero_bits(&header_hash(&header(order, share)))
}

/// Hashes from `nonce` on, until the number of zero bits pleases.
pub fn hash_from(order: &Order, nonce: u32, pleases: impl Fn(u8) -> bool) -> Share {
    let version = order.slice.first_version(order.version);
    hash_version(order, version, nonce, pleases)
}

/// The same with another version than the slice's first.
pub fn hash_version(
    order: &Order,
    version: i32,
    nonce: u32,
    pleases: impl Fn(u8) -> bool,
) -> Share {
    let mut share = Share {
        seq: u64::from(nonce) + 1_000_000,
        job: order.job,
        lane: order.slice.lane,
        version,
        time: order.time_min,
        nonce,
    };
    while !pleases(zeros(order, &share)) {
        share.nonce += 1;
    }
    share
}

/// A share that is no block.
pub fn good(order: &Order, nonce: u32) -> Share {
    hash_from(order, nonce, |zeros| (Z..BLOCK).contains(&zeros))
}

pub fn shares(world: &World) -> Vec<ShareRecord> {
    let records = world.records.iter().filter_map(|record| match record {
        Record::Share { share, .. } => Some(*share),
        _ => None,
    });
    records.collect()
}

/// Submits in a miner's name; the refusal with its numbers is all that comes of it.
pub fn refused(world: &mut World, miner: usize, share: Share, expected: (RejectCode, u64, u64)) {
    let (records, from) = (world.records.len(), world.told.len());
    let peer = world.miners[miner].peer.unwrap();
    world.say(peer, ToCoordinator::Share(share));
    let (code, got, want) = expected;
    let reject = ShareReject {
        seq: share.seq,
        code,
        got,
        want,
    };
    assert_eq!(world.share_rejects(from), [reject]);
    assert_eq!(world.told[from..].len(), 1, "{code}: no second answer");
    assert_eq!(world.records.len(), records, "{code}: nothing is stored");
}

pub fn accepted(world: &mut World, miner: usize, share: Share) {
    let (before, from) = (shares(world).len(), world.told.len());
    let peer = world.miners[miner].peer.unwrap();
    world.say(peer, ToCoordinator::Share(share));
    assert_eq!(world.share_rejects(from), []);
    assert_eq!(shares(world).len(), before + 1);
}

fn round_of(world: &World) -> RoundId {
    world.coordinator.last_committed().unwrap().0
}

/// The next round of the same tip.
pub fn refresh(world: &mut World) {
    let last = round_of(world);
    world.run_until(Millis(40_000), "a refreshed round", |w| {
        round_of(w) != last && w.all_hash_last_round()
    });
    world.settle();
}

/// Closes the open window; gives the record's tally, after checking it against the stored shares.
pub fn close_window(world: &mut World) -> Tally {
    let closes = |w: &World| {
        let all = w.records.iter().enumerate();
        all.filter(|(_, record)| matches!(record, Record::WindowClosed(_)))
            .map(|(place, _)| place)
            .collect::<Vec<_>>()
    };
    let before = *closes(world).last().unwrap();
    world.new_tip();
    let after = *closes(world).last().unwrap();
    let mut tally = Tally::new();
    let mut shares = Vec::new();
    for record in &world.records[before..after] {
        if let Record::Share { share, .. } = record {
            tally.entry(share.identity).or_insert(Work::ZERO).0 += share.work().0;
            shares.push(*share);
        }
    }
    let Record::WindowClosed(closed) = &world.records[after] else {
        unreachable!("the place is of such a record")
    };
    let closed = &closed.record;
    assert_eq!(closed.tally, tally, "the tally is the accepted shares'");
    assert_eq!(closed.shares, shares.len() as u64);
    assert_eq!(closed.shares_root, ShareTree::of(&shares).unwrap().root());
    tally
}
