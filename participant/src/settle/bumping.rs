//! Bumping by policy: payouts that blocks pass by, or that the mempool does not take alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bitcoin::{Amount, Network, Transaction, Txid};
use tutti_proto::bump::{BumpCause, BumpError, Decision, Feerate, Pending, decide};

use super::book::{Payout, Settlement};
use super::follow::Follower;
use crate::bump::{Bump, BumpCommandError, Bumped, Bumper, Limits, Target, bump, held_payout};
use crate::chain::{Node, NodeConfig, NodeError};
use crate::config::AutoBump;
use crate::store;

/// Blocks that each payee with a larger part is given before us.
const BLOCKS_EACH: u32 = 2;
/// Payees that we give these blocks; beyond, all go together.
const FIRST_PAYEES: u32 = 6;
/// Blocks that the wallet is synced over before a bump: a week's. More would hold up the settlement of
/// everything else; `wallet balance` or `wallet rescan` does it.
const SYNC_BLOCKS_MAX: u32 = 1_008;

/// Bumps of this participant: the seed is read when one is due, and not before.
pub struct AutoBumper {
    pub(super) settings: AutoBump,
    pub(super) network: Network,
    pub(super) node: NodeConfig,
    pub(super) data_dir: PathBuf,
    bumped: BTreeMap<Txid, Before>,
    /// Fees and sizes of payouts, which are read from their files once.
    sizes: BTreeMap<Txid, (Amount, u64)>,
}

/// What was done about a payout before.
#[derive(Clone, Copy)]
struct Before {
    /// The tip at which it was bumped, or was tried to be.
    tip: u32,
    /// What payout and child were lifted to; none if that failed.
    lifted_to: Option<Feerate>,
}

/// What became of a payout that is due for a bump.
#[derive(Debug)]
pub enum BumpNews {
    Bumped {
        cause: BumpCause,
        bumped: Bumped,
    },
    /// A bump is due, and it is not made.
    NotMade {
        payout: Txid,
        why: String,
    },
}

impl AutoBumper {
    pub fn new(settings: AutoBump, network: Network, node: NodeConfig, data_dir: &Path) -> Self {
        Self {
            settings,
            network,
            node,
            data_dir: data_dir.to_owned(),
            bumped: BTreeMap::new(),
            sizes: BTreeMap::new(),
        }
    }

    /// Looks at every payout that the node was asked to take; to be called at every look at the node,
    /// since a child may be lost at any time.
    pub(super) fn look(
        &mut self,
        node: &Node,
        follower: &Follower,
        tip: u32,
    ) -> Result<Vec<BumpNews>, NodeError> {
        let mut news = Vec::new();
        for (settlement, payout) in waiting(follower, tip) {
            let own_sat = follower.watched().proven_sat(settlement);
            if own_sat == 0 {
                continue; // Others have what to pay with.
            }
            let rank = follower.watched().larger_payees(settlement);
            news.extend(self.look_at(node, own_sat, payout, rank, tip)?);
        }
        Ok(news)
    }

    fn look_at(
        &mut self,
        node: &Node,
        own_sat: u64,
        payout: &Payout,
        rank: u32,
        tip: u32,
    ) -> Result<Option<BumpNews>, NodeError> {
        let (since, more, lifted_to) = match self.bumped.get(&payout.txid) {
            Some(before) => (before.tip, 0, before.lifted_to),
            None => {
                let more = rank.min(FIRST_PAYEES).saturating_mul(BLOCKS_EACH);
                (payout.tried.unwrap_or(tip), more, None)
            }
        };
        let Some(pays) = self.pays(node, payout.txid)? else {
            return Ok(None);
        };
        let pending = Pending {
            blocks_waited: tip.saturating_sub(since),
            pays,
            mempool_min: node.mempool_min()?,
            estimate: node.estimate(self.settings.target_blocks)?,
            lifted_to,
        };
        let not_made = |why| {
            Some(BumpNews::NotMade {
                payout: payout.txid,
                why,
            })
        };
        Ok(match decide(&self.settings.policy, &pending, more) {
            Decision::Wait => None,
            Decision::Capped { wanted } => {
                self.note(payout.txid, tip, None);
                let max = self.settings.policy.feerate_max;
                not_made(format!(
                    "{wanted} are wanted, and bump.feerate_max_sat_per_vb allows {max}; bump it by hand"
                ))
            }
            Decision::Bump { target, cause } => {
                let made = self.bump(payout.txid, target, own_sat);
                let lifted_to = match &made {
                    Ok(bumped) if bumped.accepted => {
                        let paid = bumped.package_feerate_sat_per_kvb;
                        Some(Feerate::from_sat_per_kvb(paid).min(target))
                    }
                    _ => None,
                };
                self.note(payout.txid, tip, lifted_to);
                match made {
                    Ok(bumped) => Some(BumpNews::Bumped { cause, bumped }),
                    // Somebody else pays as much already.
                    Err(BumpCommandError::Bump(BumpError::TargetBelowReplaced { .. })) => None,
                    Err(error) => not_made(error.to_string()),
                }
            }
        })
    }

