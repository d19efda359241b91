//! What happened in blocks that were skipped: a transaction that is known is found there by its unspent outputs,
//! of which a pruned node has all.

use std::collections::BTreeSet;
use std::sync::Arc;

use bdk_wallet::Update;
use bdk_wallet::chain::{BlockId, ConfirmationBlockTime, TxUpdate};
use bitcoin::{Transaction, Txid};

use super::SyncError;
use super::paid::own_outputs;
use crate::chain::{Node, NodeError};

/// Takes those of these transactions as confirmed that leave the wallet an unspent output in the node's chain.
pub(super) fn take_found(
    wallet: &mut bdk_wallet::Wallet,
    node: &Node,
    known: &[Arc<Transaction>],
) -> Result<(), SyncError> {
    for transaction in known {
        let txid = transaction.compute_txid();
        let is_seen = wallet
            .get_tx(txid)
            .is_some_and(|seen| seen.chain_position.is_confirmed());
        let own = match is_seen {
            true => Vec::new(),
            false => own_outputs(transaction, |script| wallet.is_mine(script.to_owned())),
        };
        for (outpoint, _) in own {
            let Some(block) = node.block_of_unspent(outpoint)? else {
                continue;
            };
            // A later one is not looked at yet: known of here, it would be taken as looked at.
            if block.height > wallet.latest_checkpoint().height() {
                continue;
            }
            let Some(header) = node.header(block.hash)? else {
                continue;
            };
            let block_id = BlockId {
                height: block.height,
                hash: block.hash,
            };
            let anchor = ConfirmationBlockTime {
                block_id,
                confirmation_time: u64::from(header.time),
            };
            let mut tx_update = TxUpdate::default();
            tx_update.txs.push(transaction.clone());
            tx_update.anchors.insert((anchor, txid));
            let chain = wallet.latest_checkpoint();
            // Another block of this height is one that was taken back since: the next sync sees it.
            let chain = match chain.get(block.height) {
                None => chain.insert(block_id),
                Some(_) => chain,
            };
            wallet.apply_update(Update {
                tx_update,
                chain: Some(chain),
                ..Update::default()
            })?;
            break;
        }
    }
    Ok(())
}

/// Of payments that left the mempool, those that the chain has although no block that was seen has them: the coins
/// of ours that they spend are spent there. Were they forgotten, these coins would be shown again.
pub(super) fn spent_unseen(
    wallet: &bdk_wallet::Wallet,
    node: &Node,
    left: &[Arc<Transaction>],
) -> Result<BTreeSet<Txid>, NodeError> {
    let mut spent = BTreeSet::new();
    loop {
        let before = spent.len();
        for transaction in left {
            let txid = transaction.compute_txid();
            if !spent.contains(&txid) && spends_ours(wallet, node, transaction, &spent)? {
                spent.insert(txid);
            }
        }
        // Each may be spent by another one.
        if spent.len() == before {
            return Ok(spent);
        }
    }
}

/// Whether it spends a coin of ours that was in the chain and is not unspent there.
fn spends_ours(
    wallet: &bdk_wallet::Wallet,
    node: &Node,
    transaction: &Transaction,
    unseen: &BTreeSet<Txid>,
) -> Result<bool, NodeError> {
    for input in &transaction.input {
        let coin = input.previous_output;
        let of = wallet.get_tx(coin.txid);
        let is_in_chain = of.is_some_and(|of| of.chain_position.is_confirmed());
        let is_ours = wallet.spk_index().txout(coin).is_some();
        if is_ours
            && (is_in_chain || unseen.contains(&coin.txid))
            && node.unspent_output(coin, false)?.is_none()
        {
            return Ok(true);
        }
    }
    Ok(false)
}
