//! A pool's segments and checkpoints, and the program that audits them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use serde_json::Value;
use tempfile::TempDir;
use tutti_participant::segments::{FileName, keep, keep_checkpoint, list};
use tutti_proto::coordinator::Record;
use tutti_proto::deadline::Millis;
use tutti_proto::id::WindowSeq;
use tutti_proto::participant;
use tutti_tests::sim::{Archive, World, WorldOptions};

pub const BLOCK: u8 = 12;

/// A pool's files, and what the pool's records say of its block.
pub struct Files {
    pub dir: TempDir,
    pub archive: Archive,
    pub block: BlockHash,
    pub hash: [u8; 32],
    pub world: World,
}

pub fn round(world: &mut World) {
    let before = world.coordinator.ledger().seq();
    world.new_tip();
    world.run_until(Millis(1_000), "a round on the new tip", |world| {
        world.coordinator.ledger().seq() > before && world.all_hash_last_round()
    });
    world.settle();
}

pub fn files() -> Files {
    let mut world = World::new(WorldOptions {
        block_zero_bits: BLOCK,
        // A block pays 9,536 sat and fees: parts fall below dust limits.
        height: 150 * 19 + 10,
        ..WorldOptions::default()
    });
    for miner in 0..4 {
        world.connect(miner);
    }
    world.new_tip();
    world.run_until(Millis(1_000), "the first round", World::all_hash_last_round);
    for miner in [
        0, 0, 0, 1, 0, 2, 0, 1, 3, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ] {
        world.share(miner);
        world.settle();
    }
    round(&mut world);
    let found = world.miners[0].hash_until(BLOCK).expect("a job");
    world.tell_miner(0, participant::Input::ShareFound(found));
    world.settle();
    let mut candidates = world.records.iter().filter_map(|record| match record {
        Record::Candidate(found) => Some(found.hash),
        _ => None,
    });
    let hash = candidates.next_back().expect("a block");
    drop(candidates);
    for _ in 0..3 {
        round(&mut world);
        world.share(1);
        world.settle();
    }
    round(&mut world);
    let archive = Archive::of(&world).expect("segments");
    let dir = tempfile::tempdir().expect("a directory");
    for segment in &archive.segments {
        keep(dir.path(), segment).expect("kept");
    }
    Files {
        dir,
        archive,
        block: BlockHash::from_byte_array(hash),
        hash,
        world,
    }
}

impl Files {
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    pub fn path_of(&self, window: u64) -> PathBuf {
        self.path_of_if_there(window).expect("its file")
    }

    pub fn path_of_if_there(&self, window: u64) -> Option<PathBuf> {
        let files = list(self.path()).expect("listed").into_iter();
        let of_window = |name: &FileName| matches!(name, FileName::Segment(WindowSeq(seq), _) if *seq == window);
        let mut of = files.filter(|(name, _)| of_window(name));
        Some(of.next()?.1)
    }

    pub fn booked(&self) -> &tutti_proto::window::Booking {
        let records = self.archive.segments.iter().map(|s| &s.end.record);
        let mut bookings = records.flat_map(|record| &record.bookings);
        bookings.find(|b| b.block == self.hash).expect("booked")
    }

    /// The payouts that the coordinator committed for the block's lane.
    pub fn payouts(&self) -> Vec<bitcoin::Transaction> {
        let booking = self.booked();
        let mut committed = self.world.records.iter().filter_map(|record| match record {
            Record::Committed(c) if c.round == booking.round => Some(c),
            _ => None,
        });
        let committed = committed.next().expect("committed");
        committed.lane(booking.lane).expect("its lane").1
    }

    pub fn with_checkpoint(&self) {
        let round = self.booked().round;
        let checkpoint = self.archive.signed_checkpoint(&self.world, &round);
        let checkpoint = checkpoint.expect("the round was signed");
        keep_checkpoint(self.path(), self.block, &checkpoint).expect("kept");
    }
}

pub fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tutti-participant"));
    command.args(args);
    command
}

pub fn output(args: &[&str]) -> Output {
    program(args).output().expect("it runs")
}

pub fn audit_json(path: &Path, more: &[&str]) -> (Value, bool) {
    let path = path.to_str().expect("text");
    let output = output(&[&["--json", "audit", path][..], more].concat());
    let value = serde_json::from_slice(&output.stdout);
    let value = value.unwrap_or_else(|_| panic!("{output:?}"));
    (value, output.status.success())
}

pub fn audit_text(path: &Path, more: &[&str]) -> String {
    let path = path.to_str().expect("text");
    let output = output(&[&["audit", path][..], more].concat());
    String::from_utf8(output.stdout).expect("text")
}
