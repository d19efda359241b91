//! What found blocks pay, as the held rounds and the own node say it: for what the chain has not yet.

use std::path::Path;

use bitcoin::{OutPoint, Script, Transaction};
use tutti_proto::settlement;

use crate::chain::{Node, NodeError};
use crate::settle::{self, Book, Follower, Ours, Settlement, Step, Watched};
use crate::store::{self, StoreError};

/// A transaction of a found block of the pool: a payout, or the coinbase of a direct round.
pub(super) struct Paid {
    pub transaction: Transaction,
    /// The tip from which on nodes take it, or its spending.
    pub ripe_at: u32,
    /// The book has it in the chain.
    pub confirmed: bool,
}

/// Why that is not known.
#[derive(Debug, thiserror::Error)]
pub enum PaidError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Node(#[from] NodeError),
}

/// All payouts and paying coinbases of found blocks. The book on disk is brought to the node's tip in
/// memory: no daemon need run.
pub(super) fn paid(directory: &Path, node: &Node) -> Result<Vec<Paid>, PaidError> {
    let book = current_book(directory, node)?;
    let mut all = Vec::new();
    for settlement in book.settlements() {
        let Some(lane) = lane(directory, settlement)? else {
            continue;
        };
        let ripe_at = settlement::ripe_at(settlement.block.height);
        if let (true, Some(transaction)) = (lane.payouts.is_empty(), lane.coinbase) {
            all.push(Paid {
                transaction,
                ripe_at,
                confirmed: true,
            });
        }
        for transaction in lane.payouts {
            let txid = transaction.compute_txid();
            let mut booked = settlement.payouts.iter();
            let confirmed = booked.any(|p| p.txid == txid && p.confirmed.is_some());
            all.push(Paid {
                transaction,
                ripe_at,
                confirmed,
            });
        }
    }
    Ok(all)
}

/// The lane of a found block: held with its round, or imported alone.
fn lane(directory: &Path, settlement: &Settlement) -> Result<Option<FoundLane>, StoreError> {
    let coinbase_txid = settlement.coinbase_txid;
    let mut names = store::held_names(directory)?.into_iter();
    let Some(name) = names.find(|name| settlement.is_of(name)) else {
        let alone = store::alone(directory, coinbase_txid)?;
        return Ok(alone.map(|alone| FoundLane {
            coinbase: alone.coinbase,
            payouts: alone.payouts,
        }));
    };
    let mut lanes = store::held_round(directory, &name)?.lanes.into_iter();
    let lane = lanes.find(|lane| lane.coinbase.compute_txid() == coinbase_txid);
    Ok(lane.map(|lane| FoundLane {
        coinbase: Some(lane.coinbase),
        payouts: lane.payouts,
    }))
}

struct FoundLane {
    coinbase: Option<Transaction>,
    payouts: Vec<Transaction>,
}

fn current_book(directory: &Path, node: &Node) -> Result<Book, PaidError> {
    let (rounds, _) = settle::read_watched(directory, &Ours::Named(None))?;
    let mut watched = Watched::default();
    rounds.into_iter().for_each(|round| watched.add(round));
    let book = settle::read_book(directory)?.unwrap_or_default();
    if watched.is_empty() {
        return Ok(book);
    }
    let mut follower = Follower::new(book, watched);
    loop {
        match follower.scan(node) {
            Ok(Step::More) => {}
            Ok(Step::Done) if follower.place(node)? => {}
            // As far as the node's blocks go: what was found before is known.
            Ok(Step::Done) | Err(NodeError::BlockPruned { .. }) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(follower.book().clone())
}

/// The outputs that pay scripts of ours.
pub(super) fn own_outputs(
    transaction: &Transaction,
    is_mine: impl Fn(&Script) -> bool,
) -> Vec<(OutPoint, u64)> {
    let txid = transaction.compute_txid();
    let outputs = (0..).zip(&transaction.output);
    let own = outputs.filter(|(_, output)| is_mine(&output.script_pubkey));
    own.map(|(vout, output)| (OutPoint::new(txid, vout), output.value.to_sat()))
        .collect()
}
