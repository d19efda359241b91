//! The command line.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use bitcoin::Txid;
use clap::{Parser, Subcommand};
use serde::Serialize;
use tutti_proto::id::Identity;

use crate::amount::sats;
use crate::audit::{self, AuditArgs};
use crate::bump::{self, Bump, Bumped, Feerate};
use crate::config::Config;
use crate::miner::{CpuSettings, KernelChoice};
use crate::segments::command::{self, FetchArgs};
use crate::status::Status;
use crate::{driver, init, log, payouts, proof};

/// A miner's daemon: it holds the signed payout before it hashes.
#[derive(Parser)]
#[command(name = "tutti-participant", version, about)]
pub struct Cli {
    /// The configuration file.
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        default_value = "participant.toml"
    )]
    config: PathBuf,
    /// Print one JSON value for programs.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Create a seed and show its 24 words once.
    Init,
    /// Check, sign, hold payouts, hash, and get paid.
    Run {
        /// How to hash, whatever the configuration says: auto, or a kernel's name.
        #[arg(long, value_name = "NAME")]
        kernel: Option<KernelChoice>,
    },
    /// Show how the daemon is doing.
    Status,
    /// List what the held rounds pay, and how far found blocks are.
    Payouts {
        /// Only rounds whose block was found.
        #[arg(long)]
        found: bool,
    },
    /// Check a proof that a coordinator signed two different things as one.
    VerifyProof {
        /// The proof.
        file: PathBuf,
        /// The coordinator that it must be about; without it, it says whom it is about.
        #[arg(long, value_name = "IDENTITY", value_parser = parse_identity)]
        coordinator: Option<Identity>,
    },
    /// Check closed windows from their files, and explain found blocks, without a network.
    Audit(AuditArgs),
    /// Fetch files of closed windows from a coordinator, or from whoever serves them.
    FetchSegments(FetchArgs),
    /// Serve files of closed windows to others.
    ServeSegments {
        /// The files' directory.
        directory: PathBuf,
        /// The address to listen on.
        #[arg(long, value_name = "ADDR")]
        listen: std::net::SocketAddr,
    },
    /// Raise the fee of a payout by spending its anchor and our own output.
    Bump {
        /// The payout's transaction id, as `payouts` shows it.
        payout: Txid,
        /// What payout and child together shall pay, in sat/vB.
        #[arg(long, value_name = "SAT_PER_VB")]
        feerate: Feerate,
        /// Show the child and send nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

impl Cli {
    /// Does what was asked. A failure is one sentence for the person who asked.
    pub fn execute(self) -> anyhow::Result<ExitCode> {
        if let Command::VerifyProof { file, coordinator } = &self.command {
            // Anyone may check one: neither a configuration nor a data directory is needed.
            let verified = proof::verify(file, coordinator.as_ref())?;
            match self.json {
                true => print_json(&verified)?,
                false => print(&verified.text())?,
            }
            return Ok(ExitCode::SUCCESS);
        }
        // Nor for what concerns closed windows only.
        match &self.command {
            Command::Audit(args) => return audited(args, self.json),
            Command::FetchSegments(args) => {
                print(&command::fetch(args.clone())?)?;
                return Ok(ExitCode::SUCCESS);
            }
            Command::ServeSegments { directory, listen } => {
                command::serve(*listen, directory.clone())?;
                return Ok(ExitCode::SUCCESS);
            }
            _ => {}
        }
        let config = Config::load(&self.config)?;
        match self.command {
            Command::VerifyProof { .. }
            | Command::Audit(_)
            | Command::FetchSegments(_)
            | Command::ServeSegments { .. } => {} // Done.
            Command::Init => {
                let made = init::init(&config)?;
                match self.json {
                    true => print_json(&made)?,
                    false => print(&made.advice())?,
                }
            }
            Command::Run { kernel } => {
                log::start(config.log);
                let chosen = kernel.unwrap_or(config.hasher.kernel);
                let hasher = CpuSettings {
                    kernel: chosen,
                    ..config.hasher
                };
                driver::run(Config { hasher, ..config })?;
            }
            Command::Status => {
                let status = read_status(&config)?;
                match self.json {
                    true => print_json(&status)?,
                    false => print(&status.table())?,
                }
            }
            Command::Payouts { found } => list_payouts(&config, found, self.json)?,
            Command::Bump {
                payout,
                feerate: target,
                dry_run,
            } => {
                let request = Bump {
                    payout,
                    target,
                    dry_run,
                };
                let bumped = bump::bump(&config, request)?;
                match self.json {
                    true => print_json(&bumped)?,
                    false => print(&bump_text(&bumped))?,
                }
                if !bumped.accepted && !dry_run {
                    return Ok(ExitCode::FAILURE);
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn audited(args: &AuditArgs, json: bool) -> anyhow::Result<ExitCode> {
    let outcome = audit::audit(args)?;
    match json {
        true => print_json(&outcome)?,
        false => print(&audit::text(&outcome))?,
    }
    Ok(match outcome.holds {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn parse_identity(text: &str) -> Result<Identity, String> {
    proof::identity(text)
        .ok_or_else(|| "not an identity: 64 hex digits of an x-only key".to_owned())
}

fn read_status(config: &Config) -> anyhow::Result<Status> {
    Status::read(&config.data_dir)?.with_context(|| {
        format!(
            "there is no participant in {}; create one with `tutti-participant init`, or correct data_dir",
            config.data_dir.display()
        )
    })
}

fn list_payouts(config: &Config, found: bool, json: bool) -> anyhow::Result<()> {
    let me = read_status(config)?.identity;
    let payouts = payouts::payouts(&config.data_dir, &me, found)?;
    for error in &payouts.damaged {
        eprintln!("tutti-participant: {error}");
    }
    match json {
        true => print_json(&payouts.rows),
        false => print(&payouts::table(&payouts.rows)),
    }
}

fn bump_text(bumped: &Bumped) -> String {
    let rate = Feerate::from_sat_per_kvb(bumped.package_feerate_sat_per_kvb);
    let outcome = match &bumped.reason {
        None => "the node took payout and child".to_owned(),
        Some(reason) => format!("not in the mempool: {reason}"),
    };
    format!(
        "child {}: {} for {} vB, {rate} together with the payout\n{outcome}\n",
        bumped.child_txid,
        sats(bumped.fee),
        bumped.vsize,
    )
}

fn print_json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    let text = zeroize::Zeroizing::new(serde_json::to_string(value)? + "\n");
    print(&text)
}

/// A reader that went away, such as `head`, is no failure.
fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
