//! The file as TOML: its keys, their defaults and ranges.

use std::net::SocketAddr;
use std::path::PathBuf;

use bitcoin::Network;
use serde::Deserialize;
use serde::de::{Deserializer, Error};
use tutti_daemon::config::{LogSettings, NodeSection, Whole, network};
use tutti_proto::window::Scoring;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(deserialize_with = "network")]
    pub(super) network: Network,
    #[serde(default = "data_dir")]
    pub(super) data_dir: PathBuf,
    #[serde(default = "listen", deserialize_with = "socket_address")]
    pub(super) listen: SocketAddr,
    #[serde(default = "tag")]
    pub(super) tag: String,
    pub(super) payout_address: String,
    #[serde(default = "Whole::of::<0>")]
    pub(super) operator_fee_ppm: Whole<0, 1_000_000>,
    #[serde(default = "Whole::of::<20_000>")]
    pub(super) bump_credit: Whole<0, 1_000_000>,
    #[serde(default = "Whole::of::<3>")]
    pub(super) bump_credit_after: Whole<1, 1_000>,
    #[serde(default = "Whole::of::<1>")]
    pub(super) lanes: Whole<1, 256>,
    pub(super) nonces_per_slot: Option<Whole<1, 1_024>>,
    #[serde(default = "Whole::of::<32>")]
    pub(super) direct_payees: Whole<0, 39>,
    #[serde(default)]
    pub(super) scoring: ScoringName,
    #[serde(default = "Whole::of::<8>")]
    pub(super) pplns_depth: Whole<1, 1_000>,
    #[serde(default = "Whole::of::<600>")]
    pub(super) ntime_roll_s: Whole<0, 7_200>,
    pub(super) node: NodeSection,
    #[serde(default)]
    pub(super) rounds: Rounds,
    #[serde(default)]
    pub(super) limits: Limits,
    #[serde(default)]
    pub(super) shares: Shares,
    #[serde(default)]
    pub(super) segments: Segments,
    #[serde(default)]
    pub(super) payout: Payout,
    #[serde(default)]
    pub(super) bump: Bump,
    #[serde(default)]
    pub(super) regtest: Regtest,
    #[serde(default)]
    pub(super) metrics: Metrics,
    #[serde(default)]
    pub(super) log: LogSettings,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ScoringName {
    #[default]
    Pplns,
    Epoch,
}

impl From<ScoringName> for Scoring {
    fn from(name: ScoringName) -> Self {
        match name {
            ScoringName::Pplns => Scoring::Pplns,
            ScoringName::Epoch => Scoring::Epoch,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Rounds {
    pub(super) signatures_ms: Whole<100, 60_000>,
    pub(super) refresh_ms: Whole<100, 3_600_000>,
    pub(super) regroup_ms: Whole<1, 60_000>,
    pub(super) direct_after_ms: Whole<0, 3_600_000>,
}

impl Default for Rounds {
    fn default() -> Self {
        Self {
            signatures_ms: Whole::of::<2_000>(),
            refresh_ms: Whole::of::<30_000>(),
            regroup_ms: Whole::of::<250>(),
            direct_after_ms: Whole::of::<50>(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limits {
    pub(super) participants: Whole<1, 1_000_000>,
    pub(super) payees: Whole<1, 100_000>,
    pub(super) signers: Whole<1, 9_999>,
    pub(super) free_signers: Whole<1, 9_999>,
    pub(super) followers: Whole<0, 1_000_000>,
    pub(super) followers_per_address: Whole<1, 1_000_000>,
    pub(super) downloads: Whole<0, 10_000>,
    pub(super) downloads_per_address: Whole<1, 10_000>,
    pub(super) samples: Whole<0, 10_000>,
    pub(super) samples_per_address: Whole<1, 10_000>,
    pub(super) shares_burst: Whole<1, 1_000_000>,
    pub(super) shares_per_second: Whole<1, 1_000_000>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            participants: Whole::of::<10_000>(),
            payees: Whole::of::<20_000>(),
            signers: Whole::of::<1_000>(),
            free_signers: Whole::of::<16>(),
            followers: Whole::of::<10_000>(),
            followers_per_address: Whole::of::<256>(),
            downloads: Whole::of::<64>(),
            downloads_per_address: Whole::of::<8>(),
            samples: Whole::of::<256>(),
            samples_per_address: Whole::of::<32>(),
            shares_burst: Whole::of::<600>(),
            shares_per_second: Whole::of::<20>(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Shares {
    pub(super) interval_ms: Whole<100, 3_600_000>,
    pub(super) z_min: Whole<0, 96>,
    pub(super) z_max: Whole<0, 96>,
}

impl Default for Shares {
    fn default() -> Self {
        Self {
            interval_ms: Whole::of::<10_000>(),
            z_min: Whole::of::<8>(),
            z_max: Whole::of::<96>(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Segments {
    pub(super) keep_windows: Whole<0, 1_000_000_000>,
}

impl Default for Segments {
    fn default() -> Self {
        Self {
            keep_windows: Whole::of::<0>(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Payout {
    pub(super) feerate_max_sat_per_vb: Whole<1, 1_000>,
}

impl Default for Payout {
    fn default() -> Self {
        Self {
            feerate_max_sat_per_vb: Whole::of::<500>(),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Bump {
    pub(super) auto: bool,
    pub(super) after_blocks: Whole<1, 1_000>,
    pub(super) target_blocks: Whole<1, 1_008>,
    pub(super) feerate_max_sat_per_vb: Whole<1, 10_000>,
    pub(super) cost_max_sat: Whole<1, 100_000_000>,
}

impl Default for Bump {
    fn default() -> Self {
        Self {
            auto: true,
            // Before any participant, which waits six.
            after_blocks: Whole::of::<1>(),
            target_blocks: Whole::of::<3>(),
            feerate_max_sat_per_vb: Whole::of::<500>(),
            cost_max_sat: Whole::of::<500_000>(),
        }
    }
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Regtest {
    pub(super) block_zero_bits: Option<Whole<1, 64>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Metrics {
    #[serde(deserialize_with = "some_address")]
    pub(super) listen: Option<SocketAddr>,
}

fn socket_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        D::Error::custom(format!(
            "{text:?} is not an IP address and port; write it as \"127.0.0.1:7766\", \"0.0.0.0:7766\" or \"[::]:7766\""
        ))
    })
}

fn some_address<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<SocketAddr>, D::Error> {
    socket_address(deserializer).map(Some)
}

fn data_dir() -> PathBuf {
    PathBuf::from("coordinator-data")
}

fn listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 7766))
}

fn tag() -> String {
    "/Tutti/".to_owned()
}
