//! What was acknowledged is on the disk, not only in the system's memory: only what was synced is
//! there after a power loss.
//!
//! A library that is loaded before the system's copies each file as it is synced; the store is opened from
//! these copies. The writer is this program again.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../support/preload.rs"]
mod preload;
#[path = "../support/shares.rs"]
mod shares;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use bitcoin::Network;
use tutti_coordinator::store::Store;
use tutti_proto::coordinator::{Committed, Record};
use tutti_proto::id::{RoundId, RoundSeq, WindowSeq};
use tutti_proto::payout::SignedPayouts;

use shares::share;

const VARIABLE: &str = "TUTTI_SYNCED";
/// Shares of a batch, each of which is one flush.
const BATCH: u64 = 40;
const BATCHES: u64 = 12;
/// Beyond what sled keeps in its log.
const LARGE: usize = 200_000;

/// A round whose payouts are a file of their own.
fn large(batch: u64) -> Record {
    let script = bitcoin::ScriptBuf::from_bytes(vec![7; LARGE]);
    let output = bitcoin::TxOut {
        value: bitcoin::Amount::from_sat(batch),
        script_pubkey: script,
    };
    let transaction = bitcoin::Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::ZERO,
        input: vec![bitcoin::TxIn::default()],
        output: vec![output],
    };
    Record::Committed(Committed {
        round: RoundId([3; 32]),
        seq: RoundSeq(batch),
        height: 1,
        coinbases: vec![transaction],
        payouts: SignedPayouts::default(),
    })
}

/// One at a time: a process that is being started has its parent's files, and their locks, for a moment.
static ALONE: Mutex<()> = Mutex::new(());

/// The writer; a test of nothing when it is run by itself.
#[test]
fn writer() {
    let Some(path) = std::env::var_os(VARIABLE) else {
        return;
    };
    let mut store = Store::open(Path::new(&path), Network::Regtest).unwrap();
    // A line of its own, where the test's name was printed before it.
    println!("\nopened");
    let go_on = || std::io::stdin().read_line(&mut String::new()).unwrap();
    go_on();
    for batch in 0..BATCHES {
        let mut records: Vec<Record> = (batch * BATCH..(batch + 1) * BATCH).map(share).collect();
        if batch % 4 == 1 {
            records.push(large(batch));
        }
        store.save(&records).unwrap();
        println!("saved {}", (batch + 1) * BATCH);
        // Nothing is acknowledged after this batch until it was looked at.
        go_on();
    }
}

/// Copies what is there of those whose names are: in a directory's list when that was synced.
fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    let list = format!("{}.names", from.display());
    let names = std::fs::read_to_string(list).unwrap_or_default();
    for name in names.lines().filter(|name| !name.starts_with('.')) {
        let (file, target) = (from.join(name), to.join(name));
        if file.is_file() {
            std::fs::copy(&file, target).unwrap();
        } else if from.join(format!("{name}.names")).exists() {
            copy_files(&file, &target);
        }
    }
}

/// The writer, on this store.
fn writer_of(store: &Path) -> Command {
    let mut writer = Command::new(std::env::current_exe().unwrap());
    writer.args(["--exact", "writer", "--nocapture"]);
    writer.env(VARIABLE, store);
    writer.stdin(Stdio::piped()).stdout(Stdio::piped());
    writer
}

/// The same, with what it syncs copied.
fn watched(writer: &mut Command, (of, to): (&Path, &Path), library: &Path) -> Child {
    writer.env("SYNCED_OF", of).env("SYNCED_TO", to);
    writer.env("LD_PRELOAD", library).spawn().unwrap()
}

/// Kills it once it has said this; it goes on until then.
fn killed_after(mut writer: Child, said: &str) {
    let mut go_on = writer.stdin.take().unwrap();
    let mut lines = BufReader::new(writer.stdout.take().unwrap()).lines();
    let seen = lines.any(|line| {
        let line = line.unwrap();
        if line != said && line == "opened" {
            go_on.write_all(b"\n").unwrap();
        }
        line == said
    });
    writer.kill().unwrap();
    writer.wait().unwrap();
    assert!(seen, "{said}");
}

/// Killed between a write and its flush, a writer leaves shares that the next start takes for saved, and tells
/// those who found them so.
#[test]
fn what_a_start_finds_is_on_the_disk_before_it_goes_on() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let (of, to) = (root.join("memory"), root.join("disk"));
    std::fs::create_dir_all(&of).unwrap();
    let store = of.join("store");
    killed_after(
        writer_of(&store).spawn().unwrap(),
        &format!("saved {BATCH}"),
    );
    let library = preload::build("synced/shim.c", &root);
    killed_after(
        watched(&mut writer_of(&store), (&of, &to), &library),
        "opened",
    );
    let file = |of: &Path| std::fs::read(of.join("store/shares/1")).unwrap();
    assert!(file(&to) == file(&of), "it is on the disk as it is read");
    let log = |of: &Path| std::fs::read(of.join("store/db")).unwrap();
    assert!(log(&to) == log(&of), "and so is sled's");
    for (directory, name) in [("store", "shares"), ("store/shares", "1")] {
        let names = std::fs::read_to_string(to.join(format!("{directory}.names"))).unwrap();
        assert!(names.lines().any(|line| line == name), "{names}");
    }
}

#[test]
fn whatever_was_acknowledged_is_there_after_a_power_loss() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    let (of, to) = (root.join("memory"), root.join("disk"));
    std::fs::create_dir_all(&of).unwrap();
    let library = preload::build("synced/shim.c", &root);
    let mut writer = watched(&mut writer_of(&of.join("store")), (&of, &to), &library);
    let mut go_on = writer.stdin.take().unwrap();
    let lines = BufReader::new(writer.stdout.take().unwrap()).lines();
    let mut batches = 0;
    for line in lines.map(Result::unwrap) {
        if line == "opened" {
            go_on.write_all(b"\n").unwrap();
        }
        let Some(saved) = line.strip_prefix("saved ") else {
            continue;
        };
        let saved: usize = saved.parse().unwrap();
        // The power fails now.
        let after = root.join(format!("after-{saved}"));
        copy_files(&to, &after);
        let store = Store::open(&after.join("store"), Network::Regtest).unwrap();
        assert_eq!(store.shares(WindowSeq(1)).unwrap().len(), saved);
        for large in (1..=batches).filter(|batch| batch % 4 == 1) {
            let kept = store.committed(RoundSeq(large), RoundId([3; 32])).unwrap();
            let kept = kept.unwrap_or_else(|| panic!("round {large} after {saved}"));
            assert_eq!(kept.coinbases[0].output[0].script_pubkey.len(), LARGE);
        }
        batches += 1;
        go_on.write_all(b"\n").unwrap();
    }
    assert!(writer.wait().unwrap().success());
    assert_eq!(batches, BATCHES);
}
