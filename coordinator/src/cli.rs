//! The command line.

mod miners;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, UNIX_EPOCH};

use clap::{Parser, Subcommand};
use serde_json::json;
use thiserror::Error;
use tonic::transport::Endpoint;
use tutti_daemon::log::LogError;
use tutti_proto::id::Identity;
use tutti_proto::params::PoolParams;
use tutti_proto::window::Scoring;
use tutti_proto::wire::pb::InfoRequest;
use tutti_proto::wire::pb::pool_client::PoolClient;
use tutti_proto::wire::{FromWire, PoolInfo, WireError};

use crate::check::{self, DataDir};
use crate::config::{Config, ConfigError, LogFormat};
use crate::daemon::{self, DaemonError};
use crate::faults;
use crate::news::{self, News};
use crate::segments::SegmentError;

const INFO_TIMEOUT: Duration = Duration::from_secs(10);
/// Seconds. A node is asked for a template every `refresh_ms`, which few set as long.
const OLD_TEMPLATE: u64 = 300;
/// A year.
const MINUTES_MAX: u64 = 366 * 24 * 60;

/// The pool host of a Tutti pool: every miner holds its signed payout before it hashes.
#[derive(Parser)]
#[command(name = "tutti-coordinator", version)]
pub struct Cli {
    /// Print one JSON object for programs; `run` writes its log so.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the pool until Ctrl-C or SIGTERM.
    Run {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Check whether `run` would start: configuration, data directory, addresses, node; and print the pool's identity.
    Check {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Ask a running pool what it is and how it is doing.
    Info {
        /// Where the pool is.
        #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7766")]
        address: String,
    },
    /// List who worked lately, and how much, from the files of closed windows on this machine's disk (by their times).
    Miners {
        /// The configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// How far back: the windows that were closed in so many minutes.
        #[arg(long, value_name = "MINUTES", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=MINUTES_MAX))]
        minutes: u64,
    },
}

/// Why a command failed.
#[derive(Debug, Error)]
pub enum CliError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    #[error(transparent)]
    Segment(#[from] SegmentError),
    #[error("{address:?} is no address of a pool; write it as http://host:port")]
    Address { address: String },
    #[error("cannot reach a pool at {address}: {reason}; is tutti-coordinator running there?")]
    Unreachable { address: String, reason: String },
    #[error(
        "the pool at {address} answered something else than expected ({source}); does it run this version?"
    )]
    Answer { address: String, source: WireError },
    #[error("cannot write the answer: {0}")]
    Write(#[from] std::io::Error),
}

impl Cli {
    /// Whether a program reads what comes.
    pub fn is_for_programs(&self) -> bool {
        self.json
    }

