//! A pool's past: windows full of shares, as a simulated pool makes them and its coordinator
//! persists them. Every header is a share, so none costs more than one hash to find.

use std::hint::black_box;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use bitcoin::hashes::{Hash, HashEngine, sha256};
use tutti_proto::coordinator::{Record, Settings};
use tutti_proto::deadline::Millis;
use tutti_proto::share::{SHARE_RECORD_SIZE, ShareRecord};
use tutti_proto::work::header_hash;
use tutti_tests::sim::{Archive, World, WorldOptions};

use crate::median;

const SECOND: Millis = Millis(1_000);

/// What the past has.
#[derive(Clone, Copy, Debug)]
pub struct PastOptions {
    /// Participants; each sends as many shares as any other.
    pub miners: u16,
    /// Lanes.
    pub lanes: u16,
    /// Closed windows that have shares.
    pub closed: usize,
    /// Shares of each of them, and of the open one.
    pub shares: usize,
}

/// A pool whose open window is full, and so are some before it.
pub fn past(options: PastOptions) -> Result<World> {
    let mut world = World::new(WorldOptions {
        miners: options.miners,
        lanes: options.lanes,
        block_zero_bits: 64,
        settings: Settings {
            z_min: 0,
            z_max: 0,
            shares_burst: u32::MAX,
            shares_per_second: 1_000_000,
            // No window closes by itself.
            refresh: Millis(u64::MAX),
            ..Settings::default()
        },
        ..WorldOptions::default()
    });
    for miner in 0..usize::from(options.miners) {
        world.connect(miner);
    }
    for _ in 0..=options.closed {
        world.new_tip();
        world.run_until(SECOND, "a round on the new tip", World::all_hash_last_round);
        world.settle();
        let before = world.records.len();
        for share in 0..options.shares {
            world.share(share % usize::from(options.miners));
            world.settle();
        }
        let taken = shares_of(&world.records[before..]).count();
        ensure!(
            taken == options.shares,
            "{taken} of {} shares were taken",
            options.shares
        );
    }
    Ok(world)
}

/// The segments of its closed windows.
pub fn archive(world: &World) -> Result<Archive> {
    Archive::of(world).map_err(|error| anyhow!("the past makes no segments: {error:?}"))
}

/// The shares among these records.
pub fn shares_of(records: &[Record]) -> impl Iterator<Item = &ShareRecord> {
    records.iter().filter_map(|record| match record {
        Record::Share { share, .. } => Some(share),
        _ => None,
    })
}

/// Time to hash what nobody can spare who checks so many shares: the header twice, the leaf, and one
/// inner node for each leaf. Every engine starts from a midstate.
pub fn hashing(shares: usize) -> Duration {
    let tagged = |tag: &[u8]| {
        let tag = sha256::Hash::hash(tag);
        let mut engine = sha256::Hash::engine();
        engine.input(tag.as_byte_array());
        engine.input(tag.as_byte_array());
        engine
    };
    let (leaf, node) = (tagged(b"leaf"), tagged(b"node"));
    median(
        || (),
        |()| {
            let mut header = [7; 80];
            let mut record = [7; SHARE_RECORD_SIZE];
            let mut children = [7; 96];
            for share in 0..shares {
                header[72..].copy_from_slice(&share.to_le_bytes());
                let hash = header_hash(black_box(&header));
                record[..32].copy_from_slice(&hash);
                let mut engine = leaf.clone();
                engine.input(black_box(&record));
                let hash = sha256::Hash::from_engine(engine);
                children[..32].copy_from_slice(hash.as_byte_array());
                let mut engine = node.clone();
                engine.input(black_box(&children));
                black_box(sha256::Hash::from_engine(engine));
            }
        },
    )
}
