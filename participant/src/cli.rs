//! The command line.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bitcoin::{Amount, Txid};
use clap::{ArgGroup, Parser, Subcommand};
use serde::Serialize;
use tutti_proto::id::Identity;
use zeroize::Zeroizing;

use crate::amount;
use crate::audit::{self, AuditArgs};
use crate::bump::{self, Bump, BumpCommandError, BumpError, Bumper, FeeLimit, Feerate, Target};
use crate::config::{Config, LocalConfig, LogFormat};
use crate::faults;
use crate::init::Origin;
use crate::miner::{CpuSettings, KernelChoice};
use crate::news::{self, DaemonEvent, News};
use crate::segments::command::{self, FetchArgs};
use crate::status::Status;
use crate::wallet::{Birthday, WalletArgs};
use crate::{driver, init, payouts, proof, store, wallet, watch};

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
    /// Print one JSON value for programs; `run` and `watch` write their log so.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Create a seed and show its 24 words once.
    Init {
        /// Make the seed of a backup instead: 24 words from standard input.
        #[arg(long)]
        restore: bool,
        /// The first block that may have paid that seed: a height, or a date as in 2026-01-31. All are
        /// looked at without it.
        #[arg(long, value_name = "HEIGHT|DATE", requires = "restore")]
        birthday: Option<Birthday>,
    },
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
        #[command(subcommand)]
        files: Option<PayoutFiles>,
    },
    /// The wallet that payouts go to: what it has, its addresses, payments.
    Wallet {
        #[command(subcommand)]
        command: WalletArgs,
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
    /// Raise the fee of a payout by spending its anchor and our own output, and coins of the wallet where
    /// that does not suffice.
    #[command(group(ArgGroup::new("rate").required(true).args(["feerate", "target_blocks"])))]
    Bump {
        /// The payout's transaction id, as `payouts` shows it.
        payout: Txid,
        /// What payout and child together shall pay, in sat/vB.
        #[arg(long, value_name = "SAT_PER_VB", allow_negative_numbers = true)]
        feerate: Option<Feerate>,
        /// Pay what the node estimates for a confirmation within so many blocks.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_008))]
        target_blocks: Option<u16>,
        /// What the child may cost at most: sat as in 150000, or bitcoins as in 0.0015btc. Without it, what
        /// [bump] in the configuration allows.
        #[arg(long, value_name = "AMOUNT", value_parser = amount::parse, allow_negative_numbers = true)]
        max_fee: Option<Amount>,
        /// Show fees, sizes and feerates and what the node says of it, and send nothing.
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
        /// Only rounds whose block was found.
        #[arg(long)]
        found: bool,
    },
    /// Take payouts that were exported, here or elsewhere, or one payout.
    Import {
        /// The directory that `export` wrote; or a file with one payout, as a PSBT or a raw transaction,
        /// in bytes, hex or base64.
        from: PathBuf,
    },
}

impl Cli {
    /// Whether a program reads what comes.
    pub fn is_for_programs(&self) -> bool {
        self.json
    }

