#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use serde_json::json;

fn main() -> ExitCode {
    let cli = tutti_participant::cli::Cli::parse();
    let json = cli.is_for_programs();
    cli.execute().unwrap_or_else(|error| {
        match json {
            true => eprintln!("{}", json!({"error": error.to_string()})),
            false => eprintln!("tutti-participant: {error}"),
        }
        ExitCode::FAILURE
    })
}
