//! The configuration file: what it may say, and what is wrong with it, by file, line and key.

mod file;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bitcoin::address::{Address, NetworkUnchecked};
use bitcoin::{Amount, Network};
use tutti_daemon::config::ConfigFile;
pub use tutti_daemon::config::{ConfigError, LogFormat, LogLevel, LogSettings};
use tutti_daemon::node::NodeConfig;
use tutti_proto::bump::{BumpPolicy, Feerate};
use tutti_proto::coinbase::COINBASE_MATURITY;
use tutti_proto::coordinator::Settings;
use tutti_proto::deadline::Millis;
use tutti_proto::feerate::FeeRate;
use tutti_proto::id::Identity;
use tutti_proto::params::{NONCES_LIMIT, PoolParams, TAG_LIMIT};
use tutti_proto::script::PayoutScript;
use tutti_proto::settlement::FINAL_CONFIRMATIONS;
use tutti_proto::window::{REMEMBERED, Scoring};

use crate::grpc::LedgerLimits;
use file::File;

/// Connections of those who only ask what the pool is, or have not joined yet.
const ASKING_ONLY: usize = 1_000;
/// A block comes so often.
const BLOCK_MS: u64 = 600_000;

/// All that a coordinator is told by its operator. Paths are absolute or relative to the working
/// directory, no longer to the file.
pub struct Config {
    /// Chain.
    pub network: Network,
    /// Where the identity, the ledger and the payouts are kept.
    pub data_dir: PathBuf,
    /// Where participants connect.
    pub listen: SocketAddr,
    /// Text in every coinbase.
    pub tag: String,
    /// The operator's output.
    pub payout_script: PayoutScript,
    /// Operator's part of the reward, parts per million.
    pub operator_fee_ppm: u32,
    /// Most that a bump is credited, sat.
    pub bump_credit: u32,
    /// Blocks that must have passed the payout by.
    pub bump_credit_after: u16,
    /// Lanes of a template.
    pub lanes: u16,
    /// Nonces of a signing slot.
    pub nonces_per_slot: u16,
    /// Most payees of a direct round's coinbase.
    pub direct_payees: u16,
    /// Whose work a block pays.
    pub scoring: Scoring,
    /// PPLNS depth.
    pub pplns_depth: u32,
    /// How far a miner may roll nTime, seconds.
    pub ntime_roll: u32,
    /// Regtest only: zero bits of a block.
    pub block_zero_bits: Option<u8>,
    /// Deadlines and share difficulty.
    pub settings: Settings,
    /// The node.
    pub node: NodeConfig,
    /// Highest feerate of a payout.
    pub feerate_max: FeeRate,
    /// When a payout's fee is raised, if at all.
    pub bump: Option<BumpPolicy>,
    /// How many segments are kept; 0: all.
    pub keep_windows: u64,
    /// How many may follow and download at once.
    pub ledger_limits: LedgerLimits,
    /// Where a monitoring system reads, if any does.
    pub metrics: Option<SocketAddr>,
    /// The log.
    pub log: LogSettings,
}

impl Config {
    /// Connections at once. A session, what follows it, and each who reads may have one of its own.
    pub fn connections(&self) -> usize {
        let LedgerLimits {
            followers,
            downloads,
            samples,
            ..
        } = self.ledger_limits;
        [self.settings.members_max, followers, downloads, samples]
            .into_iter()
            .fold(ASKING_ONLY, usize::saturating_add)
    }

    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = ConfigFile(path).read("coordinator.toml")?;
        Self::parse(&text, path)
    }

    /// Checks the text of a file that is said to be at `path`.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let place = ConfigFile(path);
        let file: File = place.parse(text)?;
        let payout_script = payout_script(&file).map_err(|e| place.wrong("payout_address", e))?;
        check_tag(&file.tag).map_err(|e| place.wrong("tag", e))?;
        let network = file.network;
        let lanes: u16 = file.lanes.get();
        let nonces_per_slot = match file.nonces_per_slot {
            None => lanes.saturating_mul(2).min(NONCES_LIMIT),
            Some(nonces) if nonces.get::<u16>() >= lanes => nonces.get(),
            Some(nonces) => {
                let nonces: u16 = nonces.get();
                let problem = format!("is {nonces}, allowed is {lanes} (lanes) to {NONCES_LIMIT}");
                return Err(place.wrong("nonces_per_slot", problem));
            }
        };
        if file.regtest.block_zero_bits.is_some() && network != Network::Regtest {
            let problem = format!("is allowed with network = \"regtest\" only, not {network}");
            return Err(place.wrong("regtest.block_zero_bits", problem));
        }
        let settings = settings(&file).map_err(|(key, problem)| place.wrong(key, problem))?;
        check_credits(&file).map_err(|e| place.wrong("rounds.refresh_ms", e))?;
        let feerate_max: u64 = file.payout.feerate_max_sat_per_vb.get();
        let feerate_max = FeeRate::from_sat_per_kvb(feerate_max.saturating_mul(1_000))
            .map_err(|e| place.wrong("payout.feerate_max_sat_per_vb", e.to_string()))?;
        Ok(Self {
            network,
            data_dir: place.beside(&file.data_dir),
            listen: file.listen,
            payout_script,
            operator_fee_ppm: file.operator_fee_ppm.get(),
            bump_credit: file.bump_credit.get(),
            bump_credit_after: file.bump_credit_after.get(),
            lanes,
            nonces_per_slot,
            direct_payees: file.direct_payees.get(),
            scoring: file.scoring.into(),
            pplns_depth: file.pplns_depth.get(),
            ntime_roll: file.ntime_roll_s.get(),
            block_zero_bits: file.regtest.block_zero_bits.map(|bits| bits.get()),
            settings,
            feerate_max,
            bump: auto_bump(&file.bump),
            keep_windows: file.segments.keep_windows.get(),
            ledger_limits: ledger_limits(&file),
            metrics: file.metrics.listen,
            log: file.log,
            node: file.node.check(place, network)?,
            tag: file.tag,
        })
    }

    /// The pool's parameters, once the identity is known.
    pub fn params(&self, coordinator: Identity) -> PoolParams {
        PoolParams {
            network: self.network,
            coordinator,
            tag: self.tag.clone(),
            operator_fee_ppm: self.operator_fee_ppm,
            lanes: self.lanes,
            nonces_per_slot: self.nonces_per_slot,
            direct_payees: self.direct_payees,
            scoring: self.scoring,
            pplns_depth: self.pplns_depth,
            ntime_roll: self.ntime_roll,
            block_zero_bits: self.block_zero_bits,
            bump_credit: self.bump_credit,
            bump_credit_after: self.bump_credit_after,
        }
    }
}

