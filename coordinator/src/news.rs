//! What the log says: every event's name, severity and fields, once, for people and for programs. People are told
//! in a sentence, too, what to do about a warning or an error.
//!
//! A program reads one JSON object a line: `ts`, `level`, `event`, then the event's fields. Integers
//! are numbers; identities and rounds are hex strings; block hashes are in display order.

#[cfg(test)]
mod caught;
mod event;
mod flood;
mod format;
mod sentence;
mod settlement;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Network};
use serde_json::Value;
use tracing::Level;
use tutti_daemon::config::LogSettings;
use tutti_daemon::faults::Fault;
use tutti_daemon::log::{self, LogError, LogGuard};
use tutti_proto::feerate::FeeRate;
use tutti_proto::id::{Identity, PeerId, WindowSeq};
use tutti_proto::segment::FileId;
use tutti_proto::template::Template;

use crate::chain::{BlockError, NodeError};
use crate::daemon::DaemonError;
use crate::segments::SegmentError;
use crate::store::StoreError;
#[cfg(test)]
pub(crate) use caught::caught;
pub(crate) use event::abort_reason;
use flood::Flood;

/// Our own lines, in filters.
const TARGET: &str = "tutti_coordinator";
/// Lines of the store, in filters.
const STORE: &str = "tutti_coordinator::store";

