//! Bumping by policy: payouts that blocks pass by, or that the mempool does not take alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bitcoin::{Amount, Network, OutPoint, Txid};
use tutti_proto::bump::{
    BumpCause, BumpError, BumpPolicy, Decision, FeeEstimate, Feerate, Pending, Seen, decide,
};

use super::book::{BumpedBefore, Payout};
use super::failing::Purpose;
use super::follow::Follower;
use super::{LookError, Worker};
use crate::bump::{Bump, BumpCommandError, Bumped, Bumper, Limits, Target, bump, held_payout};
use crate::chain::{Node, NodeConfig, NodeError};
use crate::news::{DaemonEvent, News};

/// Blocks that each payee before us is given.
const BLOCKS_EACH: u32 = 2;
/// Payees that we give these blocks; beyond, all go together.
const FIRST_PAYEES: u32 = 6;
/// Blocks that the wallet is synced over before a bump: a week's. More would hold up the settlement of
/// everything else; `wallet balance` or `wallet rescan` does it.
const SYNC_BLOCKS_MAX: u32 = 1_008;

/// Bumps of this participant: the seed is read when one is due, and not before.
pub struct AutoBumper {
    pub(super) policy: BumpPolicy,
    pub(super) network: Network,
    pub(super) node: NodeConfig,
    pub(super) data_dir: PathBuf,
    /// What is to be known of payouts, which are read from their files once.
    sizes: BTreeMap<Txid, Size>,
    /// That the node never estimates fees is said once.
    no_estimates_told: bool,
    /// Why bumps were not made, as it was told.
    told: BTreeMap<Txid, String>,
    /// The tip, and what a payout paid there, at which making its lost child again came to nothing: while both
    /// stay it is not tried again.
    in_vain: BTreeMap<Txid, (u32, Feerate)>,
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

/// What a payout costs, and what it spends.
#[derive(Clone, Copy)]
struct Size {
    fee: Amount,
    vsize: u64,
    spends: Option<OutPoint>,
}

/// What a payout pays.
struct Paid {
    alone: Feerate,
    /// With its child, if that pays more.
    pays: Feerate,
}

/// A payout that may need a bump.
struct Waiting {
    payout: Payout,
    /// Payees of it that bump it before us.
    before_us: u32,
}

/// A bump that is to be made.
struct DueBump {
    payout: Txid,
    /// What it pays before.
    pays: Feerate,
    target: Feerate,
    cause: BumpCause,
}

/// What is to be done about a payout.
enum Next {
    Nothing,
    Bump(DueBump),
    /// What is wanted is above the highest feerate.
    Capped(BumpNews),
}

impl AutoBumper {
    pub fn new(policy: BumpPolicy, network: Network, node: NodeConfig, data_dir: &Path) -> Self {
        Self {
            policy,
            network,
            node,
            data_dir: data_dir.to_owned(),
            sizes: BTreeMap::new(),
            no_estimates_told: false,
            told: BTreeMap::new(),
            in_vain: BTreeMap::new(),
        }
    }

    /// Forgets payouts that nothing is to be done about any more.
    fn retain(&mut self, is_due: impl Fn(&Txid) -> bool) {
        self.told.retain(|txid, _| is_due(txid));
        self.in_vain.retain(|txid, _| is_due(txid));
    }

    /// Whether it is new: a cap that stops a bump stops the next one, too.
    fn is_news(&mut self, news: &BumpNews, payout: Txid) -> bool {
        match news {
            BumpNews::Bumped { .. } => {
                self.told.remove(&payout);
                true
            }
            BumpNews::NotMade { why, .. } => {
                self.told.insert(payout, why.clone()).as_ref() != Some(why)
            }
        }
    }

