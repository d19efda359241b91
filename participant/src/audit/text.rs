//! An audit's outcome, for persons.

use std::fmt::Write;

use super::hashes;
use super::outcome::{BlockRow, Outcome, RunRow};
use crate::amount::{both, grouped, signed};

/// Blocks that are listed; JSON has all.
const BLOCKS_SHOWN: usize = 50;
/// Windows of the why-view's own work that are listed, the newest.
const WORKED_SHOWN: usize = 20;

pub(super) fn table(outcome: &Outcome) -> String {
    let mut text = format!(
        "pool of coordinator {} ({})\n",
        outcome.coordinator, outcome.network
    );
    let _ = writeln!(
        text,
        "{} windows, {} shares, {} hashes of work, {:.2} s, {} shares/s\n\nchecked",
        grouped(outcome.windows),
        grouped(outcome.shares),
        hashes(outcome.work),
        outcome.seconds,
        grouped(outcome.shares_per_second)
    );
    for run in &outcome.runs {
        text += &run_text(run);
    }
    if outcome.checkpoints > 0 {
        let _ = writeln!(
            text,
            "  {} checkpoints: head, state; {} with a round that was signed on it, down to its payout",
            outcome.checkpoints, outcome.signed_checkpoints
        );
        for state in &outcome.states {
            let _ = writeln!(
                text,
                "    the state after window {}: signers of a round on it: {}",
                state.window, state.signers
            );
        }
    }
    if outcome.windows == 0 && outcome.checkpoints == 0 {
        text += "  nothing\n";
    }
    text += "\nnot checked\n";
    for note in &outcome.not_checked {
        let _ = writeln!(text, "  {note}");
    }
    if !outcome.passed_over.is_empty() {
        text += "\npassed over: not needed for what was asked\n";
    }
    for passed in &outcome.passed_over {
        let _ = writeln!(text, "  {passed}");
    }
    text += &blocks(&outcome.blocks);
    for credit in outcome.credits.iter().take(BLOCKS_SHOWN) {
        let _ = writeln!(
            text,
            "window {} credits {} with {} for a bump of {}",
            credit.window,
            credit.identity,
            both(credit.sat),
            credit.payout_txid
        );
    }
    if let Some(found) = &outcome.found_by {
        let _ = writeln!(
            text,
            "\nfound by {} with share {} of window {}, on lane {}: its header hashes to the block, and its merkle root leads from the lane's coinbase",
            found.owner, found.share, found.window, found.lane
        );
    } else if outcome.header_checked {
        text += "\nthe header that was given hashes to the block, and its merkle root leads from the lane's coinbase\n";
    }
    for explained in &outcome.explained {
        let _ = write!(text, "\n{}", explained.text());
    }
    text += &identity(outcome);
    match &outcome.difference {
        Some(difference) => {
            let _ = writeln!(text, "\nFIRST DIFFERENCE: {difference}");
        }
        None => text += "\nno difference found\n",
    }
    text
}

fn run_text(run: &RunRow) -> String {
    let mut text = format!(
        "  windows {} to {}: {} shares ({} hashes), each with proof of work, lane, slice, owner, z, and counted once;\n    tallies, roots, heads, signatures\n",
        run.first,
        run.last,
        grouped(run.shares),
        hashes(run.work)
    );
    if let Some(since) = run.state_since {
        let _ = writeln!(
            text,
            "    from window {since} on the payee set and the ledger's state; amounts of rounds as told in {} places; bookings: {}; credits for bumps: {}",
            grouped(run.rounds_checked),
            grouped(run.bookings_checked),
            grouped(run.credits_checked)
        );
    }
    text
}

fn blocks(blocks: &[BlockRow]) -> String {
    if blocks.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "\n{:>10}  {:<64}  {:>8}  {:>8}  {:>4}  {:>8}  {:<8}  header\n",
        "window", "block", "height", "round", "lane", "carries", ""
    );
    for block in blocks.iter().take(BLOCKS_SHOWN) {
        let _ = writeln!(
            text,
            "{:>10}  {:<64}  {:>8}  {:>8}  {:>4}  {:>8}  {:<8}  {}",
            block.window,
            block.block,
            block.height,
            block.round,
            block.lane,
            match block.carries_checked {
                true => block.carries.to_string(),
                false => format!("{}?", block.carries),
            },
            if block.undone { "unbooked" } else { "booked" },
            if block.header_among_shares {
                "a checked share"
            } else {
                "not among the shares"
            },
        );
    }
    if let Some(more) = blocks
        .len()
        .checked_sub(BLOCKS_SHOWN)
        .filter(|more| *more > 0)
    {
        let _ = writeln!(text, "{more} more; --json has all");
    }
    text
}

fn identity(outcome: &Outcome) -> String {
    let Some(identity) = &outcome.identity else {
        return String::new();
    };
    let sum = outcome
        .worked
        .iter()
        .fold(0u128, |sum, row| sum.saturating_add(row.work.0));
    let mut text = format!(
        "\nwork of {identity}: {} hashes in {} of these windows\n",
        grouped(sum),
        outcome.worked.len()
    );
    let skip = outcome.worked.len().saturating_sub(WORKED_SHOWN);
    for row in outcome.worked.iter().skip(skip) {
        let _ = writeln!(
            text,
            "  window {}: {} of {} hashes",
            row.window,
            hashes(row.work),
            hashes(row.of)
        );
    }
    if let Some((window, sat)) = outcome.carry {
        let _ = writeln!(text, "  owed after window {window}: {}", signed(sat));
    }
    text
}