    fn note(&mut self, payout: Txid, tip: u32, lifted_to: Option<Feerate>) {
        self.bumped.insert(payout, Before { tip, lifted_to });
    }

    /// What a payout pays now, with its child if it has one. None: its file cannot be read, which is
    /// said elsewhere. Where its coinbase cannot be had, the output that it spends says its fee.
    fn pays(&mut self, node: &Node, txid: Txid) -> Result<Option<Feerate>, NodeError> {
        let (fee, vsize) = match self.sizes.get(&txid) {
            Some(known) => *known,
            None => {
                let (payout, fee) = match held_payout(&self.data_dir, txid) {
                    Ok(held) => (held.payout, held.fee),
                    Err(BumpCommandError::UnknownFee(_)) => {
                        match fee_by_output(node, &self.data_dir, txid)? {
                            Some(known) => known,
                            None => return Ok(None),
                        }
                    }
                    Err(_) => return Ok(None),
                };
                let vsize = u64::try_from(payout.vsize()).unwrap_or(u64::MAX);
                self.sizes.insert(txid, (fee, vsize));
                (fee, vsize)
            }
        };
        let child = node.mempool_child(txid)?;
        let (child_fee, child_vsize) = child.map_or((Amount::ZERO, 0), |c| (c.fee, c.vsize));
        let together = fee
            .checked_add(child_fee)
            .zip(vsize.checked_add(child_vsize));
        Ok(together.and_then(|(fee, vsize)| Feerate::paid(fee, vsize)))
    }

    fn bump(
        &self,
        payout: Txid,
        target: Feerate,
        own_sat: u64,
    ) -> Result<Bumped, BumpCommandError> {
        let bumper = Bumper {
            data_dir: &self.data_dir,
            network: self.network,
            node: &self.node,
        };
        let cost_max = self.settings.policy.cost_max;
        let request = Bump {
            payout,
            target: Target::Feerate(target),
            limits: Some(Limits {
                // What is left must be worth the bump.
                cost_max: cost_max.min(Amount::from_sat(own_sat / 2)),
                feerate_max: self.settings.policy.feerate_max,
                sync_blocks_max: SYNC_BLOCKS_MAX,
            }),
            dry_run: false,
        };
        bump(bumper, request)
    }
}

/// A payout that was imported alone, and what it leaves of the output that it spends, as the node has it.
fn fee_by_output(
    node: &Node,
    data_dir: &Path,
    txid: Txid,
) -> Result<Option<(Transaction, Amount)>, NodeError> {
    let all = store::all_alone(data_dir).unwrap_or_default().alone;
    let mut payouts = all.into_iter().flat_map(|alone| alone.payouts);
    let Some(payout) = payouts.find(|payout| payout.compute_txid() == txid) else {
        return Ok(None);
    };
    let Some(input) = payout.input.first() else {
        return Ok(None);
    };
    // As the chain has it: the payout itself may be in the mempool.
    let spent = node.unspent_output(input.previous_output, false)?;
    let mut outputs = payout.output.iter();
    let paid = outputs.try_fold(Amount::ZERO, |sum, output| sum.checked_add(output.value));
    let fee = spent
        .zip(paid)
        .and_then(|(spent, paid)| spent.value.checked_sub(paid));
    Ok(fee.map(|fee| (payout, fee)))
}

/// Payouts that are ripe in our own node's chain and were handed to it.
fn waiting(follower: &Follower, tip: u32) -> Vec<(&Settlement, &Payout)> {
    let due = follower.book().due(tip).into_iter();
    let waiting = due.filter_map(|due| {
        let mut payouts = due.settlement.payouts.iter();
        let payout = payouts.find(|payout| payout.txid == due.txid)?;
        payout.tried.is_some().then_some((due.settlement, payout))
    });
    waiting.collect()
}
