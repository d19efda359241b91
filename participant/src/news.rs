//! What happened, once: a name and fields for programs, a sentence for persons.
//!
//! Both log formats come from here, so neither says what the other does not. Nothing secret is ever
//! a field: the types here hold public keys, hashes, heights and amounts.

mod check;
mod daemon;
mod settlement;

use std::fmt;

use bitcoin::BlockHash;
use bitcoin::hashes::Hash;
use serde_json::{Map, Value};
use tracing::Level;
use tutti_daemon::config::LogSettings;
use tutti_daemon::log::{self, LogError, LogGuard};
use tutti_proto::message::{AbortReason, BlockFound, TxAborted};
use tutti_proto::participant::Event;

use crate::amount::{both, grouped};

/// Our own lines, in filters.
const TARGET: &str = "tutti_participant";

/// Starts the log.
pub fn start(settings: LogSettings) -> Result<LogGuard, LogError> {
    let left_out = |lines| News::from(DaemonEvent::LogLeftOut { lines }).emit();
    log::start(settings, TARGET, left_out)
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct News {
    pub level: Level,
    /// For programs, in snake_case; stable.
    pub name: &'static str,
    pub fields: Map<String, Value>,
    /// For persons.
    pub text: String,
}

impl News {
    pub(crate) fn new(level: Level, name: &'static str, text: impl Into<String>) -> Self {
        Self {
            level,
            name,
            fields: Map::new(),
            text: text.into(),
        }
    }

    pub(crate) fn with(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(key.to_owned(), value.into());
        self
    }

    /// Whether the log takes errors: the environment's RUST_LOG may leave out even these.
    pub fn are_errors_told() -> bool {
        tracing::enabled!(target: TARGET, Level::ERROR)
    }

    /// Logs it.
    pub fn emit(self) {
        let (json, text) = (Json(&self), Text(&self));
        // The macro wants a level that is known when it is compiled.
        macro_rules! at {
            ($($level:ident)*) => {
                match self.level {
                    $(Level::$level => tracing::event!(
                        target: TARGET, Level::$level, json = %json, text = %text
                    ),)*
                }
            };
        }
        at!(ERROR WARN INFO DEBUG TRACE);
    }
}

/// The inside of an object, for programs.
struct Json<'a>(&'a News);

impl fmt::Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"event\":\"{}\"", self.0.name)?;
        let mut fields = self.0.fields.iter();
        fields.try_for_each(|(key, value)| write!(f, ",\"{key}\":{value}"))
    }
}

/// The sentence; of trouble also the name by which the documents call it.
struct Text<'a>(&'a News);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.text)?;
        // Errors are the lowest.
        match self.0.level <= Level::WARN {
            true => write!(f, " [{}]", self.0.name),
            false => Ok(()),
        }
    }
}

fn info(name: &'static str, text: impl Into<String>) -> News {
    News::new(Level::INFO, name, text)
}

fn warn(name: &'static str, text: impl Into<String>) -> News {
    News::new(Level::WARN, name, text)
}

fn error(name: &'static str, text: impl Into<String>) -> News {
    News::new(Level::ERROR, name, text)
}

fn debug(name: &'static str, text: impl Into<String>) -> News {
    News::new(Level::DEBUG, name, text)
}

impl From<&Event> for News {
    /// All events are named here, so that a new one is not forgotten.
    fn from(event: &Event) -> Self {
        match event {
            Event::Joined { .. }
            | Event::PlanAccepted { .. }
            | Event::Holding { .. }
            | Event::Hashing { .. }
            | Event::SharesAcknowledged { .. }
            | Event::ShareCounted { .. }
            | Event::Credited { .. }
            | Event::ShareHeldBack { .. }
            | Event::BlockFound(_) => progress(event),
            Event::PlanRefused { .. }
            | Event::Aborted(_)
            | Event::BadCommit(_)
            | Event::UnsignedJob { .. }
            | Event::ShareRefused(_)
            | Event::Rejected(_)
            | Event::OutputNotTaken { .. }
            | Event::WorkMissing { .. }
            | Event::WrongWindow { .. }
            | Event::FalseBlame { .. }
            | Event::WrongBooking { .. }
            | Event::BlockUnseen(_)
            | Event::BlockNotBooked(_) => trouble(event),
            Event::WrongVersion { .. }
            | Event::WrongNetwork { .. }
            | Event::WrongCoordinator(_)
            | Event::OperatorFeeTooHigh { .. }
            | Event::BumpCreditTooHigh { .. }
            | Event::BadParams(_)
            | Event::BadState(_)
            | Event::RolledBack { .. }
            | Event::Equivocation(_)
            | Event::Convicted(_)
            | Event::UnsignedHead(_)
            | Event::LedgerFalse(_)
            | Event::TooManyAttempts { .. }
            | Event::UnsignedProposal => refused_session(event),
            Event::OutOfOrder => out_of_order(),
        }
    }
}

