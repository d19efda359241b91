//! The daemon and a coordinator that is a few lines of the test.

mod support;

use std::pin::Pin;

use nix::sys::signal::Signal;
use serde_json::Value;
use support::{DEAD, Daemon, Home};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};
use tutti_proto::id::Identity;
use tutti_proto::identity::IdentityKey;
use tutti_proto::message::{Challenge, SignedHead, ToParticipant, Welcome, WindowClosed};
use tutti_proto::params::{PROTOCOL_VERSION, PoolParams};
use tutti_proto::window::{Ledger, Scoring, WindowRecord};
use tutti_proto::wire::pb::pool_server::{Pool, PoolServer};
use tutti_proto::wire::{FromWire, ToWire, pb};
use tutti_proto::work::Work;

/// Sends its lines and then stays silent; what comes in goes to the test.
struct Stub {
    lines: Vec<pb::ToParticipant>,
    received: mpsc::Sender<pb::ToCoordinator>,
}

type Lines = Pin<Box<ReceiverStream<Result<pb::ToParticipant, Status>>>>;

#[tonic::async_trait]
impl Pool for Stub {
    type SessionStream = Lines;

    async fn session(
        &self,
        request: Request<Streaming<pb::ToCoordinator>>,
    ) -> Result<Response<Lines>, Status> {
        let (sender, lines) = mpsc::channel(16);
        for line in &self.lines {
            sender.send(Ok(line.clone())).await.expect("room");
        }
        let received = self.received.clone();
        tokio::spawn(async move {
            let mut messages = request.into_inner();
            while let Ok(Some(message)) = messages.message().await {
                let _ = received.send(message).await;
            }
            drop(sender);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(lines))))
    }

    async fn info(&self, _: Request<pb::InfoRequest>) -> Result<Response<pb::InfoReply>, Status> {
        Err(Status::unimplemented("a stub"))
    }
}

async fn stub(lines: Vec<ToParticipant>) -> (String, mpsc::Receiver<pb::ToCoordinator>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let (received, messages) = mpsc::channel(16);
    let stub = Stub {
        lines: lines.iter().map(ToWire::to_wire).collect(),
        received,
    };
    let server = Server::builder().add_service(PoolServer::new(stub));
    tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
    (url, messages)
}

fn challenge(coordinator: Identity) -> Challenge {
    Challenge {
        version: PROTOCOL_VERSION,
        nonce: [9; 32],
        params: PoolParams {
            network: bitcoin::Network::Regtest,
            coordinator,
            tag: "/stub/".to_owned(),
            operator_fee_ppm: 0,
            lanes: 1,
            nonces_per_slot: 2,
            direct_payees: 32,
            scoring: Scoring::Pplns,
            pplns_depth: 8,
            ntime_roll: 600,
            block_zero_bits: Some(20),
            bump_credit: 20_000,
            bump_credit_after: 3,
        },
    }
}

/// It ends, and says so last. Gives what it said since the events that the test has heard.
fn stops(daemon: Daemon, signal: Signal) -> Vec<Value> {
    let heard = daemon.seen.len();
    daemon.signal(signal);
    let (status, _, mut seen) = daemon.ended();
    assert_eq!(status.code(), Some(0), "{seen:#?}");
    assert_eq!(seen.last().expect("events")["event"], "stopped");
    seen.split_off(heard)
}