/// Starts the log.
pub fn start(settings: LogSettings) -> Result<LogGuard, LogError> {
    let left_out = |lines| News::log_left_out(lines).tell();
    log::start(settings, TARGET, left_out)
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct News {
    level: Level,
    name: &'static str,
    fields: Vec<(&'static str, Value)>,
}

impl News {
    pub(crate) fn new(level: Level, name: &'static str) -> Self {
        Self {
            level,
            name,
            fields: Vec::new(),
        }
    }

    pub(crate) fn with(mut self, key: &'static str, value: impl Into<Value>) -> Self {
        self.fields.push((key, value.into()));
        self
    }

    pub(crate) fn text(self, key: &'static str, value: impl fmt::Display) -> Self {
        self.with(key, value.to_string())
    }

    /// Writes it, if the log's level lets it, and strangers have not caused too many of its kind.
    pub fn tell(&self) {
        static FLOOD: Flood = Flood::new();
        let may_tell = || match FLOOD.take(self.name, Instant::now()) {
            None => false,
            Some(0) => true,
            Some(lines) => {
                Self::flood_left_out(self.name, lines).tell();
                true
            }
        };
        let (json, text) = (format::Json(self), format::Text(self));
        // The level of a tracing event must be known when it is compiled.
        macro_rules! at {
            ($($level:ident)*) => {
                match self.level {
                    $(Level::$level if tracing::enabled!(target: TARGET, Level::$level) && may_tell() => tracing::event!(
                        target: TARGET, Level::$level, json = %json, text = %text
                    ),)*
                    _ => {}
                }
            };
        }
        at!(ERROR WARN INFO DEBUG TRACE);
    }

    /// Whether the log takes errors: the environment's RUST_LOG may leave out even these.
    pub fn are_errors_told() -> bool {
        tracing::enabled!(target: TARGET, Level::ERROR)
    }

    /// Whether the log takes what is of use to developers only.
    pub fn is_debugged() -> bool {
        tracing::enabled!(target: TARGET, Level::DEBUG)
    }

    /// Shares were made durable. A target of its own, so that a filter can leave out the shares.
    pub fn tell_flushed(shares: usize, took: Duration) {
        if !tracing::enabled!(target: STORE, Level::DEBUG) {
            return;
        }
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let news = Self::new(Level::DEBUG, "flushed")
            .with("shares", shares)
            .with("micros", micros);
        let (json, text) = (format::Json(&news), format::Text(&news));
        tracing::event!(target: STORE, Level::DEBUG, json = %json, text = %text);
    }

    /// Participants may connect.
    pub fn listening(address: SocketAddr, identity: &Identity, network: Network) -> Self {
        Self::new(Level::INFO, "listening")
            .text("address", address)
            .text("identity", identity)
            .text("network", network)
    }

    /// A monitoring system may read.
    pub fn metrics(address: SocketAddr) -> Self {
        Self::new(Level::INFO, "metrics").text("address", address)
    }

    /// The daemon ends in an orderly way.
    pub fn stopped() -> Self {
        Self::new(Level::INFO, "stopped")
    }

    /// The daemon ends, or does not start. Its error says what to do.
    pub fn failed(why: &DaemonError) -> Self {
        Self::new(Level::ERROR, "failed").text("why", why)
    }

    /// A thread of ours fails.
    pub fn fault(fault: &Fault<'_>) -> Self {
        let news = Self::new(Level::ERROR, "fault")
            .with("thread", fault.thread)
            .with("why", fault.why)
            .with("place", fault.place.as_deref());
        match fault.backtrace.as_deref() {
            Some(backtrace) => news.with("backtrace", backtrace),
            None => news,
        }
    }

    /// A long replay goes on.
    pub fn replaying(records: u64, of: u64) -> Self {
        Self::new(Level::INFO, "replaying")
            .with("records", records)
            .with("of", of)
    }

    /// A damaged record is done without.
    pub fn given_up(why: &StoreError) -> Self {
        Self::new(Level::WARN, "record_given_up").text("why", why)
    }

    /// Rounds of before are live again.
    pub fn restored(rounds: usize) -> Self {
        Self::new(Level::INFO, "restored").with("rounds", rounds)
    }

    /// The node gives no templates.
    pub fn node_away(why: &NodeError, retry: Duration) -> Self {
        let retry_ms = u64::try_from(retry.as_millis()).unwrap_or(u64::MAX);
        Self::new(Level::WARN, "node_away")
            .text("why", why)
            .with("retry_ms", retry_ms)
    }

    /// The node gives templates again.
    pub fn node_back() -> Self {
        Self::new(Level::INFO, "node_back")
    }

    /// The node does not say what payouts should pay: they pay what it said last, or the least that is relayed.
    pub fn feerate_unknown(why: &str, feerate: FeeRate) -> Self {
        Self::new(Level::WARN, "feerate_unknown")
            .with("feerate_sat_per_kvb", feerate.sat_per_kvb())
            .with("why", why)
    }

    /// The node gave a template.
    pub fn template(template: &Template, new_tip: bool) -> Self {
        let level = if new_tip { Level::INFO } else { Level::DEBUG };
        Self::new(level, "template")
            .with("height", template.height)
            .with("reward", template.reward)
            .with("transactions", template.transactions.len())
            .with("feerate_sat_per_kvb", template.feerate.sat_per_kvb())
            .text("previous_block", block_hash(&template.previous_block))
            .with("new_tip", new_tip)
    }

    /// Lines were not written: nobody reads the log, or not fast enough.
    pub fn log_left_out(lines: u64) -> Self {
        Self::new(Level::WARN, "log_left_out").with("lines", lines)
    }

    /// Lines about what strangers caused were not written.
    pub fn flood_left_out(of: &'static str, lines: u64) -> Self {
        Self::new(Level::WARN, "flood_left_out")
            .with("of", of)
            .with("lines", lines)
    }

    /// A found block cannot be handed over yet.
    pub fn block_waiting(hash: &[u8; 32], why: &NodeError) -> Self {
        Self::new(Level::ERROR, "block_waiting")
            .text("hash", block_hash(hash))
            .text("why", why)
    }

    /// A found block is in memory only until the node has it.
    pub fn block_not_kept(why: &BlockError) -> Self {
        Self::new(Level::ERROR, "block_not_kept").text("why", why)
    }

    /// The node fails at a found block: whether its chain still has it is asked again.
    pub fn fate_unknown(hash: &[u8; 32], why: &NodeError) -> Self {
        Self::new(Level::ERROR, "fate_unknown")
            .text("hash", block_hash(hash))
            .text("why", why)
    }

    /// A found block of before the restart cannot be handed over.
    pub fn block_damaged(hash: &[u8; 32], why: &BlockError) -> Self {
        Self::new(Level::ERROR, "block_damaged")
            .text("hash", block_hash(hash))
            .text("why", why)
    }

    /// A participant does not read what it is sent.
    pub fn reader_too_slow(peer: PeerId, address: Option<SocketAddr>) -> Self {
        Self::new(Level::WARN, "reader_too_slow")
            .with("peer", peer.0)
            .with("address", address.map(|address| address.to_string()))
    }

    /// A peer took a connection and did not join.
    pub fn join_overdue(peer: PeerId, address: Option<SocketAddr>) -> Self {
        Self::new(Level::INFO, "join_overdue")
            .with("peer", peer.0)
            .with("address", address.map(|address| address.to_string()))
    }

    /// A window's segment is on disk.
    pub fn segment(
        window: WindowSeq,
        id: &FileId,
        (shares, bytes): (u64, usize),
        took: Duration,
    ) -> Self {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        Self::new(Level::INFO, "segment")
            .with("window", window.0)
            .text("cid", id)
            .with("shares", shares)
            .with("bytes", bytes)
            .with("micros", micros)
    }

    /// No auditor would take a window's segment: its shares stay in the store.
    pub fn segment_refused(window: WindowSeq, why: &SegmentError) -> Self {
        Self::new(Level::ERROR, "segment_refused")
            .with("window", window.0)
            .text("why", why)
    }

    /// A segment is larger than readers of files have to take.
    pub fn segment_oversized(window: WindowSeq, bytes: usize, limit: usize) -> Self {
        Self::new(Level::WARN, "segment_oversized")
            .with("window", window.0)
            .with("bytes", bytes)
            .with("limit", limit)
    }

    /// A file is not what was written: nobody is served it.
    pub fn file_damaged(path: &Path, why: &str) -> Self {
        Self::new(Level::ERROR, "file_damaged")
            .text("path", path.display())
            .with("why", why)
    }

    /// A window's segment was removed, as the configuration asks.
    pub fn segment_pruned(window: WindowSeq) -> Self {
        Self::new(Level::INFO, "segment_pruned").with("window", window.0)
    }

    /// The disk has no room for a copy of the store, which was not closed in good order.
    pub fn store_not_copied(store: &Path, why: &io::Error) -> Self {
        Self::new(Level::WARN, "store_not_copied")
            .text("store", store.display())
            .text("why", why)
    }

    /// The log begins with what it added up to after this window; what was before is in segments.
    pub fn log_cut(window: WindowSeq, took: Duration) -> Self {
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        Self::new(Level::INFO, "log_cut")
            .with("window", window.0)
            .with("ms", ms)
    }

    /// What explains a found block's amounts is on disk.
    pub fn block_explained(hash: &[u8; 32], id: &FileId) -> Self {
        Self::new(Level::INFO, "block_explained")
            .text("hash", block_hash(hash))
            .text("cid", id)
    }

    /// The store does not lead to the state that a found block's amounts were computed from.
    pub fn block_unexplained(hash: &[u8; 32], why: &SegmentError) -> Self {
        Self::new(Level::ERROR, "block_unexplained")
            .text("hash", block_hash(hash))
            .text("why", why)
    }

    /// A segment could not be written; its window waits in the store until it can.
    pub fn archive_failed(why: &SegmentError) -> Self {
        Self::new(Level::ERROR, "archive_failed").text("why", why)
    }

    /// The open window is not told to followers: they get it from its segment.
    pub fn feed_broken(window: WindowSeq, why: &SegmentError) -> Self {
        Self::new(Level::ERROR, "feed_broken")
            .with("window", window.0)
            .text("why", why)
    }

    /// There are as many connections as there may be.
    pub fn connections_full(address: SocketAddr, limit: usize) -> Self {
        Self::new(Level::WARN, "connections_full")
            .text("address", address)
            .with("limit", limit)
    }

    /// The listening socket gives no connection.
    pub fn accept_failed(why: &std::io::Error) -> Self {
        Self::new(Level::ERROR, "accept_failed").text("why", why)
    }
}

/// A block's hash as people write it.
fn block_hash(hash: &[u8; 32]) -> BlockHash {
    BlockHash::from_byte_array(*hash)
}
