//! What the own node shows of the pool's blocks and their payouts.

use bitcoin::Txid;
use tutti_proto::bump::BumpCause;

use super::{News, info, warn};
use crate::amount::both;
use crate::bump::{Bumped, Feerate};
use crate::settle::{BumpNews, Change, Settlement};

/// The node's word for a feerate that is below its mempool's minimum.
const MEMPOOL_FULL: &str = "mempool min fee not met";

impl From<&Change> for News {
    fn from(change: &Change) -> Self {
        match change {
            Change::Found(settlement) => info(
                "pool_block_seen",
                format!(
                    "block {} of this pool is in our node's chain; its payout gives us {}",
                    settlement.block.height,
                    both(settlement.own_sat)
                ),
            )
            .of(settlement),
            Change::Lost(settlement) => warn(
                "pool_block_lost",
                format!(
                    "block {} of this pool is not in our node's chain any more",
                    settlement.block.height
                ),
            )
            .of(settlement),
            Change::Broadcast { txid, tip, by_us } => {
                let text = if *by_us {
                    format!("broadcast payout {txid} at block {tip}")
                } else {
                    format!("payout {txid} is in the node's mempool at block {tip}")
                };
                info("payout_broadcast", text)
                    .with("payout_txid", txid.to_string())
                    .with("height_tip", *tip)
                    .with("by_us", *by_us)
            }
            Change::Mined { txid, tip } => info(
                "payout_mined",
                format!(
                    "the node has payout {txid} in its chain at block {tip}, in a block that was not looked at yet"
                ),
            )
            .with("payout_txid", txid.to_string())
            .with("height_tip", *tip),
            Change::Refused { txid, reason, tip } => warn(
                "payout_refused",
                format!(
                    "the node refused payout {txid} at block {tip} ({reason}); trying again at each block{}",
                    refused_by_its_fee(txid, reason)
                ),
            )
            .with("payout_txid", txid.to_string())
            .with("reason", reason.clone())
            .with("tip", *tip),
            Change::Confirmed { txid, block } => info(
                "payout_confirmed",
                format!("payout {txid} is confirmed in block {}", block.height),
            )
            .with("payout_txid", txid.to_string())
            .with("height", block.height)
            .with("block_hash", block.hash.to_string()),
            Change::Unconfirmed { txid, block } => warn(
                "payout_unconfirmed",
                format!(
                    "payout {txid} went back to the mempool with block {}",
                    block.height
                ),
            )
            .with("payout_txid", txid.to_string())
            .with("height", block.height)
            .with("block_hash", block.hash.to_string()),
            Change::Final { txid } => info(
                "payout_final",
                format!("payout {txid} is buried under 100 blocks"),
            )
            .with("payout_txid", txid.to_string()),
        }
    }
}

/// What else can be done where the mempool takes nothing so cheap: with a child it takes the payout, too.
fn refused_by_its_fee(txid: &Txid, reason: &str) -> String {
    match reason.starts_with(MEMPOOL_FULL) {
        true => format!(
            "; until the mempool takes it alone, a bump gets it in: `tutti-participant bump {txid} --target-blocks 6`, where the seed is"
        ),
        false => String::new(),
    }
}

impl News {
    fn of(self, settlement: &Settlement) -> Self {
        let payouts = settlement.payouts.iter();
        let payouts: Vec<String> = payouts.map(|payout| payout.txid.to_string()).collect();
        self.with("height", settlement.block.height)
            .with("block_hash", settlement.block.hash.to_string())
            .with("coinbase_txid", settlement.coinbase_txid.to_string())
            .with("payout_txids", payouts)
            .with("seq", settlement.seq)
            .with("lane", settlement.lane)
            .with("own_sat", settlement.own_sat)
    }
}

impl From<&BumpNews> for News {
    fn from(news: &BumpNews) -> Self {
        match news {
            BumpNews::Bumped { cause, bumped } => made(cause, bumped),
            BumpNews::NotMade { payout, why } => warn(
                "payout_not_bumped",
                format!("payout {payout} would need a higher fee, and was not bumped: {why}"),
            )
            .with("payout_txid", payout.to_string())
            .with("why", why.clone()),
        }
    }
}

fn made(cause: &BumpCause, bumped: &Bumped) -> News {
    let because = match cause {
        BumpCause::BelowMempoolMinimum { mempool_min } => {
            format!("the node's mempool takes nothing below {mempool_min}")
        }
        BumpCause::PassedBy { blocks, estimate } => {
            format!("{blocks} blocks passed it by, and the estimate is {estimate}")
        }
        BumpCause::ChildLost { pays } => {
            format!("its child is not in the mempool any more, and it pays {pays}")
        }
        BumpCause::PassedByUnexplained { blocks } => format!("{blocks} blocks passed it by"),
    };
    let rate = Feerate::from_sat_per_kvb(bumped.package_feerate_sat_per_kvb);
    let payout = &bumped.payout_txid;
    let cost = both(bumped.fee);
    let news = match &bumped.reason {
        None => info(
            "payout_bumped",
            format!("bumped payout {payout} to {rate} for {cost}: {because}"),
        ),
        Some(reason) => warn(
            "bump_refused",
            format!("the node refused a bump of payout {payout} to {rate} for {cost} ({reason})"),
        )
        .with("reason", reason.clone()),
    };
    news.with("payout_txid", payout.clone())
        .with("child_txid", bumped.child_txid.clone())
        .with("fee", bumped.fee)
        .with("vsize", bumped.vsize)
        .with(
            "package_feerate_sat_per_kvb",
            bumped.package_feerate_sat_per_kvb,
        )
        .with("because", because)
}

#[cfg(test)]
mod tests {
    use bitcoin::hashes::Hash;

    use super::*;

    #[test]
    fn a_payout_that_pays_less_than_the_mempool_takes_is_said_to_need_a_bump_and_no_other_is() {
        let txid = Txid::all_zeros();
        let text = |reason: &str| {
            let reason = reason.to_owned();
            let tip = 110;
            News::from(&Change::Refused { txid, reason, tip }).text
        };
        let command = format!("tutti-participant bump {txid} --target-blocks 6");
        let low = text("mempool min fee not met, 1000 < 2141");
        assert!(low.contains(&command), "{low}");
        let spent = text("bad-txns-inputs-missingorspent");
        assert!(!spent.contains("bump"), "{spent}");
    }
}
