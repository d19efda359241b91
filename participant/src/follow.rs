//! Checking the coordinator's ledger beside the session: every share of it, or a few picked at random.
//!
//! The check has a connection of its own, so that shares that come faster than they are checked hold
//! back only themselves. It outlives sessions: after a broken stream it goes on where it was.

mod attended;
mod checked;
mod full;
mod light;
mod window;

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tonic::transport::Endpoint;
use tutti_proto::id::WindowSeq;
use tutti_proto::message::SignedHead;
use tutti_proto::params::{PoolName, PoolParams};
use tutti_proto::participant::LedgerFault;
use tutti_proto::window::{LedgerHead, WindowRecord};
use tutti_proto::wire::MESSAGE_LIMIT_TO_PARTICIPANT;
use tutti_proto::wire::pb::ledger_client::LedgerClient;

use attended::Attended;
pub use checked::{CHECKED, SPACING, Start};
pub use light::{ANSWER_WITHIN, TRIES, UNANSWERED_LIMIT};
pub use window::Keep;

/// A proposal whose ledger is not checked after this time is refused: signatures have two seconds.
pub const PATIENCE: Duration = Duration::from_secs(1);

const CONNECT_WITHIN: Duration = Duration::from_secs(5);
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// Reports that wait for the driver.
const REPORTS: usize = 64;
/// Closed windows that wait for a sample: of a burst of more only the first are looked at, and the others
/// are as good as not answered.
const WINDOWS: usize = 16;

/// How much of the ledger is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Every share, before anything is signed that follows from it.
    Full,
    /// Own work, sums, and so many shares of each window, picked at random after it closed.
    /// A coordinator that has not answered `within` that time, from connecting on, has not answered.
    Light { samples: usize, within: Duration },
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
    /// The check begins with the state of this head: that of our own file, or what the signers signed.
    Begins { head: LedgerHead },
    /// These windows are not checked: nobody tells them any more, and the check starts anew after them.
    Skipped { first: u64, last: u64 },
    /// What was checked before is damaged and was set aside.
    SetAside { why: String },
    /// A window's sample is good.
    Sampled { window: u64, samples: usize },
    /// Nobody answered for a window; the session goes on.
    Unanswered { window: u64, why: String },
    /// So many windows are not answered: the session is to be left for so long.
    Silent { windows: usize, pause: Duration },
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
    closed: Option<mpsc::Sender<light::Closed>>,
    /// For a full check: whatever closed while we were there must be told.
    attended: watch::Sender<Attended>,
    /// Windows that closed since the last that found room to wait for a sample.
    left_out: usize,
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
        let (attended, sessions) = watch::channel(Attended::default());
        let (task, closed) = match mode {
            Mode::Off => return None,
            Mode::Full => {
                let task = full::follow(address, pool, (start, keep), (reports, sessions));
                (tokio::spawn(task), None)
            }
            Mode::Light { samples, within } => {
                let (closed, windows) = mpsc::channel(WINDOWS);
                let sampler = light::Sampler::new(address, pool, (samples, within), reports);
                (tokio::spawn(sampler.run(windows)), Some(closed))
            }
        };
        Some(Self {
            task,
            closed,
            attended,
            left_out: 0,
            pool,
        })
    }

    /// Whether it is of this pool.
    pub fn is_of(&self, pool: &PoolName) -> bool {
        self.pool == *pool
    }

    /// A session with the pool begins, with this window open.
    pub fn joined(&mut self, open: WindowSeq, params: &PoolParams) {
        self.attended.send_modify(|attended| {
            attended.joined(open);
            attended.has_params(params);
        });
    }

    /// A round under this compact target is proposed in the session.
    pub fn proposed(&mut self, bits: u32) {
        self.attended
            .send_modify(|attended| attended.proposed(bits));
    }

    /// The session is over.
    pub fn left(&mut self) {
        self.attended.send_modify(Attended::left);
    }

    /// A window has closed in the session.
    pub fn closed(&mut self, record: &WindowRecord) {
        self.attended
            .send_modify(|attended| attended.closed(record.seq));
        let Some(closed) = &self.closed else { return };
        let Ok(place) = closed.try_reserve() else {
            // The sampler is that late.
            self.left_out = self.left_out.saturating_add(1);
            return;
        };
        place.send(light::Closed {
            record: record.clone(),
            left_out: std::mem::take(&mut self.left_out),
        });
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
