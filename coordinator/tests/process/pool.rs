//! The coordinator on a real node, with a participant's core driven over a raw gRPC client.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::support::{WITHIN, by_cookie, config, output, start};
use bitcoin::{Network, ScriptBuf};
use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tonic::{Code, Status, Streaming};
use tutti_proto::header::HeaderFields;
use tutti_proto::id::WindowSeq;
use tutti_proto::identity::IdentityKey;
use tutti_proto::message::{ToCoordinator, ToParticipant};
use tutti_proto::participant::{
    Action, Event, FoundShare, Held, Input, Memory, Order, Participant, Record, Settings,
};
use tutti_proto::policy::Policy;
use tutti_proto::reject::RejectCode;
use tutti_proto::script::PayoutScript;
use tutti_proto::window::Booking;
use tutti_proto::wire::pb::pool_client::PoolClient;
use tutti_proto::wire::{FromWire, ToWire, pb, reject_code};
use tutti_proto::work::{header_hash, leading_zero_bits};
use tutti_regtest::daemon::Daemon;
use tutti_regtest::node::{Node, NodeOptions};

/// The stop's limit, and some for a loaded machine's scheduler.
const STOP_WITHIN: Duration = Duration::from_secs(2);
/// What the coordinator grants.
const JOIN_WITHIN: Duration = Duration::from_secs(10);
const BLOCK_ZERO_BITS: u8 = 14;

pub struct World {
    pub node: Node,
    pub daemon: Daemon,
    pub address: String,
    pub dir: tempfile::TempDir,
    more: String,
    /// Keys before all sections.
    pub keys: String,
}

impl World {
    fn start() -> Self {
        Self::start_with(&format!("[regtest]\nblock_zero_bits = {BLOCK_ZERO_BITS}\n"))
    }

    /// With these sections in the config.
    pub fn start_with(more: &str) -> Self {
        Self::start_on(Node::start(NodeOptions::default()).unwrap(), more)
    }

    /// The same, on this node.
    pub fn start_on(node: Node, more: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (daemon, address) = launch(dir.path(), &node, more, "");
        Self {
            node,
            daemon,
            address,
            dir,
            more: more.to_owned(),
            keys: String::new(),
        }
    }

    pub fn restart(&mut self) {
        let (daemon, address) = launch(self.dir.path(), &self.node, &self.more, &self.keys);
        (self.daemon, self.address) = (daemon, address);
    }

    /// The files of the found blocks that have no verdict.
    fn kept_blocks(&self) -> Vec<PathBuf> {
        let blocks = self.dir.path().join("coordinator-data").join("blocks");
        let entries = std::fs::read_dir(blocks).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    pub fn info(&self) -> Value {
        let url = format!("http://{}", self.address);
        let said = output(&["info", "--address", &url, "--json"]);
        serde_json::from_slice(&said.stdout).unwrap()
    }
}

fn launch(dir: &Path, node: &Node, more: &str, keys: &str) -> (Daemon, String) {
    let login = by_cookie(&node.rpc_url(), &node.cookie_file());
    let path = config(dir, &format!("{login}\n{more}"), keys);
    let mut daemon = start(dir, &path);
    let listening = daemon.wait_event("listening", WITHIN).unwrap();
    let address = listening.text("address").unwrap().to_owned();
    (daemon, address)
}

/// A raw session.
struct Wire {
    outbound: mpsc::Sender<pb::ToCoordinator>,
    inbound: Streaming<pb::ToParticipant>,
}

impl Wire {
    async fn open(address: &str) -> Self {
        // h2 ends a connection of which many small frames are unread, by a budget that grows with
        // this window: it is the coordinator that is to end it.
        let channel = Endpoint::from_shared(format!("http://{address}"))
            .unwrap()
            .initial_connection_window_size(64 << 20)
            .connect()
            .await
            .unwrap();
        let mut client = PoolClient::new(channel);
        let (outbound, queue) = mpsc::channel(64);
        let inbound = client
            .session(ReceiverStream::new(queue))
            .await
            .unwrap()
            .into_inner();
        Self { outbound, inbound }
    }

    async fn send(&self, message: &ToCoordinator) {
        self.outbound.send(message.to_wire()).await.unwrap();
    }

