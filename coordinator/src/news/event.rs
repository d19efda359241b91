//! The state machine's events as lines of the log.

use serde_json::Value;
use tracing::Level;
use tutti_proto::coordinator::{Event, Fate, Found, RoundKind};
use tutti_proto::id::Identity;
use tutti_proto::message::AbortReason;
use tutti_proto::window::Credit;

use super::{News, block_hash};

impl From<&Event> for News {
    fn from(event: &Event) -> Self {
        match event {
            Event::Joined {
                identity,
                user_agent,
                members,
            } => info("joined")
                .text("identity", identity)
                .with("user_agent", user_agent.as_str())
                .with("members", *members),
            Event::Left { identity, members } => info("left")
                .text("identity", identity)
                .with("members", *members),
            Event::Proposed {
                seq,
                attempt,
                height,
                signers,
            } => info("proposed")
                .with("seq", seq.0)
                .with("attempt", attempt.0)
                .with("height", *height)
                .with("signers", *signers),
            Event::AttemptFailed {
                seq,
                attempt,
                reason,
                culprits,
                network_blamed,
            } => News::new(Level::WARN, "attempt_failed")
                .with("seq", seq.0)
                .with("attempt", attempt.0)
                .with("reason", abort_reason(*reason))
                .with("culprits", identities(culprits))
                .with("network_blamed", *network_blamed),
            Event::Direct {
                seq,
                height,
                payees,
            } => News::new(Level::WARN, "direct_round")
                .with("seq", seq.0)
                .with("height", *height)
                .with("payees", *payees),
            Event::NextHeight { job, height, jobs } => info("next_height_job")
                .with("job", job.0)
                .with("height", *height)
                .with("jobs", *jobs),
            Event::NoSigners { seq } => News::new(Level::WARN, "no_signers").with("seq", seq.0),
            Event::Unplannable { seq, error } => News::new(Level::ERROR, "unplannable")
                .with("seq", seq.0)
                .text("error", error),
            Event::Committed { .. } => committed(event),
            // A large pool has thousands a second.
            Event::ShareAccepted { identity, z } => News::new(Level::DEBUG, "share_accepted")
                .text("identity", identity)
                .with("z", *z),
            Event::ShareAgain { identity } => {
                News::new(Level::DEBUG, "share_again").text("identity", identity)
            }
            Event::Resumed { identity, job } => info("resumed")
                .text("identity", identity)
                .with("job", job.0),
            Event::ShareRefused { identity, code } => info("share_refused")
                .text("identity", identity)
                .with("code", code.token()),
            // Strangers cause these as often as they like: below a warning, so that a flood of them
            // crowds no warning out of the log.
            Event::Refused { identity, reject } => info("refused")
                .with("identity", identity.map(|identity| identity.to_string()))
                .with("code", reject.code.token())
                .with("detail", reject.detail.as_str()),
            Event::CandidateFound(found) => block(info("candidate_found"), found),
            Event::BlockAccepted(found) => block(info("block_accepted"), found),
            Event::BlockNotBooked(found) => {
                block(News::new(Level::ERROR, "block_not_booked"), found)
            }
            Event::BlockFate { found, fate } => match fate {
                Fate::Lost => block(News::new(Level::WARN, "block_lost"), found),
                Fate::Back => block(News::new(Level::WARN, "block_back"), found),
                Fate::Settled => block(info("block_settled"), found),
            },
            Event::CreditTaken(of) => credit(info("bump_credit_taken"), of),
            Event::Credited { window, credit: of } => {
                credit(info("bump_credited"), of).with("window", window.0)
            }
            Event::CreditRefused {
                block,
                shard,
                error,
            } => News::new(Level::WARN, "bump_credit_refused")
                .text("block", block_hash(block))
                .with("shard", *shard)
                .text("why", error),
            Event::BlockRefused { hash, why } => News::new(Level::ERROR, "block_refused")
                .text("hash", block_hash(hash))
                .with("why", why.as_str()),
        }
    }
}

fn info(name: &'static str) -> News {
    News::new(Level::INFO, name)
}

fn committed(event: &Event) -> News {
    let news = info("committed");
    let Event::Committed {
        kind,
        seq,
        round,
        attempt,
        height,
        signers,
        agreed,
        payouts,
        payees,
        took,
    } = event
    else {
        return news;
    };
    let next_height = *kind == RoundKind::NextHeight;
    news.with("seq", seq.0)
        .with("next_height", next_height)
        .text("round", round)
        .with("attempt", attempt.0)
        .with("height", *height)
        .with("signers", *signers)
        .with("agreed", *agreed)
        .with("payouts", *payouts)
        .with("payees", *payees)
        .with("took_ms", took.0)
}

fn block(news: News, found: &Found) -> News {
    news.text("hash", block_hash(&found.hash))
        .with("height", found.height)
        .text("round", found.round)
        .with("lane", found.lane.0)
        .text("finder", found.finder)
}

fn credit(news: News, credit: &Credit) -> News {
    news.text("block", block_hash(&credit.block))
        .text("payout_txid", credit.payout())
        .text("identity", credit.identity)
        .with("sat", credit.sat)
}

fn identities(identities: &[Identity]) -> Value {
    identities.iter().map(Identity::to_string).collect()
}

/// Its name in the log and in metrics.
pub(crate) fn abort_reason(reason: AbortReason) -> &'static str {
    match reason {
        AbortReason::Timeout => "timeout",
        AbortReason::BadPartialSignature => "bad_partial_signature",
        AbortReason::SignerLeft => "signer_left",
        AbortReason::Superseded => "superseded",
        AbortReason::PlanMismatch => "plan_mismatch",
        AbortReason::Policy => "policy",
        AbortReason::SignerRefused => "signer_refused",
        AbortReason::LedgerDispute => "ledger_dispute",
        AbortReason::Unchecked => "unchecked",
    }
}
