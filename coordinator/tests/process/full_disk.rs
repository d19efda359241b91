//! A disk that fills up while shares come in.
//!
//! The limit is the system's on the size of a file, beyond which writing fails as on a full disk. It is
//! set on the running process, so that the disk is full from one share to the next.

use std::path::Path;
use std::process::Command;

use tutti_proto::id::WindowSeq;
use tutti_proto::participant::Input;
use tutti_proto::terms::Rolled;
use tutti_regtest::daemon::Daemon;

use crate::ledger::{REGTEST, Reader, new_tip, quiet};
use crate::pool::{Miner, World};
use crate::support::{WITHIN, coordinator};

/// Shares that are underway at once.
const FLIGHT: usize = 8;
/// Many times what the store's file may have room for already.
const FLIGHTS: usize = 5_000;

/// Starts the daemon anew; the signal with which the system would end it at its limit is ignored.
fn restart_with_a_disk(world: &mut World) {
    world.daemon.terminate(WITHIN).unwrap();
    let mut command = Command::new("bash");
    let script = "trap '' XFSZ; exec \"$0\" run --config \"$1\"";
    command
        .args(["-c", script])
        .arg(coordinator().get_program())
        .arg(world.dir.path().join("coordinator.toml"))
        .env_remove("RUST_LOG");
    let log = world.dir.path().join("log");
    world.daemon = Daemon::spawn("coordinator", command, &log, None).unwrap();
    let listening = world.daemon.wait_event("listening", WITHIN).unwrap();
    listening
        .text("address")
        .unwrap()
        .clone_into(&mut world.address);
}

/// No file of the process grows beyond what the store's has now.
fn fill_disk(daemon: &Daemon, store: &Path) {
    let length = std::fs::metadata(store.join("db")).unwrap().len();
    let limited = Command::new("prlimit")
        .args(["--pid", &daemon.pid().to_string()])
        .arg(format!("--fsize={length}:{length}"))
        .status()
        .unwrap();
    assert!(limited.success(), "{limited}");
}

/// Sends a flight of shares; says whether the session lived until all were acknowledged.
async fn flight(miner: &mut Miner, sent: &mut Vec<Rolled>) -> bool {
    let z = miner.orders[0].z;
    for _ in 0..FLIGHT {
        let first = sent.last().map_or(0, |rolled| rolled.nonce + 1);
        let found = miner.hash_from(first, z..=z + 2);
        sent.push(Rolled {
            lane: found.lane,
            version: found.version,
            time: found.time,
            nonce: found.nonce,
        });
        miner.input(Input::ShareFound(found)).await;
    }
    while miner.acknowledged() < sent.len() {
        match miner.wire.receive().await {
            Ok(Some(message)) => miner.input(Input::Received(message)).await,
            _ => return false,
        }
    }
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fills_up_stops_the_daemon_and_costs_no_acknowledged_share() {
    let mut world = World::start_with(REGTEST);
    restart_with_a_disk(&mut world);
    let mut miner = Miner::join(&world.address, 2).await;
    let ahead = world.node.height().unwrap() + 2;
    quiet(&mut miner, ahead).await;
    let pool = miner.core.params().unwrap().name();
    let mut sent = Vec::new();
    assert!(flight(&mut miner, &mut sent).await);
    fill_disk(
        &world.daemon,
        &world.dir.path().join("coordinator-data/store"),
    );
    let mut flights = 0;
    while flight(&mut miner, &mut sent).await {
        flights += 1;
        assert!(flights < FLIGHTS, "the disk never was full");
    }
    let acknowledged = miner.acknowledged();
    assert!((FLIGHT..sent.len()).contains(&acknowledged));
    let status = world.daemon.wait_exit(WITHIN).unwrap();
    assert_eq!(status.code(), Some(1), "{status}");
    assert!(!world.daemon.has_seen("stopped"));
    let said = std::fs::read_to_string(world.dir.path().join("log")).unwrap();
    let last: serde_json::Value = serde_json::from_str(said.lines().next_back().unwrap()).unwrap();
    assert_eq!(last["event"], "failed");
    for words in [
        "cannot write the store in",
        "File too large",
        "check the disk's space",
    ] {
        assert!(last["why"].as_str().unwrap().contains(words), "{last}");
    }

    // With room it goes on.
    world.restart();
    let mut miner = Miner::join(&world.address, 2).await;
    let ahead = world.node.height().unwrap() + 2;
    quiet(&mut miner, ahead).await;
    let mut later = Vec::new();
    assert!(flight(&mut miner, &mut later).await);
    let closed: WindowSeq = new_tip(&world, &mut miner).await;
    world.until_segment(closed);
    let mut reader = Reader::open(&world.address, pool, 1).await;
    reader.until_closed(closed).await;
    let kept: Vec<Rolled> = reader.seen.into_values().collect();
    let counted = kept.len() - later.len();
    println!(
        "{acknowledged} of {} shares acknowledged, {counted} counted, after {flights} flights on the full disk",
        sent.len(),
    );
    // What was kept last may not have been told in time; nothing else is more, and nothing is missing.
    assert!(
        (acknowledged..=acknowledged + FLIGHT).contains(&counted),
        "{acknowledged} acknowledged, {counted} counted"
    );
    let expected = [&sent[..counted], &later].concat();
    assert!(kept == expected, "others than were sent");
}
