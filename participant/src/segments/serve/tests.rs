//! Readers who take what they do not read.

use std::net::Ipv4Addr;
use std::path::Path;

use tokio::time::timeout;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Streaming};
use tutti_proto::reject::RejectCode;
use tutti_proto::segment::FileId;
use tutti_proto::wire::pb::ledger_client::LedgerClient;
use tutti_proto::wire::reject_code;

use super::super::{FileName, keep_bytes};
use super::download::PIECE;
use super::*;

/// Longer than anything takes here.
const PATIENCE: Duration = Duration::from_secs(30);
const DOWNLOADS: usize = 3;

type Client = LedgerClient<Channel>;

fn limits(connections: usize, unread_within: Duration) -> Limits {
    let all = |total| Limit {
        total,
        per_address: total,
    };
    Limits {
        connections: all(connections),
        downloads: all(DOWNLOADS),
        unread_within,
    }
}

/// A server of one file of some pieces as window 1, and one of a few bytes as window 2.
async fn server(directory: &Path, limits: Limits) -> (String, Vec<u8>) {
    let bytes: Vec<u8> = (0..PIECE * 8 + 5).map(|at| (at % 251) as u8).collect();
    for (window, bytes) in [(1, &bytes[..]), (2, b"small")] {
        let name = FileName::Segment(WindowSeq(window), FileId::of(bytes));
        keep_bytes(directory, &name, bytes).unwrap();
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(serve_by(listener, directory.to_owned(), limits));
    (url, bytes)
}

fn endpoint(url: &str) -> Endpoint {
    Endpoint::from_shared(url.to_owned()).unwrap()
}

async fn connect(url: &str) -> Client {
    LedgerClient::new(endpoint(url).connect().await.unwrap())
}

/// Asks for a window, and lets nothing of it come.
async fn leave_unread(url: &str, window: u64) -> (Client, Streaming<pb::FileChunk>) {
    let endpoint = endpoint(url).initial_stream_window_size(0_u32);
    let mut client = LedgerClient::new(endpoint.connect().await.unwrap());
    let pieces = ask(&mut client, window).await.expect("a place");
    (client, pieces)
}

async fn ask(client: &mut Client, window: u64) -> Result<Streaming<pb::FileChunk>, Status> {
    let file = Some(File::Window(window));
    let asked = client.file(pb::FileRequest { file });
    let answer = timeout(PATIENCE, asked).await.expect("an answer");
    answer.map(Response::into_inner)
}

async fn read(mut pieces: Streaming<pb::FileChunk>) -> Result<Vec<u8>, Status> {
    let mut bytes = Vec::new();
    while let Some(piece) = timeout(PATIENCE, pieces.message())
        .await
        .expect("a piece")?
    {
        bytes.extend_from_slice(&piece.bytes);
    }
    Ok(bytes)
}

/// Reads window 1 as soon as there is a place; until then it is refused in words.
async fn read_in_the_end(url: &str) -> Vec<u8> {
    let served = async {
        loop {
            match ask(&mut connect(url).await, 1).await {
                Ok(pieces) => return read(pieces).await,
                Err(refused) => assert!(reject_code(&refused).is_some(), "{refused}"),
            }
        }
    };
    let got = timeout(PATIENCE, served).await.expect("a place");
    got.expect("the file")
}

#[tokio::test]
async fn unread_downloads_are_few_and_others_are_told_that_it_is_busy() {
    for window in [1, 2] {
        let directory = tempfile::tempdir().unwrap();
        let (url, bytes) = server(directory.path(), limits(99, PATIENCE * 9)).await;
        let mut unread = Vec::new();
        for _ in 0..DOWNLOADS {
            // One connection each: what counts is the server's, not a connection's.
            unread.push(leave_unread(&url, window).await);
        }
        let refused = ask(&mut connect(&url).await, 2).await;
        let refused = refused.expect_err("no place");
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert_eq!(reject_code(&refused), Some(RejectCode::PoolFull));
        assert!(refused.message().contains("try again"), "{refused}");
        // Who goes away leaves the place to the next.
        unread.pop();
        assert_eq!(read_in_the_end(&url).await, bytes);
    }
}

#[tokio::test]
async fn who_reads_nothing_loses_the_connection_and_an_honest_reader_is_served() {
    for window in [1, 2] {
        let directory = tempfile::tempdir().unwrap();
        let limits = limits(99, Duration::from_secs(1));
        let (url, bytes) = server(directory.path(), limits).await;
        let mut unread = Vec::new();
        for _ in 0..DOWNLOADS {
            unread.push(leave_unread(&url, window).await);
        }
        assert_eq!(read_in_the_end(&url).await, bytes);
        for (_client, pieces) in unread {
            assert!(read(pieces).await.is_err(), "it was not cut");
        }
    }
}

#[tokio::test]
async fn idle_connections_end_and_others_come_in() {
    let directory = tempfile::tempdir().unwrap();
    let limits = limits(2, Duration::from_secs(2));
    let (url, _) = server(directory.path(), limits).await;
    let mut idle = Vec::new();
    for _ in 0..2 {
        let mut client = connect(&url).await;
        let pieces = ask(&mut client, 2).await.expect("a place");
        assert_eq!(read(pieces).await.expect("the file"), b"small");
        idle.push(client);
    }
    let came_in = async {
        loop {
            let Ok(channel) = endpoint(&url).connect().await else {
                continue;
            };
            match ask(&mut LedgerClient::new(channel), 2).await {
                Ok(pieces) => return read(pieces).await,
                // Turned away.
                Err(_) => continue,
            }
        }
    };
    let got = timeout(PATIENCE, came_in).await.expect("a place");
    assert_eq!(got.expect("the file"), b"small");
}
