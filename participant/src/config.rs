//! The configuration file: read, checked, and only then used.
//!
//! Every error names the file, the key and what is allowed there.

mod file;
mod payee;

use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};

use bitcoin::{Amount, Network};
use tutti_daemon::config::{AtLeast, ConfigFile};
pub use tutti_daemon::config::{ConfigError, LogFormat, LogLevel, LogSettings};
use tutti_daemon::node::NodeConfig;
use tutti_proto::bump::{BumpPolicy, Feerate};
use tutti_proto::feerate::FeeRate;
use tutti_proto::id::Identity;
use tutti_proto::policy::Policy;

use crate::bump::FeeLimit;
use crate::follow;
use crate::miner::{CpuSettings, KernelChoice};
use crate::wallet::PayTo;

use file::{BumpSection, Check, File, LedgerSection, PolicySection};

/// Of our examples.
const EXAMPLE: &str = "participant.toml";

/// A thread's hashrate, as long as nobody has measured it: where the share target starts from.
const THREAD_HASHRATE: u64 = 5_000_000;

/// What a participant is to do, checked.
pub struct Config {
    pub network: Network,
    pub data_dir: PathBuf,
    /// `http://host:port`.
    pub coordinator: String,
    /// The only coordinator to talk to, where one is named.
    pub coordinator_identity: Option<Identity>,
    pub hasher: CpuSettings,
    pub suggested_hashrate: u64,
    pub policy: Policy,
    /// How much of the coordinator's ledger is checked.
    pub check: follow::Mode,
    /// Newest windows kept as files; 0: none.
    pub keep_windows: u64,
    /// The own node, where there is one.
    pub node: Option<NodeConfig>,
    /// Bumps without being asked, where they are wanted.
    pub bump: Option<BumpPolicy>,
    pub pay_to: PayTo,
    pub log: LogSettings,
}

/// What settlement needs of the configuration: the files and the node, and no coordinator.
pub struct LocalConfig {
    pub network: Network,
    pub data_dir: PathBuf,
    pub node: Option<NodeConfig>,
    /// For bumps by hand, whether or not others are wanted.
    pub bump_limit: FeeLimit,
    pub pay_to: PayTo,
    pub log: LogSettings,
}

impl LocalConfig {
    /// Reads the file. Relative paths in it are relative to its own directory.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let place = ConfigFile(path);
        let file: File = place.parse(&place.read(EXAMPLE)?)?;
        let network = file.network;
        let node = file.node.map(|section| section.check(place, network));
        Ok(Self {
            network,
            data_dir: place.beside(&file.data_dir),
            node: node.transpose()?,
            bump_limit: bump_limit(&bump_policy(&file.bump)),
            pay_to: payee::pay_to(place, network, file.wallet)?,
            log: file.log,
        })
    }
}

impl Config {
    /// Reads the file. Relative paths in it are relative to its own directory.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = ConfigFile(path).read(EXAMPLE)?;
        Self::parse(path, &text)
    }

    /// Checks the text of the file at `path`.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let place = ConfigFile(path);
        let file: File = place.parse(text)?;
        let network = file.network;
        let kernel = kernel(place, file.miner.kernel.as_deref())?;
        let threads = NonZeroU32::new(file.threads.get()).unwrap_or(NonZeroU32::MIN);
        let hasher = CpuSettings {
            threads,
            rate_limit: file
                .hashrate_limit
                .and_then(|rate| NonZeroU64::new(rate.get())),
            kernel,
        };
        let node = file.node.map(|section| section.check(place, network));
        Ok(Self {
            network,
            data_dir: place.beside(&file.data_dir),
            coordinator: coordinator(place, file.coordinator)?,
            coordinator_identity: file
                .coordinator_identity
                .map(|hex| identity(place, &hex))
                .transpose()?,
            suggested_hashrate: suggested(file.suggested_hashrate, hasher),
            hasher,
            policy: policy(place, &file.policy)?,
            check: check(&file.ledger),
            keep_windows: keep_windows(place, &file.ledger)?,
            node: node.transpose()?,
            bump: file.bump.auto.then(|| bump_policy(&file.bump)),
            pay_to: payee::pay_to(place, network, file.wallet)?,
            log: file.log,
        })
    }
}

