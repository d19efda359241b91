//! The binary: the command line, and one sentence on stderr when something is wrong, for programs as JSON.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use anyhow::anyhow;
use clap::Parser;
use serde_json::json;
use tutti_coordinator::cli::Cli;
use tutti_coordinator::faults::CONNECTIONS;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let json = cli.is_for_programs();
    run(cli).unwrap_or_else(|error| {
        match json {
            true => eprintln!("{}", json!({"error": error.to_string()})),
            false => eprintln!("tutti-coordinator: {error}"),
        }
        ExitCode::FAILURE
    })
}

/// Tasks after which a thread looks for those that the owner of the rounds woke: acknowledgements would
/// else wait while many shares come.
const LOOK_AFTER: u32 = 8;

fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name(CONNECTIONS)
        .global_queue_interval(LOOK_AFTER)
        .build()
        .map_err(|error| anyhow!("cannot start the runtime: {error}"))?;
    let outcome = runtime.block_on(cli.execute());
    // Sessions that did not end in time end with the process.
    runtime.shutdown_background();
    Ok(outcome?)
}