    /// Looks at a payout; to be called at every look at the node, since a child may be lost at any time. Also
    /// what it was seen to pay by now.
    fn look_at(
        &mut self,
        node: &Node,
        waiting: &Waiting,
        tip: u32,
    ) -> Result<(Next, Option<Seen>), NodeError> {
        let payout = &waiting.payout;
        let (since, lifted_to) = match payout.bumped {
            Some(before) => (before.tip, before.lifted_to_sat_per_kvb),
            None => (payout.tried.unwrap_or(tip), None),
        };
        // What came to nothing was no bump.
        let more = match lifted_to {
            Some(_) => 0,
            None => waiting
                .before_us
                .min(FIRST_PAYEES)
                .saturating_mul(BLOCKS_EACH),
        };
        let Some(Paid { alone, pays }) = self.pays(node, payout.txid)? else {
            return Ok((Next::Nothing, None));
        };
        let estimate = self.estimate(node)?;
        let seen = match payout.seen {
            Some(seen) => seen.into(),
            None => Seen::alone(alone),
        };
        let seen = seen.then(tip, pays, estimate);
        let pending = Pending {
            blocks_waited: seen.blocks_waited(tip, since),
            pays,
            mempool_min: node.mempool_min()?,
            estimate,
            lifted_to: lifted_to.map(Feerate::from_sat_per_kvb),
        };
        let next = match decide(&self.policy, &pending, more) {
            Decision::Wait => Next::Nothing,
            Decision::Capped { wanted } => {
                let max = self.policy.feerate_max;
                Next::Capped(BumpNews::NotMade {
                    payout: payout.txid,
                    why: format!(
                        "{wanted} are wanted, and bump.feerate_max_sat_per_vb allows {max}; bump it by hand"
                    ),
                })
            }
            Decision::Bump {
                cause: BumpCause::ChildLost { .. },
                ..
            } if self.in_vain.get(&payout.txid) == Some(&(tip, pays)) => Next::Nothing,
            Decision::Bump { target, cause } => Next::Bump(DueBump {
                payout: payout.txid,
                pays,
                target,
                cause,
            }),
        };
        Ok((next, Some(seen)))
    }

    fn estimate(&mut self, node: &Node) -> Result<Option<Feerate>, NodeError> {
        let estimate = node.estimate(self.policy.target_blocks)?;
        if estimate == FeeEstimate::Disabled && !self.no_estimates_told {
            self.no_estimates_told = true;
            News::from(DaemonEvent::NoFeeEstimates).emit();
        }
        Ok(estimate.feerate())
    }

    /// Makes a bump. Also what the payout and its child were lifted to, if they were.
    fn make(&self, due: &DueBump) -> Result<(Option<BumpNews>, Option<Feerate>), NodeError> {
        let why = match self.bump(due) {
            Ok(bumped) => {
                let paid = Feerate::from_sat_per_kvb(bumped.package_feerate_sat_per_kvb);
                let lifted_to = bumped.accepted.then_some(paid.min(due.target));
                let cause = due.cause;
                return Ok((Some(BumpNews::Bumped { cause, bumped }), lifted_to));
            }
            Err(BumpCommandError::Node(error)) => return Err(error),
            // Somebody else pays as much already; or whom the payout pays will.
            Err(
                BumpCommandError::Bump(BumpError::TargetBelowReplaced { .. })
                | BumpCommandError::NotOurs,
            ) => return Ok((None, None)),
            Err(error @ BumpCommandError::Bump(BumpError::AboveCap { .. })) => format!(
                "{error}, which is bump.cost_max_sat or half of what the payout pays us, whichever is less; bump it by hand"
            ),
            Err(error) => error.to_string(),
        };
        let payout = due.payout;
        Ok((Some(BumpNews::NotMade { payout, why }), None))
    }

    /// What a payout pays now, with its child if it has one. None: its file cannot be read, which is
    /// said elsewhere; or what it spends is spent in the chain, by it or another, maybe in a block that is gone.
    fn pays(&mut self, node: &Node, txid: Txid) -> Result<Option<Paid>, NodeError> {
        let Some(Size { fee, vsize, spends }) = self.size(txid) else {
            return Ok(None);
        };
        if node.mempool_entry(txid)?.is_none() {
            let unspent = spends.map(|output| node.unspent_output(output, false));
            if unspent.transpose()?.flatten().is_none() {
                return Ok(None);
            }
        }
        let child = node.mempool_child(txid)?;
        let child = child.map(|child| (child.fee, child.vsize));
        let pays = Feerate::paid_with(fee, vsize, child);
        let alone = Feerate::paid(fee, vsize);
        Ok(alone.zip(pays).map(|(alone, pays)| Paid { alone, pays }))
    }

    fn size(&mut self, txid: Txid) -> Option<Size> {
        if let Some(known) = self.sizes.get(&txid) {
            return Some(*known);
        }
        let held = held_payout(&self.data_dir, txid).ok()?;
        let inputs = held.payout.input.first();
        let size = Size {
            fee: held.fee,
            vsize: u64::try_from(held.payout.vsize()).unwrap_or(u64::MAX),
            spends: inputs.map(|input| input.previous_output),
        };
        self.sizes.insert(txid, size);
        Some(size)
    }