fn out_of_order() -> News {
    error(
        "out_of_order",
        "the coordinator sent a message that does not belong here",
    )
}

/// Events that a miner likes to see.
fn progress(event: &Event) -> News {
    match event {
        Event::Joined {
            coordinator,
            payees,
            window,
        } => info(
            "joined",
            format!("joined the pool of {coordinator:.16}: {payees} payees, window {window}"),
        )
        .with("coordinator", coordinator.to_string())
        .with("payees", *payees)
        .with("window", window.0),
        Event::PlanAccepted {
            seq,
            attempt,
            signed,
        } => {
            let what = if *signed { "signed" } else { "agreed to" };
            info(
                "plan_accepted",
                format!("{what} round {seq}, attempt {attempt}"),
            )
            .with("seq", seq.0)
            .with("attempt", attempt.0)
            .with("signed", *signed)
        }
        Event::Holding {
            seq,
            height,
            lanes,
            signers,
            sat,
        } => info(
            "holding",
            match signers {
                0 => format!(
                    "holding {} in direct round {seq}: paid by the coinbase of block {height} itself",
                    both(*sat)
                ),
                _ => format!(
                    "holding {} in round {seq}: complete payouts for block {height}, on disk",
                    both(*sat)
                ),
            },
        )
        .with("signers", *signers)
        .with("seq", seq.0)
        .with("height", *height)
        .with("lanes", *lanes)
        .with("sat", *sat),
        Event::Hashing { seq, z } => info(
            "hashing",
            format!("hashing in round {seq}; a share has {z} leading zero bits"),
        )
        .with("seq", seq.0)
        .with("z", *z),
        Event::SharesAcknowledged { shares, window } => info(
            "shares_acknowledged",
            format!("{shares} shares acknowledged in window {window}"),
        )
        .with("shares", *shares)
        .with("window", window.0),
        Event::ShareCounted { window } => info(
            "share_counted",
            format!("a share sent again counts already, in window {window}"),
        )
        .with("window", window.0),
        Event::Credited { payout, block, sat } => info(
            "bump_credited",
            format!(
                "credited {} for your bump of {payout}: it is paid with the next payout",
                both(*sat)
            ),
        )
        .with("payout_txid", payout.to_string())
        .with("block", BlockHash::from_byte_array(*block).to_string())
        .with("sat", *sat),
        Event::ShareHeldBack { after } => info(
            "share_held_back",
            format!(
                "a share came before our rate allowed it; it is sent again in {} ms",
                after.0
            ),
        )
        .with("after_ms", after.0),
        Event::BlockFound(found) => block_found(found),
        _ => out_of_order(),
    }
}

fn block_found(found: &BlockFound) -> News {
    let hash = BlockHash::from_byte_array(found.hash);
    info(
        "block_found",
        format!(
            "the coordinator says that block {} was found: {hash}",
            found.height
        ),
    )
    .with("height", found.height)
    .with("hash", hash.to_string())
    .with("round", found.round.to_string())
    .with("lane", found.lane.0)
    .with("finder", found.finder.to_string())
}

/// Events that should be rare.
fn trouble(event: &Event) -> News {
    match event {
        Event::PlanRefused {
            seq,
            attempt,
            error,
        } => warn(
            "plan_refused",
            format!("refused round {seq}, attempt {attempt}: {error}"),
        )
        .with("seq", seq.0)
        .with("attempt", attempt.0)
        .with("error", error.to_string()),
        Event::Aborted(abort) => aborted(abort),
        Event::BadCommit(reason) => error(
            "bad_commit",
            format!("the signatures complete no payout ({reason}); this round is not hashed"),
        )
        .with("error", reason.to_string()),
        Event::UnsignedJob { round } => warn(
            "unsigned_job",
            format!("refused to hash on round {round:.16}: no signed payout is held"),
        )
        .with("round", round.to_string()),
        Event::ShareRefused(reject) => warn(
            "share_refused",
            format!(
                "share {} was refused: {} (has {}, needs {})",
                reject.seq, reject.code, reject.got, reject.want
            ),
        )
        .with("seq", reject.seq)
        .with("code", reject.code.token())
        .with("got", reject.got)
        .with("want", reject.want),
        Event::Rejected(reject) => warn(
            "rejected",
            format!(
                "the coordinator refused a message: {} ({})",
                reject.code, reject.detail
            ),
        )
        .with("code", reject.code.token())
        .with("detail", reject.detail.clone()),
        Event::OutputNotTaken { windows } => warn(
            "output_not_taken",
            format!(
                "for {windows} windows the pool has not taken our payout script, and pays our work to the one before; \
                 it is asked again in each; if that one must not be paid any more, stop the daemon"
            ),
        )
        .with("windows", *windows),
        _ => disputed(event),
    }
}

