//! The file as TOML: its keys, their defaults and ranges.

use std::path::PathBuf;

use bitcoin::Network;
use serde::Deserialize;
use tutti_daemon::config::{AtLeast, LogSettings, NodeSection, Whole, network};
use tutti_proto::params::BUMP_CREDIT_LIMIT;
use tutti_proto::split::MAX_MONEY;
use tutti_proto::wire::POSITIONS_LIMIT;

/// All keys.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(deserialize_with = "network")]
    pub network: Network,
    #[serde(default = "default_data_dir")]
    pub data_dir: PathBuf,
    /// Needed to mine. A machine that only settles has none.
    pub coordinator: Option<String>,
    pub coordinator_identity: Option<String>,
    /// More than any machine that mines on its CPU has are not allowed.
    #[serde(default = "Whole::of::<1>")]
    pub threads: Whole<1, 4_096>,
    pub hashrate_limit: Option<AtLeast<1>>,
    pub suggested_hashrate: Option<AtLeast<1>>,
    #[serde(default)]
    pub ledger: LedgerSection,
    #[serde(default)]
    pub miner: MinerSection,
    #[serde(default)]
    pub policy: PolicySection,
    pub node: Option<NodeSection>,
    #[serde(default)]
    pub bump: BumpSection,
    #[serde(default)]
    pub wallet: WalletSection,
    #[serde(default)]
    pub log: LogSettings,
}

/// Where the pool pays to, if not to own keys: one of the two.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WalletSection {
    pub xpub: Option<String>,
    pub address: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct MinerSection {
    pub kernel: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PolicySection {
    pub operator_fee_ppm_max: Whole<0, 1_000_000>,
    pub bump_credit_max: Whole<0, { BUMP_CREDIT_LIMIT as u64 }>,
    pub feerate_max_sat_per_vb: Whole<1, 1_000>,
    pub signers_min: Whole<1, 65_535>,
    pub must_be_signer: bool,
    pub refuse_direct: bool,
    pub direct_owed_max: Whole<0, MAX_MONEY>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LedgerSection {
    pub check: Check,
    pub samples: Whole<1, { POSITIONS_LIMIT as u64 }>,
    pub keep_windows: AtLeast<0>,
}

/// How much of the coordinator's ledger is checked.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Check {
    Full,
    Light,
    Off,
}

impl Default for LedgerSection {
    fn default() -> Self {
        Self {
            check: Check::Full,
            samples: Whole::of::<16>(),
            keep_windows: Whole::of::<0>(),
        }
    }
}

impl Default for PolicySection {
    fn default() -> Self {
        Self {
            operator_fee_ppm_max: Whole::of::<20_000>(),
            bump_credit_max: Whole::of::<20_000>(),
            feerate_max_sat_per_vb: Whole::of::<500>(),
            signers_min: Whole::of::<2>(),
            must_be_signer: false,
            refuse_direct: false,
            direct_owed_max: Whole::of::<0>(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct BumpSection {
    pub auto: bool,
    pub after_blocks: Whole<1, 1_000>,
    pub target_blocks: Whole<1, 1_008>,
    pub feerate_max_sat_per_vb: Whole<1, 10_000>,
    pub cost_max_sat: Whole<1, 100_000_000>,
}

impl Default for BumpSection {
    fn default() -> Self {
        Self {
            auto: true,
            // An hour for the coordinator, which bumps first.
            after_blocks: Whole::of::<6>(),
            target_blocks: Whole::of::<6>(),
            feerate_max_sat_per_vb: Whole::of::<200>(),
            cost_max_sat: Whole::of::<20_000>(),
        }
    }
}

fn default_data_dir() -> PathBuf {
    PathBuf::from("miner-data")
}