fn bump_limit(policy: &BumpPolicy) -> FeeLimit {
    FeeLimit::Configured {
        fee: policy.cost_max,
        feerate: policy.feerate_max,
    }
}

fn bump_policy(section: &BumpSection) -> BumpPolicy {
    let feerate: u64 = section.feerate_max_sat_per_vb.get();
    BumpPolicy {
        after_blocks: section.after_blocks.get(),
        target_blocks: section.target_blocks.get(),
        feerate_max: Feerate::from_sat_per_kvb(feerate.saturating_mul(1_000)),
        cost_max: Amount::from_sat(section.cost_max_sat.get()),
    }
}

fn kernel(place: ConfigFile<'_>, name: Option<&str>) -> Result<KernelChoice, ConfigError> {
    let Some(name) = name else {
        return Ok(KernelChoice::Auto);
    };
    let unknown = |_| {
        let allowed = KernelChoice::allowed();
        place.wrong("miner.kernel", format!("is {name:?}; {allowed}"))
    };
    name.parse().map_err(unknown)
}

fn suggested(suggested: Option<AtLeast<1>>, hasher: CpuSettings) -> u64 {
    let threads = u64::from(hasher.threads.get());
    match (suggested, hasher.rate_limit) {
        (Some(rate), _) => rate.get(),
        (None, Some(limit)) => limit.get(),
        (None, None) => threads.saturating_mul(THREAD_HASHRATE),
    }
}

fn coordinator(place: ConfigFile<'_>, url: Option<String>) -> Result<String, ConfigError> {
    let url = url.ok_or_else(|| {
        let problem = "is missing; it is the pool's address, as http://host:port";
        place.wrong("coordinator", problem)
    })?;
    let rest = url.strip_prefix("http://");
    let valid = rest.is_some_and(|rest| {
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let port = authority.rsplit_once(':').map(|(_, port)| port);
        let known = tonic::transport::Endpoint::from_shared(url.clone()).is_ok();
        known && port.is_some_and(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
    });
    if valid {
        Ok(url)
    } else {
        let problem = format!("is {url:?}; http://host:port is allowed");
        Err(place.wrong("coordinator", problem))
    }
}

fn identity(place: ConfigFile<'_>, text: &str) -> Result<Identity, ConfigError> {
    let parse = |text: &str| {
        let bytes: [u8; 32] = hex::decode(text).ok()?.try_into().ok()?;
        Identity::parse(&bytes).ok()
    };
    parse(text).ok_or_else(|| {
        let allowed = "the 64 hex digits that the coordinator prints at its start are allowed";
        place.wrong("coordinator_identity", format!("is {text:?}; {allowed}"))
    })
}

fn policy(place: ConfigFile<'_>, section: &PolicySection) -> Result<Policy, ConfigError> {
    let feerate: u64 = section.feerate_max_sat_per_vb.get();
    let feerate_max = FeeRate::from_sat_per_kvb(feerate.saturating_mul(1_000))
        .map_err(|error| place.wrong("policy.feerate_max_sat_per_vb", error.to_string()))?;
    Ok(Policy {
        operator_fee_ppm_max: section.operator_fee_ppm_max.get(),
        bump_credit_max: section.bump_credit_max.get(),
        feerate_max,
        signers_min: section.signers_min.get(),
        must_be_signer: section.must_be_signer,
        refuse_direct: section.refuse_direct,
        direct_owed_max: section.direct_owed_max.get(),
    })
}

fn check(section: &LedgerSection) -> follow::Mode {
    match section.check {
        Check::Full => follow::Mode::Full,
        Check::Light => follow::Mode::Light {
            samples: section.samples.get(),
            within: follow::ANSWER_WITHIN,
        },
        Check::Off => follow::Mode::Off,
    }
}

fn keep_windows(place: ConfigFile<'_>, section: &LedgerSection) -> Result<u64, ConfigError> {
    let windows: u64 = section.keep_windows.get();
    if windows > 0 && !matches!(section.check, Check::Full) {
        let problem = format!(
            "is {windows}; 0 is allowed unless ledger.check is \"full\": only then all shares are here"
        );
        return Err(place.wrong("ledger.keep_windows", problem));
    }
    Ok(windows)
}