/// What the ledger says against what we know.
fn disputed(event: &Event) -> News {
    match event {
        Event::WorkMissing {
            window,
            acknowledged,
            recorded,
        } => error(
            "work_missing",
            format!(
                "window {window} shows {} of our work, but {} were acknowledged; ask the operator",
                grouped(recorded),
                grouped(acknowledged)
            ),
        )
        .with("window", window.0)
        .with("acknowledged", acknowledged.to_string())
        .with("recorded", recorded.to_string()),
        Event::FalseBlame {
            round,
            identity,
            error: reason,
        } => error(
            "false_blame",
            format!(
                "the coordinator blames {identity:.16} for round {round:.16}, but {reason}; \
                 tell other miners"
            ),
        )
        .with("round", round.to_string())
        .with("identity", identity.to_string())
        .with("error", reason.to_string()),
        Event::WrongWindow { window, open } => error(
            "wrong_window",
            format!(
                "shares were acknowledged in window {window}, but window {open} is open: \
                 no record would have to show them"
            ),
        )
        .with("window", window.0)
        .with("open", open.0),
        Event::WrongBooking { round } => error(
            "wrong_booking",
            format!(
                "a block of round {round:.16} was booked a second time, or with other carries or \
                 payees than its payouts have"
            ),
        )
        .with("round", round.to_string()),
        Event::BlockUnseen(claim) => warn(
            "block_unseen",
            format!(
                "window {} {} block {}, and our node does not show it so: nothing is signed or hashed that \
                 follows from it until it does; if this lasts, see that the node is in sync, and ask the \
                 operator",
                claim.window,
                if claim.booked { "books" } else { "takes back" },
                BlockHash::from_byte_array(claim.block),
            ),
        )
        .with("block", BlockHash::from_byte_array(claim.block).to_string())
        .with("booked", claim.booked)
        .with("window", claim.window.0),
        Event::BlockNotBooked(block) => error(
            "block_not_booked",
            format!(
                "our node has the pool's block {} six deep and more, and the coordinator's ledger does not \
                 book it: whoever it owes something in later payouts loses that; ask the operator",
                BlockHash::from_byte_array(*block),
            ),
        )
        .with("block", BlockHash::from_byte_array(*block).to_string()),
        _ => out_of_order(),
    }
}

