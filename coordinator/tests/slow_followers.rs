//! Followers that do not read: they cost a bounded amount of memory, and nobody else any time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/ledger.rs"]
mod support;

use std::path::Path;
use std::time::Instant;

use prost::Message;
use support::{Served, WITHIN, serve};
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::Streaming;
use tonic::transport::Endpoint;
use tutti_coordinator::feed::{Live, Watched};
use tutti_coordinator::grpc::{LedgerLimits, LedgerSide};
use tutti_coordinator::segments::{Directory, Index, Name};
use tutti_proto::id::WindowSeq;
use tutti_proto::segment::FileId;
use tutti_proto::wire::pb::followed::Followed as Told;
use tutti_proto::wire::pb::ledger_client::LedgerClient;
use tutti_proto::wire::{MESSAGE_LIMIT_TO_PARTICIPANT, pb};

const WINDOWS: u64 = 64;
/// As many as one address may have by default.
const SLOW: usize = 256;
/// One share more would not fit into a part.
const SHARES: usize = 65_536;
const SHARE_SIZE: usize = 20;

/// Segments that are large, and otherwise empty.
fn fill(path: &Path) -> (Directory, Index) {
    let (directory, _) = Directory::open(path).unwrap();
    for window in 1..=WINDOWS {
        let part = pb::WindowPart {
            window,
            shares: vec![0; SHARES * SHARE_SIZE].into(),
            ..pb::WindowPart::default()
        };
        let record = pb::WindowRecord {
            seq: window,
            ..pb::WindowRecord::default()
        };
        let segment = pb::Segment {
            format: 1,
            pool: None,
            parts: vec![part],
            end: Some(pb::WindowEnd {
                record: Some(record),
                ..pb::WindowEnd::default()
            }),
        };
        let bytes = segment.encode_to_vec();
        let name = Name::Window(WindowSeq(window));
        std::fs::write(directory.path(&name, &FileId::of(&bytes)), bytes).unwrap();
    }
    Directory::open(path).unwrap()
}

/// A Ledger service, and those who would tell it what is new.
struct Ledger {
    served: Served,
    _live: watch::Sender<Live>,
    _checkpoint: watch::Sender<Option<tutti_coordinator::segments::CheckpointSlot>>,
    _index: watch::Sender<Index>,
}

async fn ledger(path: &Path) -> Ledger {
    let (directory, index) = fill(path);
    let (live, watched) = watch::channel(Live::new(WindowSeq(WINDOWS + 1)));
    let (checkpoint, checkpoints) = watch::channel(Some(None));
    let (index, indexes) = watch::channel(index);
    let side = LedgerSide {
        watched: Watched {
            live: watched,
            checkpoint: checkpoints,
        },
        index: indexes,
        directory,
        limits: LedgerLimits {
            followers: 10_000,
            followers_per_address: 257,
            downloads: 1,
            downloads_per_address: 1,
            samples: 1,
            samples_per_address: 1,
        },
    };
    Ledger {
        served: serve(side).await,
        _live: live,
        _checkpoint: checkpoint,
        _index: index,
    }
}

async fn follow(address: &str) -> Streaming<pb::Followed> {
    let endpoint = Endpoint::from_shared(address.to_owned()).unwrap();
    // What HTTP/2 reads ahead here is not what the coordinator keeps.
    let endpoint = endpoint.initial_stream_window_size(65_535);
    let channel = endpoint.connect().await.unwrap();
    let mut client =
        LedgerClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT_TO_PARTICIPANT);
    let request = pb::FollowRequest {
        window: 1,
        shares: 0,
    };
    client.follow(request).await.unwrap().into_inner()
}

/// Reads all closed windows, each once and in order.
async fn read_all(stream: &mut Streaming<pb::Followed>) {
    for window in 1..=WINDOWS {
        let mut shares = 0;
        while shares < SHARES {
            let next = timeout(WITHIN, stream.message()).await.unwrap().unwrap();
            let Some(Told::Part(part)) = next.unwrap().followed else {
                panic!("a part of window {window}");
            };
            assert_eq!(part.window, window);
            assert_eq!(part.first_share, shares as u64);
            shares += part.shares.len() / SHARE_SIZE;
        }
        assert_eq!(shares, SHARES);
        let next = timeout(WITHIN, stream.message()).await.unwrap().unwrap();
        let Some(Told::End(end)) = next.unwrap().followed else {
            panic!("the end of window {window}");
        };
        assert_eq!(end.record.unwrap().seq, window);
    }
}

/// Most memory that this process has had, MB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kilobytes: u64 = line
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    kilobytes / 1_024
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_stop_reading_cost_a_bounded_memory_and_stop_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let ledger = ledger(dir.path()).await;
    let address = &ledger.served.address;
    let before = peak();
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        slow.push(follow(address).await);
    }
    let began = Instant::now();
    read_all(&mut follow(address).await).await;
    let took = began.elapsed();
    let grown = peak() - before;
    let all = (WINDOWS * (SHARES * SHARE_SIZE) as u64) >> 20;
    eprintln!("{SLOW} readers of {all} MB that do not read: {grown} MB; one that does: {took:?}");
    // Three pieces each, of 40 kB, and what HTTP/2 has on its way; whole parts would be a GB.
    assert!(grown < 150, "{grown} MB");
    // Whoever reads again misses nothing.
    read_all(&mut slow[0]).await;
}
