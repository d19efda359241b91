//! A real Bitcoin Core in regtest, for tests and the demo.

mod error;
mod options;
mod process;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use bitcoin::{Block, BlockHash, Script};
use bitcoincore_rpc::jsonrpc::minreq_http::MinreqHttpTransport;
use bitcoincore_rpc::{Auth, Client, RpcApi, jsonrpc};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::bitcoind;

pub use error::NodeError;
pub use options::NodeOptions;
use process::{Process, free_port};

/// Pay-to-anchor, to which [`Node::mine`] pays: a standard output that anyone spends without a
/// key, so a test can make transactions out of matured coinbases although the node has no wallet.
pub const ANYONE_CAN_SPEND_HEX: &str = "51024e73";

const HOST: &str = "127.0.0.1";
const STOP_WITHIN: Duration = Duration::from_secs(30);
const PEER_WITHIN: Duration = Duration::from_secs(30);
/// Longer than any long poll and any number of blocks a test mines at once.
const RPC_TIMEOUT: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(20);
const PORT_TRIES: usize = 5;

#[derive(Debug, Clone, Copy)]
struct Ports {
    rpc: u16,
    p2p: Option<u16>,
}

enum DataDir {
    Kept(PathBuf),
    Temporary(TempDir),
}

/// A bitcoind process with its data directory. Dropping it kills the process; so does the death of
/// the process that holds it.
pub struct Node {
    options: NodeOptions,
    exe: PathBuf,
    ports: Ports,
    // Before the directory, because fields are dropped in this order.
    process: Option<Process>,
    data_dir: DataDir,
}

impl Node {
    /// Starts a node and returns once it answers over RPC.
    pub fn start(options: NodeOptions) -> Result<Node, NodeError> {
        let exe = match &options.exe {
            Some(exe) => exe.clone(),
            None => bitcoind::locate()?.path,
        };
        let data_dir = DataDir::create(options.data_dir.as_deref())?;
        let mut node = Node {
            ports: choose_ports(&options)?,
            options,
            exe,
            process: None,
            data_dir,
        };
        for _ in 1..PORT_TRIES {
            match node.launch() {
                Err(error) if error.is_lost_port() => node.ports = choose_ports(&node.options)?,
                Err(error) => return Err(error),
                Ok(()) => return Ok(node),
            }
        }
        node.launch()?;
        Ok(node)
    }

