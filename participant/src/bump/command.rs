//! `bump`: raises a payout's fee by a child, with nothing but the data directory and a node.

use std::path::Path;

use bitcoin::{Amount, Network, ScriptBuf, Transaction, TxIn, Txid};
use serde::Serialize;
use thiserror::Error;
use tutti_proto::bump::{
    BumpError, BumpPlan, BumpRequest, Coin, Feerate, OwnOutput, Replaced, plan_bump,
};
use tutti_proto::coinbase::COINBASE_MATURITY;
use tutti_proto::payout::ANCHOR_SAT;
use tutti_proto::window::REMEMBERED;

use super::by_hand::{AboveLimit, FeeLimit};
use super::fate::{self, NotBumpable};
use super::funds;
use crate::amount::{both, grouped};
use crate::chain::{MempoolEntry, Node, NodeConfig, NodeError};
use crate::keys::{Seed, SeedError};
use crate::store::{self, StoreError};
use crate::wallet::{SignError, SyncError, Wallet, WalletError, WalletFile};

/// What payout and child together are to pay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Feerate(Feerate),
    /// What the node estimates for a confirmation within so many blocks.
    Blocks(u16),
}

/// What is to be bumped, and how.
#[derive(Clone, Copy, Debug)]
pub struct Bump {
    pub payout: Txid,
    pub target: Target,
    /// What a policy allows; none where a person decides.
    pub limits: Option<Limits>,
    /// Show what would be sent, and send nothing.
    pub dry_run: bool,
}

/// How far a bump by policy may go. It is made for a payout that pays this wallet, and for no more than
/// half of what that pays: what is left must be worth the bump.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Highest fee of the child; a target that costs more is lowered to it.
    pub cost_max: Amount,
    /// Highest feerate of payout and child together.
    pub feerate_max: Feerate,
    /// Blocks that the wallet may be brought up to date for, before what it knows must do.
    pub sync_blocks_max: u32,
}

impl Limits {
    /// For a payout of which this is ours.
    fn of_own(self, own: Option<&OwnOutput>) -> Result<Self, BumpCommandError> {
        let own = own.ok_or(BumpCommandError::NotOurs)?;
        let half = Amount::from_sat(own.value.to_sat() / 2);
        Ok(Self {
            cost_max: self.cost_max.min(half),
            ..self
        })
    }
}

/// Where the rounds, the seed and the wallet are, and the node to send to.
#[derive(Clone, Copy)]
pub struct Bumper<'a> {
    pub data_dir: &'a Path,
    pub network: Network,
    pub node: &'a NodeConfig,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bumped {
    pub payout_txid: String,
    /// The payout's own, sat.
    pub payout_fee: u64,
    pub payout_vsize: u64,
    pub payout_feerate_sat_per_kvb: u64,
    pub child_txid: String,
    /// The child's, sat.
    pub fee: u64,
    /// The child's.
    pub vsize: u64,
    /// The child's, alone.
    pub child_feerate_sat_per_kvb: u64,
    /// What comes back to the wallet, sat.
    pub change: u64,
    /// What pays, beside the anchor: `txid:vout`.
    pub spends: Vec<String>,
    /// What was asked for.
    pub target_sat_per_kvb: u64,
    /// Payout and child together.
    pub package_feerate_sat_per_kvb: u64,
    /// The child that was in the mempool before, whoever made it.
    pub replaces: Option<ReplacedChild>,
    /// What the pool credits for it at most, sat: its ledger must know the block still when the payout is final.
    pub credit: u64,
    /// From which height on, if it is mined there.
    pub credit_from_height: u32,
    /// Whether payout and child are in the node's mempool.
    pub accepted: bool,
    /// Why not, in the node's words.
    pub reason: Option<String>,
    /// Only shown, not sent.
    pub dry_run: bool,
}

/// A child that another one replaces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReplacedChild {
    pub txid: String,
    pub fee: u64,
    pub vsize: u64,
}

