//! The file as it is written.

use std::fmt;
use std::path::PathBuf;

use bitcoin::Network;
use serde::de::{Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

/// All keys. Numbers are read wide, so that one out of range is answered with the range.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub network: NetworkName,
    #[serde(default = "default_data_dir")]
    pub data_dir: PathBuf,
    /// Needed to mine. A machine that only settles has none.
    pub coordinator: Option<String>,
    pub coordinator_identity: Option<String>,
    #[serde(default = "default_threads")]
    pub threads: i64,
    pub hashrate_limit: Option<i64>,
    pub suggested_hashrate: Option<i64>,
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
    pub log: LogSection,
}

/// Where the pool pays to, if not to own keys: one of the two.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct WalletSection {
    pub xpub: Option<String>,
    pub address: Option<String>,
}

/// The networks by the names that Bitcoin Core's users know.
#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum NetworkName {
    Bitcoin,
    Testnet4,
    Signet,
    Regtest,
}

impl From<NetworkName> for Network {
    fn from(name: NetworkName) -> Self {
        match name {
            NetworkName::Bitcoin => Network::Bitcoin,
            NetworkName::Testnet4 => Network::Testnet4,
            NetworkName::Signet => Network::Signet,
            NetworkName::Regtest => Network::Regtest,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct MinerSection {
    pub kernel: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PolicySection {
    pub operator_fee_ppm_max: i64,
    pub bump_credit_max: i64,
    pub feerate_max_sat_per_vb: i64,
    pub signers_min: i64,
    pub must_be_signer: bool,
    pub refuse_direct: bool,
    pub direct_owed_max: i64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LedgerSection {
    pub check: Check,
    pub samples: i64,
    pub keep_windows: i64,
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
            samples: 16,
            keep_windows: 0,
        }
    }
}

impl Default for PolicySection {
    fn default() -> Self {
        Self {
            operator_fee_ppm_max: 20_000,
            bump_credit_max: 20_000,
            feerate_max_sat_per_vb: 500,
            signers_min: 2,
            must_be_signer: false,
            refuse_direct: false,
            direct_owed_max: 0,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct BumpSection {
    pub auto: bool,
    pub after_blocks: i64,
    pub target_blocks: i64,
    pub feerate_max_sat_per_vb: i64,
    pub cost_max_sat: i64,
}

impl Default for BumpSection {
    fn default() -> Self {
        Self {
            auto: true,
            // An hour for the coordinator, which bumps first.
            after_blocks: 6,
            target_blocks: 6,
            feerate_max_sat_per_vb: 200,
            cost_max_sat: 20_000,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeSection {
    pub rpc_url: String,
    pub cookie_file: Option<PathBuf>,
    pub rpc_user: Option<String>,
    pub rpc_password: Option<Password>,
}

/// Erased when dropped.
pub(super) struct Password(pub Zeroizing<String>);

impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(PasswordVisitor)
    }
}

/// Of a value that is no text it says so, and never shows it.
struct PasswordVisitor;

impl PasswordVisitor {
    fn not_text<E: Error>() -> E {
        E::custom("expected a text in quotation marks")
    }
}

impl<'de> Visitor<'de> for PasswordVisitor {
    type Value = Password;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text in quotation marks")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Password, E> {
        self.visit_string(text.to_owned())
    }

    fn visit_string<E: Error>(self, text: String) -> Result<Password, E> {
        Ok(Password(Zeroizing::new(text)))
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Password, E> {
        Err(Self::not_text())
    }

    fn visit_i128<E: Error>(self, _: i128) -> Result<Password, E> {
        Err(Self::not_text())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Password, E> {
        Err(Self::not_text())
    }

    fn visit_u128<E: Error>(self, _: u128) -> Result<Password, E> {
        Err(Self::not_text())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Password, E> {
        Err(Self::not_text())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Password, E> {
        Err(Self::not_text())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Password, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Err(Self::not_text())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Password, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Err(Self::not_text())
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct LogSection {
    pub format: LogFormat,
    pub level: LogLevel,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// A sentence for persons.
    #[default]
    Text,
    /// An object for programs.
    Json,
}

/// The least important lines that are logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
    Trace,
}

impl LogLevel {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

fn default_data_dir() -> PathBuf {
    PathBuf::from("miner-data")
}

fn default_threads() -> i64 {
    1
}
