//! What the daemon itself has to say.

use std::path::Path;
use std::time::Duration;

use bitcoin::{BlockHash, Txid};
use tutti_daemon::faults::Fault;
use tutti_proto::id::Identity;
use tutti_proto::settlement::Alarm;

use super::{News, debug, error, info, warn};
use crate::miner::Kernel;
use crate::settle::Passed;
use crate::store::RoundName;

/// Something that is not the protocol's.
#[derive(Clone, Debug)]
pub enum DaemonEvent<'a> {
    Identity(&'a Identity),
    /// What hashes.
    Hasher {
        kernel: Kernel,
        threads: u32,
    },
    /// There is no `[node]` section.
    NoNode,
    Connected {
        address: &'a str,
    },
    Disconnected {
        why: &'a str,
        retry: Duration,
    },
    NodeAway {
        why: &'a str,
        retry: Duration,
    },
    NodeBack {
        tip: u32,
    },
    /// The own node's view of the chain is in doubt.
    NodeView {
        tip: u32,
        alarm: Alarm,
    },
    /// It is not any more.
    NodeViewGood {
        tip: u32,
    },
    /// Settlement without mining.
    Watching {
        rounds: usize,
    },
    /// The node answers something with an error.
    NodeFails {
        why: &'a str,
    },
    /// So it does at one payout: the others go on.
    PayoutWaiting {
        txid: Txid,
        why: &'a str,
    },
    /// The node never estimates fees.
    NoFeeEstimates,
    /// Payouts go to keys that are not here, so nothing is bumped by policy.
    NoBumps,
    /// The node does not have blocks that were to be looked at.
    BlocksPruned(Passed),
    /// The node does not show the coinbase of payouts that were imported alone.
    CoinbaseUnknown {
        coinbase: Txid,
        height: u32,
        why: &'a str,
    },
    RoundUnreadable {
        why: &'a str,
    },
    RoundsForgotten(&'a [RoundName]),
    NewPayoutAddress {
        address: &'a str,
    },
    NoNewAddress {
        why: &'a str,
    },
    /// The hasher was handed jobs: it searches these slices, on this block.
    Mining {
        previous_block: BlockHash,
        slices: usize,
    },
    /// The hasher has nothing to search any more.
    Idle,
    /// An order that no hasher can carry out.
    BadOrder {
        why: &'a str,
    },
    /// The file of the coordinator's signed heads is not whole.
    HeadsLost {
        path: &'a Path,
    },
    /// Another pool than the last one, whose identity the configuration does not name.
    OtherCoordinator {
        before: &'a Identity,
        now: &'a Identity,
    },
    Stopped,
    /// It does not start, or ends by itself.
    Failed {
        why: &'a str,
    },
    /// A thread of ours fails.
    Fault(&'a Fault<'a>),
    /// Whoever reads the log is too slow.
    LogLeftOut {
        lines: u64,
    },
}

impl From<DaemonEvent<'_>> for News {
    fn from(event: DaemonEvent<'_>) -> Self {
        match event {
            DaemonEvent::Identity(identity) => {
                info("identity", format!("this participant is {identity}"))
                    .with("identity", identity.to_string())
            }
            DaemonEvent::Hasher { kernel, threads } => {
                let threads_text = if threads == 1 { "thread" } else { "threads" };
                info(
                    "hasher",
                    format!("hashing with the kernel {kernel} on {threads} {threads_text}"),
                )
                .with("kernel", kernel.name())
                .with("threads", threads)
            }
            DaemonEvent::NoNode => warn(
                "no_node",
                "no [node] is configured: other participants must broadcast the payouts, and no round is ever forgotten",
            ),
            DaemonEvent::Connected { address } => {
                info("connected", format!("connected to {address}")).with("address", address)
            }
            DaemonEvent::Disconnected { why, retry } => warn(
                "disconnected",
                format!("no connection to the coordinator ({why}); trying again in {retry:.1?}"),
            )
            .with("why", why)
            .with("retry_ms", millis(retry)),
            DaemonEvent::NodeAway { why, retry } => warn(
                "node_away",
                format!("the own node does not answer ({why}); trying again in {retry:.1?}"),
            )
            .with("why", why)
            .with("retry_ms", millis(retry)),
            DaemonEvent::NodeBack { tip } => info(
                "node_back",
                format!("following the own node from block {tip} on"),
            )
            .with("tip", tip),
            DaemonEvent::NodeView { tip, alarm } => node_view(tip, alarm),
            DaemonEvent::NodeViewGood { tip } => info(
                "node_view_good",
                format!("the own node's view of the chain is as it should be, at block {tip}"),
            )
            .with("tip", tip),
            DaemonEvent::Watching { rounds } => info(
                "watching",
                format!("watching for the blocks of {rounds} rounds, without mining"),
            )
            .with("rounds", rounds),
            DaemonEvent::NodeFails { why } => node_fails(why),
            DaemonEvent::PayoutWaiting { txid, why } => payout_waiting(txid, why),
            DaemonEvent::NoFeeEstimates => warn(
                "no_fee_estimates",
                "the node estimates no fees, as with -blocksonly: payouts are bumped by half as much again each time, or above what its mempool takes",
            ),
            DaemonEvent::NoBumps => info(
                "no_bumps",
                "[wallet] sends payouts to keys that are not here, so this participant bumps none by itself: the coordinator and other payees do, or the wallet that has the keys",
            ),
            DaemonEvent::BlocksPruned(passed) => blocks_pruned(&passed),
            DaemonEvent::CoinbaseUnknown {
                coinbase,
                height,
                why,
            } => coinbase_unknown(coinbase, height, why),
            DaemonEvent::RoundUnreadable { why } => error("round_unreadable", why).with("why", why),
            DaemonEvent::RoundsForgotten(rounds) => {
                let rounds: Vec<u64> = rounds.iter().map(|name| name.seq.0).collect();
                debug(
                    "rounds_forgotten",
                    format!("forgot {} rounds whose block nobody found", rounds.len()),
                )
                .with("rounds", rounds)
            }
            DaemonEvent::NewPayoutAddress { address } => info(
                "new_payout_address",
                format!("from now on to be paid to {address}"),
            )
            .with("address", address),
            DaemonEvent::NoNewAddress { why } => warn(
                "no_new_address",
                format!("the old payout address stays in use: {why}"),
            )
            .with("why", why),
            DaemonEvent::Mining {
                previous_block,
                slices,
            } => debug(
                "mining",
                format!("searching {slices} slices for the block after {previous_block}"),
            )
            .with("previous_block", previous_block.to_string())
            .with("slices", slices),
            DaemonEvent::Idle => warn("idle", "no job: nothing is hashed"),
            DaemonEvent::BadOrder { why } => {
                error("bad_order", format!("a job that cannot be hashed: {why}")).with("why", why)
            }
            DaemonEvent::HeadsLost { path } => heads_lost(path),
            DaemonEvent::OtherCoordinator { before, now } => other_coordinator(before, now),
            DaemonEvent::Stopped => info("stopped", "stopped"),
            DaemonEvent::Failed { why } => error("failed", why).with("why", why),
            DaemonEvent::Fault(what) => fault(what),
            DaemonEvent::LogLeftOut { lines } => warn(
                "log_left_out",
                format!("{lines} lines of this log were not written, because whoever reads it is too slow; lower log.level, or look at what takes stderr"),
            )
            .with("lines", lines),
        }
    }
}

