//! The configuration file: read, checked, and only then used.
//!
//! Every error names the file, the key and what is allowed there.

mod error;
mod file;
mod payee;

use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};

use bitcoin::{Amount, Network};
use tutti_proto::bump::{BumpPolicy, Feerate};
use tutti_proto::feerate::FeeRate;
use tutti_proto::id::Identity;
use tutti_proto::params::BUMP_CREDIT_LIMIT;
use tutti_proto::policy::Policy;
use tutti_proto::split::MAX_MONEY;
use tutti_proto::wire::POSITIONS_LIMIT;

use crate::bump::FeeLimit;
use crate::chain::{NodeAuth, NodeConfig};
use crate::follow;
use crate::miner::{CpuSettings, KernelChoice};
use crate::wallet::PayTo;

pub use error::ConfigError;
use error::Place;
use file::{BumpSection, Check, File, LedgerSection, NodeSection, PolicySection};
pub use file::{LogFormat, LogLevel};

/// More threads than any machine that mines on its CPU has.
const THREADS_LIMIT: u32 = 4_096;

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
        let text = read(path)?;
        let file: File =
            toml::from_str(&text).map_err(|error| ConfigError::syntax(path, &text, &error))?;
        let base = path.parent().unwrap_or(Path::new(""));
        let network = file.network.into();
        Ok(Self {
            network,
            data_dir: base.join(file.data_dir),
            node: file
                .node
                .map(|section| node(Place(path), base, network, section))
                .transpose()?,
            bump_limit: bump_limit(&bump_policy(Place(path), &file.bump)?),
            pay_to: payee::pay_to(Place(path), network, file.wallet)?,
            log: LogSettings {
                format: file.log.format,
                level: file.log.level,
            },
        })
    }
}

fn read(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Read {
        file: path.to_owned(),
        source,
    })
}

/// How to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogSettings {
    pub format: LogFormat,
    pub level: LogLevel,
}

impl Config {
    /// Reads the file. Relative paths in it are relative to its own directory.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = read(path)?;
        Self::parse(path, &text)
    }

    /// Checks the text of the file at `path`.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let file: File =
            toml::from_str(text).map_err(|error| ConfigError::syntax(path, text, &error))?;
        let place = Place(path);
        let base = path.parent().unwrap_or(Path::new(""));
        let network = file.network.into();
        let missing = ConfigError::NoCoordinator {
            file: path.to_owned(),
        };
        let kernel = kernel(place, file.miner.kernel.as_deref())?;
        let hasher = hasher(place, file.threads, file.hashrate_limit, kernel)?;
        Ok(Self {
            network,
            data_dir: base.join(file.data_dir),
            coordinator: coordinator(place, file.coordinator.ok_or(missing)?)?,
            coordinator_identity: file
                .coordinator_identity
                .map(|hex| identity(place, &hex))
                .transpose()?,
            suggested_hashrate: suggested(place, file.suggested_hashrate, hasher)?,
            hasher,
            policy: policy(place, &file.policy)?,
            check: check(place, &file.ledger)?,
            keep_windows: keep_windows(place, &file.ledger)?,
            node: file
                .node
                .map(|section| node(place, base, network, section))
                .transpose()?,
            bump: auto_bump(place, &file.bump)?,
            pay_to: payee::pay_to(place, network, file.wallet)?,
            log: LogSettings {
                format: file.log.format,
                level: file.log.level,
            },
        })
    }
}

fn auto_bump(place: Place<'_>, section: &BumpSection) -> Result<Option<BumpPolicy>, ConfigError> {
    let policy = bump_policy(place, section)?;
    Ok(section.auto.then_some(policy))
}

fn bump_limit(policy: &BumpPolicy) -> FeeLimit {
    FeeLimit::Configured {
        fee: policy.cost_max,
        feerate: policy.feerate_max,
    }
}

