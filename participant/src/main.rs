#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    tutti_participant::cli::Cli::parse()
        .execute()
        .unwrap_or_else(|error| {
            eprintln!("tutti-participant: {error}");
            ExitCode::FAILURE
        })
}
