//! Finds who paid to raise a final payout's fee, and hands the proof to the state machine, which books it.

use bitcoin::{Block, BlockHash, Txid};
use tutti_proto::coinbase::COINBASE_MATURITY;
use tutti_proto::coordinator::Input;
use tutti_proto::id::Identity;
use tutti_proto::window::{BlockPayouts, Credit};

use super::worker::Payout;
use crate::chain::{Node, NodeError};
use crate::driver::Inbox;
use crate::news::News;

/// What a final payout's bump is to be credited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum CreditStep {
    /// Not looked for yet.
    #[default]
    Open,
    /// The state machine has it, and may not have it on disk.
    Given,
    /// Nothing is left to do.
    Done,
}

/// A block's payouts, as its booking names them.
pub(super) struct Terms {
    pub(super) block: [u8; 32],
    pub(super) payouts: BlockPayouts,
    pub(super) payees: Vec<Vec<Identity>>,
}

impl Terms {
    /// Goes a step on with the credit for one of the payouts, which is final.
    pub(super) fn look_at(
        &self,
        node: &Node,
        inbox: &Inbox,
        shard: u16,
        payout: &mut Payout,
        tip: u32,
    ) -> Result<(), NodeError> {
        if payout.credit == CreditStep::Open {
            payout.credit = match self.find(node, shard, payout, tip)? {
                None => CreditStep::Done,
                Some(credit) => {
                    // If it is stopping, it is found again after the next start.
                    let _ = inbox.give(Input::Credit(Box::new(credit)));
                    CreditStep::Given
                }
            };
        }
        Ok(())
    }

    fn find(
        &self,
        node: &Node,
        shard: u16,
        payout: &Payout,
        tip: u32,
    ) -> Result<Option<Credit>, NodeError> {
        let payees = self.payees.get(usize::from(shard));
        let (Some(payees), 1..) = (payees, self.payouts.bump_credit) else {
            return Ok(None);
        };
        let confirmed = match self.confirmed(node, payout, tip) {
            Ok(Some(block)) => block,
            Ok(None) => {
                // Deep in the chain, and in no block that the node shows.
                News::payout_not_credited(payout.txid, "the node does not have its block").tell();
                return Ok(None);
            }
            Err(error) if error.is_pruned() => {
                let why = format!(
                    "its block is not among those that the node still has, and others are gone for good ({error}); set prune= higher in bitcoin.conf, or to 0"
                );
                News::payout_not_credited(payout.txid, &why).tell();
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let credit = Credit::in_block(self.block, shard, &self.payouts, payees, &confirmed);
        Ok(credit.unwrap_or_else(|why| {
            News::payout_not_credited(payout.txid, &why.to_string()).tell();
            None
        }))
    }

    /// The block that has a payout: only the payout spends what it spends, so there is one. A block that the
    /// node does not show is an error only if no other is it, and a pruned one only if none may come yet.
    fn confirmed(
        &self,
        node: &Node,
        payout: &Payout,
        tip: u32,
    ) -> Result<Option<Block>, NodeError> {
        let ripe = self.payouts.height.saturating_add(COINBASE_MATURITY);
        // Downwards from where it was seen, and above only after that: a reorganisation may have lifted it.
        let known = payout.mined_by.unwrap_or(tip).clamp(ripe, tip.max(ripe));
        let heights = (ripe..=known).rev().chain(known.saturating_add(1)..=tip);
        let mut missing: Option<NodeError> = None;
        for height in heights {
            match block_with(node, height, payout.txid) {
                Ok(None) => {}
                Ok(Some(block)) => return Ok(Some(block)),
                Err(error) if error.is_of_one_call() => {
                    if missing.as_ref().is_none_or(NodeError::is_pruned) {
                        missing = Some(error);
                    }
                }
                Err(error) => return Err(error),
            }
        }
        missing.map_or(Ok(None), Err)
    }
}

/// The block of this height, if it has the transaction.
fn block_with(node: &Node, height: u32, txid: Txid) -> Result<Option<Block>, NodeError> {
    let hash: BlockHash = node.block_hash(height)?;
    match node.has_transaction(&hash, txid)? {
        true => node.block(&hash).map(Some),
        false => Ok(None),
    }
}