/// Reasons for which a session ends.
fn refused_session(event: &Event) -> News {
    match event {
        Event::WrongVersion { ours, theirs } => error(
            "wrong_version",
            format!(
                "the coordinator speaks version {theirs}, we speak {ours}; upgrade the older side"
            ),
        )
        .with("ours", *ours)
        .with("theirs", *theirs),
        Event::WrongNetwork { ours, theirs } => error(
            "wrong_network",
            format!(
                "the pool is on {theirs}, this participant on {ours}; \
                 change `network` or `coordinator`"
            ),
        )
        .with("ours", ours.to_string())
        .with("theirs", theirs.to_string()),
        Event::WrongCoordinator(found) => error(
            "wrong_coordinator",
            format!("coordinator {found} answered, not the one of `coordinator_identity`"),
        )
        .with("coordinator", found.to_string()),
        Event::OperatorFeeTooHigh { fee, limit } => error(
            "operator_fee_too_high",
            format!("the operator takes {fee} ppm, above policy.operator_fee_ppm_max = {limit}"),
        )
        .with("fee", *fee)
        .with("limit", *limit),
        Event::BumpCreditTooHigh { credit, limit } => error(
            "bump_credit_too_high",
            format!(
                "the pool credits up to {} for a bump, above policy.bump_credit_max = {limit}",
                both(*credit)
            ),
        )
        .with("credit", *credit)
        .with("limit", *limit),
        Event::BadParams(reason) => error(
            "bad_params",
            format!("the pool's parameters are out of range: {reason}"),
        )
        .with("error", reason.to_string()),
        Event::BadState(reason) => error(
            "bad_state",
            format!("the coordinator's state contradicts itself ({reason}); joining anew"),
        )
        .with("error", reason.to_string()),
        Event::RolledBack { signed, got } => error(
            "rolled_back",
            format!(
                "the coordinator's ledger is at window {got}, but it signed window {signed} for us: what it \
                 acknowledged since is gone, so it is not joined while that is so. Ask the operator; to join \
                 it nevertheless, move heads.json of the data directory away and restart"
            ),
        )
        .with("signed", signed.0)
        .with("got", got.0),
        Event::Equivocation(proof) => error(
            "equivocation",
            format!(
                "coordinator {:.16} signed two different things as {}: it was left for good; the proof \
                 is the file equivocation-*.json of the data directory: show it to other miners",
                proof.coordinator, proof.subject
            ),
        )
        .with("coordinator", proof.coordinator.to_string())
        .with("subject", proof.subject.to_string()),
        Event::Convicted(coordinator) => error(
            "convicted",
            format!(
                "coordinator {coordinator:.16} is not joined: there is proof of its fraud in the data \
                 directory (equivocation-*.json); to join it nevertheless, move the proof and \
                 heads.json away and restart"
            ),
        )
        .with("coordinator", coordinator.to_string()),
        Event::LedgerFalse(fault) => error(
            "ledger_false",
            format!(
                "the coordinator's ledger is false: {fault}; nothing is signed or hashed for it. Keep the \
                 log, tell others, and use another pool unless this is explained"
            ),
        ),
        Event::UnsignedHead(window) => error(
            "unsigned_head",
            format!("the head of window {window} is not signed by the coordinator; joining anew"),
        )
        .with("window", window.0),
        Event::UnsignedProposal => error(
            "unsigned_proposal",
            "a proposal without the coordinator's signature; joining anew",
        ),
        Event::TooManyAttempts { seq, attempt } => error(
            "too_many_attempts",
            format!(
                "attempt {attempt} of round {seq} was proposed, more than any honest coordinator makes; \
                 joining anew"
            ),
        )
        .with("seq", seq.0)
        .with("attempt", attempt.0),
        _ => out_of_order(),
    }
}

fn aborted(abort: &TxAborted) -> News {
    let culprits: Vec<String> = abort.culprits().map(|who| who.to_string()).collect();
    let blamed = match culprits.len() {
        0 => String::new(),
        1 => "; one signer is left out of the next attempt".to_owned(),
        count => format!("; {count} signers are left out of the next attempt"),
    };
    let why = match abort.reason {
        AbortReason::Timeout => "not all signed in time",
        AbortReason::BadPartialSignature => "a signature is bad",
        AbortReason::SignerLeft => "a signer left",
        AbortReason::Superseded => "a newer one takes its place",
        AbortReason::PlanMismatch => "a signer computed another plan",
        AbortReason::Policy => "a signer's policy does not allow it",
        AbortReason::SignerRefused => "a signer refused",
        AbortReason::LedgerDispute => "a signer holds the ledger to be false",
        AbortReason::Unchecked => "a signer had not checked the ledger in time",
    };
    info(
        "aborted",
        format!(
            "the signing of round {:.16} was aborted: {why}{blamed}",
            abort.round
        ),
    )
    .with("round", abort.round.to_string())
    .with("reason", abort.reason.code())
    .with("culprits", culprits)
}

/// For what this file's modules log beside the protocol's events.
pub use check::CheckEvent;
pub use daemon::DaemonEvent;

#[cfg(test)]
mod tests {
    use tutti_proto::id::{RoundSeq, WindowSeq};

    use super::*;

    #[test]
    fn integers_are_numbers_and_hashes_are_shown_as_people_know_them() {
        let holding = News::from(&Event::Holding {
            seq: RoundSeq(7),
            height: 150,
            lanes: 2,
            signers: 3,
            sat: 1_234_567,
        });
        assert_eq!(holding.name, "holding");
        assert_eq!(holding.fields["sat"], 1_234_567);
        assert!(
            holding
                .text
                .contains("1 234 567 sat = 0.01234567 BTC in round 7"),
            "{}",
            holding.text
        );
        let acknowledged = News::from(&Event::SharesAcknowledged {
            shares: 3,
            window: WindowSeq(2),
        });
        assert_eq!(acknowledged.fields["window"], 2);
        assert_eq!(News::from(&Event::OutOfOrder).name, "out_of_order");
    }
}
