use std::net::SocketAddr;

use bitcoin::Network;
use prost::Message;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::time::Instant;
use tonic::transport::Endpoint;
use tutti_proto::coordinator::Input;
use tutti_proto::id::{JobId, LaneIndex, RoundSeq, WindowSeq};
use tutti_proto::identity::IdentityKey;
use tutti_proto::message::{Share, ToCoordinator};
use tutti_proto::wire::pb::ledger_client::LedgerClient;
use tutti_proto::wire::pb::pool_client::PoolClient;
use tutti_proto::wire::{POSITIONS_LIMIT, PoolInfo, ToWire, pb};

use super::*;
use crate::driver::{Inbox, Incoming, Mailbox};
use crate::feed::{Live, Watched};
use crate::grpc::{self, LedgerLimits, LedgerSide, Outbound, Points};
use crate::segments::Directory;

/// A server with nobody behind it.
struct Server {
    address: SocketAddr,
    mailbox: Mailbox,
    stop: watch::Sender<bool>,
    served: tokio::task::JoinHandle<()>,
    _senders: Box<dyn Send>,
    _directory: TempDir,
    /// Whose thread makes samples: a paused clock does not go on while its own runtime has a thread that waits.
    samples: Option<Runtime>,
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(samples) = self.samples.take() {
            samples.shutdown_background();
        }
    }
}

impl Server {
    async fn start() -> Self {
        let held = TempDir::new().unwrap();
        let (directory, index) = Directory::open(held.path()).unwrap();
        let (live, watched) = watch::channel(Live::new(WindowSeq(1)));
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
                followers: 4,
                followers_per_address: 2,
                downloads: 1,
                downloads_per_address: 1,
                samples: 1,
                samples_per_address: 1,
            },
        };
        let (info, infos) = watch::channel(PoolInfo {
            coordinator: IdentityKey::from_bytes(&mut [1; 32]).unwrap().identity(),
            network: Network::Regtest,
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
            template_time: 0,
            params: None,
        });
        let listener = grpc::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (inbox, mailbox) = Inbox::new();
        let (stop, stopping) = watch::channel(false);
        let points = Points::start(1).unwrap();
        let samples = Runtime::new().unwrap();
        let service = {
            let _within = samples.enter();
            PoolService::new(inbox, infos, side, points, stopping.clone())
        };
        let serving = grpc::serve_by(service, (listener, 10), stopping);
        Self {
            address,
            mailbox,
            stop,
            served: tokio::spawn(serving),
            _senders: Box::new((live, checkpoint, index, info)),
            _directory: held,
            samples: Some(samples),
        }
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::from_shared(format!("http://{}", self.address)).unwrap()
    }
}

/// What begins a connection (RFC 9113).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
const FRAME_HEAD: usize = 9;
const PING: u8 = 6;

