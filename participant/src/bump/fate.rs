//! Whether the own node's chain lets a payout be bumped. The node is asked: the book is as old as the last look of
//! `run` or `watch`.

use bitcoin::{OutPoint, Txid};
use thiserror::Error;
use tutti_proto::coinbase::COINBASE_MATURITY;
use tutti_proto::settlement;

use super::command::{BumpCommandError, HeldPayout};
use crate::amount::grouped;
use crate::chain::{Node, NodeError};

/// Why a payout cannot be bumped now, or any more.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotBumpable {
    #[error(
        "payout {payout} is not ripe before block {}, and no node takes it earlier; bump it then",
        grouped(u64::from(*ripe_at))
    )]
    Unripe { payout: Txid, ripe_at: u32 },
    #[error(
        "payout {0} cannot be paid: its block is not in the node's chain; `tutti-participant payouts --found` lists those whose block is"
    )]
    NotFound(Txid),
    #[error(
        "payout {payout} is confirmed already in block {}, and needs no bump",
        grouped(u64::from(*height))
    )]
    Confirmed { payout: Txid, height: u32 },
    #[error(
        "what payout {0} spends is spent already in the node's chain, most likely by the payout itself, and all that it paid was spent since; it needs no bump"
    )]
    Spent(Txid),
    #[error(
        "neither what payout {0} spends nor anything that it pays is unspent in the node's chain: it was paid and spent long ago, or its block was never found; either way there is nothing to bump"
    )]
    NothingLeft(Txid),
}

/// What the chain says against a bump.
pub(super) fn check(node: &Node, held: &HeldPayout) -> Result<(), BumpCommandError> {
    let payout = held.payout.compute_txid();
    let Some(spends) = held.payout.input.first().map(|input| input.previous_output) else {
        return Ok(()); // The plan says what is wrong with it.
    };
    if let Some(coinbase) = node.unspent_output(spends, false)? {
        return match coinbase.confirmations < COINBASE_MATURITY {
            true => {
                let height = height_of(node, coinbase.confirmations)?;
                let ripe_at = settlement::ripe_at(height);
                Err(NotBumpable::Unripe { payout, ripe_at }.into())
            }
            false => Ok(()),
        };
    }
    if let Some(height) = confirmed_at(node, held)? {
        return Err(NotBumpable::Confirmed { payout, height }.into());
    }
    Err(match is_found(node, held, spends.txid)? {
        Some(true) => NotBumpable::Spent(payout).into(),
        Some(false) => NotBumpable::NotFound(payout).into(),
        None => NotBumpable::NothingLeft(payout).into(),
    })
}

/// By any of its outputs that nobody spent yet.
fn confirmed_at(node: &Node, held: &HeldPayout) -> Result<Option<u32>, NodeError> {
    let txid = held.payout.compute_txid();
    for (vout, _) in (0..).zip(&held.payout.output) {
        if let Some(output) = node.unspent_output(OutPoint::new(txid, vout), false)? {
            return height_of(node, output.confirmations).map(Some);
        }
    }
    Ok(None)
}

fn height_of(node: &Node, confirmations: u32) -> Result<u32, NodeError> {
    let tip = node.tip()?.block.height;
    Ok(tip.saturating_add(1).saturating_sub(confirmations))
}

/// Whether the one block that could have the coinbase has it. None: nobody knows which one it is, or the node
/// does not have it any more.
fn is_found(node: &Node, held: &HeldPayout, coinbase: Txid) -> Result<Option<bool>, NodeError> {
    let Some(height) = held.height else {
        return Ok(None);
    };
    let Some(block) = node.block_at(height)? else {
        return Ok(Some(false));
    };
    match node.transactions(block.hash) {
        Err(NodeError::BlockGone { .. }) => Ok(None),
        block => Ok(Some(block?.txids.contains(&coinbase))),
    }
}
