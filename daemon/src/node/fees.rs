//! What the node says of fees. Bitcoin Core gives feerates in BTC per 1,000 vB.

use bitcoin::Amount;
use bitcoin::amount::serde::as_btc;
use serde::Deserialize;
use serde_json::json;
use tutti_proto::bump::{FeeEstimate, Feerate};

use super::{CallError, Connection};

/// bitcoind's RPC_INTERNAL_ERROR, with which a node that runs with -blocksonly says that it has no estimates.
const INTERNAL_ERROR: i32 = -32603;
const NO_ESTIMATES: &str = "Fee estimation disabled";

#[derive(Deserialize)]
struct Estimate {
    #[serde(default, with = "as_btc::opt")]
    feerate: Option<Amount>,
}

#[derive(Deserialize)]
struct MempoolInfo {
    #[serde(with = "as_btc")]
    mempoolminfee: Amount,
}

impl Connection {
    /// The feerate that confirms within so many blocks, if the node can say.
    pub fn estimate(&self, blocks: u16) -> Result<FeeEstimate, CallError> {
        let estimate: Estimate = match self.call("estimatesmartfee", &[json!(blocks)]) {
            Err(CallError::Rpc {
                code: INTERNAL_ERROR,
                message,
                ..
            }) if message.contains(NO_ESTIMATES) => return Ok(FeeEstimate::Disabled),
            estimate => estimate?,
        };
        let rate = estimate.feerate.map(per_kvb);
        Ok(rate.map_or(FeeEstimate::TooFewSeen, FeeEstimate::Feerate))
    }

    /// The least feerate that the mempool takes now.
    pub fn mempool_min(&self) -> Result<Feerate, CallError> {
        let info: MempoolInfo = self.call("getmempoolinfo", &[])?;
        Ok(per_kvb(info.mempoolminfee))
    }
}

fn per_kvb(rate: Amount) -> Feerate {
    Feerate::from_sat_per_kvb(rate.to_sat())
}