    fn launch(&mut self) -> Result<(), NodeError> {
        let command = self.options.command(&self.exe, self.data_dir(), self.ports);
        // A cookie of an earlier process must not be taken for this one's.
        match fs::remove_file(self.cookie_file()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io_error("remove", &self.cookie_file(), error));
            }
            _ => {}
        }
        let process = Process::spawn(command, &self.output_file())
            .map_err(|e| io_error("start", &self.exe, e))?;
        self.process = Some(process);
        if let Err(error) = self.wait_until_ready() {
            self.process = None;
            return Err(error);
        }
        if self.options.first_block && self.height()? == 0 {
            self.mine(1)?;
        }
        Ok(())
    }

    fn wait_until_ready(&mut self) -> Result<(), NodeError> {
        let deadline = Instant::now() + self.options.ready_within;
        loop {
            self.fail_if_ended()?;
            let last = match self.rpc().and_then(|rpc| blocks(&rpc)) {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            if Instant::now() >= deadline {
                return Err(self.late("answer over RPC", self.options.ready_within, &last));
            }
            sleep(POLL);
        }
    }

    fn fail_if_ended(&mut self) -> Result<(), NodeError> {
        let exe = self.exe.clone();
        let process = self.process.as_mut().ok_or(NodeError::NotRunning)?;
        let status = process
            .exit_status()
            .map_err(|e| io_error("watch", &exe, e))?;
        let Some(status) = status else {
            return Ok(());
        };
        let said = fs::read_to_string(self.output_file()).unwrap_or_default();
        Err(NodeError::Ended {
            status: status.to_string(),
            said: said.trim().to_owned(),
            data_dir: self.data_dir().to_owned(),
        })
    }

    /// A new RPC client with the cookie of the running process.
    pub fn rpc(&self) -> Result<Client, NodeError> {
        if self.process.is_none() {
            return Err(NodeError::NotRunning);
        }
        let rpc_error = |source| NodeError::Connect {
            url: self.rpc_url(),
            source,
        };
        let (user, password) = Auth::CookieFile(self.cookie_file())
            .get_user_pass()
            .map_err(rpc_error)?;
        let transport = MinreqHttpTransport::builder()
            .timeout(RPC_TIMEOUT)
            .url(&self.rpc_url())
            .map_err(|e| rpc_error(bitcoincore_rpc::Error::JsonRpc(e.into())))?
            .basic_auth(user.unwrap_or_default(), password)
            .build();
        let client = jsonrpc::Client::with_transport(transport);
        Ok(Client::from_jsonrpc(client))
    }

    pub fn rpc_url(&self) -> String {
        format!("http://{HOST}:{}", self.ports.rpc)
    }

    pub fn rpc_port(&self) -> u16 {
        self.ports.rpc
    }

    pub fn cookie_file(&self) -> PathBuf {
        self.data_dir()
            .join(self.options.chain_dir())
            .join(".cookie")
    }

    pub fn data_dir(&self) -> &Path {
        match &self.data_dir {
            DataDir::Kept(path) => path,
            DataDir::Temporary(dir) => dir.path(),
        }
    }

    pub fn exe(&self) -> &Path {
        &self.exe
    }

    fn output_file(&self) -> PathBuf {
        self.data_dir().join("bitcoind.out")
    }

    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Process::pid)
    }

    /// Where peers reach this node.
    pub fn p2p_address(&self) -> Result<String, NodeError> {
        let port = self.ports.p2p.ok_or(NodeError::NoP2pPort)?;
        Ok(format!("{HOST}:{port}"))
    }

    /// Any RPC, with `method` named in the error.
    pub fn call<T>(&self, method: &'static str, params: &[Value]) -> Result<T, NodeError>
    where
        T: for<'a> serde::de::Deserialize<'a>,
    {
        call(&self.rpc()?, method, params)
    }

    pub fn height(&self) -> Result<u32, NodeError> {
        blocks(&self.rpc()?)
    }

    pub fn tip(&self) -> Result<BlockHash, NodeError> {
        self.call("getbestblockhash", &[])
    }

    pub fn block(&self, hash: &BlockHash) -> Result<Block, NodeError> {
        self.rpc()?
            .get_block(hash)
            .map_err(|source| NodeError::Rpc {
                method: "getblock",
                source,
            })
    }

    /// Mines `count` blocks with what is in the mempool, paid to [`ANYONE_CAN_SPEND_HEX`].
    pub fn mine(&self, count: u32) -> Result<Vec<BlockHash>, NodeError> {
        self.mine_to_descriptor(count, &raw_descriptor(ANYONE_CAN_SPEND_HEX))
    }

    /// Mines `count` blocks that pay to `script`.
    pub fn mine_to(&self, count: u32, script: &Script) -> Result<Vec<BlockHash>, NodeError> {
        self.mine_to_descriptor(count, &raw_descriptor(&script.to_hex_string()))
    }

    fn mine_to_descriptor(
        &self,
        count: u32,
        descriptor: &str,
    ) -> Result<Vec<BlockHash>, NodeError> {
        self.call("generatetodescriptor", &[json!(count), json!(descriptor)])
    }

    /// Mines one block without the mempool's transactions.
    pub fn mine_empty(&self) -> Result<BlockHash, NodeError> {
        #[derive(serde::Deserialize)]
        struct Generated {
            hash: BlockHash,
        }
        let descriptor = raw_descriptor(ANYONE_CAN_SPEND_HEX);
        let block: Generated = self.call("generateblock", &[json!(descriptor), json!([])])?;
        Ok(block.hash)
    }

    /// Waits, without polling, until `hash` is the tip.
    pub fn wait_for_tip(&self, hash: &BlockHash, within: Duration) -> Result<(), NodeError> {
        #[derive(serde::Deserialize)]
        struct Tip {
            hash: BlockHash,
        }
        let milliseconds = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        let tip: Tip = self.call("waitforblock", &[json!(hash), json!(milliseconds)])?;
        if tip.hash == *hash {
            return Ok(());
        }
        Err(self.late(&format!("reach tip {hash}"), within, &tip.hash))
    }

    /// Connects to `peer`, which listens, and returns once both have shaken hands.
    pub fn connect(&self, peer: &Node) -> Result<(), NodeError> {
        let address = peer.p2p_address()?;
        self.call::<Value>("addnode", &[json!(address), json!("onetry")])?;
        let deadline = Instant::now() + PEER_WITHIN;
        loop {
            let peers: Vec<Value> = self.call("getpeerinfo", &[])?;
            let ready = peers.iter().any(|p| {
                p["addr"] == json!(address) && p["version"].as_u64().is_some_and(|v| v > 0)
            });
            if ready {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let peers = Value::from(peers);
                return Err(self.late(&format!("connect to {address}"), PEER_WITHIN, &peers));
            }
            sleep(POLL);
        }
    }

    /// Makes bitcoind write its chain to disk, which it otherwise does about once an hour.
    pub fn flush(&self) -> Result<(), NodeError> {
        // The statistics are of no interest: computing them begins with a flush.
        self.call::<Value>("gettxoutsetinfo", &[json!("none")])?;
        Ok(())
    }

    /// Stops bitcoind in an orderly way; the data stays.
    pub fn stop(&mut self) -> Result<(), NodeError> {
        let Some(mut process) = self.process.take() else {
            return Ok(());
        };
        let stopped = process
            .terminate(STOP_WITHIN)
            .map_err(|e| io_error("stop", &self.exe, e))?;
        match stopped {
            Some(_) => Ok(()),
            None => Err(self.late("stop", STOP_WITHIN, &"none")),
        }
    }

    /// Kills bitcoind with SIGKILL. What it has not written is lost, blocks included: see
    /// [`Node::flush`].
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts bitcoind again on the same data and ports, after stopping it if it runs.
    pub fn restart(&mut self) -> Result<(), NodeError> {
        self.stop()?;
        self.launch()
    }

    fn late(&self, what: &str, within: Duration, last: &dyn std::fmt::Display) -> NodeError {
        NodeError::Deadline {
            what: what.to_owned(),
            within,
            last: last.to_string(),
            data_dir: self.data_dir().to_owned(),
        }
    }
}