fn bump_policy(place: Place<'_>, section: &BumpSection) -> Result<BumpPolicy, ConfigError> {
    let within = |key, value: i64, most: u32| {
        u32::try_from(value)
            .ok()
            .filter(|value| (1..=most).contains(value))
            .ok_or_else(|| place.value(key, value, format!("1 to {most} are allowed")))
    };
    let after_blocks = within("bump.after_blocks", section.after_blocks, 1_000)?;
    let target_blocks = within("bump.target_blocks", section.target_blocks, 1_008)?;
    let feerate = section.feerate_max_sat_per_vb;
    let feerate = within("bump.feerate_max_sat_per_vb", feerate, 10_000)?;
    let cost = within("bump.cost_max_sat", section.cost_max_sat, 100_000_000)?;
    Ok(BumpPolicy {
        after_blocks,
        // At most 1,008.
        target_blocks: u16::try_from(target_blocks).unwrap_or(u16::MAX),
        feerate_max: Feerate::from_sat_per_kvb(u64::from(feerate) * 1_000),
        cost_max: Amount::from_sat(u64::from(cost)),
    })
}

fn hasher(
    place: Place<'_>,
    threads: i64,
    limit: Option<i64>,
    kernel: KernelChoice,
) -> Result<CpuSettings, ConfigError> {
    let threads = u32::try_from(threads)
        .ok()
        .filter(|threads| *threads <= THREADS_LIMIT)
        .and_then(NonZeroU32::new)
        .ok_or_else(|| {
            place.value(
                "threads",
                threads,
                format!("1 to {THREADS_LIMIT} are allowed"),
            )
        })?;
    let rate_limit = limit
        .map(|limit| hashrate(place, "hashrate_limit", limit))
        .transpose()?;
    Ok(CpuSettings {
        threads,
        rate_limit,
        kernel,
    })
}

fn kernel(place: Place<'_>, name: Option<&str>) -> Result<KernelChoice, ConfigError> {
    let Some(name) = name else {
        return Ok(KernelChoice::Auto);
    };
    let unknown = |_| place.value("miner.kernel", format!("{name:?}"), KernelChoice::allowed());
    name.parse().map_err(unknown)
}

fn hashrate(place: Place<'_>, key: &'static str, rate: i64) -> Result<NonZeroU64, ConfigError> {
    u64::try_from(rate)
        .ok()
        .and_then(NonZeroU64::new)
        .ok_or_else(|| place.value(key, rate, "hashes per second, at least 1"))
}

fn suggested(
    place: Place<'_>,
    suggested: Option<i64>,
    hasher: CpuSettings,
) -> Result<u64, ConfigError> {
    let threads = u64::from(hasher.threads.get());
    match (suggested, hasher.rate_limit) {
        (Some(rate), _) => hashrate(place, "suggested_hashrate", rate).map(NonZeroU64::get),
        (None, Some(limit)) => Ok(limit.get()),
        (None, None) => Ok(threads.saturating_mul(THREAD_HASHRATE)),
    }
}

fn coordinator(place: Place<'_>, url: String) -> Result<String, ConfigError> {
    let allowed = "http://host:port is allowed";
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
        Err(place.value("coordinator", format!("{url:?}"), allowed))
    }
}

fn identity(place: Place<'_>, text: &str) -> Result<Identity, ConfigError> {
    let parse = |text: &str| {
        let bytes: [u8; 32] = hex::decode(text).ok()?.try_into().ok()?;
        Identity::parse(&bytes).ok()
    };
    parse(text).ok_or_else(|| {
        place.value(
            "coordinator_identity",
            format!("{text:?}"),
            "the 64 hex digits that the coordinator prints at its start are allowed",
        )
    })
}