/// Why no child was made.
#[derive(Debug, Error)]
pub enum BumpCommandError {
    #[error("the configuration has no [node] section, and a bump needs a node to send to; add one")]
    NoNode,
    #[error("no held round has a payout {0}; `tutti-participant payouts` lists them")]
    NotHeld(Txid),
    #[error(
        "payout {0} was imported alone, and what it spends is not known yet, so its fee is not either; let `run` or `watch` find its block, or import it as a PSBT"
    )]
    UnknownFee(Txid),
    #[error("payout {0} does not spend the coinbase it was stored with; its file is damaged")]
    NotOfItsCoinbase(Txid),
    #[error("the payout pays this wallet nothing: its bump is left to those whom it pays")]
    NotOurs,
    #[error(
        "the node has no fee estimate for {0} blocks: it has seen too few transactions, or runs with -blocksonly; give --feerate instead"
    )]
    NoEstimate(u16),
    #[error(transparent)]
    NotBumpable(#[from] NotBumpable),
    #[error(transparent)]
    AboveLimit(#[from] AboveLimit),
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
    Sync(#[from] SyncError),
    #[error(transparent)]
    Node(#[from] NodeError),
}

/// Makes the child and hands it to the node, together with the payout.
pub fn bump(bumper: Bumper<'_>, bump: Bump) -> Result<Bumped, BumpCommandError> {
    make(bumper, bump, None)
}

/// The same for a person: only where the node's chain lets the payout be bumped, and within a limit.
pub fn bump_by_hand(
    bumper: Bumper<'_>,
    bump: Bump,
    limit: FeeLimit,
) -> Result<Bumped, BumpCommandError> {
    make(bumper, bump, Some(limit))
}

fn make(
    bumper: Bumper<'_>,
    bump: Bump,
    by_hand: Option<FeeLimit>,
) -> Result<Bumped, BumpCommandError> {
    let held = held_payout(bumper.data_dir, bump.payout)?;
    let seed = Seed::load(&bumper.data_dir.join(store::SEED))?;
    let open = || Wallet::open(bumper.data_dir, &seed, bumper.network);
    let mut wallet = open()?;
    let node = Node::connect(bumper.node)?;
    if by_hand.is_some() {
        fate::check(&node, &held)?;
    }
    let HeldPayout {
        payout,
        fee: payout_fee,
        credit,
        ..
    } = held;
    let target = target(&node, bump.target)?;
    let child = node.mempool_child(bump.payout)?;
    let own = funds::own_output(&payout, &wallet);
    let job = Job {
        limits: bump
            .limits
            .map(|limits| limits.of_own(own.as_ref()))
            .transpose()?,
        own,
        payout,
        payout_fee,
        credit,
        target,
        replaced: match &child {
            Some(child) => node.pooled_transaction(child.txid)?,
            None => None,
        },
        child,
    };
    let plan = match job.plan(&wallet, &[]) {
        Err(BumpError::NotEnough { .. } | BumpError::NothingToPayWith) => {
            drop(wallet); // A sync opens it for itself.
            let file = WalletFile::own(
                bumper.data_dir,
                &seed.wallet_account(bumper.network),
                bumper.network,
            );
            let most = bump.limits.map(|limits| limits.sync_blocks_max);
            let synced = funds::sync(&bumper, &file, &node, most);
            wallet = open()?;
            let coins = {
                let replaced = job.child.as_ref().map(|child| child.txid);
                funds::coins(&bumper, &wallet, &node, bump.payout, replaced)?
            };
            let planned = job.plan(&wallet, &coins);
            // What is missing may be in the blocks that could not be looked at.
            match (&planned, synced) {
                (Err(BumpError::NotEnough { .. } | BumpError::NothingToPayWith), Err(error)) => {
                    return Err(error.into());
                }
                _ => planned?,
            }
        }
        planned => planned?,
    };
    if let Some(limit) = by_hand {
        limit.check(plan.fee, plan.package_feerate)?;
    }
    let child = wallet.sign_bump(&plan)?;
    if bump.dry_run {
        let refused = node.test_child(&job.payout, &child)?;
        return Ok(job.bumped(&plan, &child, refused, true));
    }
    let refused = node.submit_package(&job.payout, &child)?;
    // Nobody saw the address of a child that was refused: the next one gets it.
    if refused.is_none() {
        if job.change_script(&wallet) == wallet.peek_change_script() {
            wallet.next_change_script()?;
        }
        // A node that has pruned its block by then no longer shows it.
        wallet.note_sent(&child)?;
    }
    Ok(job.bumped(&plan, &child, refused, false))
}

fn target(node: &Node, target: Target) -> Result<Feerate, BumpCommandError> {
    match target {
        Target::Feerate(feerate) => Ok(feerate),
        Target::Blocks(blocks) => {
            let estimate = node.estimate(blocks)?.feerate();
            let estimate = estimate.ok_or(BumpCommandError::NoEstimate(blocks))?;
            Ok(estimate.max(node.mempool_min()?))
        }
    }
}

/// What is known before the child is planned.
struct Job {
    payout: Transaction,
    payout_fee: Amount,
    credit: CreditTerms,
    own: Option<OwnOutput>,
    target: Feerate,
    child: Option<MempoolEntry>,
    /// The same, whole.
    replaced: Option<Transaction>,
    limits: Option<Limits>,
}

impl Job {
    fn plan(&self, wallet: &Wallet, coins: &[Coin]) -> Result<BumpPlan, BumpError> {
        plan_bump(BumpRequest {
            parent: &self.payout,
            parent_fee: self.payout_fee,
            anchor_vout: last_output(&self.payout),
            own: self.own.clone(),
            coins: coins.to_vec(),
            target: self.target,
            feerate_max: self.limits.map(|limits| limits.feerate_max),
            cost_max: self.limits.map(|limits| limits.cost_max),
            change_script: self.change_script(wallet),
            replaces: self.child.as_ref().map(|child| Replaced {
                fee: child.fee,
                vsize: child.vsize,
            }),
        })
    }

    /// That of the child to be replaced if it is ours, so that one payout's bumps use up one address.
    fn change_script(&self, wallet: &Wallet) -> ScriptBuf {
        let before = self
            .replaced
            .as_ref()
            .and_then(|child| child.output.first());
        let before = before.map(|change| change.script_pubkey.clone());
        let before = before.filter(|script| wallet.is_mine(script));
        before.unwrap_or_else(|| wallet.peek_change_script())
    }

    fn bumped(
        &self,
        plan: &BumpPlan,
        child: &Transaction,
        refused: Option<String>,
        dry_run: bool,
    ) -> Bumped {
        let payout_vsize = u64::try_from(self.payout.vsize()).unwrap_or(u64::MAX);
        let rate = |fee, vsize| Feerate::paid(fee, vsize).map_or(0, Feerate::sat_per_kvb);
        let payers = child.input.iter().skip(BumpPlan::FIRST_OWN_INPUT);
        let own_only = |i: &TxIn| i.previous_output.txid == plan.parent_txid;
        let is_credited = payers.clone().all(own_only);
        let credit = if is_credited { self.credit.most } else { 0 };
        Bumped {
            payout_txid: plan.parent_txid.to_string(),
            payout_fee: self.payout_fee.to_sat(),
            payout_vsize,
            payout_feerate_sat_per_kvb: rate(self.payout_fee, payout_vsize),
            child_txid: child.compute_txid().to_string(),
            fee: plan.fee.to_sat(),
            vsize: plan.vsize,
            child_feerate_sat_per_kvb: rate(plan.fee, plan.vsize),
            change: plan.change.to_sat(),
            spends: payers.map(|i| i.previous_output.to_string()).collect(),
            target_sat_per_kvb: self.target.sat_per_kvb(),
            package_feerate_sat_per_kvb: plan.package_feerate.sat_per_kvb(),
            replaces: self.child.as_ref().map(|child| ReplacedChild {
                txid: child.txid.to_string(),
                fee: child.fee.to_sat(),
                vsize: child.vsize,
            }),
            // The anchor's sat were nobody's.
            credit: plan
                .fee
                .to_sat()
                .saturating_sub(ANCHOR_SAT)
                .min(u64::from(credit)),
            credit_from_height: self.credit.from_height,
            accepted: refused.is_none() && !dry_run,
            reason: refused,
            dry_run,
        }
    }
}

impl Bumped {
    /// Whether what was asked for was done.
    pub fn is_done(&self) -> bool {
        self.reason.is_none()
    }

    /// What the pool gives back. How often windows close, and so for how many blocks a ledger remembers one, is not
    /// known here.
    fn credited(&self) -> String {
        let (from, of_payout) = (self.credit_from_height, format!("{}:", self.payout_txid));
        match self.credit {
            0 if self.spends.iter().all(|coin| coin.starts_with(&of_payout)) => {
                "nothing: the pool credits no bumps".to_owned()
            }
            0 => "nothing: it spends more than the payout".to_owned(),
            sat => format!(
                "at most {} by the pool, if it is mined at height {} or later, and 100 blocks deep within {} windows of the block",
                both(sat),
                grouped(u64::from(from)),
                grouped(REMEMBERED)
            ),
        }
    }

    /// For persons.
    pub fn table(&self) -> String {
        let size = |fee, vsize: u64, rate| {
            let rate = Feerate::from_sat_per_kvb(rate);
            format!("{} for {} vB, {rate}", both(fee), grouped(vsize))
        };
        let mut rows = vec![
            (
                "payout",
                size(
                    self.payout_fee,
                    self.payout_vsize,
                    self.payout_feerate_sat_per_kvb,
                ),
            ),
            (
                "child",
                size(self.fee, self.vsize, self.child_feerate_sat_per_kvb),
            ),
            (
                "together",
                format!(
                    "{} (asked for {})",
                    size(
                        self.payout_fee.saturating_add(self.fee),
                        self.payout_vsize.saturating_add(self.vsize),
                        self.package_feerate_sat_per_kvb
                    ),
                    Feerate::from_sat_per_kvb(self.target_sat_per_kvb)
                ),
            ),
            ("comes back", both(self.change)),
        ];
        if let Some(child) = &self.replaces {
            let rate = Feerate::paid(Amount::from_sat(child.fee), child.vsize);
            let rate = rate.map_or(0, Feerate::sat_per_kvb);
            rows.push(("replaces", size(child.fee, child.vsize, rate)));
        }
        rows.push(("credited", self.credited()));
        rows.push(("child txid", self.child_txid.clone()));
        let outcome = match (&self.reason, self.dry_run) {
            (None, false) => "the node took payout and child".to_owned(),
            // A payout below the mempool's minimum is only judged together with its child, when both are sent.
            (None, true) => {
                "dry run: nothing was sent, and the node has nothing against it so far".to_owned()
            }
            (Some(reason), true) => {
                format!("dry run: nothing was sent, and the node would refuse it: {reason}")
            }
            (Some(reason), false) => format!("the node refused: {reason}"),
        };
        rows.push(("outcome", outcome));
        let line = |(name, value): (&str, String)| format!("{name:<12}{value}\n");
        rows.into_iter().map(line).collect()
    }
}

/// A payout of a held round.
pub(crate) struct HeldPayout {
    pub(crate) payout: Transaction,
    pub(crate) fee: Amount,
    /// Of its block, if one is found.
    pub(super) height: Option<u32>,
    credit: CreditTerms,
}

/// What the pool credits for a bump of it, as far as a child spends nothing else.
#[derive(Clone, Copy)]
struct CreditTerms {
    /// Sat.
    most: u32,
    from_height: u32,
}

/// The payout among the held rounds, and its fee.
pub(crate) fn held_payout(directory: &Path, txid: Txid) -> Result<HeldPayout, BumpCommandError> {
    // Newest first: what is bumped is recent.
    for name in store::held_names(directory)?.into_iter().rev() {
        let Ok(held) = store::held_round(directory, &name) else {
            continue; // A damaged round; it is not the one if another holds the payout.
        };
        let ripe = held.height.saturating_add(COINBASE_MATURITY);
        let credit = CreditTerms {
            most: held.bump_credit,
            from_height: ripe.saturating_add(u32::from(held.bump_credit_after)),
        };
        for lane in held.lanes {
            let mut payouts = lane.payouts.into_iter();
            if let Some(payout) = payouts.find(|payout| payout.compute_txid() == txid) {
                let fee =
                    fee(&lane.coinbase, &payout).ok_or(BumpCommandError::NotOfItsCoinbase(txid))?;
                return Ok(HeldPayout {
                    payout,
                    fee,
                    height: Some(held.height),
                    credit,
                });
            }
        }
    }
    for alone in store::all_alone(directory)?.alone {
        let height = alone.height();
        let mut payouts = alone.payouts.into_iter();
        if let Some(payout) = payouts.find(|payout| payout.compute_txid() == txid) {
            let coinbase = alone.coinbase.ok_or(BumpCommandError::UnknownFee(txid))?;
            let fee = fee(&coinbase, &payout).ok_or(BumpCommandError::NotOfItsCoinbase(txid))?;
            // By what the pool credits was not imported with it.
            let credit = CreditTerms {
                most: 0,
                from_height: 0,
            };
            return Ok(HeldPayout {
                payout,
                fee,
                height,
                credit,
            });
        }
    }
    Err(BumpCommandError::NotHeld(txid))
}

/// What the payout leaves of the coinbase output that it spends.
pub(crate) fn fee(coinbase: &Transaction, payout: &Transaction) -> Option<Amount> {
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

/// The anchor is the last output; the plan checks that it is one.
fn last_output(payout: &Transaction) -> u32 {
    u32::try_from(payout.output.len().saturating_sub(1)).unwrap_or(u32::MAX)
}
