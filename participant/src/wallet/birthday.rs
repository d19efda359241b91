//! Since when a wallet can have coins: what comes before is not looked at.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use bitcoin::Network;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::amount::grouped;
use crate::chain::{Node, NodeError};
use crate::date;
use crate::store::{self, Durability, StoreError};

const FILE_NAME: &str = "birthday.json";
/// By how much the clock may have been ahead when the seed was made, and a block's time may be: a wrong time zone's
/// worth. Half of the blocks that any node keeps.
const TIME_SLACK: u64 = 86_400;
/// Mainnet's first block with taproot outputs that are safe: all of this wallet's are taproot.
const MAINNET_TAPROOT: u32 = 709_632;

/// The first block that may pay a wallet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Birthday {
    /// That of this height; 0 is all there is.
    Height(u32),
    /// That of this moment, seconds since 1970.
    Time(u64),
}

/// Why a text is not a birthday.
#[derive(Debug, Error)]
#[error("{0:?} is neither a block height nor a date: write 840000, or 2026-01-31")]
pub struct BirthdayError(String);

/// Why nobody can say where to begin.
#[derive(Debug, Error)]
pub enum BeginError {
    #[error(transparent)]
    Node(#[from] NodeError),
    #[error(
        "the wallet's coins were to be looked for since {birthday}, which is later than this machine's clock and the node's newest block: the clock was ahead when the seed was made, or is behind now; set it, and where it was ahead then look from an earlier day on with `tutti-participant wallet rescan --from YYYY-MM-DD`"
    )]
    Ahead { birthday: Birthday },
    #[error(
        "the wallet's coins were to be looked for from block {} on, and the node's chain ends at block {}, so nothing would be looked at; name an earlier block or a date, or wait until the node has it",
        grouped(u64::from(*height)), grouped(u64::from(*tip))
    )]
    AboveTip { height: u32, tip: u32 },
}

impl Birthday {
    pub const GENESIS: Self = Self::Height(0);

    /// Now, for a wallet that nobody can have paid yet.
    pub fn now() -> Self {
        Self::Time(seconds_now())
    }

    pub fn store(self, directory: &Path) -> Result<(), StoreError> {
        store::write_json(&directory.join(FILE_NAME), &self, Durability::Durable)
    }

    /// What was stored; the genesis block where nothing was.
    pub fn load(directory: &Path) -> Result<Self, StoreError> {
        let stored = store::read_json(&directory.join(FILE_NAME))?;
        Ok(stored.unwrap_or(Self::GENESIS))
    }

    /// Refuses a height above that of the tip.
    pub(super) fn must_be_reached(self, tip: u32) -> Result<(), BeginError> {
        match self {
            Self::Height(height) if height > tip => Err(BeginError::AboveTip { height, tip }),
            Self::Height(_) | Self::Time(_) => Ok(()),
        }
    }

    /// The lowest height to look at.
    pub fn height(self, node: &Node, network: Network) -> Result<u32, BeginError> {
        let height = match self {
            Self::Height(height) => height,
            Self::Time(time) => {
                let since = time.saturating_sub(TIME_SLACK);
                // A node that is behind has no block since then either, and its next ones count.
                if since > seconds_now() && since > u64::from(node.tip()?.time) {
                    return Err(BeginError::Ahead { birthday: self });
                }
                height_at(node, since)?
            }
        };
        Ok(match network {
            Network::Bitcoin => height.max(MAINNET_TAPROOT),
            _ => height,
        })
    }
}

fn seconds_now() -> u64 {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap_or_default();
    now.as_secs()
}

/// The first height whose median time, which never falls, is at this moment or later; the tip if all
/// are earlier.
fn height_at(node: &Node, time: u64) -> Result<u32, NodeError> {
    let (mut low, mut high) = (0, node.tip()?.block.height);
    while low < high {
        let middle = low + (high - low) / 2;
        let header = match node.block_at(middle)? {
            Some(block) => node.header(block.hash)?,
            None => None,
        };
        match header {
            Some(header) if u64::from(header.median_time) < time => low = middle + 1,
            // Also where a reorganisation took it away: lower is only slower.
            _ => high = middle,
        }
    }
    Ok(low)
}

impl FromStr for Birthday {
    type Err = BirthdayError;

    fn from_str(text: &str) -> Result<Self, BirthdayError> {
        if let Ok(height) = text.parse() {
            return Ok(Self::Height(height));
        }
        let time = date::parse(text).ok_or_else(|| BirthdayError(text.to_owned()))?;
        Ok(Self::Time(time))
    }
}

impl fmt::Display for Birthday {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Height(height) => write!(f, "block {height}"),
            Self::Time(time) => f.write_str(&date::utc(*time)),
        }
    }
}