/// It does not sit out first what it waits for, of which the end would be an event.
fn stops_at_once(daemon: Daemon, signal: Signal) {
    let after = stops(daemon, signal);
    let waited = |event: &&Value| event["event"] == "connected" || event["event"] == "disconnected";
    assert_eq!(after.iter().find(waited), None, "{after:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_stop_it_while_the_coordinator_is_silent() {
    let (url, _messages) = stub(Vec::new()).await;
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let home = Home::new(&url, "");
        home.init();
        let mut daemon = Daemon::start(&home);
        let identity = daemon.wait("identity");
        assert_eq!(identity["identity"], home.json(&["status"])["identity"]);
        assert_eq!(daemon.wait("connected")["address"], url);
        stops_at_once(daemon, signal);
        let status = home.json(&["status"]);
        assert_eq!(
            (&status["running"], &status["connected"]),
            (&false.into(), &false.into())
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_stop_it_while_there_is_no_coordinator() {
    let home = Home::new(DEAD, "");
    home.init();
    let mut daemon = Daemon::start(&home);
    let first = daemon.wait("disconnected")["retry_ms"]
        .as_u64()
        .expect("milliseconds");
    let second = daemon.wait("disconnected")["retry_ms"]
        .as_u64()
        .expect("milliseconds");
    assert!(
        (125..250).contains(&first) && (250..500).contains(&second),
        "{first} {second}"
    );
    // Its waits are short here: one may end before the signal comes.
    stops(daemon, Signal::SIGTERM);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_answers_a_challenge_with_its_own_signature() {
    let challenge = challenge(support::some_identity(5));
    let (url, mut messages) = stub(vec![ToParticipant::Challenge(challenge.clone())]).await;
    let home = Home::new(&url, "");
    let identity = home.init()["identity"].clone();
    let mut daemon = Daemon::start(&home);
    daemon.wait("connected");
    let message = tokio::time::timeout(support::DEADLINE, messages.recv()).await;
    let message = message.expect("in time").expect("a message");
    let message = tutti_proto::message::ToCoordinator::from_wire(message).expect("well formed");
    let tutti_proto::message::ToCoordinator::Join(join) = message else {
        panic!("{message:?}");
    };
    assert_eq!(join.identity.to_string(), identity);
    assert_eq!(join.hashrate, 1_000);
    join.verify(&challenge).expect("its signature");
    stops_at_once(daemon, Signal::SIGTERM);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_coordinator_than_the_named_one_is_left_at_once() {
    let challenge = challenge(support::some_identity(5));
    let (url, mut messages) = stub(vec![ToParticipant::Challenge(challenge)]).await;
    let expected = support::some_identity(6);
    let home = Home::new(&url, &format!("coordinator_identity = \"{expected}\""));
    home.init();
    let mut daemon = Daemon::start(&home);
    let event = daemon.wait("wrong_coordinator");
    assert_eq!(event["coordinator"], support::some_identity(5).to_string());
    // Which side's end is noticed first is chance; that nothing was said to it is not.
    daemon.wait("disconnected");
    assert!(
        messages.try_recv().is_err(),
        "it told the wrong coordinator something"
    );
    daemon.wait("connected");
    stops(daemon, Signal::SIGTERM);
    assert!(messages.try_recv().is_err(), "nor when it came again");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_word_of_the_seed_is_logged_at_any_level() {
    let challenge = challenge(support::some_identity(5));
    let (url, mut messages) = stub(vec![ToParticipant::Challenge(challenge)]).await;
    let home = Home::new(&url, "");
    let made = home.init();
    let mut command = home.command(&["run"]);
    command.env("RUST_LOG", "trace");
    let daemon = Daemon::spawn(command);
    let joined = tokio::time::timeout(support::DEADLINE, messages.recv()).await;
    joined.expect("in time").expect("a join");
    let (_, _, seen) = daemon.stop();
    assert!(
        seen.iter().any(|event| event["level"] == "trace"),
        "libraries are heard"
    );
    let log: String = seen.iter().map(ToString::to_string).collect();
    let words: Vec<_> = made["words"].as_str().expect("words").split(' ').collect();
    for pair in words.windows(2) {
        assert!(
            !log.contains(&pair.join(" ")),
            "words of the seed are in the log"
        );
    }
    assert!(!log.contains("tprv"));
}

/// A pool of which three windows close, with work that is somebody else's.
fn three_windows() -> Vec<ToParticipant> {
    let key = tutti_tests::sim::identity_key(0);
    let sign = |ledger: &Ledger| SignedHead::sign(&key, ledger.head(), &[3; 32]);
    let mut ledger = Ledger::default();
    let mut lines = vec![
        ToParticipant::Challenge(challenge(IdentityKey::identity(&key))),
        ToParticipant::Welcome(Welcome {
            outputs: Vec::new(),
            ledger: Some(ledger.snapshot()),
            head: sign(&ledger),
        }),
    ];
    for _ in 0..3 {
        let record = WindowRecord {
            seq: ledger.seq().next(),
            previous: ledger.head().hash,
            shares_root: [8; 32],
            shares: 1,
            height: 101,
            tally: [(support::some_identity(7), Work(1 << 20))].into(),
            bookings: Vec::new(),
            credits: Vec::new(),
        };
        ledger.append(&record).expect("it follows");
        let head = sign(&ledger);
        let payees = Vec::new();
        lines.push(ToParticipant::WindowClosed(WindowClosed {
            record,
            payees,
            head,
        }));
    }
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_shows_no_share_of_three_windows_is_left_for_a_while_and_the_log_says_why()
 {
    let (url, _messages) = stub(three_windows()).await;
    let home = Home::new(&url, "[ledger]\ncheck = \"light\"");
    home.init();
    let mut daemon = Daemon::start(&home);
    for window in 1..=3 {
        assert_eq!(daemon.wait("window_unanswered")["window"], window);
    }
    let event = daemon.wait("ledger_silent");
    assert_eq!(event["windows"], 3);
    let pause = event["pause_ms"].as_u64().expect("milliseconds");
    assert!((30_000..=60_000).contains(&pause), "{pause}");
    let disconnected = daemon.wait("disconnected");
    assert_eq!(disconnected["retry_ms"].as_u64(), Some(pause));
    stops_at_once(daemon, Signal::SIGTERM);
}
