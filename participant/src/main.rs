#![forbid(unsafe_code)]

use std::process::ExitCode;

use tutti_daemon::cli;
use tutti_participant::cli::Cli;

fn main() -> ExitCode {
    let command: Cli = cli::parse();
    let json = command.is_for_programs();
    let done = command.execute();
    done.unwrap_or_else(|error| cli::failed("tutti-participant", json, &error))
}