    /// Does what the command line says. A failure that the log tells already is no error.
    pub async fn execute(self) -> Result<ExitCode, CliError> {
        match self.command {
            Command::Run { config } => {
                let config = Config::load(&config)?;
                let settings = config.log.or_json(self.json);
                let log = news::start(settings)?;
                faults::watch(&log);
                match (daemon::run(config).await, settings.format) {
                    (Err(error), LogFormat::Json) if News::are_errors_told() => {
                        News::failed(&error).tell();
                        return Ok(ExitCode::FAILURE);
                    }
                    (ended, _) => ended?,
                }
            }
            Command::Check { config } => check(&config, self.json)?,
            Command::Info { address } => info(&address, self.json).await?,
            Command::Miners { config, minutes } => miners::print(&config, minutes, self.json)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn check(path: &Path, json: bool) -> Result<(), CliError> {
    let config = Config::load(path)?;
    let checked = check::check(&config)?;
    let identity = checked.identity;
    let in_use = matches!(checked.data_dir, DataDir::InUse(_));
    let mut out = std::io::stdout();
    if json {
        let checked = json!({
            "config": path.display().to_string(),
            "node": config.node.url,
            "network": config.network.to_string(),
            "identity": identity.map(|identity| identity.to_string()),
            "data_dir": config.data_dir.display().to_string(),
            "listen": config.listen.to_string(),
            "metrics": config.metrics.map(|address| address.to_string()),
            "in_use": in_use,
        });
        writeln!(out, "{checked}")?;
        return Ok(());
    }
    let data_dir = config.data_dir.display();
    let addresses = [Some(config.listen), config.metrics].into_iter().flatten();
    let addresses: Vec<String> = addresses.map(|address| address.to_string()).collect();
    let addresses = addresses.join(" and ");
    writeln!(out, "config    {} is valid", path.display())?;
    writeln!(
        out,
        "node      {} answers on {} and gives templates",
        config.node.url, config.network
    )?;
    let usable = match checked.data_dir {
        DataDir::Usable => "can be used".to_owned(),
        DataDir::Missing { may_be_made: true } => "is not there yet; `run` makes it".to_owned(),
        DataDir::Missing { may_be_made: false } => {
            "is not there, and this user may not make it: make it for the user that runs the pool (systemd's StateDirectory does)".to_owned()
        }
        DataDir::InUse(holder) => format!("is in use by {holder}"),
    };
    let tried = if in_use {
        "not tried meanwhile"
    } else {
        "free"
    };
    writeln!(out, "data_dir  {data_dir} {usable}")?;
    writeln!(out, "listen    {addresses}: {tried}")?;
    match identity {
        Some(identity) => writeln!(out, "identity  {identity}")?,
        None => writeln!(out, "identity  none yet; `run` makes one in {data_dir}")?,
    }
    Ok(())
}

async fn info(address: &str, json: bool) -> Result<(), CliError> {
    let info = ask(address).await?;
    let mut out = std::io::stdout();
    if json {
        writeln!(out, "{}", as_json(&info))?;
        return Ok(());
    }
    for (name, value) in rows(&info) {
        writeln!(out, "{name:<16}{value}")?;
    }
    Ok(())
}

async fn ask(address: &str) -> Result<PoolInfo, CliError> {
    let endpoint = Endpoint::from_shared(address.to_owned())
        .ok()
        .filter(|endpoint| endpoint.uri().scheme_str() == Some("http"))
        .ok_or_else(|| CliError::Address {
            address: address.to_owned(),
        })?;
    let unreachable = |reason: String| CliError::Unreachable {
        address: address.to_owned(),
        reason,
    };
    let channel = endpoint
        .timeout(INFO_TIMEOUT)
        .connect_timeout(INFO_TIMEOUT)
        .connect()
        .await
        .map_err(|error| unreachable(root_cause(&error)))?;
    let reply = PoolClient::new(channel)
        .info(InfoRequest {})
        .await
        .map_err(|status| unreachable(status.message().to_owned()))?;
    PoolInfo::from_wire(reply.into_inner()).map_err(|source| CliError::Answer {
        address: address.to_owned(),
        source,
    })
}

/// tonic says "transport error"; what happened is at the end of the chain.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn rows(info: &PoolInfo) -> Vec<(&'static str, String)> {
    let identity: &Identity = &info.coordinator;
    let mut rows = vec![
        ("identity", identity.to_string()),
        ("network", info.network.to_string()),
        ("tag", info.tag.clone()),
        ("protocol", info.version.to_string()),
        ("participants", info.participants.to_string()),
        ("payees", info.payees.to_string()),
        ("signers", info.signers.to_string()),
        ("round", info.round.to_string()),
        ("height", info.height.to_string()),
        ("template", template_age(info.template_time, now())),
        ("window", info.window.to_string()),
        ("operator fee", format!("{} ppm", info.operator_fee_ppm)),
        ("lanes", info.lanes.to_string()),
    ];
    rows.extend(info.params.iter().flat_map(terms));
    rows
}

/// An old template says that the pool's node is away.
fn template_age(made: u32, now: u64) -> String {
    match now.saturating_sub(u64::from(made)) {
        _ if made == 0 => "none yet: the pool's node gives none".to_owned(),
        age @ ..OLD_TEMPLATE => format!("{age} s old"),
        age => format!(
            "{age} s old: unless refresh_ms is as long, the pool's node is away (node_away in the log)"
        ),
    }
}

fn now() -> u64 {
    UNIX_EPOCH.elapsed().unwrap_or_default().as_secs()
}

/// What a miner's policy judges, beside the fee.
fn terms(params: &PoolParams) -> [(&'static str, String); 3] {
    let scoring = match params.scoring {
        Scoring::Pplns => format!("pplns, {} times a block's work", params.pplns_depth),
        Scoring::Epoch => "epoch, all work since the network's last block".to_owned(),
    };
    let direct = match params.direct_payees {
        0 => "no direct rounds".to_owned(),
        most => format!("{most} at most"),
    };
    let credit = match (params.bump_credit, params.bump_credit_after) {
        (0, _) => "none".to_owned(),
        (sat, 1) => format!("up to {sat} sat, once a block passed the payout by"),
        (sat, after) => format!("up to {sat} sat, once {after} blocks passed the payout by"),
    };
    [
        ("scoring", scoring),
        ("direct payees", direct),
        ("bump credit", credit),
    ]
}

/// As in the configuration.
fn scoring_name(scoring: Scoring) -> &'static str {
    match scoring {
        Scoring::Pplns => "pplns",
        Scoring::Epoch => "epoch",
    }
}

fn as_json(info: &PoolInfo) -> serde_json::Value {
    let terms = info.params.as_ref();
    json!({
        "identity": info.coordinator.to_string(),
        "network": info.network.to_string(),
        "tag": info.tag,
        "version": info.version,
        "participants": info.participants,
        "payees": info.payees,
        "signers": info.signers,
        "round": info.round.0,
        "height": info.height,
        "template_time": info.template_time,
        "window": info.window.0,
        "operator_fee_ppm": info.operator_fee_ppm,
        "lanes": info.lanes,
        "scoring": terms.map(|terms| scoring_name(terms.scoring)),
        "pplns_depth": terms.map(|terms| terms.pplns_depth),
        "direct_payees": terms.map(|terms| terms.direct_payees),
        "bump_credit": terms.map(|terms| terms.bump_credit),
        "bump_credit_after": terms.map(|terms| terms.bump_credit_after),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_template_says_that_the_node_may_be_away() {
        let now = 1_700_000_000;
        let made = |age: u64| u32::try_from(now - age).unwrap();
        assert_eq!(template_age(made(7), now), "7 s old");
        assert!(template_age(made(OLD_TEMPLATE), now).contains("node_away"));
        assert!(template_age(0, now).contains("none yet"));
        // The node's clock may be ahead.
        assert_eq!(template_age(made(0) + 9, now), "0 s old");
    }
}
