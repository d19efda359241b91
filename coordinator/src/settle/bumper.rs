//! Raises a payout's fee with the coordinator's own coins, when the policy says so.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::mem::{Discriminant, discriminant};
use std::time::Duration;

use tutti_proto::bump::{
    BumpCause, BumpError, BumpPlan, BumpPolicy, BumpRequest, Coin, Decision, FeeEstimate, Feerate,
    OwnOutput, Pending, Replaced, Seen, decide, plan_bump,
};

use super::Purse;
use super::worker::Payout;
use crate::chain::{Node, NodeConfig, NodeError, PooledTransaction};
use crate::news::News;

/// A look through all coins of a large chain.
const SCAN_TIMEOUT: Duration = Duration::from_secs(900);

/// Most blocks between two looks for coins, while there are too few.
const LOOK_AGAIN_MAX: u32 = 16;

/// The pool's own coins in the chain. A look for them keeps the node busy, for minutes on a large chain: it is made
/// when those that are known do not suffice, and where there were too few after 1, 2, 4 blocks and so on.
#[derive(Default)]
pub(super) struct Coins {
    /// As they were seen last.
    known: Option<Vec<Coin>>,
    /// The tip at which they were looked for last.
    looked_at: Option<u32>,
    /// Blocks from then on after which they may be looked for again.
    wait: u32,
}

impl Coins {
    fn next_look(&self) -> u32 {
        self.looked_at.map_or(0, |at| at.saturating_add(self.wait))
    }
}

/// What came of a bump that is due.
enum Made {
    /// What payout and child were lifted to, if they were.
    Lifted(Option<Feerate>),
    /// The pool's coins are to be looked for first.
    WantsCoins,
    /// They could not be looked for, and are again some blocks later.
    NotNow,
}

fn is_short(planned: &Result<BumpPlan, BumpError>) -> bool {
    let lacks = |error: &BumpError| {
        matches!(
            error,
            BumpError::NotEnough { .. } | BumpError::NothingToPayWith
        )
    };
    planned.as_ref().is_err_and(lacks)
}

/// What a bump needs.
pub(super) struct Bumper<'a> {
    pub(super) node: &'a Node,
    pub(super) config: &'a NodeConfig,
    pub(super) policy: &'a BumpPolicy,
    pub(super) purse: &'a Purse,
    /// That the node never estimates fees is said once.
    pub(super) no_estimates_told: &'a Cell<bool>,
    pub(super) coins: &'a mut Coins,
    /// Whether coins may be looked for: not before what needs none is bumped.
    pub(super) may_look: bool,
}

/// Why a bump that is due is not made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum NotBumped {
    FeerateMax,
    NotOurs,
    Plan(Discriminant<BumpError>),
}

