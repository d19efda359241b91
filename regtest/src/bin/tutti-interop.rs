//! Tries another implementation's participant in a real pool: a coordinator and two miners of ours.

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use serde_json::json;
use tutti_regtest::interop::{InteropOptions, run};

/// Runs another implementation's participant in a pool on regtest, and judges by the chain whether it is one.
///
/// The program is started with `--coordinator HOST:PORT --coordinator-identity HEX --script HEX --dir DIR`
/// after its own arguments. It is to join, to have its output (`--script`) taken, to sign, to find shares, and
/// to write each complete payout as raw hex to `DIR/payouts/` before it hashes; SIGTERM ends it with status 0.
#[derive(Parser)]
#[command(name = "tutti-interop", version)]
struct Arguments {
    /// Judge nothing: leave the pool to the program until it ends
    #[arg(long)]
    stay: bool,
    /// Print one JSON object as the last line of stdout
    #[arg(long)]
    json: bool,
    /// Leave logs and data in this new directory
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// The program and its arguments
    #[arg(last = true, default_values = ["python3", "contrib/python/participant.py"])]
    command: Vec<OsString>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let options = InteropOptions {
        command: arguments.command,
        keep: arguments.keep,
        stay: arguments.stay,
    };
    let (said, code) = match run(&options) {
        Ok(shown) => (shown, ExitCode::SUCCESS),
        Err(error) => {
            eprintln!("tutti-interop: {error:#}");
            let failed = json!({"interop": "failed", "error": format!("{error:#}")});
            (failed, ExitCode::FAILURE)
        }
    };
    if arguments.json {
        println!("{said}");
    }
    code
}