fn other_coordinator(before: &Identity, now: &Identity) -> News {
    warn(
        "other_coordinator",
        format!("this is not the coordinator of before ({before}) but {now}: what was acknowledged there is its to pay; if you did not change pools, somebody is in between, so ask the pool host, and set coordinator_identity in the configuration to what it says"),
    )
    .with("before", before.to_string())
    .with("now", now.to_string())
}

fn heads_lost(path: &Path) -> News {
    let path = path.display().to_string();
    warn(
        "heads_lost",
        format!("{path} is not whole, as after a power failure: what the coordinator signed before is forgotten, so that another history of those windows would not convict it; nothing to do"),
    )
    .with("path", path)
}

fn fault(fault: &Fault<'_>) -> News {
    let (thread, why) = (fault.thread, fault.why);
    let place = fault.place.as_deref().unwrap_or("an unknown place");
    let news = error(
        "fault",
        format!("the thread {thread} failed at {place} ({why}): this is a defect of Tutti, please report it with this line; the daemon ends now, is to be started again, and goes on with what is on its disk"),
    )
    .with("thread", thread)
    .with("why", why)
    .with("place", place);
    match fault.backtrace.as_deref() {
        Some(backtrace) => news.with("backtrace", backtrace),
        None => news,
    }
}

fn node_fails(why: &str) -> News {
    error(
        "node_fails",
        format!("{why}; asking again, and looking after the payouts meanwhile"),
    )
    .with("why", why)
}

fn payout_waiting(txid: Txid, why: &str) -> News {
    error(
        "payout_waiting",
        format!("the node fails at payout {txid} ({why}); trying again, and the others go on"),
    )
    .with("payout_txid", txid.to_string())
    .with("why", why)
}

fn coinbase_unknown(coinbase: Txid, height: u32, why: &str) -> News {
    warn(
        "coinbase_unknown",
        format!(
            "the node does not show coinbase {coinbase} of block {height} ({why}): its payouts, which were imported alone, are broadcast, but what they cost is not known, so no bump of them is made; import them as PSBTs, which say it"
        ),
    )
    .with("coinbase_txid", coinbase.to_string())
    .with("height", height)
    .with("why", why)
}

fn blocks_pruned(passed: &Passed) -> News {
    let Passed {
        from,
        to,
        undecided,
    } = *passed;
    let unknown = match undecided {
        0 => "nothing of the held rounds is unknown".to_owned(),
        rounds => format!(
            "of {rounds} held rounds nothing says whether their block was found: they are kept; to have them looked at, set [node] to a node that keeps its blocks"
        ),
    };
    warn(
        "blocks_pruned",
        format!(
            "the node does not have blocks {from} to {to} (it is pruned, or lost them): coinbases and payouts there are seen by their unspent outputs alone; {unknown}"
        ),
    )
    .with("from", from)
    .with("to", to)
    .with("undecided", undecided)
}

/// A payout that looks immature to such a node may be ripe.
fn node_view(tip: u32, alarm: Alarm) -> News {
    const WHAT_TO_DO: &str = "it may be cut off; check its peers (bitcoin-cli getpeerinfo), or compare its tip with another node's";
    match alarm {
        Alarm::Stale { age_s } => error(
            "node_stale",
            format!(
                "the own node's last block, {tip}, is {} minutes old: {WHAT_TO_DO}",
                age_s / 60
            ),
        )
        .with("age_s", age_s),
        Alarm::Behind { blocks } => error(
            "node_behind",
            format!(
                "the own node's last block, {tip}, is {blocks} below the one that the coordinator works on: {WHAT_TO_DO}"
            ),
        )
        .with("blocks", blocks),
        Alarm::OtherBranch { height } => error(
            "node_other_branch",
            format!(
                "the coordinator works on another block {height} than the own node has: one of them is on a branch that will not last; {WHAT_TO_DO}"
            ),
        )
        .with("height", height),
    }
    .with("tip", tip)
}

pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
