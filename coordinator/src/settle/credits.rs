//! Finds who paid to raise a final payout's fee, and hands the proof to the state machine, which books it.

use bitcoin::{Block, BlockHash};
use tutti_proto::coinbase::COINBASE_MATURITY;
use tutti_proto::coordinator::Input;
use tutti_proto::id::Identity;
use tutti_proto::window::{BlockPayouts, Credit};

use super::worker::Payout;
use crate::chain::{Node, NodeError};
use crate::driver::Inbox;
use crate::news::News;

/// bitcoind's RPC_MISC_ERROR: the block is pruned, and does not come back.
const PRUNED: i32 = -1;

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
            Err(NodeError::Rpc {
                code: PRUNED,
                message,
                ..
            }) => {
                News::payout_not_credited(payout.txid, &message).tell();
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

    /// The block that has a payout: only the payout spends what it spends, so there is one.
    fn confirmed(
        &self,
        node: &Node,
        payout: &Payout,
        tip: u32,
    ) -> Result<Option<Block>, NodeError> {
        for height in self.payouts.height.saturating_add(COINBASE_MATURITY)..=tip {
            let hash: BlockHash = node.block_hash(height)?;
            if node.has_transaction(&hash, payout.txid)? {
                return node.block(&hash).map(Some);
            }
        }
        Ok(None)
    }
}
