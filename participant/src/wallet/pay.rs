//! `send` and `sweep` as commands: signed here and handed to the node, or written for a signer elsewhere.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bitcoin::address::NetworkUnchecked;
use bitcoin::{Address, Amount, Psbt};
use tutti_proto::settlement::BroadcastOutcome;

use super::answer::Sent;
use super::command::{Scope, SpendArgs};
use super::spend::Built;
use super::{Spend, SpendError, Wallet, WalletCommandError, WalletFile};
use crate::bump::Feerate;
use crate::chain::Node;
use crate::config::LocalConfig;

/// Whom is paid is nobody else's business.
const PSBT_MODE: u32 = 0o600;

impl Scope<'_> {
    pub(super) fn pay(
        &self,
        config: &LocalConfig,
        file: &WalletFile,
        to: &Address<NetworkUnchecked>,
        amount: Option<Amount>,
        how: &SpendArgs,
    ) -> Result<Sent, WalletCommandError> {
        let checked = to.clone().require_network(self.network);
        let to = checked.map_err(|_| WalletCommandError::OtherNetwork {
            address: to.clone().assume_checked().to_string(),
            network: self.network,
        })?;
        let node = self.node()?;
        let feerate = feerate(&node, how)?;
        self.sync(file, &node)?;
        let own = config.pay_to.is_own();
        let mut wallet = match own {
            true => Wallet::open(self.directory, &self.seed()?, self.network)?,
            false => file.open()?,
        };
        let spend = Spend {
            to,
            amount,
            feerate,
        };
        let built = wallet.build(&spend)?;
        if own && how.psbt.is_none() {
            let transaction = wallet.sign(&built.psbt).map_err(SpendError::from)?;
            let outcome = match how.dry_run {
                true => node.test_accept(&transaction)?,
                false => {
                    wallet.persist()?;
                    node.broadcast(&transaction)?
                }
            };
            let sent = sent(&spend, &built, how, Some(outcome));
            if sent.accepted {
                wallet.note_sent(&transaction)?;
            }
            return Ok(sent);
        }
        let mut sent = sent(&spend, &built, how, None);
        let unnamed = || PathBuf::from(format!("payment-{}.psbt", sent.txid));
        let path = how.psbt.clone().unwrap_or_else(unnamed);
        if !how.dry_run {
            wallet.persist()?;
            write_psbt(&path, &built.psbt)?;
        }
        sent.psbt = Some(path);
        Ok(sent)
    }
}

/// A payment as it is told of. `outcome` is what the node says of it, where it is signed.
fn sent(spend: &Spend, built: &Built, how: &SpendArgs, outcome: Option<BroadcastOutcome>) -> Sent {
    let (accepted, reason) = match outcome {
        None => (false, None),
        Some(
            BroadcastOutcome::Accepted
            | BroadcastOutcome::AlreadyInMempool
            | BroadcastOutcome::AlreadyInChain,
        ) => (!how.dry_run, None),
        Some(
            BroadcastOutcome::PrematureCoinbaseSpend { reason }
            | BroadcastOutcome::Rejected { reason },
        ) => (false, Some(reason)),
    };
    let vsize = built.signed_vsize();
    let unsigned = &built.psbt.unsigned_tx;
    let inputs = unsigned.input.iter();
    Sent {
        // No signature is part of it.
        txid: unsigned.compute_txid(),
        to: spend.to.to_string(),
        sat: built.paid.to_sat(),
        fee: built.fee.to_sat(),
        vsize,
        feerate_sat_per_kvb: Feerate::paid(built.fee, vsize).map_or(0, Feerate::sat_per_kvb),
        change: built.change.to_sat(),
        spends: inputs.map(|i| i.previous_output.to_string()).collect(),
        left_out: built.left_out.to_sat(),
        accepted,
        reason,
        dry_run: how.dry_run,
        psbt: None,
    }
}

/// Never over another file: that one may be signed already.
fn write_psbt(path: &Path, psbt: &Psbt) -> Result<(), WalletCommandError> {
    let failed = |source| WalletCommandError::Psbt {
        path: path.to_owned(),
        source,
    };
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(PSBT_MODE);
    let mut file = file.open(path).map_err(failed)?;
    file.write_all(&psbt.serialize()).map_err(failed)?;
    file.sync_all().map_err(failed)
}

/// What was asked for, or what the node estimates, and no less than its mempool takes.
fn feerate(node: &Node, how: &SpendArgs) -> Result<Feerate, WalletCommandError> {
    if let Some(feerate) = how.feerate {
        return Ok(feerate);
    }
    let estimate = node.estimate(how.target_blocks)?.feerate();
    let estimate = estimate.ok_or(WalletCommandError::NoEstimate(how.target_blocks))?;
    Ok(estimate.max(node.mempool_min()?))
}