    fn bump(&self, due: &DueBump) -> Result<Bumped, BumpCommandError> {
        let bumper = Bumper {
            data_dir: &self.data_dir,
            network: self.network,
            node: &self.node,
        };
        let request = Bump {
            payout: due.payout,
            target: Target::Feerate(due.target),
            limits: Some(Limits {
                cost_max: self.policy.cost_max,
                feerate_max: self.policy.feerate_max,
                sync_blocks_max: SYNC_BLOCKS_MAX,
            }),
            dry_run: false,
        };
        bump(bumper, request)
    }
}

impl Worker {
    /// What blocks passed by, or the mempool does not take, gets a child if that is wanted.
    pub(super) fn bump(&mut self, node: &Node, tip: u32) -> Result<(), LookError> {
        let Some(mut bumper) = self.bumper.take() else {
            return Ok(());
        };
        let waiting = waiting(&self.follower, tip);
        let is_due = |txid: &Txid| waiting.iter().any(|w| w.payout.txid == *txid);
        self.failing.retain(is_due);
        bumper.retain(is_due);
        let mut waiting = waiting.iter();
        let bumped = waiting.try_for_each(|one| self.bump_one(&mut bumper, node, one, tip));
        self.bumper = Some(bumper);
        bumped
    }

    fn bump_one(
        &mut self,
        bumper: &mut AutoBumper,
        node: &Node,
        waiting: &Waiting,
        tip: u32,
    ) -> Result<(), LookError> {
        let txid = waiting.payout.txid;
        let next = bumper.look_at(node, waiting, tip);
        let Some((next, seen)) = self.failing.of_one_call(Purpose::Bump(txid), next)? else {
            return Ok(());
        };
        if let Some(seen) = seen {
            self.follower.note_seen(&txid, seen.into());
            self.carry_out()?;
        }
        let (news, lifted_to) = match next {
            Next::Nothing => return Ok(()),
            Next::Capped(news) => (Some(news), None),
            Next::Bump(due) => {
                self.follower.note_bump(&txid, due.intended(tip));
                self.carry_out()?;
                let made = bumper.make(&due);
                let made = self.failing.of_one_call(Purpose::Child(txid), made)?;
                if let Some((_, None)) = made {
                    bumper.in_vain.insert(txid, (tip, due.pays));
                }
                made.unwrap_or_default()
            }
        };
        if let Some(lifted_to) = lifted_to {
            let seen = Seen::raised(tip, lifted_to);
            self.follower.note_seen(&txid, seen.into());
        }
        let lifted_to = lifted_to.map(Feerate::sat_per_kvb);
        // An earlier child that is there still is missed once it is gone, and one that is gone stays missed.
        let before = waiting.payout.bumped;
        let before = before.and_then(|before| before.lifted_to_sat_per_kvb);
        let bumped = BumpedBefore {
            tip,
            lifted_to_sat_per_kvb: lifted_to.or(before),
        };
        self.follower.note_bump(&txid, bumped);
        self.carry_out()?;
        if let Some(news) = news.filter(|news| bumper.is_news(news, txid)) {
            News::from(&news).emit();
        }
        Ok(())
    }
}

impl DueBump {
    /// What is noted before it is made: where the process ends over it, this one is made again.
    fn intended(&self, tip: u32) -> BumpedBefore {
        BumpedBefore {
            tip,
            lifted_to_sat_per_kvb: Some(self.target.sat_per_kvb()),
        }
    }
}

/// Payouts that pay us, that are ripe in our own node's chain and that were handed to it. The others are
/// left to those whom they pay.
fn waiting(follower: &Follower, tip: u32) -> Vec<Waiting> {
    let due = follower.book().due(tip).into_iter();
    let watched = follower.watched();
    let waiting = due.filter_map(|due| {
        let mut payouts = due.settlement.payouts.iter();
        let payout = payouts.find(|payout| payout.txid == due.txid)?;
        let is_ours = watched.is_ours(due.settlement, &due.txid);
        (payout.tried.is_some() && is_ours).then(|| Waiting {
            payout: payout.clone(),
            before_us: watched.payees_before_us(due.settlement, &due.txid),
        })
    });
    waiting.collect()
}