/// Types of the frames that come until the connection ends, and when it does.
async fn frames_until_gone(mut stream: TcpStream) -> (Vec<u8>, Duration) {
    let began = Instant::now();
    let mut bytes = Vec::new();
    // It may end by a reset.
    let _ = stream.read_to_end(&mut bytes).await;
    let (mut types, mut rest) = (Vec::new(), &bytes[..]);
    while let Some((head, more)) = rest.split_first_chunk::<FRAME_HEAD>() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        types.push(head[3]);
        rest = &more[length as usize..];
    }
    (types, began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_answer_is_asked_once_and_gone() {
    let server = Server::start().await;
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    silent.write_all(PREFACE).await.unwrap();
    let (types, lasted) = frames_until_gone(silent).await;
    let pings = types.iter().filter(|kind| **kind == PING).count();
    assert_eq!(pings, 1, "{types:?}");
    let least = TICK * (GONE_AFTER - 1);
    assert!(
        lasted >= least && lasted <= TICK * (GONE_AFTER + 1),
        "{lasted:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_stays() {
    const ASKED: u32 = 2 * GONE_AFTER;
    let server = Server::start().await;
    let mut quiet = TcpStream::connect(server.address).await.unwrap();
    quiet.write_all(PREFACE).await.unwrap();
    let (began, mut asked) = (Instant::now(), 0);
    while asked < ASKED {
        let mut head = [0; FRAME_HEAD];
        quiet.read_exact(&mut head).await.unwrap();
        let mut payload = vec![0; usize::from(head[2])];
        quiet.read_exact(&mut payload).await.unwrap();
        if head[3] == PING {
            asked += 1;
            head[4] = 1; // ACK
            let answer = [&head[..], &payload].concat();
            quiet.write_all(&answer).await.unwrap();
        }
    }
    assert!(began.elapsed() >= TICK * ASKED_AFTER * ASKED);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_does_not_begin_is_gone() {
    let server = Server::start().await;
    let silent = TcpStream::connect(server.address).await.unwrap();
    let (types, lasted) = frames_until_gone(silent).await;
    assert!(lasted >= HANDSHAKE_WITHIN, "{types:?} {lasted:?}");
    let mut other = TcpStream::connect(server.address).await.unwrap();
    other.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    let (_, lasted) = frames_until_gone(other).await;
    assert!(lasted < HANDSHAKE_WITHIN, "{lasted:?}");
}

#[tokio::test]
async fn calls_that_nobody_waits_for_give_their_places_back() {
    let server = Server::start().await;
    let channel = server.endpoint().connect().await.unwrap();
    let mut client = LedgerClient::new(channel);
    let request = pb::FollowRequest {
        window: 1,
        shares: 0,
    };
    // Of this address and on this connection there are fewer at a time.
    for _ in 0..10 * STREAMS_LIMIT {
        let follows = async {
            loop {
                match client.follow(request).await {
                    Ok(follows) => return follows,
                    // The one before is not known to be gone yet.
                    Err(refused) => assert_eq!(refused.code(), tonic::Code::ResourceExhausted),
                }
            }
        };
        let follows = timeout(Duration::from_secs(60), follows).await.unwrap();
        let mut follows = follows.into_inner();
        // It is told where the window stands, or nothing yet.
        let _ = timeout(Duration::from_millis(1), follows.message()).await;
    }
}

#[tokio::test]
async fn no_call_but_a_session_is_long() {
    let server = Server::start().await;
    let channel = server.endpoint().connect().await.unwrap();
    let mut client = LedgerClient::new(channel);
    let request = |positions| pb::SampleRequest {
        window: 1,
        positions: vec![vec![1; 16].into(); positions],
    };
    let longest = client.sample(request(POSITIONS_LIMIT)).await.unwrap_err();
    assert_eq!(longest.code(), tonic::Code::NotFound, "{longest}");
    let refused = client.sample(request(256)).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::OutOfRange, "{refused}");
}

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
}

/// Opens a session.
async fn open(server: &mut Server) -> (TcpStream, Outbound) {
    // By HPACK's static table (RFC 7541): POST, http, :authority, :path, content-type, te.
    let mut headers = vec![0x83, 0x86];
    let authority = server.address.to_string();
    let named: [(&[u8], &str); 4] = [
        (&[1], &authority),
        (&[4], "/tutti.v1.Pool/Session"),
        (&[15, 16], "application/grpc"),
        (b"\0\x02te", "trailers"),
    ];
    for (name, value) in named {
        headers.extend_from_slice(name);
        headers.push(u8::try_from(value.len()).unwrap());
        headers.extend_from_slice(value.as_bytes());
    }
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let bytes = [PREFACE, &frame(1, 4, &headers)].concat();
    stream.write_all(&bytes).await.unwrap();
    match server.mailbox.queue.recv().await {
        Some(Incoming::Opened { outbound, .. }) => (stream, outbound),
        _ => panic!("no session"),
    }
}

#[tokio::test]
async fn what_was_read_before_a_connection_ended_is_still_taken() {
    // More than the owner of the rounds takes at once, and fewer frames than HTTP/2 lets wait.
    const SHARES: u64 = 1_500;
    let mut server = Server::start().await;
    let (mut stream, _outbound) = open(&mut server).await;
    let shares = (1..=SHARES).flat_map(|seq| {
        let share = ToCoordinator::Share(Share {
            seq,
            job: JobId(1),
            lane: LaneIndex(0),
            version: 0,
            time: 0,
            nonce: 0,
        });
        let message = share.to_wire().encode_to_vec();
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        frame(0, 0, &[&[0], &length[..], &message].concat())
    });
    let shares: Vec<u8> = shares.collect();
    stream.write_all(&shares).await.unwrap();
    // Closed with something unread it would be reset, and what it said be lost in our system.
    stream.shutdown().await.unwrap();
    for taken in 1..=SHARES {
        let next = timeout(Duration::from_secs(60), server.mailbox.queue.recv());
        let Some(Incoming::Input(Input::Received { message, .. })) = next.await.unwrap() else {
            panic!("ended after {taken} of {SHARES}");
        };
        assert!(matches!(message, ToCoordinator::Share(share) if share.seq == taken));
    }
    let last = timeout(Duration::from_secs(60), server.mailbox.queue.recv());
    assert!(matches!(
        last.await.unwrap(),
        Some(Incoming::Input(Input::Disconnected { .. }))
    ));
}

const RST_STREAM: u8 = 3;
const CANCEL: u32 = 8;

#[tokio::test]
async fn who_gives_its_session_up_amid_a_message_has_said_nothing_wrong() {
    let mut server = Server::start().await;
    let (mut stream, _outbound) = open(&mut server).await;
    let half = frame(0, 0, &[0, 0, 0, 0, 9, 1, 2, 3]);
    let reset = frame(RST_STREAM, 0, &CANCEL.to_be_bytes());
    stream.write_all(&[half, reset].concat()).await.unwrap();
    let said = timeout(Duration::from_secs(60), server.mailbox.queue.recv());
    assert!(matches!(
        said.await.unwrap(),
        Some(Incoming::Input(Input::Disconnected { .. }))
    ));
}

#[tokio::test(start_paused = true)]
async fn what_is_left_for_one_who_has_ended_and_reads_nothing_is_let_go() {
    let mut server = Server::start().await;
    let (mut stream, outbound) = open(&mut server).await;
    let no_window = frame(4, 0, &[0, 4, 0, 0, 0, 0]);
    let no_window = [&no_window[..8], &[0], &no_window[9..]].concat();
    stream.write_all(&no_window).await.unwrap();
    let mut head = [0; FRAME_HEAD];
    // Its settings are known once they are acknowledged, after the first and the response's headers.
    let mut acknowledged = 0;
    while acknowledged < 2 {
        stream.read_exact(&mut head).await.unwrap();
        let mut payload = vec![0; usize::from(head[2])];
        stream.read_exact(&mut payload).await.unwrap();
        acknowledged += u32::from((head[3], head[4]) == (4, 1));
    }
    outbound.send(Bytes::from_static(b"unread")).unwrap();
    stream.write_all(&frame(0, 1, &[])).await.unwrap();
    assert!(matches!(
        server.mailbox.queue.recv().await,
        Some(Incoming::Input(Input::Disconnected { .. }))
    ));
    drop(outbound);
    loop {
        stream.read_exact(&mut head).await.unwrap();
        let mut payload = vec![0; usize::from(head[2])];
        stream.read_exact(&mut payload).await.unwrap();
        match head[3] {
            RST_STREAM => break,
            // Else it would be gone for its silence.
            PING => {
                head[4] = 1;
                let answer = [&head[..], &payload].concat();
                stream.write_all(&answer).await.unwrap();
            }
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_stop_ends_every_connection_once_its_sessions_have() {
    let mut server = Server::start().await;
    let channel = server.endpoint().connect().await.unwrap();
    let mut client = PoolClient::new(channel);
    client.info(pb::InfoRequest {}).await.unwrap();
    let (stream, outbound) = open(&mut server).await;
    server.stop.send(true).unwrap();
    let early = timeout(Duration::from_millis(100), &mut server.served).await;
    assert!(early.is_err(), "a session is open");
    outbound.close(tonic::Status::unavailable("stopping"));
    let ended = async {
        // Its end is told, and a peer closes what is of no more use.
        assert!(matches!(
            server.mailbox.queue.recv().await,
            Some(Incoming::Input(Input::Disconnected { .. }))
        ));
        drop(stream);
        (&mut server.served).await
    };
    // Sooner than a session that has not joined ends by itself.
    timeout(Duration::from_secs(8), ended)
        .await
        .unwrap()
        .unwrap();
}
