//! Checking the coordinator's ledger beside the session: every share of it, or a few picked at random.
//!
//! The check has a connection of its own, so that shares that come faster than they are checked hold
//! back only themselves. It outlives sessions: after a broken stream it goes on where it was.

mod checked;
mod full;
mod light;
mod window;

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::transport::Endpoint;
use tutti_proto::message::SignedHead;
use tutti_proto::params::PoolName;
use tutti_proto::participant::LedgerFault;
use tutti_proto::window::{LedgerHead, WindowRecord};
use tutti_proto::wire::MESSAGE_LIMIT_TO_PARTICIPANT;
use tutti_proto::wire::pb::ledger_client::LedgerClient;

pub use checked::{CHECKED, SPACING, Start};
pub use window::Keep;

/// A proposal whose ledger is not checked after this time is refused: signatures have two seconds.
pub const PATIENCE: Duration = Duration::from_secs(1);

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Reports that wait for the driver.
const REPORTS: usize = 64;
/// Closed windows that wait for a sample: of a burst of more only the first are looked at.
const WINDOWS: usize = 16;

/// How much of the ledger is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Every share, before anything is signed that follows from it.
    Full,
    /// Own work, sums, and so many shares of each window, picked at random after it closed.
    Light { samples: usize },
    /// Only own work: other miners' is taken on the coordinator's word.
    Off,
}

/// What the check says.
#[derive(Debug)]
pub enum Report {
    /// The coordinator signed this head for us, right or wrong.
    Told(SignedHead),
    /// All shares up to this head are good, `shares` of them in its window.
    Checked { head: LedgerHead, shares: u64 },
    /// A window's sample is good.
    Sampled { window: u64, samples: usize },
    /// A closed window was kept as this file.
    Kept { window: u64, file: String },
    /// The ledger is false.
    False(LedgerFault),
    /// The check cannot go on; it is tried again.
    Trouble { why: String, retry: Duration },
}

/// A report, and the pool that it is of.
pub type PoolReport = (PoolName, Report);

/// The way of a check's reports: with the pool that they are of.
#[derive(Clone)]
struct Reports {
    pool: PoolName,
    reports: mpsc::Sender<PoolReport>,
}

/// Nobody listens any more.
struct Unheard;

impl Reports {
    async fn send(&self, report: Report) -> Result<(), Unheard> {
        let sent = self.reports.send((self.pool, report)).await;
        sent.map_err(|_| Unheard)
    }
}

/// A running check. Dropping it ends it.
pub struct Follower {
    task: JoinHandle<()>,
    closed: Option<mpsc::Sender<WindowRecord>>,
    pool: PoolName,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Follower {
    /// Starts to check the ledger of this pool; `None` if nothing is to be checked.
    pub fn start(
        mode: Mode,
        address: &str,
        pool: PoolName,
        (start, keep): (Start, Option<Keep>),
        reports: mpsc::Sender<PoolReport>,
    ) -> Option<Self> {
        let reports = Reports { pool, reports };
        let address = address.to_owned();
        let (task, closed) = match mode {
            Mode::Off => return None,
            Mode::Full => {
                let task = full::follow(address, pool, (start, keep), reports);
                (tokio::spawn(task), None)
            }
            Mode::Light { samples } => {
                let (closed, windows) = mpsc::channel(WINDOWS);
                let task = light::sample(address, pool, samples, windows, reports);
                (tokio::spawn(task), Some(closed))
            }
        };
        Some(Self { task, closed, pool })
    }

    /// Whether it is of this pool.
    pub fn is_of(&self, pool: &PoolName) -> bool {
        self.pool == *pool
    }

    /// A window has closed in the session.
    pub fn closed(&self, record: &WindowRecord) {
        if let Some(closed) = &self.closed {
            // A sampler that is that late leaves this one out.
            let _ = closed.try_send(record.clone());
        }
    }
}

/// Where a check's reports go.
pub fn reports() -> (mpsc::Sender<PoolReport>, mpsc::Receiver<PoolReport>) {
    mpsc::channel(REPORTS)
}

async fn connect(address: &str) -> Result<LedgerClient<tonic::transport::Channel>, String> {
    let endpoint = Endpoint::from_shared(address.to_owned()).map_err(|error| error.to_string())?;
    let channel = endpoint
        .connect_timeout(CONNECT_WITHIN)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .tcp_keepalive(Some(KEEP_ALIVE))
        .connect()
        .await
        .map_err(|error| crate::client::causes(&error))?;
    Ok(LedgerClient::new(channel).max_decoding_message_size(MESSAGE_LIMIT_TO_PARTICIPANT))
}
