//! Followers that do not read: they cost a bounded amount of memory, and nobody else any time.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::Path;
use std::time::{Duration, Instant};

use prost::Message;
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::Streaming;
use tonic::transport::Endpoint;
use tutti_coordinator::driver::Inbox;
use tutti_coordinator::feed::{Live, Watched};
use tutti_coordinator::grpc::{self, LedgerLimits, LedgerSide, Points};
use tutti_coordinator::segments::{Directory, Index, Name};
use tutti_proto::id::{RoundSeq, WindowSeq};
use tutti_proto::identity::IdentityKey;
use tutti_proto::segment::FileId;
use tutti_proto::wire::pb::followed::Followed as Told;
use tutti_proto::wire::pb::ledger_client::LedgerClient;
use tutti_proto::wire::{MESSAGE_LIMIT_TO_PARTICIPANT, PoolInfo, pb};

const WITHIN: Duration = Duration::from_secs(60);
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

/// Keeps what a server needs alive.
struct Served {
    address: String,
    _live: watch::Sender<Live>,
    _checkpoint: watch::Sender<Option<tutti_coordinator::segments::CheckpointSlot>>,
    _index: watch::Sender<Index>,
    _info: watch::Sender<PoolInfo>,
    _stop: watch::Sender<bool>,
}

async fn serve(path: &Path) -> Served {
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
    let listener = grpc::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let (inbox, incoming) = Inbox::new();
    let (info, infos) = watch::channel(PoolInfo {
        coordinator: IdentityKey::from_bytes(&mut [1; 32]).unwrap().identity(),
        network: bitcoin::Network::Regtest,
        tag: "test".into(),
        version: 1,
        participants: 0,
        signers: 0,
        round: RoundSeq(0),
        height: 0,
        window: WindowSeq(0),
        operator_fee_ppm: 0,
        lanes: 1,
        payees: 0,
    });
    let (stop, stopping) = watch::channel(false);
    tokio::spawn(async move {
        let _incoming = incoming;
        grpc::serve(
            listener,
            inbox,
            infos,
            side,
            Points::start(1).unwrap(),
            stopping,
        )
        .await
    });
    Served {
        address,
        _live: live,
        _checkpoint: checkpoint,
        _index: index,
        _info: info,
        _stop: stop,
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
    let served = serve(dir.path()).await;
    let before = peak();
    let mut slow = Vec::new();
    for _ in 0..SLOW {
        slow.push(follow(&served.address).await);
    }
    let began = Instant::now();
    read_all(&mut follow(&served.address).await).await;
    let took = began.elapsed();
    let grown = peak() - before;
    let all = (WINDOWS * (SHARES * SHARE_SIZE) as u64) >> 20;
    eprintln!("{SLOW} readers of {all} MB that do not read: {grown} MB; one that does: {took:?}");
    // Three pieces each, of 40 kB, and what HTTP/2 has on its way; whole parts would be a GB.
    assert!(grown < 150, "{grown} MB");
    // Whoever reads again misses nothing.
    read_all(&mut slow[0]).await;
}