    /// Does what was asked. A failure is one sentence for the person who asked, unless the log tells it already.
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
                let fetched = command::fetch(args.clone())?;
                match self.json {
                    true => print_json(&fetched.json())?,
                    false => print(&fetched.text())?,
                }
                return Ok(ExitCode::SUCCESS);
            }
            Command::ServeSegments { directory, listen } => {
                command::serve(*listen, directory.clone(), self.json)?;
                return Ok(ExitCode::SUCCESS);
            }
            _ => {}
        }
        match self.command {
            Command::VerifyProof { .. }
            | Command::Audit(_)
            | Command::FetchSegments(_)
            | Command::ServeSegments { .. } => {} // Done.
            Command::Init {
                restore: true,
                birthday,
            } => {
                restore(&self.config, birthday, self.json)?;
            }
            Command::Init { restore: false, .. } => {
                let made = init::init(&Config::load(&self.config)?, Origin::New)?;
                let text = match self.json {
                    true => json_line(&made)?,
                    false => made.advice(),
                };
                show_words(&text, &made.seed_file)?;
            }
            Command::Wallet { command } => {
                return wallet_command(&self.config, &command, self.json);
            }
            Command::Run { kernel } => {
                let config = Config::load(&self.config)?;
                let settings = config.log.or_json(self.json);
                let log = news::start(settings)?;
                faults::watch(&log);
                return ended(run(config, kernel), settings.format);
            }
            Command::Status => {
                let status = read_status(&Config::load(&self.config)?)?;
                match self.json {
                    true => print_json(&status)?,
                    false => print(&status.table(now()?))?,
                }
            }
            Command::Watch => {
                let config = LocalConfig::load(&self.config)?;
                let settings = config.log.or_json(self.json);
                let log = news::start(settings)?;
                faults::watch(&log);
                return ended(
                    watch::watch(config).map_err(anyhow::Error::from),
                    settings.format,
                );
            }
            Command::Payouts { found, files } => {
                let config = LocalConfig::load(&self.config)?;
                return payouts_command(&config, files, found, self.json);
            }
            Command::Bump {
                payout,
                feerate,
                target_blocks,
                max_fee,
                dry_run,
            } => {
                let target = match (feerate, target_blocks) {
                    (Some(feerate), _) => Target::Feerate(feerate),
                    (None, blocks) => Target::Blocks(blocks.unwrap_or(1)),
                };
                let request = Bump {
                    payout,
                    target,
                    limits: None,
                    dry_run,
                };
                let config = LocalConfig::load(&self.config)?;
                let limit = max_fee.map_or(config.bump_limit, FeeLimit::Asked);
                return bump(&config, request, limit, self.json);
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// A log for programs has a daemon's error as well.
fn ended(outcome: anyhow::Result<()>, format: LogFormat) -> anyhow::Result<ExitCode> {
    match (outcome, format) {
        (Err(error), LogFormat::Json) if News::are_errors_told() => {
            let why = error.to_string();
            News::from(DaemonEvent::Failed { why: &why }).emit();
            Ok(ExitCode::FAILURE)
        }
        (outcome, _) => outcome.map(|()| ExitCode::SUCCESS),
    }
}

fn run(config: Config, kernel: Option<KernelChoice>) -> anyhow::Result<()> {
    let hasher = CpuSettings {
        kernel: kernel.unwrap_or(config.hasher.kernel),
        ..config.hasher
    };
    Ok(driver::run(Config { hasher, ..config })?)
}

fn payouts_command(
    config: &LocalConfig,
    files: Option<PayoutFiles>,
    found: bool,
    json: bool,
) -> anyhow::Result<ExitCode> {
    match files {
        None => return list_payouts(config, found, json),
        Some(PayoutFiles::Export {
            directory,
            found: of_export,
        }) => export(config, &directory, found || of_export, json)?,
        Some(PayoutFiles::Import { .. }) if found => anyhow::bail!(
            "--found selects what is listed or exported, and an import takes all that is there; leave it out"
        ),
        Some(PayoutFiles::Import { from }) if !from.is_dir() => {
            let imported = payouts::import_one(config, &from)?;
            match json {
                true => print_json(&imported)?,
                false => print(&imported.text())?,
            }
        }
        Some(PayoutFiles::Import { from }) => {
            let imported = payouts::import(&config.data_dir, &from)?;
            match json {
                true => print_json(&imported)?,
                false => print(&imported.text())?,
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The seed of a backup, and its coins where a node can be asked. Without one, or while it is away, the
/// seed is restored all the same.
fn restore(path: &Path, birthday: Option<Birthday>, json: bool) -> anyhow::Result<()> {
    let config = Config::load(path)?;
    let local = LocalConfig::load(path)?;
    if let Some(birthday) = birthday {
        wallet::check_birthday(&local, birthday)?;
    }
    if !json && std::io::stdin().is_terminal() {
        eprintln!("Enter the 24 words of the backup, and end with Ctrl-D:");
    }
    let seed = init::read_words()?;
    let birthday = birthday.unwrap_or(Birthday::GENESIS);
    let made = init::init(&config, Origin::Words { seed, birthday })?;
    let found = wallet::after_restore(&local, birthday);
    let why = match &found {
        Ok(Some(_)) => None,
        Ok(None) => Some("no node was asked for its coins".to_owned()),
        Err(error) => Some(error.to_string()),
    };
    if let Some(why) = why {
        eprintln!(
            "tutti-participant: the seed is restored; {why}: `tutti-participant wallet rescan` looks for its coins"
        );
    }
    let found = found.ok().flatten();
    match json {
        true => {
            #[derive(Serialize)]
            struct Restored<'a> {
                #[serde(flatten)]
                made: &'a init::Initialised,
                rescan: Option<&'a wallet::Answer>,
            }
            let rescan = found.as_ref();
            print_json(&Restored {
                made: &made,
                rescan,
            })
        }
        false => {
            print(&made.advice())?;
            print(&found.map_or_else(String::new, |found| found.text()))
        }
    }
}

/// A payment that the node refused is shown, and is a failure.
fn wallet_command(path: &Path, command: &WalletArgs, json: bool) -> anyhow::Result<ExitCode> {
    let answer = wallet::execute(&LocalConfig::load(path)?, command)?;
    match json {
        true => print_json(&answer)?,
        false => print(&answer.text())?,
    }
    Ok(match answer.is_done() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
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

fn bump(
    config: &LocalConfig,
    request: Bump,
    limit: FeeLimit,
    json: bool,
) -> anyhow::Result<ExitCode> {
    let bumper = Bumper {
        data_dir: &config.data_dir,
        network: config.network,
        node: config.node.as_ref().ok_or(BumpCommandError::NoNode)?,
    };
    let bumped = match bump::bump_by_hand(bumper, request, limit) {
        Err(BumpCommandError::Bump(BumpError::NothingToPayWith)) if !config.pay_to.is_own() => {
            anyhow::bail!(bump_elsewhere(request.payout));
        }
        bumped => bumped?,
    };
    match json {
        true => print_json(&bumped)?,
        false => print(&bumped.table())?,
    }
    Ok(match bumped.is_done() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

/// What a payee can do whose payouts go to keys that are not here.
fn bump_elsewhere(payout: Txid) -> String {
    format!(
        "[wallet] in the configuration sends payouts to keys that are not here, so this participant has \
         nothing to pay a bump of {payout} with; the coordinator and the other payees bump it when blocks \
         pass it by, and the wallet that has your keys can: a version-3 transaction of at most 1 000 vB \
         that spends your output and the payout's last one, the anchor"
    )
}

fn parse_identity(text: &str) -> Result<Identity, String> {
    proof::identity(text)
        .ok_or_else(|| "not an identity: 64 hex digits of an x-only key".to_owned())
}

fn read_status(config: &Config) -> anyhow::Result<Status> {
    Status::read(&config.data_dir)?.ok_or_else(|| nobody(&config.data_dir))
}

/// Seconds since 1970.
fn now() -> anyhow::Result<u64> {
    Ok(std::time::UNIX_EPOCH.elapsed()?.as_secs())
}

fn nobody(directory: &Path) -> anyhow::Error {
    anyhow::anyhow!(
        "there is no participant in {}; create one with `tutti-participant init`, or correct data_dir",
        directory.display()
    )
}

/// The rows, and whose they are; what cannot be read is said.
fn payouts_of(config: &LocalConfig, found: bool) -> anyhow::Result<(String, payouts::Payouts)> {
    let directory = &config.data_dir;
    let me = store::owner(directory)?;
    let me = match me {
        Some(me) => me,
        None if holds_anything(directory)? => String::new(),
        None => return Err(nobody(directory)),
    };
    let payouts = payouts::payouts(directory, &me, found, now()?)?;
    for error in &payouts.damaged {
        eprintln!("tutti-participant: {error}");
    }
    Ok((me, payouts))
}

fn holds_anything(directory: &Path) -> Result<bool, store::StoreError> {
    let rounds = store::held_names(directory)?;
    Ok(!rounds.is_empty() || !store::all_alone(directory)?.alone.is_empty())
}

/// A list that lacks what cannot be read is shown, and is a failure.
fn list_payouts(config: &LocalConfig, found: bool, json: bool) -> anyhow::Result<ExitCode> {
    let (_, payouts) = payouts_of(config, found)?;
    match json {
        true => print_json(&payouts)?,
        false => print(&payouts.table())?,
    }
    Ok(match payouts.damaged.is_empty() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}

fn export(config: &LocalConfig, to: &Path, found: bool, json: bool) -> anyhow::Result<()> {
    let (me, payouts) = payouts_of(config, found)?;
    let exported = payouts::export(&config.data_dir, to, &me, &payouts.rows)?;
    match json {
        true => print_json(&exported),
        false => print(&exported.text()),
    }
}

fn print_json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    print(&json_line(value)?)
}

fn json_line<T: Serialize>(value: &T) -> anyhow::Result<Zeroizing<String>> {
    Ok(Zeroizing::new(serde_json::to_string(value)? + "\n"))
}

/// The words of a new seed are shown once: who did not get them must know where they are.
fn show_words(text: &str, seed_file: &Path) -> anyhow::Result<()> {
    let mut to = std::io::stdout();
    let shown = to.write_all(text.as_bytes()).and_then(|()| to.flush());
    shown.map_err(|error| {
        anyhow::anyhow!(
            "the seed was made, and its 24 words could not be shown ({error}); they are in {}: write them on paper from there",
            seed_file.display()
        )
    })
}

/// A reader that went away, such as `head`, is no failure.
fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}
