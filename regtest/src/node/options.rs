//! How a node is started.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::Ports;

/// Every long poll occupies one thread of bitcoind's RPC server.
const RPC_THREADS: u32 = 16;
const RPC_WORK_QUEUE: u32 = 128;
/// Regtest's coins fit; a test run starts many nodes.
const DB_CACHE_MIB: u32 = 16;

/// Settings of a node. The default is a single node in a directory of its own that vanishes with
/// it.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    /// The bitcoind to run; `None` for the one that [`crate::bitcoind::locate`] finds.
    pub exe: Option<PathBuf>,
    /// Created if missing and kept; `None` for a temporary directory.
    pub data_dir: Option<PathBuf>,
    /// Listen for peers, on a port of 127.0.0.1. Only [`super::Node::connect`] makes connections.
    pub p2p: bool,
    /// Mine a block if the chain has none, so that the node leaves initial block download, in
    /// which it relays no transactions. Off for a node that shall get its first block from a peer.
    pub first_block: bool,
    /// A signet of its own, whose blocks anyone may make, instead of regtest: there the clock counts. A block
    /// takes some millions of hashes.
    pub signet: bool,
    /// More of bitcoind's options, such as `-blockmaxweight=40000`.
    pub extra_args: Vec<String>,
    /// How long to wait for the first answer over RPC.
    pub ready_within: Duration,
}

impl Default for NodeOptions {
    fn default() -> Self {
        NodeOptions {
            exe: None,
            data_dir: None,
            p2p: false,
            first_block: true,
            signet: false,
            extra_args: Vec::new(),
            ready_within: Duration::from_secs(60),
        }
    }
}

impl NodeOptions {
    /// Where bitcoind keeps the chain's files, below its data directory.
    pub(super) fn chain_dir(&self) -> &'static str {
        match self.signet {
            true => "signet",
            false => "regtest",
        }
    }

    pub(super) fn command(
        &self,
        exe: &std::path::Path,
        data_dir: &std::path::Path,
        ports: Ports,
    ) -> Command {
        let mut command = Command::new(exe);
        let mut data_dir_option = std::ffi::OsString::from("-datadir=");
        data_dir_option.push(data_dir);
        command
            .arg(data_dir_option)
            .args(match self.signet {
                true => &["-signet", "-signetchallenge=51"][..],
                false => &["-regtest"],
            })
            .args(["-server", "-printtoconsole=0", "-txindex=0"])
            .args(["-dnsseed=0", "-fixedseeds=0", "-discover=0", "-natpmp=0"])
            .arg(format!("-rpcport={}", ports.rpc))
            .args(["-rpcbind=127.0.0.1", "-rpcallowip=127.0.0.1"])
            .arg(format!("-rpcthreads={RPC_THREADS}"))
            .arg(format!("-rpcworkqueue={RPC_WORK_QUEUE}"))
            .arg(format!("-dbcache={DB_CACHE_MIB}"));
        match ports.p2p {
            Some(port) => command
                .args(["-listen=1", "-listenonion=0"])
                .arg(format!("-bind=127.0.0.1:{port}")),
            None => command.arg("-listen=0"),
        };
        command.args(&self.extra_args);
        command
    }
}
