//! A coordinator on a real node, and a participant's core driven over a raw gRPC client.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use bitcoin::{Network, ScriptBuf};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tonic::{Status, Streaming};
use tutti_proto::header::HeaderFields;
use tutti_proto::id::{JobId, WindowSeq};
use tutti_proto::identity::IdentityKey;
use tutti_proto::message::ToParticipant;
use tutti_proto::participant::{
    Action, Event, FoundShare, Held, Input, Memory, Order, Participant, Record, Settings,
};
use tutti_proto::policy::Policy;
use tutti_proto::script::PayoutScript;
use tutti_proto::window::Booking;
use tutti_proto::wire::pb::pool_client::PoolClient;
use tutti_proto::wire::{FromWire, ToWire, pb};
use tutti_proto::work::{header_hash, leading_zero_bits};
use tutti_regtest::daemon::Daemon;
use tutti_regtest::node::{Node, NodeOptions};

use crate::support::{WITHIN, by_cookie, config, output, start};

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
    pub fn start() -> Self {
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
    pub fn kept_blocks(&self) -> Vec<PathBuf> {
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

pub fn launch(dir: &Path, node: &Node, more: &str, keys: &str) -> (Daemon, String) {
    let login = by_cookie(&node.rpc_url(), &node.cookie_file());
    let path = config(dir, &format!("{login}\n{more}"), keys);
    let mut daemon = start(dir, &path);
    // What threads of it said before is waited for later.
    let listening = daemon.wait_and_keep("listening", WITHIN).unwrap();
    let address = listening.text("address").unwrap().to_owned();
    (daemon, address)
}

/// A raw session.
pub struct Wire {
    pub outbound: mpsc::Sender<pb::ToCoordinator>,
    inbound: Streaming<pb::ToParticipant>,
}

impl Wire {
    pub async fn open(address: &str) -> Self {
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

    pub async fn receive(&mut self) -> Result<Option<ToParticipant>, Status> {
        let wire = timeout(WITHIN, self.inbound.message())
            .await
            .expect("a message in time")?;
        Ok(wire.map(|wire| ToParticipant::from_wire(wire).unwrap()))
    }

    /// The status with which the session ends.
    pub async fn last_word(&mut self) -> Status {
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
    pub wire: Wire,
    pub held: Vec<Held>,
    pub orders: Vec<Order>,
    pub events: Vec<Event>,
    /// The windows of which the session told that they had closed.
    pub closed: Vec<WindowSeq>,
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

    pub async fn joined(mut self) -> Self {
        let joined = |miner: &Self| {
            let mut events = miner.events.iter();
            events.any(|event| matches!(event, Event::Joined { .. }))
        };
        self.until("the welcome", joined).await;
        self
    }

    /// Until what it hashes is paid by signed payouts: a direct round, of which the first job may be, has none.
    pub async fn until_signed_job(&mut self) {
        let signed = |miner: &Self| {
            let order = miner.orders.first();
            let mut held = miner.held.iter().filter(|held| held.signers > 0);
            order.is_some_and(|order| held.any(|held| JobId(held.seq.0 * 2) == order.job))
        };
        self.until("a job whose payout is signed", signed).await;
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
                // That the session has ended is what is received next.
                Action::Send(message) => drop(self.wire.outbound.send(message.to_wire()).await),
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
                self.closed.push(closed.record.seq);
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
