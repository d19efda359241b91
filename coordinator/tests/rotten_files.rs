//! One bit of the store's files flipped after the writer was killed: nothing that was acknowledged is
//! missing without a word, and what could be rescued is still there.
//!
//! The writer is this program again, so that it can be killed.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/files.rs"]
mod files;
#[path = "support/shares.rs"]
mod shares;
#[path = "support/store.rs"]
#[allow(dead_code, reason = "others use the rest")]
mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use bitcoin::Network;
use tutti_coordinator::store::Store;
use tutti_proto::coordinator::{Committed, Record};
use tutti_proto::id::{RoundId, RoundSeq, WindowSeq};
use tutti_proto::identity::IdentityKey;
use tutti_proto::payout::SignedPayouts;

use files::copy_files;
use shares::share;
use support::once_free;

const VARIABLE: &str = "TUTTI_ROTTEN_FILES";
/// Shares of a batch, each of which is one flush.
const BATCH: u64 = 400;
const BATCHES: u64 = 40;
/// Of sled's log.
const SEGMENT: usize = 512 * 1024;

/// The writer, which is killed once it has written; a test of nothing when it is run by itself.
#[test]
fn writer() {
    let Some(path) = std::env::var_os(VARIABLE) else {
        return;
    };
    let mut store = Store::open(Path::new(&path), Network::Regtest).unwrap();
    for batch in 0..BATCHES {
        let mut records: Vec<Record> = (batch * BATCH..(batch + 1) * BATCH).map(share).collect();
        if batch % 2 == 0 {
            // With anything else they are in sled.
            records.push(Record::Committed(payout(batch)));
        }
        store.save(&records).unwrap();
        println!("saved {}", (batch + 1) * BATCH);
    }
    std::thread::park();
}

fn payout(batch: u64) -> Committed {
    Committed {
        round: RoundId([3; 32]),
        seq: RoundSeq(batch),
        height: 1,
        coinbases: Vec::new(),
        payouts: SignedPayouts::default(),
    }
}

/// The files that a killed writer leaves.
fn killed(path: &Path) {
    let mut writer = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writer", "--nocapture"])
        .env(VARIABLE, path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let all = format!("saved {}", BATCHES * BATCH);
    let lines = BufReader::new(writer.stdout.take().unwrap()).lines();
    let seen = lines.map(Result::unwrap).any(|line| line == all);
    writer.kill().unwrap();
    writer.wait().unwrap();
    assert!(seen, "the writer wrote");
}

fn key() -> IdentityKey {
    IdentityKey::from_bytes(&mut [1; 32]).unwrap()
}

/// What a start finds: all of the shares, or an error.
fn start(path: &Path) -> Result<usize, String> {
    let store = once_free(|| Store::open(path, Network::Regtest));
    let store = store.map_err(|error| error.to_string())?;
    let replayed = store.replay(&key().identity(), |_, _| {});
    replayed.map_err(|error| error.to_string())?;
    let shares = store.shares(WindowSeq(1)).unwrap();
    for (place, found) in (0..).zip(&shares) {
        let Record::Share { share, .. } = share(place) else {
            unreachable!()
        };
        assert_eq!(share, *found, "share {place}");
    }
    Ok(shares.len())
}

/// Flips a bit at each of these places of a file, one after the other; says how many were named, and how many
/// had no effect.
fn flip_each(files: &Path, name: &str, places: &[usize]) -> (usize, usize) {
    let all = usize::try_from(BATCHES * BATCH).unwrap();
    let content = std::fs::read(files.join(name)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rotten");
    let (mut whole, mut named) = (0, 0);
    for &place in places {
        copy_files(files, &path);
        let mut rotten = content.clone();
        rotten[place] ^= 0x10;
        std::fs::write(path.join(name), &rotten).unwrap();
        match start(&path) {
            // It was in what sled does not need any more.
            Ok(shares) => {
                assert_eq!(shares, all, "byte {place}");
                assert!(!path.join("before-start").exists(), "byte {place}");
                whole += 1;
            }
            Err(error) => {
                let copy = path.join("before-start");
                let kept = format!("before this start are in {}", copy.display());
                assert!(error.ends_with(&kept), "byte {place}: {error}");
                assert!(
                    error.contains("do not go on from an older copy"),
                    "byte {place}: {error}"
                );
                let copied = std::fs::read(copy.join(name)).unwrap();
                assert!(copied == rotten, "byte {place}: it is as it was");
                named += 1;
                // A second start says the same, and does not take what is left for all.
                if place % SEGMENT == 0 {
                    let again = start(&path).unwrap_err();
                    assert!(again.ends_with(&kept), "byte {place}: {again}");
                    let copied = std::fs::read(copy.join(name)).unwrap();
                    assert!(copied == rotten, "byte {place}: it is as it was");
                }
            }
        }
        std::fs::remove_dir_all(&path).unwrap();
    }
    println!("{name}: {named} flips named, {whole} without effect");
    (named, whole)
}

#[test]
fn a_flipped_bit_of_the_stores_files_loses_no_share_without_a_word() {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("killed");
    killed(&files);
    let db = std::fs::read(files.join("db")).unwrap();
    let written = db.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let segments = written.div_ceil(SEGMENT);
    assert!(segments >= 4, "{segments} segments, {written} bytes");
    // Headers and what follows them, bodies, and the tail.
    let mut places: Vec<usize> = (0..segments)
        .flat_map(|segment| [0, 3, 9, 20, 40].map(|at| segment * SEGMENT + at))
        .filter(|place| *place < written)
        .collect();
    places.extend((1..24).map(|n| written / 24 * n));
    places.extend([1, 30, 1_000, 20_000].map(|back| written - back));
    let (named, whole) = flip_each(&files, "db", &places);
    assert!(named > 10 && named > whole, "{named} named, {whole} not");

    let written = std::fs::metadata(files.join("shares/1")).unwrap().len();
    let written = usize::try_from(written).unwrap();
    let mut places: Vec<usize> = (0..24).map(|n| written / 24 * n).collect();
    places.extend([1, 30, 1_000, 20_000].map(|back| written - back));
    let all = places.len();
    assert_eq!(flip_each(&files, "shares/1", &places), (all, 0));

    let all = usize::try_from(BATCHES * BATCH).unwrap();
    assert_eq!(start(&files), Ok(all), "the killed one itself is whole");
}