impl Bumper<'_> {
    /// Says whether the pool's coins are to be looked for first.
    pub(super) fn look_at(&mut self, payout: &mut Payout, tip: u32) -> Result<bool, NodeError> {
        let child = self.child(payout)?;
        let Some(pending) = self.pending(payout, child, tip)? else {
            return Ok(false);
        };
        let (lifted, is_lost) = match decide(self.policy, &pending, 0) {
            Decision::Wait => return Ok(false),
            Decision::Capped { wanted } => {
                let why = format!(
                    "{wanted} are wanted, above bump.feerate_max_sat_per_vb; raise it, or a payee bumps"
                );
                tell_once(payout, NotBumped::FeerateMax, &why);
                (None, false)
            }
            Decision::Bump { target, cause } => {
                let lifted = match self.bump(payout, child, target, cause, tip)? {
                    Made::Lifted(lifted) => lifted,
                    Made::WantsCoins => return Ok(true),
                    Made::NotNow => return Ok(false),
                };
                (lifted, matches!(cause, BumpCause::ChildLost { .. }))
            }
        };
        if let Some(lifted) = lifted {
            payout.seen = Some(Seen::raised(tip, lifted));
        }
        // What is there already is made again once it is lost; what cannot be made is left until blocks pass by.
        payout.bumped = Some((tip, lifted.or(pending.lifted_to.filter(|_| !is_lost))));
        Ok(false)
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
        payout: &mut Payout,
        child: Option<PooledTransaction>,
        tip: u32,
    ) -> Result<Option<Pending>, NodeError> {
        let child = child.map(|child| (child.fee, child.vsize));
        let pays = Feerate::paid_with(payout.fee, payout.vsize, child);
        let alone = Feerate::paid(payout.fee, payout.vsize);
        let Some((alone, pays)) = alone.zip(pays) else {
            return Ok(None);
        };
        let estimate = self.estimate()?;
        let seen = payout.seen.unwrap_or(Seen::alone(alone));
        let seen = *payout.seen.insert(seen.then(tip, pays, estimate));
        let ripe_since = tip.saturating_sub(payout.progress.blocks_waited(tip));
        let since = payout.bumped.map_or(ripe_since, |(at, _)| at);
        Ok(Some(Pending {
            blocks_waited: seen.blocks_waited(tip, since),
            pays,
            mempool_min: self.node.mempool_min()?,
            estimate,
            lifted_to: payout.bumped.and_then(|(_, lifted)| lifted),
        }))
    }

    fn estimate(&self) -> Result<Option<Feerate>, NodeError> {
        let estimate = self.node.estimate(self.policy.target_blocks)?;
        if estimate == FeeEstimate::Disabled && !self.no_estimates_told.replace(true) {
            News::no_fee_estimates().tell();
        }
        Ok(estimate.feerate())
    }

    fn bump(
        &mut self,
        payout: &mut Payout,
        child: Option<PooledTransaction>,
        target: Feerate,
        cause: BumpCause,
        tip: u32,
    ) -> Result<Made, NodeError> {
        let own = (0..).zip(&payout.transaction.output);
        let mut own = own.filter(|(_, output)| output.script_pubkey == self.purse.script());
        let own = own.next().map(|(vout, output)| OwnOutput {
            vout,
            value: output.value,
            script: output.script_pubkey.clone(),
        });
        let mut planned = self.plan(payout, own.clone(), Vec::new(), child, target);
        if is_short(&planned) && self.coins.known.is_some() {
            let coins = self.free_coins(child)?;
            planned = self.plan(payout, own.clone(), coins, child, target);
        }
        if is_short(&planned) && tip >= self.coins.next_look() {
            if !self.may_look {
                return Ok(Made::WantsCoins);
            }
            self.look_for_coins(tip)?;
            let coins = self.free_coins(child)?;
            planned = self.plan(payout, own, coins, child, target);
            if !is_short(&planned) {
                self.coins.wait = 1;
            }
        }
        if is_short(&planned) && self.coins.known.is_none() {
            return Ok(Made::NotNow);
        }
        let plan = match planned {
            Ok(plan) => plan,
            // Somebody else pays as much already.
            Err(BumpError::TargetBelowReplaced { .. }) => return Ok(Made::Lifted(None)),
            Err(error) => {
                let why = match &error {
                    BumpError::NothingToPayWith => {
                        let (address, next) = (self.purse.address(), self.coins.next_look());
                        format!(
                            "the pool has no coin for it; send some to {address}: they are looked for again at height {next}, and then after more blocks each time, at most {LOOK_AGAIN_MAX}"
                        )
                    }
                    BumpError::AboveCap { .. } => {
                        format!("{error}; raise bump.cost_max_sat, or a payee bumps")
                    }
                    error => error.to_string(),
                };
                tell_once(payout, NotBumped::Plan(discriminant(&error)), &why);
                return Ok(Made::Lifted(None));
            }
        };
        let Some(signed) = self.purse.sign(&plan) else {
            tell_once(payout, NotBumped::NotOurs, "a coin of it is not the pool's");
            return Ok(Made::Lifted(None));
        };
        let refused = self.node.submit_package(&payout.transaction, &signed)?;
        let lifted = refused.is_none();
        let lifted = lifted.then(|| plan.package_feerate.min(target));
        payout.not_bumped = None;
        News::payout_bumped(payout.txid, &signed.compute_txid(), &plan, cause, refused).tell();
        Ok(Made::Lifted(lifted))
    }

    /// Whatever comes of it, the next look waits.
    fn look_for_coins(&mut self, tip: u32) -> Result<(), NodeError> {
        self.coins.looked_at = Some(tip);
        self.coins.wait = self.coins.wait.saturating_mul(2).clamp(1, LOOK_AGAIN_MAX);
        // A connection of its own, for a call that may take minutes. Where it ends, the other one stays.
        let node = Node::connect(self.config, SCAN_TIMEOUT);
        let coins = node.and_then(|node| node.coins_in_chain(&self.purse.script()));
        let coins = coins.map_err(|error| NodeError::Coins(Box::new(error)))?;
        self.coins.known = Some(coins);
        Ok(())
    }

    /// The known coins that can be spent, with what a replacement of the child gives back.
    fn free_coins(&self, child: Option<PooledTransaction>) -> Result<Vec<Coin>, NodeError> {
        let known = self.coins.known.as_deref().unwrap_or_default();
        let freed = match child {
            Some(child) => self.node.spent_by(child.txid)?,
            None => BTreeSet::new(),
        };
        self.node.free(known, &freed)
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
            feerate_max: Some(self.policy.feerate_max),
            cost_max: Some(self.policy.cost_max),
            change_script: self.purse.script(),
            replaces: child.map(|child| Replaced {
                fee: child.fee,
                vsize: child.vsize,
            }),
        })
    }
}

/// Until another reason, or a bump: the policy comes to the same again at each block.
fn tell_once(payout: &mut Payout, reason: NotBumped, why: &str) {
    if payout.not_bumped.replace(reason) != Some(reason) {
        News::payout_not_bumped(payout.txid, why).tell();
    }
}
