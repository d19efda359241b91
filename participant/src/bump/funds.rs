//! What can pay for a bump: the own output of the payout, and the wallet's confirmed coins.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bitcoin::{OutPoint, Transaction, TxOut, Txid};
use tutti_proto::bump::{Coin, OwnOutput};
use tutti_proto::coinbase::COINBASE_MATURITY;

use super::BumpCommandError;
use super::command::Bumper;
use crate::chain::Node;
use crate::settle::{self, Book};
use crate::store::{self, RoundName, StoreError};
use crate::wallet::{self, Birthday, SyncError, Wallet, WalletFile};

/// The wallet's largest output of the payout.
pub(super) fn own_output(payout: &Transaction, wallet: &Wallet) -> Option<OwnOutput> {
    let outputs = (0..).zip(&payout.output);
    let own = outputs.filter(|(_, output)| wallet.is_mine(&output.script_pubkey));
    let (vout, output) = own.max_by_key(|(_, output)| output.value)?;
    Some(OwnOutput {
        vout,
        value: output.value,
        script: output.script_pubkey.clone(),
    })
}

/// More than a child has room for.
const COINS_ASKED: usize = 32;

/// Brings the wallet to the node's tip, unless that takes more blocks than wanted.
pub(super) fn sync(
    bumper: &Bumper<'_>,
    file: &WalletFile,
    node: &Node,
    blocks_max: Option<u32>,
) -> Result<(), SyncError> {
    let birthday = Birthday::load(bumper.data_dir)?;
    if let Some(most) = blocks_max
        && wallet::blocks_behind(file, node, birthday)? > most
    {
        return Ok(());
    }
    wallet::sync(file, node, birthday, &mut |_, _| {})?;
    Ok(())
}

/// Confirmed coins of the wallet that nothing spends, in the chain or in the mempool, but the child that is to
/// be replaced: what the wallet knows of, and outputs of payouts and coinbases of this pool, of which it
/// may not know yet.
pub(super) fn coins(
    bumper: &Bumper<'_>,
    wallet: &Wallet,
    node: &Node,
    but: Txid,
    replaced: Option<Txid>,
) -> Result<Vec<Coin>, BumpCommandError> {
    let mut known: BTreeMap<OutPoint, TxOut> = wallet.confirmed_coins().collect();
    known.extend(paid(bumper, wallet)?);
    let freed = match replaced {
        Some(child) => freed(wallet, node, child)?,
        None => BTreeMap::new(),
    };
    known.extend(freed.clone());
    let mut known: Vec<_> = known.into_iter().collect();
    known.retain(|(outpoint, output)| outpoint.txid != but && output.script_pubkey.is_p2tr());
    known.sort_by_key(|(_, output)| Reverse(output.value));
    let mut coins = Vec::new();
    for (outpoint, output) in known {
        if coins.len() == COINS_ASKED {
            break;
        }
        let in_mempool = !freed.contains_key(&outpoint);
        let Some(unspent) = node.unspent_output(outpoint, in_mempool)? else {
            continue;
        };
        let least = if unspent.coinbase {
            COINBASE_MATURITY
        } else {
            1
        };
        if unspent.confirmations >= least {
            coins.push(Coin {
                outpoint,
                value: output.value,
                script: output.script_pubkey,
            });
        }
    }
    Ok(coins)
}

/// Coins of the wallet that a child in the mempool spends: they can pay for what replaces it. The wallet and
/// the mempool have them as spent.
fn freed(
    wallet: &Wallet,
    node: &Node,
    child: Txid,
) -> Result<BTreeMap<OutPoint, TxOut>, BumpCommandError> {
    let mut freed = BTreeMap::new();
    // None: it has left the mempool since, and what it spent is free as it is.
    let inputs = node.pooled_transaction(child)?.into_iter();
    for input in inputs.flat_map(|child| child.input) {
        let Some(coin) = node.unspent_output(input.previous_output, false)? else {
            continue;
        };
        if wallet.is_mine(&coin.script) {
            let output = TxOut {
                value: coin.value,
                script_pubkey: coin.script,
            };
            freed.insert(input.previous_output, output);
        }
    }
    Ok(freed)
}

/// What found blocks of this pool pay the wallet.
fn paid(bumper: &Bumper<'_>, wallet: &Wallet) -> Result<Vec<(OutPoint, TxOut)>, StoreError> {
    let book = settle::read_book(bumper.data_dir)?.unwrap_or_default();
    let mut paid = Vec::new();
    for (txid, transaction) in found_transactions(bumper.data_dir, &book)? {
        let outputs = (0..).zip(transaction.output);
        let own = outputs.filter(|(_, output)| wallet.is_mine(&output.script_pubkey));
        paid.extend(own.map(|(vout, output)| (OutPoint::new(txid, vout), output)));
    }
    Ok(paid)
}

/// The coinbases of found blocks and their payouts, by whatever file has them: a round that is called as the found
/// one need not have them all, and what was imported alone has no round.
fn found_transactions(
    directory: &Path,
    book: &Book,
) -> Result<BTreeMap<Txid, Transaction>, StoreError> {
    let found = book.settlements();
    let coinbases: BTreeSet<Txid> = found.iter().map(|s| s.coinbase_txid).collect();
    let payouts = found.iter().flat_map(|s| &s.payouts);
    let payouts: BTreeSet<Txid> = payouts.map(|payout| payout.txid).collect();
    let mut all = BTreeMap::new();
    let mut take = |coinbase: Option<Transaction>, of: Vec<Transaction>| {
        for transaction in coinbase.into_iter().chain(of) {
            let txid = transaction.compute_txid();
            if coinbases.contains(&txid) || payouts.contains(&txid) {
                all.insert(txid, transaction);
            }
        }
    };
    // A damaged file is told of elsewhere, and is in no other's way.
    for alone in store::all_alone(directory)?.alone {
        take(alone.coinbase, alone.payouts);
    }
    let is_called_so = |name: &RoundName| found.iter().any(|found| found.is_of(name));
    for rounds in [true, false] {
        let held = store::held_rounds(directory, |name| is_called_so(name) == rounds)?;
        for lane in held.rounds.into_iter().flat_map(|held| held.lanes) {
            take(Some(lane.coinbase), lane.payouts);
        }
    }
    Ok(all)
}
