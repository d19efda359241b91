//! Ends: of the process, of its node, and of sessions that do what they should not.

use std::io::Write;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, poll};
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::time::timeout;
use tonic::Code;
use tutti_proto::message::ToCoordinator;
use tutti_proto::participant::FoundShare;
use tutti_proto::reject::RejectCode;
use tutti_proto::wire::{ToWire, pb, reject_code};

use crate::pool::{Miner, Wire, World};
use crate::support::{GOOD, WITHIN, by_password, config, fake_node, output, start};

/// The stop's limit, and some for a loaded machine's scheduler.
const STOP_WITHIN: Duration = Duration::from_secs(2);
/// What the coordinator grants.
const JOIN_WITHIN: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_and_sigint_stop_within_two_seconds_with_sessions_open() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut world = World::start();
        let mut miner = Miner::join(&world.address, 2).await;
        miner.until("a job", |miner| !miner.orders.is_empty()).await;
        let mut silent = Wire::open(&world.address).await;
        silent.receive().await.unwrap();
        let stopped = std::time::Instant::now();
        world.daemon.signal(signal).unwrap();
        let status = world.daemon.wait_exit(STOP_WITHIN).unwrap();
        assert!(status.success(), "{status}");
        assert!(stopped.elapsed() < STOP_WITHIN);
        world.daemon.wait_event("stopped", WITHIN).unwrap();
        assert_eq!(miner.wire.last_word().await.code(), Code::Unavailable);
        assert_eq!(silent.last_word().await.code(), Code::Unavailable);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_goes_away_is_said_and_its_return_too() {
    let mut world = World::start();
    world.daemon.wait_event("template", WITHIN).unwrap();
    world.node.stop().unwrap();
    world.daemon.wait_event("node_away", WITHIN).unwrap();
    world.node.restart().unwrap();
    world.daemon.wait_event("node_back", WITHIN).unwrap();
    // A tip of the returned node is noticed by the call that is held open, not by chance.
    let height = u64::from(world.node.height().unwrap());
    world.node.mine(1).unwrap();
    world
        .daemon
        .wait_for("a template on the new tip", WITHIN, |line| {
            line.event() == "template" && line.fields["height"] == height + 2
        })
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_message_ends_the_session_with_a_code_and_nothing_else() {
    let world = World::start();
    let join = |identity: usize| pb::ToCoordinator {
        message: Some(pb::to_coordinator::Message::Join(pb::Join {
            identity: vec![7; identity].into(),
            ..Default::default()
        })),
    };
    let cases = [
        (pb::ToCoordinator::default(), RejectCode::Malformed),
        (join(31), RejectCode::Malformed),
        (join(2 << 20), RejectCode::Oversized),
    ];
    let mut bystander = Miner::join(&world.address, 3).await;
    for (message, code) in cases {
        let mut wire = Wire::open(&world.address).await;
        wire.receive().await.unwrap();
        wire.outbound.send(message).await.unwrap();
        assert_eq!(reject_code(&wire.last_word().await), Some(code));
    }
    bystander
        .until("a job", |miner| !miner.orders.is_empty())
        .await;
    assert_eq!(world.info()["participants"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_who_has_not_joined_no_slots_are_checked() {
    let world = World::start();
    let mut stranger = Wire::open(&world.address).await;
    stranger.receive().await.unwrap();
    // These would not even be read as points.
    let slots = pb::Slots {
        slots: vec![pb::AnnouncedSlot::default()],
    };
    let message = Some(pb::to_coordinator::Message::Slots(slots));
    let slots = pb::ToCoordinator { message };
    stranger.outbound.send(slots).await.unwrap();
    let code = reject_code(&stranger.last_word().await);
    assert_eq!(code, Some(RejectCode::NotJoined));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_never_joins_is_cut_and_a_quiet_one_that_has_joined_is_not() {
    let mut world = World::start();
    let mut quiet = Miner::join(&world.address, 2).await.joined().await;
    let mut stranger = Wire::open(&world.address).await;
    stranger.receive().await.unwrap();
    let opened = std::time::Instant::now();
    assert_ne!(stranger.last_word().await.code(), Code::Ok);
    assert!(opened.elapsed() > JOIN_WITHIN / 2, "{:?}", opened.elapsed());
    world.daemon.wait_event("join_overdue", WITHIN).unwrap();
    world.node.mine(1).unwrap();
    quiet.until("a job", |miner| !miner.orders.is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_never_reads_is_cut_and_the_others_go_on() {
    let mut world = World::start();
    let mut deaf = Miner::join(&world.address, 4).await;
    deaf.until("a job", |miner| !miner.orders.is_empty()).await;
    let z = deaf.orders[0].z;
    let share = |seq: u64, found: FoundShare| {
        let FoundShare {
            job,
            lane,
            version,
            time,
            nonce,
        } = found;
        let share = tutti_proto::message::Share {
            seq,
            job,
            lane,
            version,
            time,
            nonce,
        };
        ToCoordinator::Share(share).to_wire()
    };
    let mut good: Vec<FoundShare> = Vec::new();
    while good.len() < 200 {
        let first = good.last().map_or(0, |found| found.nonce + 1);
        good.push(deaf.hash_from(first, z..=z + 4));
    }
    // Every share is answered, which this peer does not read. So many bad ones in a row that it is
    // not cut for them.
    let flood = async {
        for found in good {
            if deaf.wire.outbound.send(share(1, found)).await.is_err() {
                return;
            }
            let job = tutti_proto::id::JobId(u64::MAX);
            let bad = share(2, FoundShare { job, ..found });
            for _ in 0..500 {
                if deaf.wire.outbound.send(bad.clone()).await.is_err() {
                    return;
                }
            }
        }
    };
    timeout(WITHIN, flood)
        .await
        .expect("the flood ends with the connection");
    world.daemon.wait_event("reader_too_slow", WITHIN).unwrap();
    let mut miner = Miner::join(&world.address, 2).await;
    miner.until("a job", |miner| !miner.orders.is_empty()).await;
}

/// Neither reads nor, once the socket is full, writes: HTTP/2 waits for its own answers to be written then,
/// and reads nothing.
#[test]
fn a_peer_that_leaves_answers_unread_and_then_is_silent_is_cut() {
    const READ_NOTHING: Duration = Duration::from_millis(500);
    let mut world = World::start();
    let mut deaf = std::net::TcpStream::connect(&world.address).unwrap();
    deaf.write_all(&opened_session(&world.address)).unwrap();
    let ping = [&[0, 0, 8, 6, 0, 0, 0, 0, 0][..], &[7; 8]].concat();
    let pings = ping.repeat(1_000);
    deaf.set_write_timeout(Some(READ_NOTHING)).unwrap();
    // Until the coordinator reads no more of it, and not only not yet.
    let (mut at, mut in_vain) = (0, 0);
    while in_vain < 2 {
        match deaf.write(&pings[at..]) {
            Ok(written) => (at, in_vain) = ((at + written) % pings.len(), 0),
            Err(_) => in_vain += 1,
        }
    }
    world.daemon.wait_event("join_overdue", WITHIN).unwrap();
    let mut ended = [PollFd::new(deaf.as_fd(), PollFlags::empty())];
    let within = u16::try_from(JOIN_WITHIN.as_millis()).unwrap();
    let events = poll(&mut ended, within).unwrap();
    assert_eq!(events, 1, "it was not cut");
    assert!(
        ended[0]
            .revents()
            .unwrap()
            .intersects(PollFlags::POLLERR | PollFlags::POLLHUP)
    );
}

/// What opens a connection and a session on it (RFC 9113), with windows as large as may be.
fn opened_session(authority: &str) -> Vec<u8> {
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [kind, flags, 0, 0, 0, stream];
        [&length[1..], &head, payload].concat()
    };
    // By HPACK's static table (RFC 7541): POST, http, :authority, :path, content-type, te.
    let mut headers = vec![0x83, 0x86];
    let named: [(&[u8], &str); 4] = [
        (&[1], authority),
        (&[4], "/tutti.v1.Pool/Session"),
        (&[15, 16], "application/grpc"),
        (b"\0\x02te", "trailers"),
    ];
    for (name, value) in named {
        headers.extend_from_slice(name);
        headers.push(u8::try_from(value.len()).unwrap());
        headers.extend_from_slice(value.as_bytes());
    }
    let window = [&[0, 4][..], &0x7fff_ffffu32.to_be_bytes()].concat();
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(4, 0, 0, &window),
        frame(1, 4, 1, &headers),
    ]
    .concat()
}

#[test]
fn check_names_the_identity_once_there_is_one() {
    let mut world = World::start();
    let identity = world.info()["identity"].as_str().unwrap().to_owned();
    let path = world.dir.path().join("coordinator.toml");
    let check = || {
        let said = output(&["check", "--config", path.to_str().unwrap()]);
        assert!(said.status.success(), "{said:?}");
        String::from_utf8(said.stdout).unwrap()
    };
    assert!(check().contains(&identity), "while it runs");
    world.daemon.terminate(STOP_WITHIN).unwrap();
    assert!(check().contains(&identity));
    std::fs::remove_dir_all(world.dir.path().join("coordinator-data")).unwrap();
    assert!(check().contains("none yet"));
}

#[test]
fn there_are_as_many_connections_as_the_limits_need_and_a_thousand_more() {
    let dir = tempfile::tempdir().unwrap();
    let limits = "participants = 2\nfollowers = 3\ndownloads = 0\nsamples = 1\n";
    let node = format!("{}\n[limits]\n{limits}", by_password(&fake_node(GOOD)));
    let mut daemon = start(dir.path(), &config(dir.path(), &node, ""));
    let listening = daemon.wait_event("listening", WITHIN).unwrap();
    let address = listening.text("address").unwrap();
    tutti_coordinator::grpc::raise_descriptor_limit();
    let connect = || TcpStream::connect(address).unwrap();
    let limit = 2 + 3 + 1 + 1_000;
    let _all: Vec<TcpStream> = (0..limit).map(|_| connect()).collect();
    let more = connect();
    let full = daemon.wait_event("connections_full", WITHIN).unwrap();
    assert_eq!(full.number("limit").unwrap(), limit);
    let of = full.text("address").unwrap();
    assert_eq!(of, more.local_addr().unwrap().to_string());
}

#[test]
fn info_tells_the_terms_that_a_miners_policy_judges() {
    let dir = tempfile::tempdir().unwrap();
    let terms = "scoring = \"epoch\"\npplns_depth = 7\ndirect_payees = 5\nbump_credit = 1234\nbump_credit_after = 9\n";
    let path = config(dir.path(), &by_password(&fake_node(GOOD)), terms);
    let mut daemon = start(dir.path(), &path);
    let listening = daemon.wait_event("listening", WITHIN).unwrap();
    let url = format!("http://{}", listening.text("address").unwrap());
    let info = |more: &[&str]| {
        let said = output(&[&["info", "--address", &url], more].concat());
        assert!(said.status.success(), "{said:?}");
        String::from_utf8(said.stdout).unwrap()
    };
    let json: Value = serde_json::from_str(&info(&["--json"])).unwrap();
    assert_eq!(json["scoring"], "epoch");
    assert_eq!(json["pplns_depth"], 7);
    assert_eq!(json["direct_payees"], 5);
    assert_eq!(json["bump_credit"], 1234);
    assert_eq!(json["bump_credit_after"], 9);
    let text = info(&[]);
    for row in [
        "scoring         epoch",
        "direct payees   5 at most",
        "bump credit     up to 1234 sat, once 9 blocks",
    ] {
        assert!(text.contains(row), "{text}");
    }
}