fn auto_bump(bump: &file::Bump) -> Option<BumpPolicy> {
    let feerate: u64 = bump.feerate_max_sat_per_vb.get();
    bump.auto.then(|| BumpPolicy {
        after_blocks: bump.after_blocks.get(),
        target_blocks: bump.target_blocks.get(),
        feerate_max: Feerate::from_sat_per_kvb(feerate.saturating_mul(1_000)),
        cost_max: Amount::from_sat(bump.cost_max_sat.get()),
    })
}

fn check_tag(tag: &str) -> Result<(), String> {
    let printable = tag.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    if (1..=TAG_LIMIT).contains(&tag.len()) && printable {
        return Ok(());
    }
    Err(format!(
        "is {tag:?}, allowed are 1 to {TAG_LIMIT} printable ASCII characters"
    ))
}

/// Whether the ledger still knows a found block when a bump of its payout can be credited. Otherwise miners would be
/// told of credits that never come.
fn check_credits(file: &File) -> Result<(), String> {
    let (credit, after): (u32, u16) = (file.bump_credit.get(), file.bump_credit_after.get());
    let refresh: u64 = file.rounds.refresh_ms.get();
    let windows = match file.network {
        // Its blocks come when somebody wants one.
        Network::Regtest => return Ok(()),
        // There no next height is signed.
        Network::Signet => 1,
        _ => 2,
    };
    let ripe_to_final = u64::from(COINBASE_MATURITY.saturating_add(FINAL_CONFIRMATIONS));
    let blocks = ripe_to_final.saturating_add(u64::from(after));
    let most = windows * BLOCK_MS;
    let least = blocks.saturating_mul(most).div_ceil(REMEMBERED);
    if credit == 0 || refresh >= least {
        return Ok(());
    }
    Err(format!(
        "is {refresh}; then the ledger forgets a block in less than the {blocks} blocks after which a bump of its payout can be credited: allowed is {least} or more with bump_credit_after = {after}, or bump_credit = 0"
    ))
}

fn payout_script(file: &File) -> Result<PayoutScript, String> {
    let text = &file.payout_address;
    let network = file.network;
    let address: Address<NetworkUnchecked> = text.parse().map_err(|error| {
        format!("is {text:?}, which is not a Bitcoin address ({error}); allowed is an address of {network}")
    })?;
    let address = address.require_network(network).map_err(|_| {
        format!("is {text:?}, an address of another network; allowed is one of {network}")
    })?;
    PayoutScript::parse(address.script_pubkey()).map_err(|_| {
        format!("is {text:?}; allowed are P2PKH, P2SH, P2WPKH, P2WSH and P2TR addresses")
    })
}

fn settings(file: &File) -> Result<Settings, (&'static str, String)> {
    let (z_min, z_max): (u8, u8) = (file.shares.z_min.get(), file.shares.z_max.get());
    if z_min > z_max {
        let problem = format!("is {z_min}, allowed is 0 to {z_max} (shares.z_max)");
        return Err(("shares.z_min", problem));
    }
    Ok(Settings {
        signatures: Millis(file.rounds.signatures_ms.get()),
        refresh: Millis(file.rounds.refresh_ms.get()),
        regroup: Millis(file.rounds.regroup_ms.get()),
        direct_after: Millis(file.rounds.direct_after_ms.get()),
        members_max: file.limits.participants.get(),
        payees_max: file.limits.payees.get(),
        signers_max: file.limits.signers.get(),
        free_signers: file.limits.free_signers.get(),
        shares_burst: file.limits.shares_burst.get(),
        shares_per_second: file.limits.shares_per_second.get(),
        share_interval: Millis(file.shares.interval_ms.get()),
        z_min,
        z_max,
        ..Settings::default()
    })
}

fn ledger_limits(file: &File) -> LedgerLimits {
    let limits = &file.limits;
    LedgerLimits {
        followers: limits.followers.get(),
        followers_per_address: limits.followers_per_address.get(),
        downloads: limits.downloads.get(),
        downloads_per_address: limits.downloads_per_address.get(),
        samples: limits.samples.get(),
        samples_per_address: limits.samples_per_address.get(),
    }
}