    async fn receive(&mut self) -> Result<Option<ToParticipant>, Status> {
        let wire = timeout(WITHIN, self.inbound.message())
            .await
            .expect("a message in time")?;
        Ok(wire.map(|wire| ToParticipant::from_wire(wire).unwrap()))
    }

    /// The status with which the session ends.
    async fn last_word(&mut self) -> Status {
        loop {
            match self.receive().await {
                Ok(Some(_)) => {}
                Ok(None) => return Status::ok(""),
                Err(status) => return status,
            }
        }
    }
}

/// A participant's core on a raw session, hashing in this process.
pub struct Miner {
    pub core: Participant,
    wire: Wire,
    pub held: Vec<Held>,
    pub orders: Vec<Order>,
    pub events: Vec<Event>,
    /// When the session told that a window had closed.
    pub closed: Vec<(WindowSeq, Instant)>,
    /// What these windows booked, in order.
    pub bookings: Vec<Booking>,
}

impl Miner {
    pub async fn join(address: &str, secret: u8) -> Self {
        let key = IdentityKey::from_bytes(&mut [secret; 32]).unwrap();
        let script = ScriptBuf::from_hex(&format!("0014{}", hex::encode([secret; 20]))).unwrap();
        let settings = Settings {
            network: Network::Regtest,
            coordinator: None,
            policy: Policy::default(),
            script: PayoutScript::parse(script).unwrap(),
            hashrate: 100,
            user_agent: "test".into(),
            slots_ahead: 4,
            follows: false,
            asks_node: false,
        };
        let mut miner = Self {
            core: Participant::new(key, settings, Memory::default()),
            wire: Wire::open(address).await,
            held: Vec::new(),
            orders: Vec::new(),
            events: Vec::new(),
            closed: Vec::new(),
            bookings: Vec::new(),
        };
        miner.input(Input::Connected).await;
        miner
    }

    async fn joined(mut self) -> Self {
        let joined = |miner: &Self| {
            let mut events = miner.events.iter();
            events.any(|event| matches!(event, Event::Joined { .. }))
        };
        self.until("the welcome", joined).await;
        self
    }

    pub async fn input(&mut self, input: Input) {
        let effects = self.core.handle(&mut rand::rng(), input);
        let keep = |records: &[Record]| {
            for record in records {
                if let Record::Held(held) = record {
                    self.held.push(held.clone());
                }
            }
            Ok::<(), std::convert::Infallible>(())
        };
        let Ok(actions) = effects.save(keep);
        for action in actions {
            match action {
                Action::Send(message) => self.wire.send(&message).await,
                Action::Mine(orders) => self.orders = orders,
                Action::LookUp(_) => {}
                Action::Leave | Action::LeaveForGood => {
                    panic!("the participant left: {:?}", self.events)
                }
                Action::Tell(event) => self.events.push(event),
            }
        }
    }

