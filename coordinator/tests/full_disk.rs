//! A disk that is full: saving says so, and all that was saved before is there.
//!
//! The limit is the system's on the size of a file (`ulimit -f`), beyond which writing fails as on a
//! full disk. It is a process's own, so the writer is this program again.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/shares.rs"]
mod shares;

use std::path::Path;
use std::process::Command;

use bitcoin::Network;
use tutti_coordinator::store::Store;
use tutti_proto::coordinator::Record;
use tutti_proto::id::WindowSeq;

use shares::share;

const VARIABLE: &str = "TUTTI_FULL_DISK";
/// Shares of a batch, each of which is one flush.
const BATCH: u64 = 40;
/// Far more than the limit has room for.
const BATCHES: u64 = 20_000;

/// The writer; a test of nothing when it is run by itself.
#[test]
fn writer() {
    let Some(path) = std::env::var_os(VARIABLE) else {
        return;
    };
    let mut store = Store::open(Path::new(&path), Network::Regtest).unwrap();
    for batch in 0..BATCHES {
        let records: Vec<Record> = (batch * BATCH..(batch + 1) * BATCH).map(share).collect();
        match store.save(&records) {
            Ok(()) => println!("saved {}", (batch + 1) * BATCH),
            Err(error) => {
                println!("failed {error}");
                // As the daemon does: nothing more is written, not even by sled as it closes.
                std::process::exit(0);
            }
        }
    }
}

#[test]
fn a_full_disk_is_named_and_loses_nothing_that_was_saved() {
    let dir = tempfile::tempdir().unwrap();
    let script = "trap '' XFSZ; ulimit -f 4096; exec \"$0\" --exact writer --nocapture";
    let output = Command::new("bash")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .env(VARIABLE, dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let mut saved = said.lines().filter_map(|line| line.strip_prefix("saved "));
    let saved: u64 = saved.next_back().unwrap().parse().unwrap();
    let failed = said.lines().find_map(|line| line.strip_prefix("failed "));
    let failed = failed.unwrap_or_else(|| panic!("{said} {:?}", output.stderr));
    assert!(
        failed.contains("cannot write the store in") && failed.contains("check the disk's space"),
        "{failed}"
    );
    assert!((1..BATCHES * BATCH).contains(&saved), "{saved}");
    let store = Store::open(dir.path(), Network::Regtest).unwrap();
    let kept = store.shares(WindowSeq(1)).unwrap();
    println!("{saved} shares saved, {} kept", kept.len());
    // The last batch is there, or not; nothing else is missing.
    let kept = kept.len() as u64;
    assert!(kept == saved || kept == saved + BATCH, "{kept} of {saved}");
}