fn policy(place: Place<'_>, section: &PolicySection) -> Result<Policy, ConfigError> {
    let feerate = section.feerate_max_sat_per_vb;
    let feerate_max = u64::try_from(feerate)
        .ok()
        .and_then(|rate| FeeRate::from_sat_per_kvb(rate.saturating_mul(1_000)).ok())
        .ok_or_else(|| {
            place.value(
                "policy.feerate_max_sat_per_vb",
                feerate,
                "1 to 1000 are allowed",
            )
        })?;
    let fee = section.operator_fee_ppm_max;
    let operator_fee_ppm_max = u32::try_from(fee)
        .ok()
        .filter(|ppm| *ppm <= 1_000_000)
        .ok_or_else(|| {
            place.value(
                "policy.operator_fee_ppm_max",
                fee,
                "0 to 1000000 (all of it) are allowed",
            )
        })?;
    let credit = section.bump_credit_max;
    let bump_credit_max = u32::try_from(credit)
        .ok()
        .filter(|sat| *sat <= BUMP_CREDIT_LIMIT)
        .ok_or_else(|| {
            let allowed = "0 (none) to 1000000 are allowed";
            place.value("policy.bump_credit_max", credit, allowed)
        })?;
    let signers = section.signers_min;
    let signers_min = u16::try_from(signers)
        .ok()
        .filter(|signers| *signers > 0)
        .ok_or_else(|| place.value("policy.signers_min", signers, "1 to 65535 are allowed"))?;
    let owed = section.direct_owed_max;
    let direct_owed_max = u64::try_from(owed)
        .ok()
        .filter(|sat| *sat <= MAX_MONEY)
        .ok_or_else(|| {
            let allowed = "0 (none) to 2100000000000000 sat are allowed";
            place.value("policy.direct_owed_max", owed, allowed)
        })?;
    Ok(Policy {
        operator_fee_ppm_max,
        bump_credit_max,
        feerate_max,
        signers_min,
        must_be_signer: section.must_be_signer,
        refuse_direct: section.refuse_direct,
        direct_owed_max,
    })
}

fn check(place: Place<'_>, section: &LedgerSection) -> Result<follow::Mode, ConfigError> {
    let samples = section.samples;
    let in_range = usize::try_from(samples).ok();
    let in_range = in_range.filter(|samples| (1..=POSITIONS_LIMIT).contains(samples));
    let samples = in_range.ok_or_else(|| {
        let allowed = format!("1 to {POSITIONS_LIMIT} are allowed");
        place.value("ledger.samples", samples, allowed)
    })?;
    Ok(match section.check {
        Check::Full => follow::Mode::Full,
        Check::Light => follow::Mode::Light {
            samples,
            within: follow::ANSWER_WITHIN,
        },
        Check::Off => follow::Mode::Off,
    })
}

fn keep_windows(place: Place<'_>, section: &LedgerSection) -> Result<u64, ConfigError> {
    let (windows, key) = (section.keep_windows, "ledger.keep_windows");
    let windows = u64::try_from(windows)
        .map_err(|_| place.value(key, windows, "0 (none) or more are allowed"))?;
    if windows > 0 && !matches!(section.check, Check::Full) {
        let allowed = "0 is allowed unless ledger.check is \"full\": only then all shares are here";
        return Err(place.value(key, windows, allowed));
    }
    Ok(windows)
}

fn node(
    place: Place<'_>,
    base: &Path,
    network: Network,
    section: NodeSection,
) -> Result<NodeConfig, ConfigError> {
    if !section.rpc_url.starts_with("http://") {
        return Err(place.value(
            "node.rpc_url",
            format!("{:?}", section.rpc_url),
            "http://host:port is allowed",
        ));
    }
    let auth = match (section.cookie_file, section.rpc_user, section.rpc_password) {
        (Some(path), None, None) => NodeAuth::CookieFile(base.join(path)),
        (None, Some(user), Some(password)) => NodeAuth::UserPass {
            user,
            password: password.0,
        },
        _ => return Err(place.node_login()),
    };
    Ok(NodeConfig {
        url: section.rpc_url,
        auth,
        network,
    })
}