impl DataDir {
    fn create(given: Option<&Path>) -> Result<DataDir, NodeError> {
        let Some(path) = given else {
            return tempfile::Builder::new()
                .prefix("tutti-node-")
                .tempdir()
                .map(DataDir::Temporary)
                .map_err(|e| io_error("create a directory in", &std::env::temp_dir(), e));
        };
        // bitcoind's own working directory may differ from ours one day.
        fs::create_dir_all(path)
            .and_then(|()| path.canonicalize())
            .map(DataDir::Kept)
            .map_err(|e| io_error("create", path, e))
    }
}

fn choose_ports(options: &NodeOptions) -> Result<Ports, NodeError> {
    let port = || free_port().map_err(|e| io_error("find a free port on", Path::new(HOST), e));
    let rpc = port()?;
    let mut p2p = options.p2p.then(&port).transpose()?;
    while p2p == Some(rpc) {
        p2p = Some(port()?);
    }
    Ok(Ports { rpc, p2p })
}

fn raw_descriptor(script_hex: &str) -> String {
    format!("raw({script_hex})")
}

fn blocks(rpc: &Client) -> Result<u32, NodeError> {
    call(rpc, "getblockcount", &[])
}

fn call<T>(rpc: &Client, method: &'static str, params: &[Value]) -> Result<T, NodeError>
where
    T: for<'a> serde::de::Deserialize<'a>,
{
    rpc.call(method, params)
        .map_err(|source| NodeError::Rpc { method, source })
}

fn io_error(doing: &'static str, path: &Path, source: io::Error) -> NodeError {
    NodeError::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}
