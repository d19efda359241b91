//! Raises a payout's fee with the coordinator's own coins, when the policy says so.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::time::Duration;

use bitcoin::Amount;
use tutti_proto::bump::{
    BumpCause, BumpError, BumpPlan, BumpRequest, Coin, Decision, FeeEstimate, Feerate, OwnOutput,
    Pending, Replaced, decide, plan_bump,
};

use super::worker::Payout;
use super::{AutoBump, Purse};
use crate::chain::{Node, NodeConfig, NodeError, PooledTransaction};
use crate::news::News;

/// A look through all coins of a large chain.
const SCAN_TIMEOUT: Duration = Duration::from_secs(900);

/// What a bump needs.
pub(super) struct Bumper<'a> {
    pub(super) node: &'a Node,
    pub(super) config: &'a NodeConfig,
    pub(super) settings: &'a AutoBump,
    pub(super) purse: &'a Purse,
    /// That the node never estimates fees is said once.
    pub(super) no_estimates_told: &'a Cell<bool>,
}

impl Bumper<'_> {
    pub(super) fn look_at(&self, payout: &mut Payout, tip: u32) -> Result<(), NodeError> {
        let child = self.child(payout)?;
        let Some(pending) = self.pending(payout, child, tip)? else {
            return Ok(());
        };
        match decide(&self.settings.policy, &pending, 0) {
            Decision::Wait => {}
            Decision::Capped { wanted } => {
                payout.bumped = Some((tip, None));
                let why = format!("{wanted} are wanted, above bump.feerate_max_sat_per_vb");
                News::payout_not_bumped(payout.txid, &why).tell();
            }
            Decision::Bump { target, cause } => {
                let lifted = self.bump(payout, child, target, cause)?;
                payout.bumped = Some((tip, lifted));
            }
        }
        Ok(())
    }

    fn child(&self, payout: &Payout) -> Result<Option<PooledTransaction>, NodeError> {
        let pooled = self.node.pooled(payout.txid)?;
        match pooled.and_then(|pooled| pooled.child) {
            Some(child) => self.node.pooled(child),
            None => Ok(None),
        }
    }

    fn pending(
        &self,
        payout: &Payout,
        child: Option<PooledTransaction>,
        tip: u32,
    ) -> Result<Option<Pending>, NodeError> {
        let (fee, vsize) = child.map_or((Amount::ZERO, 0), |child| (child.fee, child.vsize));
        let fee = payout.fee.checked_add(fee);
        let together = fee.zip(payout.vsize.checked_add(vsize));
        let Some(pays) = together.and_then(|(fee, vsize)| Feerate::paid(fee, vsize)) else {
            return Ok(None);
        };
        let waited = payout.progress.blocks_waited(tip);
        let since_last = payout
            .bumped
            .map_or(waited, |(at, _)| tip.saturating_sub(at));
        Ok(Some(Pending {
            blocks_waited: waited.min(since_last),
            pays,
            mempool_min: self.node.mempool_min()?,
            estimate: self.estimate()?,
            lifted_to: payout.bumped.and_then(|(_, lifted)| lifted),
        }))
    }

    fn estimate(&self) -> Result<Option<Feerate>, NodeError> {
        let estimate = self.node.estimate(self.settings.target_blocks)?;
        if estimate == FeeEstimate::Disabled && !self.no_estimates_told.replace(true) {
            News::no_fee_estimates().tell();
        }
        Ok(estimate.feerate())
    }

    /// What payout and child were lifted to, if they were.
    fn bump(
        &self,
        payout: &Payout,
        child: Option<PooledTransaction>,
        target: Feerate,
        cause: BumpCause,
    ) -> Result<Option<Feerate>, NodeError> {
        let own = (0..).zip(&payout.transaction.output);
        let mut own = own.filter(|(_, output)| output.script_pubkey == self.purse.script());
        let own = own.next().map(|(vout, output)| OwnOutput {
            vout,
            value: output.value,
            script: output.script_pubkey.clone(),
        });
        let planned = match self.plan(payout, own.clone(), Vec::new(), child, target) {
            Err(BumpError::NotEnough { .. } | BumpError::NothingToPayWith) => {
                // A connection of its own, for a call that may take minutes.
                let node = Node::connect(self.config, SCAN_TIMEOUT)?;
                let freed = match child {
                    Some(child) => node.spent_by(child.txid)?,
                    None => BTreeSet::new(),
                };
                let coins = node.coins(&self.purse.script(), &freed)?;
                self.plan(payout, own, coins, child, target)
            }
            planned => planned,
        };
        let plan = match planned {
            Ok(plan) => plan,
            // Somebody else pays as much already.
            Err(BumpError::TargetBelowReplaced { .. }) => return Ok(None),
            Err(BumpError::NothingToPayWith) => {
                let address = self.purse.address();
                let why = format!("the pool has no coin for it; send some to {address}");
                News::payout_not_bumped(payout.txid, &why).tell();
                return Ok(None);
            }
            Err(error) => {
                News::payout_not_bumped(payout.txid, &error.to_string()).tell();
                return Ok(None);
            }
        };
        let Some(signed) = self.purse.sign(&plan) else {
            News::payout_not_bumped(payout.txid, "a coin of it is not the pool's").tell();
            return Ok(None);
        };
        let refused = self.node.submit_package(&payout.transaction, &signed)?;
        let lifted = refused
            .is_none()
            .then_some(plan.package_feerate.min(target));
        News::payout_bumped(payout.txid, &signed.compute_txid(), &plan, cause, refused).tell();
        Ok(lifted)
    }

    fn plan(
        &self,
        payout: &Payout,
        own: Option<OwnOutput>,
        coins: Vec<Coin>,
        child: Option<PooledTransaction>,
        target: Feerate,
    ) -> Result<BumpPlan, BumpError> {
        let last = payout.transaction.output.len().saturating_sub(1);
        plan_bump(BumpRequest {
            parent: &payout.transaction,
            parent_fee: payout.fee,
            anchor_vout: u32::try_from(last).unwrap_or(u32::MAX),
            own,
            coins,
            target,
            feerate_max: Some(self.settings.policy.feerate_max),
            cost_max: Some(self.settings.policy.cost_max),
            change_script: self.purse.script(),
            replaces: child.map(|child| Replaced {
                fee: child.fee,
                vsize: child.vsize,
            }),
        })
    }
}
