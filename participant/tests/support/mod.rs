//! What the tests share: a data directory, the daemon as a process, rounds that never were.
#![allow(dead_code, reason = "each test file uses its own part")]

pub mod chain;
pub mod coins;
pub mod failing;
pub mod pruned;
pub mod settling;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use bitcoin::address::NetworkUnchecked;
use bitcoin::secp256k1::{Keypair, Message, Secp256k1, SecretKey};
use bitcoin::{Address, Amount, OutPoint, ScriptBuf, Transaction, TxOut};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;
use tutti_proto::coinbase::{self, CoinbaseName};
use tutti_proto::feerate::FeeRate;
use tutti_proto::id::{Identity, LaneIndex, RoundId, RoundSeq, SerialId, WindowSeq};
use tutti_proto::participant::{Held, HeldLane, HeldPayee};
use tutti_proto::payout;
use tutti_proto::work::Work;

pub const DEADLINE: Duration = Duration::from_secs(60);
/// Nobody listens there.
pub const DEAD: &str = "http://127.0.0.1:1";

/// A participant's directory with its configuration.
pub struct Home {
    dir: TempDir,
}

impl Home {
    /// `more` is appended to the configuration's top-level keys.
    pub fn new(coordinator: &str, more: &str) -> Self {
        let home = Self {
            dir: tempfile::tempdir().expect("a directory"),
        };
        let text = format!(
            "network = \"regtest\"\ncoordinator = \"{coordinator}\"\nhashrate_limit = 1000\n{more}\n\
             [log]\nformat = \"json\"\n"
        );
        fs::write(home.config(), text).expect("written");
        home
    }

    pub fn config(&self) -> PathBuf {
        self.dir.path().join("participant.toml")
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("miner-data")
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tutti-participant"));
        command.arg("--config").arg(self.config()).args(args);
        command.env_remove("RUST_LOG");
        command
    }

    pub fn output(&self, args: &[&str]) -> Output {
        self.command(args).output().expect("a process")
    }

    /// The JSON that a command prints.
    pub fn json(&self, args: &[&str]) -> Value {
        let output = self.output(&[&["--json"], args].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
    }

    /// The rows of `payouts`.
    pub fn rows(&self, more: &[&str]) -> Value {
        self.json(&[&["payouts"], more].concat())["payouts"].clone()
    }

    /// What a command that fails says on stderr.
    pub fn failure(&self, args: &[&str]) -> String {
        let output = self.output(args);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stderr).expect("text")
    }

    pub fn init(&self) -> Value {
        self.json(&["init"])
    }

    /// Makes its identity and its wallet; gives whom a round pays here.
    pub fn init_payee(&self) -> (Identity, Address) {
        let made = self.init();
        let text = |name: &str| made[name].as_str().expect("text");
        let address: Address<NetworkUnchecked> = text("first_address").parse().expect("valid");
        (parse_identity(text("identity")), address.assume_checked())
    }
}

/// `run` as a process, and the events it logs.
pub struct Daemon {
    child: Child,
    events: Receiver<Value>,
    pub seen: Vec<Value>,
}

impl Daemon {
    pub fn start(home: &Home) -> Self {
        Self::spawn(home.command(&["run"]))
    }

