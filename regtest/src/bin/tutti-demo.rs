//! Runs the main job on a real node in regtest and tells it as it happens.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tutti_regtest::demo::{DemoOptions, run};

/// A block whose payout was signed before it was mined, paid out after the coordinator is dead.
#[derive(Parser)]
#[command(name = "tutti-demo", version)]
struct Arguments {
    /// Participants, each a process of its own
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(2..=50))]
    miners: u16,
    /// Print one JSON object as the last line of stdout
    #[arg(long)]
    json: bool,
    /// Leave logs and data in this directory
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

fn main() -> ExitCode {
    let Arguments { miners, json, keep } = Arguments::parse();
    match run(&DemoOptions {
        miners: usize::from(miners),
        keep,
    }) {
        Ok(report) => {
            if json {
                println!("{}", report.json());
            } else {
                println!(
                    "\nEvery miner was paid to the sat, by a transaction it held before it hashed."
                );
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("\ntutti-demo: {error:#}");
            if json {
                println!(
                    "{}",
                    serde_json::json!({"demo": "failed", "error": format!("{error:#}")})
                );
            }
            ExitCode::FAILURE
        }
    }
}