    pub async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            let message = self.wire.receive().await;
            let Ok(Some(message)) = message else {
                panic!("the session ended before {what}: {message:?}");
            };
            if let ToParticipant::WindowClosed(closed) = &message {
                self.closed.push((closed.record.seq, Instant::now()));
                self.bookings.extend(closed.record.bookings.iter().cloned());
            }
            self.input(Input::Received(message)).await;
        }
    }

    /// Hashes the first order until a header has exactly this many zero bits or, if so told, more.
    pub fn hash(&self, zeros: RangeInclusive<u8>) -> FoundShare {
        self.hash_from(0, zeros)
    }

    pub fn hash_from(&self, first: u32, zeros: RangeInclusive<u8>) -> FoundShare {
        let order = self.orders[0];
        let version = order.slice.first_version(order.version);
        let header = |nonce| HeaderFields {
            version,
            previous_block: order.previous_block,
            merkle_root: order.merkle_root,
            time: order.time_min,
            bits: order.bits,
            nonce,
        };
        let nonce = (first..u32::MAX)
            .find(|nonce| {
                zeros.contains(&leading_zero_bits(&header_hash(
                    &header(*nonce).serialize(),
                )))
            })
            .unwrap();
        FoundShare {
            job: order.job,
            lane: order.slice.lane,
            version,
            time: order.time_min,
            nonce,
        }
    }

    pub fn acknowledged(&self) -> usize {
        let shares = |event: &Event| match event {
            Event::SharesAcknowledged { shares, .. } => *shares,
            _ => 0,
        };
        self.events.iter().map(shares).sum()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_miner_gets_a_signed_payout_then_a_job_and_its_block_is_in_the_chain() {
    let mut world = World::start();
    let mut miner = Miner::join(&world.address, 2).await;
    miner.until("a job", |miner| !miner.orders.is_empty()).await;
    assert_eq!(miner.held.len(), 1, "the payout is complete before the job");
    let z = miner.orders[0].z;
    assert!(z < BLOCK_ZERO_BITS, "{z}");

    miner
        .input(Input::ShareFound(miner.hash(z..=BLOCK_ZERO_BITS - 1)))
        .await;
    miner
        .until("an ack", |miner| miner.acknowledged() == 1)
        .await;

    let height = world.node.height().unwrap();
    miner
        .input(Input::ShareFound(miner.hash(BLOCK_ZERO_BITS..=u8::MAX)))
        .await;
    let accepted = world.daemon.wait_event("block_accepted", WITHIN).unwrap();
    assert_eq!(accepted.number("height").unwrap(), u64::from(height) + 1);
    assert_eq!(
        world.node.tip().unwrap().to_string(),
        accepted.text("hash").unwrap()
    );
    let block = world.node.block(&world.node.tip().unwrap()).unwrap();
    assert_eq!(block.txdata[0], miner.held[0].lanes[0].coinbase);

    // The new tip is mined at once, and the work done so far is in the ledger.
    let next = height + 2;
    miner
        .until("a round on the new tip", |miner| {
            miner.held.iter().any(|held| held.height == next)
        })
        .await;
    let info = world.info();
    assert_eq!(info["participants"], 1);
    assert_eq!(info["signers"], 2);
    assert_eq!(info["payees"], 2);
    assert_eq!(info["network"], "regtest");
}

/// The chain turns to another branch and back, while the coordinator runs and across a kill.
#[tokio::test(flavor = "multi_thread")]
async fn a_found_block_is_followed_through_reorganisations_until_it_is_settled() {
    let mut world = World::start();
    let mut miner = Miner::join(&world.address, 2).await;
    miner.until("a job", |miner| !miner.orders.is_empty()).await;
    miner
        .input(Input::ShareFound(miner.hash(BLOCK_ZERO_BITS..=u8::MAX)))
        .await;
    let accepted = world.daemon.wait_event("block_accepted", WITHIN).unwrap();
    let hash = accepted.text("hash").unwrap().to_owned();
    let height = u32::try_from(accepted.number("height").unwrap()).unwrap();
    miner
        .until("a round on our block", |miner| {
            miner.held.iter().any(|held| held.height == height + 1)
        })
        .await;

    let tell = |node: &Node, what, hash: &str| {
        node.call::<Value>(what, &[hash.into()]).unwrap();
    };
    tell(&world.node, "invalidateblock", &hash);
    let other = world.node.mine(2).unwrap();
    let lost = world.daemon.wait_event("block_lost", WITHIN).unwrap();
    assert_eq!(lost.text("hash").unwrap(), hash);
    // The window that takes the booking back passes every check of the participant.
    miner
        .until("a round on the other branch", |miner| {
            miner.held.iter().any(|held| held.height == height + 2)
        })
        .await;

    world.daemon.kill().unwrap();
    tell(&world.node, "invalidateblock", &other[0].to_string());
    tell(&world.node, "reconsiderblock", &hash);
    assert_eq!(world.node.tip().unwrap().to_string(), hash);
    world.restart();
    let back = world.daemon.wait_event("block_back", WITHIN).unwrap();
    assert_eq!(back.text("hash").unwrap(), hash);
    let mut miner = Miner::join(&world.address, 2).await;
    miner.until("a job", |miner| !miner.orders.is_empty()).await;

    world.node.mine(200).unwrap();
    let settled = world.daemon.wait_event("block_settled", WITHIN).unwrap();
    assert_eq!(settled.text("hash").unwrap(), hash);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_coordinator_comes_back_with_its_ledger() {
    let mut world = World::start();
    let mut miner = Miner::join(&world.address, 2).await;
    miner.until("a job", |miner| !miner.orders.is_empty()).await;
    let z = miner.orders[0].z;
    miner
        .input(Input::ShareFound(miner.hash(z..=BLOCK_ZERO_BITS - 1)))
        .await;
    miner
        .until("an ack", |miner| miner.acknowledged() == 1)
        .await;
    let before = world.info();
    world.daemon.kill().unwrap();
    assert!(miner.wire.last_word().await.code() != Code::Ok);

    world.restart();
    let after = world.info();
    for field in ["identity", "payees"] {
        assert_eq!(before[field], after[field], "{field}");
    }
    // A round may have been proposed or committed since we looked.
    for field in ["window", "round"] {
        assert!(after[field].as_u64() >= before[field].as_u64(), "{field}");
    }
    let mut again = Miner::join(&world.address, 2).await;
    again.until("a job", |miner| !miner.orders.is_empty()).await;
    // The share that was acknowledged before the kill is what a round pays for: this one or, if it is a
    // direct one of the window before, the next.
    let me = again.core.identity();
    let pays = |held: &Held| {
        let mut payees = held.payees.iter();
        payees.any(|payee| payee.identity == me && payee.work.0 == 1 << z)
    };
    again
        .until("a round that pays for the share", |miner| {
            miner.held.iter().any(pays)
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_found_while_the_node_is_away_survives_a_kill_and_gets_into_the_chain() {
    let mut world = World::start();
    let mut miner = Miner::join(&world.address, 2).await;
    miner.until("a job", |miner| !miner.orders.is_empty()).await;
    world.node.stop().unwrap();
    let found = miner.hash(BLOCK_ZERO_BITS..=u8::MAX);
    miner.input(Input::ShareFound(found)).await;
    let waiting = world.daemon.wait_event("block_waiting", WITHIN).unwrap();
    world.daemon.kill().unwrap();

    world.node.restart().unwrap();
    world.restart();
    let accepted = world.daemon.wait_event("block_accepted", WITHIN).unwrap();
    assert_eq!(accepted.fields["hash"], waiting.fields["hash"]);
    assert_eq!(
        world.node.tip().unwrap().to_string(),
        accepted.text("hash").unwrap()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_blocks_found_while_the_node_is_away_all_survive_a_kill() {
    let mut world = World::start();
    let mut miner = Miner::join(&world.address, 2).await;
    miner.until("a job", |miner| !miner.orders.is_empty()).await;
    world.node.stop().unwrap();
    let first = miner.hash(BLOCK_ZERO_BITS..=u8::MAX);
    let second = miner.hash_from(first.nonce + 1, BLOCK_ZERO_BITS..=u8::MAX);
    for found in [first, second] {
        miner.input(Input::ShareFound(found)).await;
    }
    miner
        .until("both acks", |miner| miner.acknowledged() == 2)
        .await;
    world.daemon.kill().unwrap();
    let kept = world.kept_blocks();
    assert_eq!(
        kept.len(),
        2,
        "only the first has reached the node's thread"
    );

    // One of them is cut short, the other gone: as if we had died before they were written. Both are
    // made again from their round, which is live.
    let whole = std::fs::read(&kept[0]).unwrap();
    std::fs::write(&kept[0], &whole[..whole.len() / 2]).unwrap();
    std::fs::remove_file(&kept[1]).unwrap();
    world.node.restart().unwrap();
    world.restart();
    let mut judged = std::collections::BTreeSet::new();
    while judged.len() < 2 {
        let line = world.daemon.wait_for("a verdict", WITHIN, |line| {
            ["block_accepted", "block_refused"].contains(&line.event())
        });
        let hash = line.unwrap().text("hash").unwrap().to_owned();
        assert!(
            kept.iter()
                .any(|path| path.ends_with(format!("{hash}.block")))
        );
        judged.insert(hash);
    }
    let tip = world.node.tip().unwrap().to_string();
    assert!(
        kept.iter()
            .any(|path| path.ends_with(format!("{tip}.block")))
    );
}

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
