//! The command line.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bitcoin::Txid;
use clap::{Parser, Subcommand};
use serde::Serialize;
use tutti_proto::id::Identity;

use crate::audit::{self, AuditArgs};
use crate::bump::{self, Bump, BumpCommandError, Bumper, Feerate, Target};
use crate::config::{Config, LocalConfig};
use crate::miner::{CpuSettings, KernelChoice};
use crate::segments::command::{self, FetchArgs};
use crate::status::Status;
use crate::{driver, init, log, payouts, proof, store, watch};

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
        #[arg(long, global = true)]
        found: bool,
        #[command(subcommand)]
        files: Option<PayoutFiles>,
    },
    /// Broadcast what is ripe of held payouts, without mining: for a second machine.
    Watch,
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
        feerate: Option<Feerate>,
        /// Pay what the node estimates for a confirmation within so many blocks.
        #[arg(long, value_name = "N", conflicts_with = "feerate", required_unless_present = "feerate",
              value_parser = clap::value_parser!(u16).range(1..=1_008))]
        target_blocks: Option<u16>,
        /// Show fees, sizes and feerates, and send nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Subcommand)]
enum PayoutFiles {
    /// Write the payouts as files that any node or wallet can broadcast.
    Export {
        /// Where to.
        directory: PathBuf,
    },
    /// Take payouts that were exported, here or elsewhere.
    Import {
        /// What `export` wrote.
        directory: PathBuf,
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
        match self.command {
            Command::VerifyProof { .. }
            | Command::Audit(_)
            | Command::FetchSegments(_)
            | Command::ServeSegments { .. } => {} // Done.
            Command::Init => {
                let made = init::init(&Config::load(&self.config)?)?;
                match self.json {
                    true => print_json(&made)?,
                    false => print(&made.advice())?,
                }
            }
            Command::Run { kernel } => {
                let config = Config::load(&self.config)?;
                log::start(config.log);
                let chosen = kernel.unwrap_or(config.hasher.kernel);
                let hasher = CpuSettings {
                    kernel: chosen,
                    ..config.hasher
                };
                driver::run(Config { hasher, ..config })?;
            }
            Command::Status => {
                let status = read_status(&Config::load(&self.config)?)?;
                match self.json {
                    true => print_json(&status)?,
                    false => print(&status.table())?,
                }
            }
            Command::Watch => {
                let config = LocalConfig::load(&self.config)?;
                log::start(config.log);
                watch::watch(config)?;
            }
            Command::Payouts { found, files } => {
                let config = LocalConfig::load(&self.config)?;
                match files {
                    None => list_payouts(&config, found, self.json)?,
                    Some(PayoutFiles::Export { directory }) => {
                        export(&config, &directory, found, self.json)?;
                    }
                    Some(PayoutFiles::Import { directory }) => {
                        let imported = payouts::import(&config.data_dir, &directory)?;
                        match self.json {
                            true => print_json(&imported)?,
                            false => print(&imported.text())?,
                        }
                    }
                }
            }
            Command::Bump {
                payout,
                feerate,
                target_blocks,
                dry_run,
            } => {
                let target = match (feerate, target_blocks) {
                    (Some(feerate), _) => Target::Feerate(feerate),
                    (None, blocks) => Target::Blocks(blocks.unwrap_or(1)),
                };
                let request = Bump {
                    payout,
                    target,
                    cost_max: None,
                    dry_run,
                };
                return bump(&LocalConfig::load(&self.config)?, request, self.json);
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

fn bump(config: &LocalConfig, request: Bump, json: bool) -> anyhow::Result<ExitCode> {
    let bumper = Bumper {
        data_dir: &config.data_dir,
        network: config.network,
        node: config.node.as_ref().ok_or(BumpCommandError::NoNode)?,
    };
    let bumped = bump::bump(bumper, request)?;
    match json {
        true => print_json(&bumped)?,
        false => print(&bumped.table())?,
    }
    Ok(match bumped.accepted || bumped.dry_run {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn parse_identity(text: &str) -> Result<Identity, String> {
    proof::identity(text)
        .ok_or_else(|| "not an identity: 64 hex digits of an x-only key".to_owned())
}

fn read_status(config: &Config) -> anyhow::Result<Status> {
    Status::read(&config.data_dir)?.ok_or_else(|| nobody(&config.data_dir))
}

fn nobody(directory: &Path) -> anyhow::Error {
    anyhow::anyhow!(
        "there is no participant in {}; create one with `tutti-participant init`, or correct data_dir",
        directory.display()
    )
}

/// The rows, and whose they are; what cannot be read is said.
fn rows(config: &LocalConfig, found: bool) -> anyhow::Result<(String, Vec<payouts::PayoutRow>)> {
    let directory = &config.data_dir;
    let me = store::owner(directory)?;
    let me = match me {
        Some(me) => me,
        None if !store::held_names(directory)?.is_empty() => String::new(),
        None => return Err(nobody(directory)),
    };
    let now = std::time::UNIX_EPOCH.elapsed()?.as_secs();
    let payouts = payouts::payouts(directory, &me, found, now)?;
    for error in &payouts.damaged {
        eprintln!("tutti-participant: {error}");
    }
    Ok((me, payouts.rows))
}

fn list_payouts(config: &LocalConfig, found: bool, json: bool) -> anyhow::Result<()> {
    let (_, rows) = rows(config, found)?;
    match json {
        true => print_json(&rows),
        false => print(&payouts::table(&rows)),
    }
}

fn export(config: &LocalConfig, to: &Path, found: bool, json: bool) -> anyhow::Result<()> {
    let (me, rows) = rows(config, found)?;
    let exported = payouts::export(&config.data_dir, to, &me, &rows)?;
    match json {
        true => print_json(&exported),
        false => print(&exported.text()),
    }
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
