//! `bump`: raises a payout's fee by a child, with nothing but the data directory and a node.

use bitcoin::{Amount, Transaction, Txid};
use serde::Serialize;
use thiserror::Error;

use super::{BumpError, BumpPlan, BumpRequest, Feerate, OwnOutput, Replaced, plan_bump};
use crate::chain::{Node, NodeError, PackageOutcome, PackageTxOutcome};
use crate::config::Config;
use crate::keys::{Seed, SeedError};
use crate::store::{self, StoreError};
use crate::wallet::{SignError, Wallet, WalletError};

/// What is to be bumped, and how.
#[derive(Clone, Copy, Debug)]
pub struct Bump {
    pub payout: Txid,
    pub target: Feerate,
    /// Show what would be sent, and send nothing.
    pub dry_run: bool,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bumped {
    pub child_txid: String,
    /// The child's, sat.
    pub fee: u64,
    /// The child's.
    pub vsize: u64,
    /// Payout and child together.
    pub package_feerate_sat_per_kvb: u64,
    /// Whether payout and child are in the node's mempool.
    pub accepted: bool,
    /// Why not, in the node's words.
    pub reason: Option<String>,
}

/// Why no child was made.
#[derive(Debug, Error)]
pub enum BumpCommandError {
    #[error("the configuration has no [node] section, and a bump needs a node to send to; add one")]
    NoNode,
    #[error("no held round has a payout {0}; `tutti-participant payouts` lists them")]
    NotHeld(Txid),
    #[error(
        "payout {0} pays nothing to this wallet, so it cannot pay for a bump; let one of its payees do it"
    )]
    NothingForUs(Txid),
    #[error("payout {0} does not spend the coinbase it was stored with; its file is damaged")]
    NotOfItsCoinbase(Txid),
    #[error(transparent)]
    Bump(#[from] BumpError),
    #[error(transparent)]
    Seed(#[from] SeedError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Wallet(#[from] WalletError),
    #[error(transparent)]
    Sign(#[from] SignError),
    #[error(transparent)]
    Node(#[from] NodeError),
}

/// Makes the child and hands it to the node, together with the payout.
pub fn bump(config: &Config, bump: Bump) -> Result<Bumped, BumpCommandError> {
    let node_config = config.node.as_ref().ok_or(BumpCommandError::NoNode)?;
    let (payout, fee) = held_payout(config, bump.payout)?;
    let seed = Seed::load(&config.data_dir.join(store::SEED))?;
    let mut wallet = Wallet::open(&config.data_dir, &seed, config.network)?;
    let own =
        largest_own_output(&payout, &wallet).ok_or(BumpCommandError::NothingForUs(bump.payout))?;
    let node = Node::connect(node_config)?;
    let replaces = node.mempool_child(bump.payout)?.map(|child| Replaced {
        fee: child.fee,
        vsize: child.vsize,
    });
    let change_script = match bump.dry_run {
        true => wallet.peek_change_script(),
        false => wallet.next_change_script()?,
    };
    let plan = plan_bump(BumpRequest {
        parent: &payout,
        parent_fee: fee,
        anchor_vout: last_output(&payout),
        own,
        target: bump.target,
        change_script,
        replaces,
    })?;
    let child = wallet.sign_bump(&plan)?;
    if bump.dry_run {
        let reason = "dry run: nothing was sent".to_owned();
        return Ok(bumped(&plan, &child, Some(reason)));
    }
    let outcome = node.submit_package(&[payout, child.clone()])?;
    Ok(bumped(&plan, &child, refusal(&outcome)))
}

/// The payout among the held rounds, and its fee.
fn held_payout(config: &Config, txid: Txid) -> Result<(Transaction, Amount), BumpCommandError> {
    // Newest first: what is bumped is recent.
    for name in store::held_names(&config.data_dir)?.into_iter().rev() {
        let Ok(held) = store::held_round(&config.data_dir, &name) else {
            continue; // A damaged round; it is not the one if another holds the payout.
        };
        for lane in held.lanes {
            let mut payouts = lane.payouts.into_iter();
            if let Some(payout) = payouts.find(|payout| payout.compute_txid() == txid) {
                let fee =
                    fee(&lane.coinbase, &payout).ok_or(BumpCommandError::NotOfItsCoinbase(txid))?;
                return Ok((payout, fee));
            }
        }
    }
    Err(BumpCommandError::NotHeld(txid))
}

/// What the payout leaves of the coinbase output that it spends.
fn fee(coinbase: &Transaction, payout: &Transaction) -> Option<Amount> {
    let spent = payout.input.first()?.previous_output;
    if spent.txid != coinbase.compute_txid() {
        return None;
    }
    let value = coinbase
        .output
        .get(usize::try_from(spent.vout).ok()?)?
        .value;
    let paid = payout
        .output
        .iter()
        .try_fold(Amount::ZERO, |sum, out| sum.checked_add(out.value));
    value.checked_sub(paid?)
}

fn largest_own_output(payout: &Transaction, wallet: &Wallet) -> Option<OwnOutput> {
    let outputs = (0..).zip(&payout.output);
    let own = outputs.filter(|(_, output)| wallet.is_mine(&output.script_pubkey));
    let (vout, output) = own.max_by_key(|(_, output)| output.value)?;
    Some(OwnOutput {
        vout,
        value: output.value,
        script: output.script_pubkey.clone(),
    })
}

/// The anchor is the last output; the plan checks that it is one.
fn last_output(payout: &Transaction) -> u32 {
    u32::try_from(payout.output.len().saturating_sub(1)).unwrap_or(u32::MAX)
}

fn bumped(plan: &BumpPlan, child: &Transaction, refused: Option<String>) -> Bumped {
    Bumped {
        child_txid: child.compute_txid().to_string(),
        fee: plan.fee.to_sat(),
        vsize: plan.vsize,
        package_feerate_sat_per_kvb: plan.package_feerate.sat_per_kvb(),
        accepted: refused.is_none(),
        reason: refused,
    }
}

/// All that the node said against it; none if it took the package.
fn refusal(outcome: &PackageOutcome) -> Option<String> {
    if outcome.is_accepted() {
        return None;
    }
    let mut words = vec![outcome.message.clone()];
    for (name, transaction) in ["payout", "child"].iter().zip(&outcome.transactions) {
        if let PackageTxOutcome::Rejected { reason } = &transaction.outcome {
            words.push(format!("{name}: {reason}"));
        }
    }
    Some(words.join("; "))
}
