//! What can pay for a bump: the own output of the payout, and the coins that earlier payouts left.

use bitcoin::{OutPoint, Transaction, Txid};
use tutti_proto::bump::{Coin, OwnOutput};
use tutti_proto::coinbase::COINBASE_MATURITY;

use super::BumpCommandError;
use super::command::Bumper;
use crate::chain::Node;
use crate::settle;
use crate::store;
use crate::wallet::Wallet;

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

/// Confirmed coins of the wallet: outputs of payouts and coinbases of this pool that nothing spends,
/// in the chain or in the mempool.
pub(super) fn coins(
    bumper: &Bumper<'_>,
    wallet: &Wallet,
    node: &Node,
    but: Txid,
) -> Result<Vec<Coin>, BumpCommandError> {
    let book = settle::read_book(bumper.data_dir)?.unwrap_or_default();
    let is_found =
        |name: &store::RoundName| book.settlements().iter().any(|found| found.is_of(name));
    let held = store::held_rounds(bumper.data_dir, is_found)?;
    let lanes = held.rounds.into_iter().flat_map(|held| held.lanes);
    let transactions = lanes.flat_map(|lane| lane.payouts.into_iter().chain([lane.coinbase]));
    let mut coins = Vec::new();
    for transaction in transactions {
        let txid = transaction.compute_txid();
        let outputs = (0..).zip(&transaction.output);
        let own = outputs.filter(|(_, output)| wallet.is_mine(&output.script_pubkey));
        for (vout, output) in own.filter(|_| txid != but) {
            let outpoint = OutPoint::new(txid, vout);
            let Some(unspent) = node.unspent_output(outpoint, true)? else {
                continue;
            };
            let least = if unspent.coinbase {
                COINBASE_MATURITY
            } else {
                1
            };
            if unspent.confirmations >= least && output.script_pubkey.is_p2tr() {
                coins.push(Coin {
                    outpoint,
                    value: output.value,
                    script: output.script_pubkey.clone(),
                });
            }
        }
    }
    Ok(coins)
}
