//! What found blocks pay, as the held rounds and the own node say it: for what the chain has not yet.

use std::collections::BTreeSet;
use std::path::Path;

use bitcoin::{OutPoint, Script, Transaction, Txid};
use tutti_proto::settlement;

use crate::chain::{Node, NodeError};
use crate::payouts::valid_payouts;
use crate::settle::{self, Follower, Ours, Payout, Settlement, Step, Watched};
use crate::store::{self, RoundName, StoreError};

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
    let follower = current(directory, node)?;
    let mut all = Vec::new();
    for settlement in follower.book().settlements() {
        let lane = lane(directory, node, follower.watched(), settlement)?;
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

/// The lane of a found block: held with its round, imported alone, or both, each with what it has. Of its payouts
/// those that are valid: a file's word is none.
fn lane(
    directory: &Path,
    node: &Node,
    watched: &Watched,
    settlement: &Settlement,
) -> Result<FoundLane, PaidError> {
    let coinbase_txid = settlement.coinbase_txid;
    let mut found = FoundLane::default();
    if let Some(alone) = store::alone(directory, coinbase_txid)? {
        found = FoundLane {
            coinbase: alone.coinbase,
            payouts: alone.payouts,
        };
    }
    let names: BTreeSet<RoundName> = watched.names_of(&coinbase_txid).collect();
    for held in store::held_rounds(directory, |name| names.contains(name))?.rounds {
        let mut lanes = held.lanes.into_iter();
        if let Some(lane) = lanes.find(|lane| lane.coinbase.compute_txid() == coinbase_txid) {
            found.coinbase = Some(lane.coinbase);
            found.payouts.extend(lane.payouts);
        }
    }
    if found.coinbase.is_none() {
        found.coinbase = coinbase(node, settlement)?;
    }
    let valid = match &found.coinbase {
        Some(coinbase) => valid_payouts(coinbase, &found.payouts),
        None => Vec::new(),
    };
    let valid: BTreeSet<Txid> = valid.iter().map(Transaction::compute_txid).collect();
    // What a node has taken, it has judged.
    let taken = |payout: &&Payout| payout.confirmed.is_some() || payout.broadcast.is_some();
    let taken = settlement.payouts.iter().filter(taken);
    let taken: BTreeSet<Txid> = taken.map(|payout| payout.txid).collect();
    let mut seen = BTreeSet::new();
    found.payouts.retain(|tx| {
        let txid = tx.compute_txid();
        (valid.contains(&txid) || taken.contains(&txid)) && seen.insert(txid)
    });
    Ok(found)
}

/// A found coinbase that no file has; none where the node does not have its block any more.
fn coinbase(node: &Node, settlement: &Settlement) -> Result<Option<Transaction>, NodeError> {
    match node.transaction_in(settlement.coinbase_txid, settlement.block.hash) {
        Err(error) if !error.is_of_one_call() => Err(error),
        found => Ok(found.unwrap_or_default()),
    }
}

#[derive(Default)]
struct FoundLane {
    coinbase: Option<Transaction>,
    payouts: Vec<Transaction>,
}

fn current(directory: &Path, node: &Node) -> Result<Follower, PaidError> {
    let (rounds, _) = settle::read_watched(directory, &Ours::Named(None))?;
    let mut watched = Watched::default();
    rounds.into_iter().for_each(|round| watched.add(round));
    let book = settle::read_book(directory)?.unwrap_or_default();
    let nothing = watched.is_empty();
    let mut follower = Follower::new(book, watched);
    if nothing {
        return Ok(follower);
    }
    loop {
        if follower.go_on(node)? != Step::More {
            break;
        }
    }
    Ok(follower)
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