    pub fn spawn(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("a process");
        let stderr = BufReader::new(child.stderr.take().expect("its stderr"));
        let (sender, events) = channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                if sender.send(value).is_err() {
                    return;
                }
            }
        });
        Self {
            child,
            events,
            seen: Vec::new(),
        }
    }

    /// The next event of this name.
    pub fn wait(&mut self, name: &str) -> Value {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Ok(event) = self.events.recv_timeout(left) else {
                panic!("no event {name}; there were {:#?}", self.seen);
            };
            self.seen.push(event.clone());
            if event["event"] == name {
                return event;
            }
        }
    }

    /// The first event of this name, seen before or to come.
    pub fn seen_or_wait(&mut self, name: &str) -> Value {
        let seen = self.seen.iter().find(|event| event["event"] == name);
        match seen.cloned() {
            Some(seen) => seen,
            None => self.wait(name),
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        kill(Pid::from_raw(pid), signal).expect("it lives");
    }

    /// Waits for its end and says how long that took.
    pub fn ended(mut self) -> (ExitStatus, Duration, Vec<Value>) {
        let started = Instant::now();
        while started.elapsed() < DEADLINE {
            if let Some(status) = self.child.try_wait().expect("a child") {
                let took = started.elapsed();
                self.seen.extend(self.events.iter());
                return (status, took, std::mem::take(&mut self.seen));
            }
            std::thread::yield_now();
        }
        panic!("it did not end");
    }

    pub fn stop(self) -> (ExitStatus, Duration, Vec<Value>) {
        self.signal(Signal::SIGTERM);
        self.ended()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn parse_identity(hex: &str) -> Identity {
    let bytes: [u8; 32] = hex::decode(hex).expect("hex").try_into().expect("32 bytes");
    Identity::parse(&bytes).expect("a key")
}

pub fn some_identity(n: u8) -> Identity {
    let secret = SecretKey::from_slice(&[n; 32]).expect("a key");
    Identity::from(secret.x_only_public_key(&Secp256k1::new()).0)
}

pub fn some_script(n: u8) -> ScriptBuf {
    payout::output_script(some_identity(n).as_bytes())
}

/// A round whose pool key is one key that the test knows.
pub struct Round<'a> {
    pub seq: u64,
    pub height: u32,
    pub lanes: u16,
    pub reward: u64,
    /// The last one gets what is left of the reward.
    pub payees: &'a [(Identity, ScriptBuf, u64)],
}

impl Round<'_> {
    pub fn held(&self) -> Held {
        let secp = Secp256k1::new();
        let key = Keypair::from_seckey_slice(&secp, &[0x77; 32]).expect("a key");
        let script = payout::output_script(&key.x_only_public_key().0.serialize());
        let shards = self.shards();
        let lane = |lane| {
            let name = CoinbaseName {
                height: self.height,
                tag: "/test/",
                round: RoundSeq(self.seq),
                lane: LaneIndex(lane),
            };
            let outputs: Vec<_> = shards
                .iter()
                .map(|shard| (script.clone(), Amount::from_sat(shard.value)))
                .collect();
            let coinbase = coinbase::build(name, &outputs, None);
            let payout = |(vout, shard): (u32, &Shard)| {
                let spent = OutPoint::new(coinbase.compute_txid(), vout);
                let unsigned = payout::unsigned(spent, shard.outputs.clone());
                let sighash = payout::sighash(&unsigned, &coinbase.output[vout as usize]);
                let message = Message::from_digest(sighash);
                let signature = secp.sign_schnorr_no_aux_rand(&message, &key).serialize();
                payout::signed(unsigned, &signature)
            };
            HeldLane {
                payouts: (0..).zip(&shards).map(payout).collect(),
                coinbase,
            }
        };
        let outputs = shards.iter().flat_map(|shard| &shard.outputs);
        let payees = self.payees.iter().zip(outputs).zip(1u64..);
        Held {
            round: RoundId([self.seq as u8; 32]),
            seq: RoundSeq(self.seq),
            height: self.height,
            feerate: FeeRate::FLOOR,
            window: WindowSeq(self.seq),
            signers: 2,
            bump_credit: 20_000,
            bump_credit_after: 3,
            lanes: (0..self.lanes).map(lane).collect(),
            payees: payees
                .map(|((payee, output), n)| HeldPayee {
                    identity: payee.0,
                    serial_id: SerialId(2 * n + 1),
                    work: Work(u128::MAX / u128::from(n)),
                    sat: output.value.to_sat(),
                })
                .collect(),
        }
    }

    /// The payees in order, as many to a payout as fit.
    fn shards(&self) -> Vec<Shard> {
        let sizes = self
            .payees
            .iter()
            .map(|(_, script, _)| 9 + script.len() as u64);
        let layout = payout::layout(sizes);
        let mut payees = self.payees.iter().peekable();
        let mut left = self.reward;
        let mut shards = Vec::new();
        for shard in layout {
            let costs = FeeRate::FLOOR.fee(shard.vsize) + payout::ANCHOR_SAT;
            left -= costs;
            let mut outputs = Vec::new();
            for (_, script, sat) in payees.by_ref().take(shard.payees) {
                outputs.push(TxOut {
                    value: Amount::from_sat(*sat),
                    script_pubkey: script.clone(),
                });
            }
            if payees.peek().is_none() {
                let others: u64 = outputs.iter().rev().skip(1).map(|o| o.value.to_sat()).sum();
                let last = outputs.last_mut().expect("a payee");
                last.value = Amount::from_sat(left - others);
            }
            let paid: u64 = outputs.iter().map(|output| output.value.to_sat()).sum();
            left -= paid;
            let value = paid + costs;
            shards.push(Shard { value, outputs });
        }
        shards
    }
}

/// One payout's part of the reward.
struct Shard {
    value: u64,
    outputs: Vec<TxOut>,
}

pub fn txid(transaction: &Transaction) -> String {
    transaction.compute_txid().to_string()
}

/// Everything in a directory, by name.
pub fn files(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory");
    let mut names: Vec<String> = entries
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .into_string()
                .expect("text")
        })
        .collect();
    names.sort();
    names
}
